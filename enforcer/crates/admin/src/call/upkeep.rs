//! What becomes of the audit log itself: personal values erased, old segments removed.

use std::fmt;

use enforcer_model::{PersonalKind, Timestamp};
use serde::{Deserialize, Serialize};

/// A personal value is to be erased from the log, for good.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erase {
    /// What it is.
    pub kind: PersonalKind,
    /// The value.
    pub value: PersonalValue,
    /// The operator's words; they go on record.
    pub reason: String,
    /// Only say what it would erase.
    #[serde(default)]
    pub dry_run: bool,
}

/// A value that nothing of ours may print or log.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PersonalValue(pub String);

/// What was erased, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedAnswer {
    /// What it was.
    pub kind: PersonalKind,
    /// Handles that stand for it, and for texts that name it.
    pub handles: u64,
    /// Segments of the log that they are of.
    pub segments: u64,
    /// Nothing was erased.
    pub dry_run: bool,
    /// Number of the receipt in the audit log.
    #[serde(default)]
    pub audit: Option<u64>,
}

/// Old segments are to be removed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// Records written before may go.
    pub before: Timestamp,
    /// Also those that no witness knows.
    #[serde(default)]
    pub force: bool,
    /// Only say what it would remove.
    #[serde(default)]
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrunedAnswer {
    /// Records written before may go.
    pub before: Timestamp,
    /// The first record removed.
    pub first: u64,
    /// The record behind the last one removed; it is the first that is left.
    pub end: u64,
    /// Files of records.
    pub segments: u64,
    /// Room that it gives back.
    pub bytes: u64,
    /// The tree's root over all records before `end`, in hex.
    pub root: String,
    /// Nothing was removed.
    pub dry_run: bool,
    /// Number of the audit record.
    #[serde(default)]
    pub audit: Option<u64>,
}

impl fmt::Debug for PersonalValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonalValue(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_personal_value_is_not_printed_by_accident() {
        let erase = Erase {
            kind: PersonalKind::Address,
            value: PersonalValue("203.0.113.7".to_owned()),
            reason: "asked by the person".to_owned(),
            dry_run: false,
        };

        assert!(!format!("{erase:?}").contains("203.0.113.7"));
        assert!(serde_json::to_string(&erase).unwrap().contains(r#""value":"203.0.113.7""#));
    }
}
