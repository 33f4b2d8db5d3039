//! What is kept of one key of one rule.
//!
//! A cell has a constant size, but for the different values, which are exact up to
//! [`VALUES_MAX`]. Of more than that, a known part of all values is kept, chosen by a hash that no
//! client can foresee: a threshold of 1000 then is met with a deviation of a twelfth or so.

use super::slots::{Slots, Width};
use crate::rules::plan::{STEPS_MAX, Threshold};

/// Different values that are kept of one key.
pub(super) const VALUES_MAX: u64 = 192;

/// What every cell has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    /// When it was written last.
    pub(super) last: u64,
    /// When it made its last finding; 0: it can make one.
    fired: u64,
}

/// When something fires, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) on: u64,
    pub(super) off: u64,
    pub(super) within: u64,
    pub(super) width: Width,
}

/// What is kept of one key.
pub(super) trait Cell: Default {
    fn head(&self) -> Head;

    /// How much there is to lose; the least goes first.
    fn weight(&self) -> u64;

    /// Bytes on the heap.
    fn heap(&self) -> usize;
}

/// What a count has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing that anybody will ask about.
    Little,
    /// A quarter of a threshold, or more: what is counted now may be evidence.
    Much,
    /// A finding, with the count.
    Finding(u64),
}

/// Events, or a sum.
#[derive(Debug, Default)]
pub(super) struct Count {
    head: Head,
    slots: Slots,
}

/// Different values.
#[derive(Debug, Default)]
pub(super) struct Values {
    head: Head,
    kept: Kept,
}

/// Values that stay with the cell, before any memory of their own is taken.
const FEW: usize = 4;

#[derive(Debug)]
enum Kept {
    Few([Seen; FEW], u8),
    Many(Vec<Seen>),
}

impl Default for Kept {
    fn default() -> Self {
        Self::Few([Seen::default(); FEW], 0)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    hash: u32,
    tick: u32,
}

/// Which values are kept, and how exactly time is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampling {
    /// The part that is kept: one of `2^shift`.
    shift: u32,
    /// Nanoseconds of a tick.
    tick: u64,
}

/// Events, and those of them that are asked for.
#[derive(Debug, Default)]
pub(super) struct Share {
    head: Head,
    all: Slots,
    hits: Slots,
}

/// How far sequences have come.
#[derive(Debug, Default)]
pub(super) struct Chain {
    head: Head,
    /// Unordered: when each step was seen last. Ordered: when the latest sequence began that has come
    /// to each step.
    at: [u64; STEPS_MAX],
}

impl Head {
    /// What `count` at `now` comes to.
    ///
    /// A finding that was made comes again only after the count was below the off threshold, or the window
    /// has passed.
    fn settle(&mut self, count: u64, now: u64, limit: &Limit) -> Outcome {
        if self.fired != 0 {
            let is_over = count < limit.off;
            let has_passed = now.saturating_sub(self.fired) >= limit.within;
            if !is_over && !has_passed {
                return Outcome::Much;
            }
            self.fired = 0;
        }
        if count >= limit.on {
            self.fired = now.max(1);
            return Outcome::Finding(count);
        }
        if count >= limit.on / 4 { Outcome::Much } else { Outcome::Little }
    }

    /// Whether nothing of it matters any more.
    pub(super) const fn is_over(&self, now: u64, within: u64) -> bool {
        // A fifteenth of the window is still counted behind its end.
        now.saturating_sub(self.last) > within.saturating_add(within / 14)
    }
}

impl Limit {
    /// The same with its thresholds at `parts` of a thousand, at least one.
    pub(super) fn scaled(&self, parts: u32) -> Self {
        Self { on: scale(self.on, parts), off: scale(self.off, parts), ..*self }
    }

    pub(super) fn of(threshold: &Threshold) -> Self {
        Self {
            on: threshold.on,
            off: threshold.off,
            within: nanos(threshold.within),
            width: Width::of(threshold.within),
        }
    }
}

/// `count` at `parts` of a thousand, at least one where it is any.
pub(super) fn scale(count: u64, parts: u32) -> u64 {
    (count.saturating_mul(parts.into()) / 1_000).max(1).min(count)
}

