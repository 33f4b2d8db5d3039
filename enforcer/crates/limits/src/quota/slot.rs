//! One counter: spent, and for a strict quota what is already on disk as spent.

use std::sync::Arc;

use enforcer_model::Timestamp;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::keeper::Queue;
use super::store::Row;
use super::{Key, QuotaLevel, Unspent, WAITING_MAX};
use crate::period::Span;
use crate::{Durability, Period};

/// What a quota is at this moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Smallest units in a period.
    pub(crate) amount: u64,
    pub(crate) period: Period,
    pub(crate) durability: Durability,
}

/// What a request has spent or set aside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    cost: u64,
    span: Span,
    terms: Terms,
}

/// One counter.
#[derive(Debug)]
pub(crate) struct Slot {
    key: Key,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    span: Span,
    used: u64,
    /// On disk as spent.
    on_disk: u64,
    /// What the disk is to hold next.
    wanted: u64,
    /// What those need who wait.
    waited_for: u64,
    waiting: Vec<oneshot::Sender<()>>,
    in_queue: bool,
}

/// Parts that a strict quota is set aside in.
const BLOCKS: u64 = 100;

/// `SQLite`'s integers are signed.
const USED_MAX: u64 = i64::MAX.unsigned_abs();

impl Terms {
    /// What stands for the counter: a quota whose period changes begins anew.
    pub(super) const fn name(self, bucket: u64) -> u64 {
        let turn = match self.period {
            Period::Hour => 7,
            Period::Day => 19,
            Period::Month => 31,
        };
        bucket.rotate_left(turn)
    }

    fn block(self) -> u64 {
        (self.amount / BLOCKS).max(1)
    }
}

impl Slot {
    pub(super) fn new(key: Key, row: Option<&Row>) -> Self {
        let (span, used) =
            row.map_or((Span { ends: 0 }, 0), |row| (Span { ends: row.ends }, row.spent));
        let state = State {
            span,
            used,
            on_disk: used,
            wanted: 0,
            waited_for: 0,
            waiting: Vec::new(),
            in_queue: false,
        };
        Self { key, state: Mutex::new(state) }
    }

    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    /// Adds what was read from disk.
    pub(super) fn restore(&self, row: &Row) {
        let mut state = self.state.lock();
        if row.ends >= state.span.ends {
            let same = row.ends == state.span.ends;
            state.span = Span { ends: row.ends };
            state.used = if same { state.used.saturating_add(row.spent) } else { row.spent };
            state.on_disk = if same { state.on_disk.max(row.spent) } else { row.spent };
        }
    }

    /// Spends `cost`; without one, asks whether anything is left, and of a strict quota sets a block
    /// aside, so that what is under way when the agent dies counts as spent.
    pub(super) fn spend(
        self: &Arc<Self>,
        terms: Terms,
        cost: Option<u64>,
        now: Timestamp,
        queue: &Queue,
    ) -> Result<Spent, Unspent> {
        let mut state = self.state.lock();
        state.roll(terms.period, now);
        let left = terms.amount.saturating_sub(state.used);
        let cost = match (cost, terms.durability) {
            (Some(cost), _) => cost,
            (None, _) if left == 0 => return Err(Unspent::Used(state.span.left(now))),
            (None, Durability::Background) => 0,
            (None, Durability::Strict) => terms.block().min(left),
        };
        if cost > left {
            return Err(Unspent::Used(state.span.left(now)));
        }
        let used = state.used.saturating_add(cost);
        match terms.durability {
            Durability::Background => {
                state.used = used;
                self.queue(&mut state, queue, Urgency::Soon);
            }
            // Another process writes it down, as fast as it is told.
            Durability::Strict if used > state.on_disk && queue.is_lent() => state.used = used,
            Durability::Strict if used > state.on_disk => {
                return Err(self.wait(&mut state, terms, cost, queue));
            }
            Durability::Strict => {
                state.used = used;
                let ahead = state.on_disk - used;
                if ahead < terms.block().div_ceil(2) && state.on_disk < terms.amount {
                    state.want(terms, 0);
                    self.queue(&mut state, queue, Urgency::Now);
                }
            }
        }
        Ok(Spent { cost, span: state.span, terms })
    }

    /// Puts `cost` in the place of what was set aside. It may go beyond the amount: it happened.
    pub(super) fn settle(self: &Arc<Self>, spent: Spent, cost: u64, now: Timestamp, queue: &Queue) {
        let mut state = self.state.lock();
        state.roll(spent.terms.period, now);
        if spent.span == state.span {
            state.used = state.used.saturating_sub(spent.cost);
        }
        state.used = state.used.saturating_add(cost).min(USED_MAX);
        match spent.terms.durability {
            Durability::Background => self.queue(&mut state, queue, Urgency::Soon),
            Durability::Strict if state.used > state.on_disk => {
                state.want(spent.terms, 0);
                self.queue(&mut state, queue, Urgency::Now);
            }
            Durability::Strict => {}
        }
    }

