//! What a request holds while it is under way, and what it owes at its end.

use std::fmt;
use std::sync::Arc;

use enforcer_model::{Moment, Timestamp};

use crate::cost::Side;
use crate::gcra::Gcra;
use crate::quota::{Slot, Spent};
use crate::{Factor, Level, Limits};

/// Every demand of a request was met. Hold it until the last byte of the answer has gone.
///
/// Places of concurrency limits are free again when it is dropped. What it costs is settled by
/// [`Self::settle`]; dropped without, it counts as a request and an answer without bodies.
#[derive(Default)]
#[must_use]
pub struct Taken {
    held: Option<Held>,
    levels: Vec<Level>,
}

/// Only where something is left to do.
struct Held {
    limits: Arc<Limits>,
    owed: Vec<Owed>,
    now_ns: u64,
    wall: Timestamp,
}

/// What is done at the end.
pub(crate) enum Owed {
    /// A cost becomes known.
    Debt(Side, Debt),
    /// A place of this subject becomes free.
    Place(u64),
}

/// Who is owed.
pub(crate) enum Debt {
    Bucket { name: u64, gcra: Gcra, scale: u64 },
    Quota { slot: Arc<Slot>, spent: Spent },
}

impl Taken {
    /// Charges what became known: as much as if it had been known when the request was admitted.
    pub fn settle(mut self, response_bytes: u64, request_bytes: u64) {
        self.pay(response_bytes, request_bytes);
    }

    /// Where the limits stand of which the policy wants callers to be told.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// Also what a later stage has taken.
    pub fn and(mut self, mut other: Self) -> Self {
        self.levels.append(&mut other.levels);
        match (&mut self.held, other.held.take()) {
            (Some(mine), Some(mut theirs)) => mine.owed.append(&mut theirs.owed),
            (mine @ None, theirs) => *mine = theirs,
            (Some(_), None) => {}
        }
        self
    }

    pub(crate) fn tell(&mut self, level: Level) {
        self.levels.push(level);
    }

    pub(crate) fn owe(&mut self, limits: &Arc<Limits>, owed: Owed, now: Moment) {
        let held = self.held.get_or_insert_with(|| Held {
            limits: Arc::clone(limits),
            owed: Vec::new(),
            now_ns: limits.since_origin_ns(now.monotonic),
            wall: now.wall,
        });
        held.owed.push(owed);
    }

    fn pay(&mut self, response_bytes: u64, request_bytes: u64) {
        let Some(Held { limits, owed, now_ns, wall }) = self.held.take() else { return };
        for owed in owed {
            match owed {
                Owed::Place(name) => limits.concurrency.leave(name),
                Owed::Debt(side, debt) => {
                    let bytes = match side {
                        Side::Request => request_bytes,
                        Side::Response => response_bytes,
                    };
                    debt.pay(bytes, &limits, now_ns, wall);
                }
            }
        }
    }
}

impl Debt {
    fn pay(self, bytes: u64, limits: &Limits, now_ns: u64, wall: Timestamp) {
        match self {
            Self::Bucket { .. } if bytes == 0 => {}
            // At the policy's own rate: an incident admits fewer, it does not make bytes dearer.
            Self::Bucket { name, gcra, scale } => {
                if let Ok(draw) = gcra.draw(bytes, scale, Factor::WHOLE) {
                    limits.table.owe(name, draw, now_ns);
                }
            }
            Self::Quota { slot, spent } => limits.quotas().settle(&slot, spent, bytes, wall),
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.pay(0, 0);
    }
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owed = self.held.as_ref().map_or(0, |held| held.owed.len());
        f.debug_struct("Taken").field("owed", &owed).field("levels", &self.levels).finish()
    }
}