pub(super) fn nanos(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

impl Count {
    /// Counts `amount`.
    pub(super) fn add(&mut self, now: u64, amount: u64, limit: &Limit) -> Outcome {
        self.head.last = self.head.last.max(now);
        let count = self.slots.add(now, amount, limit.width);
        self.head.settle(count, now, limit)
    }
}

impl Share {
    /// Counts one event; the share in thousandths, if it makes a finding.
    pub(super) fn add(
        &mut self,
        now: u64,
        hit: bool,
        least: u64,
        limit: &Limit,
    ) -> Option<(u64, u64)> {
        self.head.last = self.head.last.max(now);
        let all = self.all.add(now, 1, limit.width);
        let hits = if hit {
            self.hits.add(now, 1, limit.width)
        } else {
            self.hits.advance(now, limit.width)
        };
        if all < least {
            return None;
        }
        let share = hits.saturating_mul(1_000) / all.max(1);
        match self.head.settle(share, now, limit) {
            Outcome::Finding(share) => Some((share, all)),
            Outcome::Little | Outcome::Much => None,
        }
    }
}

impl Sampling {
    /// What a threshold needs.
    pub(super) fn of(threshold: &Threshold) -> Self {
        let mut shift = 0;
        while threshold.on >> shift > VALUES_MAX {
            shift += 1;
        }
        Self { shift, tick: (nanos(threshold.within) / 1_024).max(1_000_000) }
    }

    /// What of a threshold of values is one of those that are kept.
    pub(super) const fn part(self, count: u64) -> u64 {
        let part = count >> self.shift;
        if part == 0 { 1 } else { part }
    }

    pub(super) const fn whole(self, part: u64) -> u64 {
        part << self.shift
    }

    /// Whether the value is one of those that are kept.
    #[inline]
    pub(super) const fn keeps(self, hash: u64) -> bool {
        self.shift == 0 || hash.leading_zeros() >= self.shift
    }
}

impl Values {
    /// Takes note of a value.
    ///
    /// `limit` is in values that are kept; no more than its threshold are.
    pub(super) fn add(&mut self, now: u64, value: u64, kept: Sampling, limit: &Limit) -> Outcome {
        self.head.last = self.head.last.max(now);
        let tick = low(now / kept.tick);
        let hash = low(value);
        let most = usize::try_from(limit.on).unwrap_or(usize::MAX);
        if let Some(seen) = self.seen_mut().iter_mut().find(|seen| seen.hash == hash) {
            seen.tick = tick;
        } else {
            if self.len() >= most || self.len() == self.room() {
                self.prune(tick, kept, limit);
            }
            if self.len() >= most {
                self.drop_oldest(tick);
            }
            self.push(Seen { hash, tick });
        }
        if self.head.fired == 0 && self.len() < most {
            return if self.len() >= most / 4 { Outcome::Much } else { Outcome::Little };
        }
        self.prune(tick, kept, limit);
        let count = u64::try_from(self.len()).unwrap_or(u64::MAX);
        self.head.settle(count, now, limit)
    }

    fn seen_mut(&mut self) -> &mut [Seen] {
        match &mut self.kept {
            Kept::Few(few, count) => few.get_mut(..usize::from(*count)).unwrap_or_default(),
            Kept::Many(many) => many,
        }
    }

    fn len(&self) -> usize {
        match &self.kept {
            Kept::Few(_, count) => usize::from(*count),
            Kept::Many(many) => many.len(),
        }
    }

    /// How many fit without more memory.
    const fn room(&self) -> usize {
        match &self.kept {
            Kept::Few(few, _) => few.len(),
            Kept::Many(many) => many.capacity(),
        }
    }

    fn push(&mut self, new: Seen) {
        match &mut self.kept {
            Kept::Few(few, count) => {
                if let Some(slot) = few.get_mut(usize::from(*count)) {
                    *slot = new;
                    *count += 1;
                    return;
                }
                let mut many = Vec::with_capacity(4 * FEW);
                many.extend_from_slice(few);
                many.push(new);
                self.kept = Kept::Many(many);
            }
            Kept::Many(many) => many.push(new),
        }
    }

    /// Drops what is older than the window.
    fn prune(&mut self, tick: u32, kept: Sampling, limit: &Limit) {
        let within = low(limit.within / kept.tick + 1);
        let keeps = |seen: &Seen| {
            let age = tick.wrapping_sub(seen.tick);
            // What was noted behind this moment has come out of order.
            age <= within || age > u32::MAX / 2
        };
        match &mut self.kept {
            Kept::Few(few, count) => {
                let mut left = 0_u8;
                for at in 0..usize::from(*count) {
                    let Some(seen) = few.get(at).copied().filter(&keeps) else { continue };
                    if let Some(slot) = few.get_mut(usize::from(left)) {
                        *slot = seen;
                    }
                    left += 1;
                }
                *count = left;
            }
            Kept::Many(many) => many.retain(keeps),
        }
    }

    fn drop_oldest(&mut self, tick: u32) {
        let age = |seen: &Seen| {
            let age = tick.wrapping_sub(seen.tick);
            if age > u32::MAX / 2 { 0 } else { age }
        };
        let oldest = self.seen_mut().iter().enumerate().max_by_key(|(_, seen)| age(seen));
        let Some(at) = oldest.map(|(at, _)| at) else { return };
        match &mut self.kept {
            Kept::Few(few, count) => {
                let last = usize::from(*count).saturating_sub(1);
                few.swap(at, last);
                *count = count.saturating_sub(1);
            }
            Kept::Many(many) => drop(many.swap_remove(at)),
        }
    }
}

/// The lower half.
fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default()
}