    /// Undoes what was spent a moment ago for a request that is not admitted.
    pub(crate) fn give_back(&self, spent: Spent) {
        let mut state = self.state.lock();
        if spent.span == state.span {
            state.used = state.used.saturating_sub(spent.cost);
        }
    }

    /// How much is left, and the span it is left for.
    pub(crate) fn left(&self, terms: Terms, now: Timestamp) -> (u64, Span) {
        let mut state = self.state.lock();
        state.roll(terms.period, now);
        (terms.amount.saturating_sub(state.used), state.span)
    }

    pub(super) fn level(&self, now: Timestamp) -> Option<QuotaLevel> {
        let state = self.state.lock();
        let ends = state.span.end();
        let subject = self.key.subject.to_string();
        (ends > now).then_some(QuotaLevel { subject, used: state.used, ends })
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        let state = self.state.lock();
        state.span.end() <= now && state.waiting.is_empty()
    }

    /// What was spent, or given back, since it was last written or told; with the end of its period.
    pub(super) fn untold(&self) -> Option<(u64, i64)> {
        let mut state = self.state.lock();
        let spent = i128::from(state.used) - i128::from(state.on_disk);
        state.on_disk = state.used;
        let spent = i64::try_from(spent).unwrap_or(i64::MAX);
        (spent != 0).then_some((state.span.ends, spent))
    }

    /// Charges what another process has spent in the period that ends then.
    pub(super) fn charge(self: &Arc<Self>, ends: u64, spent: i64, queue: &Queue) {
        let mut state = self.state.lock();
        if ends < state.span.ends {
            return;
        }
        if ends > state.span.ends {
            state.span = Span { ends };
            (state.used, state.on_disk, state.wanted) = (0, 0, 0);
        }
        state.used = state.used.saturating_add_signed(spent).min(USED_MAX);
        self.queue(&mut state, queue, Urgency::Soon);
    }

    /// What is to be written of it now.
    pub(super) fn row(&self, exact: bool) -> Row {
        let mut state = self.state.lock();
        state.in_queue = false;
        // What is set aside counts, until the end, when nobody spends it any more.
        let spent = if exact || state.wanted == 0 {
            state.used
        } else {
            state.used.max(state.wanted).max(state.on_disk)
        };
        let spent = spent.min(USED_MAX);
        // From here on nothing may be spent that this row does not cover.
        state.on_disk = state.on_disk.min(spent);
        Row { key: self.key.clone(), ends: state.span.ends, spent }
    }

    /// `row` is on disk; whoever waited may go on.
    pub(super) fn written(&self, row: &Row) {
        let mut state = self.state.lock();
        if row.ends == state.span.ends {
            state.on_disk = row.spent;
        }
        drop(state);
        self.go_on();
    }

    /// Whoever waited for the disk may ask again.
    pub(super) fn go_on(&self) {
        let mut state = self.state.lock();
        state.waited_for = 0;
        for waiter in state.waiting.drain(..) {
            // One that has stopped waiting needs no answer.
            waiter.send(()).unwrap_or_default();
        }
    }

    /// The disk did not take it: whoever waited is refused.
    pub(super) fn not_written(self: &Arc<Self>, queue: &Queue) {
        let mut state = self.state.lock();
        state.waited_for = 0;
        state.waiting.clear();
        self.queue(&mut state, queue, Urgency::Soon);
    }

    fn wait(
        self: &Arc<Self>,
        state: &mut State,
        terms: Terms,
        cost: u64,
        queue: &Queue,
    ) -> Unspent {
        state.waiting.retain(|waiter| !waiter.is_closed());
        if state.waiting.len() >= WAITING_MAX || !queue.is_kept() {
            return Unspent::Unwritten;
        }
        state.want(terms, cost);
        let (waiter, waiting) = oneshot::channel();
        state.waiting.push(waiter);
        self.queue(state, queue, Urgency::Now);
        Unspent::Waiting(waiting)
    }

    fn queue(self: &Arc<Self>, state: &mut State, queue: &Queue, urgency: Urgency) {
        // One that waits for its turn may become urgent; twice in the queue does no harm.
        if !state.in_queue || urgency == Urgency::Now {
            state.in_queue = queue.push(self, urgency);
        }
    }
}

/// When a counter is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    Now,
    Soon,
}

impl State {
    /// Begins the period that `now` lies in, unless a later one has begun already.
    fn roll(&mut self, period: Period, now: Timestamp) {
        let span = period.at(now);
        if span > self.span {
            self.span = span;
            (self.used, self.on_disk, self.wanted) = (0, 0, 0);
        }
    }

    /// Asks for what those need who wait, and a block more.
    fn want(&mut self, terms: Terms, cost: u64) {
        self.waited_for = self.waited_for.saturating_add(cost);
        let ahead = self.used.saturating_add(self.waited_for).saturating_add(terms.block());
        // What is spent beyond the amount is written as well.
        self.wanted = ahead.min(terms.amount.max(self.used));
    }
}
