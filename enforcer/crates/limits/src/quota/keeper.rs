//! Writes what is spent, on a thread of its own, so that no request waits for a disk's flush longer
//! than its own block takes.
//!
//! Counters of strict quotas that need a block are written at once, all that wait in one
//! transaction; the others once a second. When the disk does not take them, strict quotas are refused
//! until it does, and the others go on in memory and are tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use enforcer_model::{Clock, Timestamp};
use parking_lot::{Condvar, Mutex};
use tracing::{info, warn};

use super::Quotas;
use super::slot::{Slot, Urgency};
use super::store::{QuotaStore, QuotaStoreError, Row};
use crate::Limits;

/// How often what is not strict is written: what a crash may forget.
const FLUSH: Duration = Duration::from_secs(1);

/// How often what is over is forgotten.
const CLEAR: Duration = Duration::from_secs(3_600);

/// So long a row stays after its period, in case the clock is set back.
const ROW_STAYS: u64 = 86_400;

/// Counters that wait to be written. As long as the table of counters at most.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// Told when everything is written that was spent before it was lent.
    lent: Condvar,
    /// When the full table was last looked through, in seconds since the epoch.
    cleared: AtomicU64,
    problem: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Waiting {
    now: Vec<Arc<Slot>>,
    soon: Vec<Arc<Slot>>,
    life: Life,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Life {
    /// Nobody writes.
    #[default]
    Unkept,
    Kept,
    /// What is spent is about to become another process's business.
    Lending,
    /// It is: everything may be spent, and is told there.
    Lent,
    /// The same, and there is no way back.
    Gone,
    Closing,
}

/// The one that writes; give it a thread of its own.
#[must_use]
pub struct QuotaKeeper {
    limits: Arc<Limits>,
    store: QuotaStore,
    clock: Arc<dyn Clock>,
}

/// The levels of quotas cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum RememberError {
    /// The database does not give them.
    #[error("the levels of quotas cannot be read")]
    Store(#[from] QuotaStoreError),
    /// They are kept already.
    #[error("the quotas have a keeper already")]
    Twice,
}

impl Queue {
    /// Whether `slot` will be written.
    pub(super) fn push(&self, slot: &Arc<Slot>, urgency: Urgency) -> bool {
        let mut waiting = self.waiting.lock();
        if matches!(waiting.life, Life::Unkept | Life::Lent | Life::Gone) {
            return false;
        }
        match urgency {
            Urgency::Now => {
                waiting.now.push(Arc::clone(slot));
                self.wake.notify_one();
            }
            Urgency::Soon => waiting.soon.push(Arc::clone(slot)),
        }
        true
    }

    pub(super) fn is_kept(&self) -> bool {
        self.waiting.lock().life == Life::Kept
    }

    pub(super) fn is_lent(&self) -> bool {
        matches!(self.waiting.lock().life, Life::Lent | Life::Gone)
    }

    pub(super) fn close(&self) {
        let mut waiting = self.waiting.lock();
        match waiting.life {
            Life::Kept => waiting.life = Life::Closing,
            // Not another word to the file: it is another process's.
            Life::Lent => waiting.life = Life::Gone,
            Life::Closing | Life::Gone | Life::Lending | Life::Unkept => {}
        }
        self.wake.notify_all();
    }

    /// Has everything written that was spent, and waits for it at most `patience`; whether it is.
    pub(super) fn lend(&self, patience: Duration) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.life != Life::Kept {
            return false;
        }
        waiting.life = Life::Lending;
        self.wake.notify_all();
        while waiting.life == Life::Lending {
            if self.lent.wait_for(&mut waiting, patience).timed_out() {
                waiting.life = Life::Kept;
                self.wake.notify_all();
                return false;
            }
        }
        waiting.life == Life::Lent
    }

    /// The keeper writes again, `all` to begin with.
    pub(super) fn take_back(&self, all: Vec<Arc<Slot>>) {
        let mut waiting = self.waiting.lock();
        if waiting.life == Life::Lent {
            waiting.life = Life::Kept;
            waiting.soon = all;
        }
        self.wake.notify_all();
    }

    /// Whether a second has passed since somebody looked through the full table.
    pub(super) fn may_clear(&self, now: Timestamp) -> bool {
        let now = now.unix_seconds();
        self.cleared.swap(now, Ordering::Relaxed) != now
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    /// Those that wait, once somebody needs a block or a second is over; and what is to become of
    /// the keeper.
    fn next(&self) -> (Vec<Arc<Slot>>, Life) {
        let mut waiting = self.waiting.lock();
        if waiting.now.is_empty() && waiting.life == Life::Kept {
            self.wake.wait_for(&mut waiting, FLUSH);
        }
        (std::mem::take(&mut waiting.now), waiting.life)
    }

    /// Everything is written: from here on another process writes. Waits until that is over; whether
    /// the keeper goes on.
    fn rest(&self) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.life == Life::Lending {
            waiting.life = Life::Lent;
            waiting.soon.clear();
            // They came while everything was written; now they need not wait any more.
            for slot in std::mem::take(&mut waiting.now) {
                slot.go_on();
            }
        }
        self.lent.notify_all();
        while waiting.life == Life::Lent {
            self.wake.wait(&mut waiting);
        }
        waiting.life == Life::Kept
    }

    fn soon(&self) -> Vec<Arc<Slot>> {
        std::mem::take(&mut self.waiting.lock().soon)
    }

    fn begin(&self) -> bool {
        let mut waiting = self.waiting.lock();
        let begins = waiting.life == Life::Unkept;
        if begins {
            waiting.life = Life::Kept;
        }
        begins
    }

    fn end(&self) {
        self.waiting.lock().life = Life::Unkept;
    }
}