impl Chain {
    /// Takes note of the steps that an event is, as bits; whether that completes a finding.
    pub(super) fn add(
        &mut self,
        now: u64,
        steps: u8,
        count: usize,
        ordered: bool,
        within: u64,
    ) -> bool {
        self.head.last = self.head.last.max(now);
        let is = |step: usize| steps >> step & 1 == 1;
        let mut before = self.at;
        // A step that is too old begins nothing.
        for at in &mut before {
            if now.saturating_sub(*at) > within {
                *at = 0;
            }
        }
        for (step, at) in self.at.iter_mut().enumerate().take(count) {
            let began = if ordered {
                // Of what was there before this event: one event is no two steps.
                match step.checked_sub(1) {
                    None => now,
                    Some(last) => before.get(last).copied().unwrap_or(0),
                }
            } else {
                now
            };
            if is(step) && began != 0 {
                *at = began;
            }
        }
        let complete = if ordered {
            let last = count.checked_sub(1).filter(|last| is(*last));
            let began = last.and_then(|last| self.at.get(last)).copied().unwrap_or(0);
            began != 0 && now.saturating_sub(began) <= within
        } else {
            let inside = |at: &u64| *at != 0 && now.saturating_sub(*at) <= within;
            self.at.iter().take(count).all(inside)
        };
        if !complete {
            return false;
        }
        self.at = [0; STEPS_MAX];
        let silent = self.head.fired != 0 && now.saturating_sub(self.head.fired) < within;
        if !silent {
            self.head.fired = now.max(1);
        }
        !silent
    }
}

impl Cell for Count {
    fn head(&self) -> Head {
        self.head
    }

    fn weight(&self) -> u64 {
        self.slots.total()
    }

    fn heap(&self) -> usize {
        0
    }
}

impl Cell for Values {
    fn head(&self) -> Head {
        self.head
    }

    fn weight(&self) -> u64 {
        u64::try_from(self.len()).unwrap_or(u64::MAX)
    }

    fn heap(&self) -> usize {
        match &self.kept {
            Kept::Few(..) => 0,
            Kept::Many(many) => many.capacity() * size_of::<Seen>(),
        }
    }
}

impl Cell for Share {
    fn head(&self) -> Head {
        self.head
    }

    fn weight(&self) -> u64 {
        self.all.total()
    }

    fn heap(&self) -> usize {
        0
    }
}

impl Cell for Chain {
    fn head(&self) -> Head {
        self.head
    }

    fn weight(&self) -> u64 {
        u64::try_from(self.at.iter().filter(|at| **at != 0).count()).unwrap_or(u64::MAX)
    }

    fn heap(&self) -> usize {
        0
    }
}
