//! What is told of the log itself: that it lives, and what was erased from it.

use enforcer_model::{Author, PersonalKind, Timestamp};
use serde::Serialize;

use crate::record::{cut_author, cut_text};

/// The log lives. Boot, wall time and monotonic time are those of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Heartbeat {
    /// How far the wall time is to be trusted; none where the system does not tell.
    pub clock: Option<ClockState>,
    /// Records under a signed checkpoint.
    pub records: u64,
    /// Records that were refused since the log was opened; gaps tell when and why.
    pub refused: u64,
    /// Records on their way to the disk.
    pub waiting: u64,
}

/// What the kernel knows of its wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ClockState {
    /// Whether something keeps it right.
    pub synchronised: bool,
    /// How far it was off when it was last corrected.
    pub offset_ns: i64,
    /// By how much it may be off at most.
    pub error_max_us: u64,
}

/// The receipt of an erasure. It names no value, and nothing that a value could be found by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Erasure {
    /// What was erased.
    pub kind: PersonalKind,
    /// Handles whose value nobody can know any more.
    pub handles: u64,
    /// Segments that they are of.
    pub segments: u64,
    /// Who asked for it.
    pub author: Author,
    /// The operator's words.
    pub reason: String,
}

/// Old segments are removed, right behind this record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PruneRecord {
    /// The first record that goes.
    pub first: u64,
    /// The first that stays.
    pub end: u64,
    /// Files of records.
    pub segments: u64,
    /// All of them were written before.
    pub before: Timestamp,
    /// Of the tree over all records before `end`, in hex.
    pub root: String,
    /// Whether it goes although witnesses do not know all of it.
    #[serde(rename = "forced")]
    pub is_forced: bool,
    /// Who asked for it; the agent follows the policy.
    pub author: Author,
}

impl Erasure {
    pub(crate) fn cut(&mut self, longest: usize) {
        cut_author(&mut self.author, longest);
        cut_text(&mut self.reason, longest);
    }
}
