//! The incident level.

use enforcer_model::Timestamp;
use serde::{Deserialize, Serialize};

/// A level to be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncidentLevel {
    /// 0 (none) to 5.
    pub level: u8,
    /// Until it falls back to 0; none: until it is set again.
    pub ttl_seconds: Option<u64>,
    /// The operator's words.
    pub reason: String,
}

/// The level in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentStatus {
    /// 0 (none) to 5.
    pub level: u8,
    /// The level before, where it was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u8>,
    /// Since when it holds.
    pub since: Option<Timestamp>,
    /// When it falls back to 0 by itself.
    pub until: Option<Timestamp>,
    /// The operator's words.
    pub reason: Option<String>,
    /// Number of the audit record, where something was changed.
    #[serde(default)]
    pub audit: Option<u64>,
}
