//! API keys, as an operator asks for them and sees them.

use std::fmt;

use enforcer_model::{KeyId, Prefix, Role, Timestamp};
use serde::{Deserialize, Serialize};

/// A key as asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyIssue {
    /// Unique name.
    pub name: String,
    /// Roles of the policy.
    pub roles: Vec<String>,
    /// Networks it may be used from; none means any.
    pub networks: Vec<Prefix>,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// `enf_test_…` in place of `enf_live_…`.
    pub test: bool,
}

/// One API key, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Key {
    /// Public id.
    pub id: KeyId,
    /// Unique name.
    pub name: String,
    /// Roles of the policy.
    pub roles: Vec<Role>,
    /// Networks it may be used from; empty means any.
    pub networks: Vec<Prefix>,
    /// `active`, `expired`, `not yet valid` or `revoked`.
    pub state: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
    /// Why.
    pub revoked_because: Option<String>,
    /// Roles that the policy in force does not know.
    pub unknown_roles: Vec<Role>,
    /// Number of the audit record, where something was changed.
    pub audit: Option<u64>,
}

/// Every key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keys {
    /// One each.
    pub keys: Vec<Key>,
}

/// A fresh key with its secret, shown this once.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeyIssued {
    /// The record.
    pub key: Key,
    /// The whole credential.
    pub credential: String,
    /// Number of the audit record.
    pub audit: Option<u64>,
}

impl fmt::Debug for KeyIssued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyIssued").field("key", &self.key).finish_non_exhaustive()
    }
}
