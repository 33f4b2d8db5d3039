//! Looking into the audit log, which is itself put on record.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Somebody is about to see records.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// By which verb.
    pub verb: LookVerb,
    /// What was looked for, as the record shall have it.
    pub arguments: Vec<String>,
    /// How many records will be seen.
    pub records: u64,
    /// Whether the segment that they are in shall be closed, so that the log vouches for its index.
    #[serde(default)]
    pub close: bool,
}

/// The verbs that show records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LookVerb {
    /// Why a recorded request got its answer.
    Explain,
    /// Records leave the log as files.
    Export,
    /// What rules would have found.
    Replay,
    /// The report of an incident.
    Report,
    /// Some records.
    Search,
    /// Numbers about records.
    Stats,
    /// The newest.
    Tail,
    /// Everything that somebody did.
    Trail,
}

/// The look is on record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Looked {
    /// Number of the audit record; without one, nothing may be shown.
    #[serde(default)]
    pub audit: Option<u64>,
}

impl LookVerb {
    /// As an operator types it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Explain => "explain --audit",
            Self::Export => "audit export",
            Self::Replay => "rules replay",
            Self::Report => "incident report",
            Self::Search => "audit search",
            Self::Stats => "audit stats",
            Self::Tail => "audit tail",
            Self::Trail => "trail",
        }
    }
}

impl fmt::Display for LookVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
