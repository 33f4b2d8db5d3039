//! What is known about a key: everything but its secret.

use std::fmt;
use std::str::FromStr;

use std::time::Duration;

use enforcer_model::{KeyId, Prefix, Role, Thumbprint, Timestamp};
use serde::{Deserialize, Serialize};

use super::plan::KeyPrefix;
use super::uses::LastUse;

/// Whether a key is for production or for trials; part of the key's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Environment {
    /// `enf_live_…`
    #[default]
    Live,
    /// `enf_test_…`
    Test,
}

/// The text is not an environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an environment; write `live` or `test`")]
pub struct EnvironmentError(String);

/// A key as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyRecord {
    /// The public half, which the key's text carries.
    pub id: KeyId,
    /// What people call it.
    pub name: String,
    /// Whose it is, if that was said.
    pub owner: Option<String>,
    /// Which application uses it, if that was said.
    pub application: Option<String>,
    /// Part of the key's text.
    pub environment: Environment,
    /// What it may do, in the order of the names.
    pub roles: Vec<Role>,
    /// Scopes, for conditions to look at.
    pub scopes: Vec<String>,
    /// The routes it may be used for; all when empty.
    pub routes: Vec<String>,
    /// From where it may be used; from everywhere when empty.
    pub networks: Vec<Prefix>,
    /// The client certificate it may be used with; any and none when not said.
    pub certificate: Option<Thumbprint>,
    /// Limits of the policy that hold for it in addition to the route's.
    pub limits: Vec<String>,
    /// For people.
    pub notes: String,
    /// When it was issued.
    pub created: Timestamp,
    /// From when on it is valid; at once when none.
    pub not_before: Option<Timestamp>,
    /// When it ends; never when none.
    pub expires: Option<Timestamp>,
    /// When and why it was revoked.
    pub revoked: Option<Revocation>,
    /// Its secrets, the oldest first: one, or two while it is rotated and until the next time.
    pub secrets: Vec<SecretRecord>,
}

/// What is known about a secret: everything but itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretRecord {
    /// Counted from one with each rotation.
    pub number: u32,
    /// Whose form it has.
    pub form: SecretForm,
    /// What the key begins with that has it.
    pub prefix: KeyPrefix,
    /// The version of the pepper that it is stored under.
    pub pepper: u8,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends, or ended, because another took its place.
    pub ends: Option<Timestamp>,
    /// Its last use, if there was one.
    pub used: Option<LastUse>,
}

/// Where a secret comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretForm {
    /// Made here, in the form of a [`crate::Token`].
    Own,
    /// Made elsewhere, known by its SHA-256.
    Imported,
}

/// The end of a key before its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Revocation {
    /// When.
    pub at: Timestamp,
    /// The operator's words.
    pub reason: String,
}

/// What a key is good for at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// It is accepted.
    Active,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// It was revoked.
    Revoked,
}

impl Environment {
    pub(super) const ALL: [Self; 2] = [Self::Live, Self::Test];

    /// `live` or `test`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// What stands between the prefix and the id of a key.
    pub(super) const fn infix(self) -> &'static [u8] {
        match self {
            Self::Live => b"_live_",
            Self::Test => b"_test_",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Environment {
    type Err = EnvironmentError;

    fn from_str(text: &str) -> Result<Self, EnvironmentError> {
        let found = Self::ALL.into_iter().find(|environment| environment.as_str() == text);
        found.ok_or_else(|| EnvironmentError(text.to_owned()))
    }
}

impl KeyRecord {
    /// What the key is good for at `now`.
    pub fn state(&self, now: Timestamp) -> KeyState {
        if self.revoked.is_some() {
            KeyState::Revoked
        } else if self.expires.is_some_and(|end| end <= now) {
            KeyState::Expired
        } else if self.not_before.is_some_and(|start| now < start) {
            KeyState::NotYetValid
        } else {
            KeyState::Active
        }
    }

    /// The secret that is meant to be used.
    pub fn newest(&self) -> Option<&SecretRecord> {
        self.secrets.iter().max_by_key(|secret| secret.number)
    }

    /// The older of two secrets that are both accepted at `now`.
    pub fn retiring(&self, now: Timestamp) -> Option<&SecretRecord> {
        self.secrets.iter().find(|secret| secret.ends.is_some_and(|end| now < end))
    }

    /// Since when the secret is older than a secret should become.
    pub fn rotation_due(&self, every: Option<Duration>, now: Timestamp) -> Option<Timestamp> {
        let due = self.newest()?.created.saturating_add(every?);
        (due <= now).then_some(due)
    }
}

impl SecretForm {
    pub(super) const ALL: [Self; 2] = [Self::Own, Self::Imported];

    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Imported => "imported",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::Revoked => "revoked",
        })
    }
}