impl Quotas {
    /// Takes up what `store` knows.
    pub(crate) fn remember(
        &self,
        store: &QuotaStore,
        now: Timestamp,
    ) -> Result<usize, RememberError> {
        let rows = store.load(now)?;
        if !self.queue.begin() {
            return Err(RememberError::Twice);
        }
        let known = rows.len();
        *self.restored.lock() = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        self.count.fetch_add(known, Ordering::Relaxed);
        Ok(known)
    }
}

impl QuotaKeeper {
    pub(crate) fn new(limits: Arc<Limits>, store: QuotaStore, clock: Arc<dyn Clock>) -> Self {
        Self { limits, store, clock }
    }

    /// Writes until [`Limits::close`], then writes every counter as it is and returns.
    pub fn run(mut self) {
        let (mut flushed, mut cleared) = (self.clock.now().monotonic, self.clock.now().monotonic);
        loop {
            let (mut slots, life) = self.limits.quotas().queue.next();
            let now = self.clock.now();
            match life {
                Life::Kept => {}
                Life::Lending | Life::Lent => {
                    self.write(&self.limits.quotas().all(), Exactness::Exact);
                    if !self.limits.quotas().queue.rest() {
                        return;
                    }
                    continue;
                }
                Life::Gone => return,
                Life::Closing | Life::Unkept => break,
            }
            if now.monotonic.saturating_duration_since(flushed) >= FLUSH {
                flushed = now.monotonic;
                slots.extend(self.limits.quotas().queue.soon());
            }
            self.write(&slots, Exactness::Ahead);
            if now.monotonic.saturating_duration_since(cleared) >= CLEAR {
                cleared = now.monotonic;
                self.limits.quotas().forget_what_is_over(now.wall);
                let then = now.wall.unix_seconds().saturating_sub(ROW_STAYS);
                let forgotten = self.store.forget_before(Timestamp::from_unix_seconds(then));
                self.tell(forgotten);
            }
        }
        let all = self.limits.quotas().all();
        self.limits.quotas().queue.end();
        self.write(&all, Exactness::Exact);
    }

    fn write(&mut self, slots: &[Arc<Slot>], exactness: Exactness) {
        if slots.is_empty() {
            return;
        }
        let row = |slot: &Arc<Slot>| slot.row(exactness == Exactness::Exact);
        let rows: Vec<Row> = slots.iter().map(row).collect();
        let written = self.store.put(&rows);
        let is_written = written.is_ok();
        self.tell(written);
        for (slot, row) in slots.iter().zip(&rows) {
            if is_written {
                slot.written(row);
            } else {
                slot.not_written(&self.limits.quotas().queue);
            }
        }
    }

    /// Remembers and tells what changed about the disk, once.
    fn tell(&self, written: Result<(), QuotaStoreError>) {
        let mut problem = self.limits.quotas().queue.problem.lock();
        match written {
            Ok(()) => {
                if problem.take().is_some() {
                    info!("levels of quotas are written again");
                }
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let told = format!("{error}: {}", cause.unwrap_or_default());
                if problem.is_none() {
                    warn!(
                        error = told,
                        "levels of quotas are not written; strict ones are refused"
                    );
                }
                *problem = Some(told);
            }
        }
    }
}

/// How a counter is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exactness {
    /// With what is set aside for the requests to come.
    Ahead,
    /// As it is: nothing more will be spent.
    Exact,
}

impl std::fmt::Debug for QuotaKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuotaKeeper").field("store", &self.store).finish_non_exhaustive()
    }
}
