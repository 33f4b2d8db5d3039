//! The policy in force, one that waits to be confirmed, and one that only watches.

use std::path::PathBuf;

use enforcer_model::Timestamp;
use serde::{Deserialize, Serialize};

/// How a new policy begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Begin {
    /// In force, for good.
    #[default]
    Now,
    /// In force; unless it is promoted in time, the one before comes back.
    Confirm {
        /// To promote it.
        within_seconds: u64,
    },
    /// Not in force: each decision is also made by it, and differences are counted.
    Shadow {
        /// How long it watches.
        for_seconds: u64,
    },
}

/// A policy that is in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyApplied {
    /// The agent's policy file.
    pub file: PathBuf,
    /// Of the file's bytes, hex.
    pub sha256: String,
    /// Of the policy before.
    pub previous_sha256: String,
    /// How long checking and swapping took.
    pub took_us: u64,
    /// Of that, how long requests could have seen neither the old nor the new one.
    #[serde(default)]
    pub swapped_us: u64,
    /// Sections that changed and wait for a restart.
    pub needs_restart: Vec<String>,
    /// Things that are legal and odd.
    pub warnings: Vec<String>,
    /// What of the policy is not in force, and why.
    pub problems: Vec<String>,
    /// Where the policy before is kept, to be applied again.
    pub previous: Option<PathBuf>,
    /// Unless it is promoted before, the policy before comes back then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_until: Option<Timestamp>,
    /// Number of the audit record.
    pub audit: Option<u64>,
}

/// Which policies there are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyState {
    /// The agent's policy file.
    pub file: PathBuf,
    /// SHA-256 of the policy in force, hex.
    pub sha256: String,
    /// Where the policy before is kept, for a rollback.
    pub previous: Option<PathBuf>,
    /// Unless the policy in force is promoted before, the one before comes back then.
    pub confirm_until: Option<Timestamp>,
    /// The one that watches.
    pub shadow: Option<ShadowStatus>,
    /// Number of the audit record, where something was changed.
    #[serde(default)]
    pub audit: Option<u64>,
}

/// What a policy that watches has seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShadowStatus {
    /// SHA-256 of its bytes, hex.
    pub sha256: String,
    /// When it stops watching.
    pub until: Timestamp,
    /// Decisions that were made by both.
    pub compared: u64,
    /// Those that differed.
    pub flipped: u64,
    /// By route and direction, the most frequent first.
    pub flips: Vec<Flip>,
}

/// One kind of difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// The route in force; `-` where none matched.
    pub route: String,
    /// What the policy in force decided: `allow` or `deny`.
    pub from: String,
    /// What the other one would have: `allow`, or `deny: WHY`.
    pub to: String,
    /// How often.
    pub count: u64,
    /// One such request, as `policy explain` reads it.
    pub sample: String,
}
