//! Whom the log is shown to, and what they said.

use enforcer_model::Timestamp;
use serde::{Deserialize, Serialize};

/// How far others know the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorStatus {
    /// So many witnesses make a checkpoint a witnessed one; zero: there are none.
    pub quorum: u64,
    /// The witnesses, in the order of the policy.
    pub witnesses: Vec<WitnessRow>,
    /// The newest checkpoint that the quorum knows.
    pub witnessed: Option<Anchored>,
    /// The newest checkpoint with a timestamp.
    pub stamped: Option<Anchored>,
    /// Why the authority gave none when it was asked last.
    pub stamp_trouble: Option<String>,
    /// The newest of them should be no older, in seconds; none: nobody is shown the log.
    pub age_bound_seconds: Option<u64>,
    /// Whether it is, or there is none.
    pub is_overdue: bool,
}

/// A checkpoint that others know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchored {
    /// Records under it.
    pub size: u64,
    /// Since when they say so.
    pub at: Timestamp,
}

/// One witness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessRow {
    /// As the policy names it.
    pub name: String,
    /// Where it is asked.
    pub url: String,
    /// The checkpoint that it cosigned last, as far as this agent knows.
    pub cosigned: Option<Anchored>,
    /// Why it did not when it was asked last.
    pub trouble: Option<String>,
    /// It says that the log was cut, put back or forked.
    pub contradicts: bool,
}

/// What came of one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorRound {
    /// Records under it.
    pub size: u64,
    /// Whether enough witnesses cosigned it; so it is where none are needed.
    pub quorum_met: bool,
    /// So many were needed.
    pub quorum: u64,
    /// What each said.
    pub witnesses: Vec<WitnessSaid>,
    /// What the timestamping authority said; none: there is none.
    pub timestamp: Option<TimestampSaid>,
    /// Record of this in the audit log.
    pub audit: Option<u64>,
}

/// What a witness said to a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessSaid {
    /// As the policy names it.
    pub name: String,
    /// Whether it cosigned.
    pub cosigned: bool,
    /// Why not.
    pub why: Option<String>,
    /// It says that the log was cut, put back or forked.
    pub contradicts: bool,
}

/// What a timestamping authority said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimestampSaid {
    /// Its time.
    pub at: Option<Timestamp>,
    /// Why there is none.
    pub why: Option<String>,
}
