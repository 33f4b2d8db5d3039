//! API keys, as an operator asks for them and sees them.

use std::fmt;
use std::net::IpAddr;

use enforcer_model::{KeyId, Prefix, Role, Thumbprint, Timestamp};
use serde::{Deserialize, Serialize};

/// A key as asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyIssue {
    /// Unique name.
    pub name: String,
    /// Whose it is.
    #[serde(default)]
    pub owner: Option<String>,
    /// Which application uses it.
    #[serde(default)]
    pub application: Option<String>,
    /// Roles of the policy.
    pub roles: Vec<String>,
    /// Scopes, for conditions to look at.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Routes it may be used for; none means any.
    #[serde(default)]
    pub routes: Vec<String>,
    /// Networks it may be used from; none means any.
    pub networks: Vec<Prefix>,
    /// The client certificate it goes with.
    #[serde(default)]
    pub certificate: Option<Thumbprint>,
    /// From when on it is valid.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// Limits of the policy that hold for it in addition.
    #[serde(default)]
    pub limits: Vec<String>,
    /// For people.
    #[serde(default)]
    pub notes: String,
    /// `enf_test_…` in place of `enf_live_…`.
    pub test: bool,
    /// Only say what would be wrong with it.
    #[serde(default)]
    pub dry_run: bool,
}

/// Another secret for a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRotate {
    /// Id or name.
    pub which: String,
    /// How long the old secret lives on; as the policy says when none.
    pub grace_seconds: Option<u64>,
    /// Only say whether it could be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// The end of the older of two secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFinish {
    /// Id or name.
    pub which: String,
    /// Even when it was used a moment ago.
    #[serde(default)]
    pub even_if_used: bool,
    /// Only say whether it could be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// Keys that were given out elsewhere.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyImport {
    /// How `text` is written.
    pub format: KeyImportFormat,
    /// A whole file.
    pub text: String,
    /// Only say what would be wrong with it.
    #[serde(default)]
    pub dry_run: bool,
}

/// How a file of keys is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyImportFormat {
    /// A header line, then one key a line.
    Csv,
    /// A JSON object on each line.
    JsonLines,
}

/// What became of an import.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeysImported {
    /// The keys that were made, or would be.
    pub keys: Vec<KeyImported>,
    /// Nothing was changed.
    pub dry_run: bool,
    /// Number of the audit record.
    pub audit: Option<u64>,
}

/// A key that was imported.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyImported {
    /// Where it stood in the file, from one.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// The public id that it has here; none in a dry run.
    pub id: Option<KeyId>,
}

/// One API key, without its secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Key {
    /// Public id.
    pub id: KeyId,
    /// Unique name.
    pub name: String,
    /// Whose it is.
    pub owner: Option<String>,
    /// Which application uses it.
    pub application: Option<String>,
    /// `live` or `test`.
    pub environment: String,
    /// Roles of the policy.
    pub roles: Vec<Role>,
    /// Scopes, for conditions to look at.
    pub scopes: Vec<String>,
    /// Routes it may be used for; empty means any.
    pub routes: Vec<String>,
    /// Networks it may be used from; empty means any.
    pub networks: Vec<Prefix>,
    /// The client certificate it goes with.
    pub certificate: Option<Thumbprint>,
    /// Limits of the policy that hold for it in addition.
    pub limits: Vec<String>,
    /// For people.
    pub notes: String,
    /// `active`, `expired`, `not yet valid` or `revoked`.
    pub state: String,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is valid.
    pub not_before: Option<Timestamp>,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
    /// Why.
    pub revoked_because: Option<String>,
    /// Its secrets, the oldest first: one, or two since it was rotated.
    pub secrets: Vec<KeySecret>,
    /// Since when its rotation is due.
    pub rotation_due: Option<Timestamp>,
    /// Roles that the policy in force does not know.
    pub unknown_roles: Vec<Role>,
    /// Routes that the policy in force does not know.
    pub unknown_routes: Vec<String>,
    /// Limits that the policy in force does not know.
    pub unknown_limits: Vec<String>,
    /// Number of the audit record, where something was changed.
    pub audit: Option<u64>,
}

/// What is known about one secret of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeySecret {
    /// Counted from one with each rotation.
    pub number: u32,
    /// `current`, `retiring` or `ended`.
    pub state: String,
    /// `own`, or `imported` for one that was made elsewhere.
    pub form: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends, or ended, because another took its place.
    pub ends: Option<Timestamp>,
    /// When it was last used.
    pub last_used: Option<Timestamp>,
    /// From where it was last used.
    pub last_address: Option<IpAddr>,
}

/// Every key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keys {
    /// One each.
    pub keys: Vec<Key>,
}

/// A key with a fresh secret, shown this once.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeyIssued {
    /// The record.
    pub key: Key,
    /// The whole credential.
    pub credential: String,
    /// Number of the audit record.
    pub audit: Option<u64>,
}

/// What would be done, and was not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyRehearsed {
    /// In a sentence.
    pub would: String,
    /// The key that it would be done to, if there is one.
    pub key: Option<Key>,
}

impl fmt::Debug for KeyIssued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyIssued").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A file of hashes is as good as the keys that people chose.
impl fmt::Debug for KeyImport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, text, dry_run } = self;
        let bytes = text.len();
        write!(f, "KeyImport({format:?}, {bytes} bytes, dry run {dry_run})")
    }
}
