//! The one rule type: N failures of authentication from one source in a window.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// "`failures` failures of authentication from one source `within` a window", and the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name in findings, blocks and audit records.
    pub id: Arc<str>,
    /// How many failures make a finding.
    pub failures: NonZeroU32,
    /// Inside which span of time.
    pub within: Duration,
    /// How long the block lasts.
    pub ttl: Duration,
    /// Whether a finding becomes a block.
    pub mode: Mode,
}

/// What a finding leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Recorded as what would have been done.
    Observe,
    /// An operator is asked first.
    Approve,
    /// It is done.
    Auto,
}
