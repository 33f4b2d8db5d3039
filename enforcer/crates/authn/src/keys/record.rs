//! What is known about a key: everything but its secret.

use std::fmt;
use std::str::FromStr;

use enforcer_model::{KeyId, Prefix, Role, Timestamp};
use serde::{Deserialize, Serialize};

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

/// A key to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// What people call it: unique, 1 to 64 printable ASCII characters.
    pub name: String,
    /// What it may do, as the policy names roles; at least one.
    pub roles: Vec<Role>,
    /// From where it may be used; from everywhere when empty.
    pub networks: Vec<Prefix>,
    /// From when on it is valid; at once when none.
    pub not_before: Option<Timestamp>,
    /// When it ends; never when none.
    pub expires: Option<Timestamp>,
    /// Part of the key's text.
    pub environment: Environment,
}

/// The key cannot be made as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NewKeyError {
    /// Its time would be over already.
    #[error("the key would expire at {0}, which is not in the future")]
    Expired(Timestamp),
    /// Its time would be over before it begins.
    #[error("the key would expire at {expires}, before it becomes valid at {not_before}")]
    NeverValid {
        /// When it would begin.
        not_before: Timestamp,
        /// When it would end.
        expires: Timestamp,
    },
    /// Empty, too long, not printable, or in the form of a principal.
    #[error(
        "`{}` is not a name for a key; use 1 to {} printable ASCII characters, no blank at either \
         end, not beginning with `key:`", .0.escape_debug(), NewKey::NAME_LENGTH_MAX
    )]
    Name(String),
    /// A key without a role could do nothing.
    #[error("the key needs at least one role")]
    NoRole,
    /// Not the name of a role.
    #[error(
        "`{}` is not a role; use 1 to {} printable ASCII characters without blanks",
        .0.escape_debug(), NewKey::NAME_LENGTH_MAX
    )]
    Role(String),
    /// The store counts time in signed nanoseconds.
    #[error("{0} is too far ahead; the last time a key can carry is in the year 2262")]
    TooLate(Timestamp),
    /// More than the limit.
    #[error("the key would have {found} {what}; at most {} are possible", NewKey::LIST_LENGTH_MAX)]
    TooMany {
        /// `roles` or `networks`.
        what: &'static str,
        /// How many were given.
        found: usize,
    },
}

/// A key as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyRecord {
    /// The public half, which the key's text carries.
    pub id: KeyId,
    /// What people call it.
    pub name: String,
    /// Part of the key's text.
    pub environment: Environment,
    /// What it may do, in the order of the names.
    pub roles: Vec<Role>,
    /// From where it may be used; from everywhere when empty.
    pub networks: Vec<Prefix>,
    /// When it was issued.
    pub created: Timestamp,
    /// From when on it is valid; at once when none.
    pub not_before: Option<Timestamp>,
    /// When it ends; never when none.
    pub expires: Option<Timestamp>,
    /// When and why it was revoked.
    pub revoked: Option<Revocation>,
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
    pub(crate) const ALL: [Self; 2] = [Self::Live, Self::Test];

    /// `live` or `test`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    pub(crate) const fn prefix_text(self) -> &'static str {
        match self {
            Self::Live => "enf_live_",
            Self::Test => "enf_test_",
        }
    }

    pub(crate) const fn prefix(self) -> &'static [u8] {
        self.prefix_text().as_bytes()
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

impl NewKey {
    /// Characters in a name, of a key or a role.
    pub const NAME_LENGTH_MAX: usize = 64;
    /// Roles, and networks, of one key.
    pub const LIST_LENGTH_MAX: usize = 64;

    /// The record of this key under `id`, with roles and networks sorted and without repeats.
    pub(crate) fn into_record(self, id: KeyId, now: Timestamp) -> Result<KeyRecord, NewKeyError> {
        let Self { name, mut roles, mut networks, not_before, expires, environment } = self;
        roles.sort_unstable();
        roles.dedup();
        networks.sort_unstable();
        networks.dedup();

        if !is_printable(&name) || name.trim() != name || name.starts_with("key:") {
            return Err(NewKeyError::Name(name));
        }
        if roles.is_empty() {
            return Err(NewKeyError::NoRole);
        }
        let unusable = |role: &&Role| !is_printable(role.as_str()) || role.as_str().contains(' ');
        if let Some(role) = roles.iter().find(unusable) {
            return Err(NewKeyError::Role(role.as_str().to_owned()));
        }
        for (what, found) in [("roles", roles.len()), ("networks", networks.len())] {
            if found > Self::LIST_LENGTH_MAX {
                return Err(NewKeyError::TooMany { what, found });
            }
        }
        for time in [not_before, expires].into_iter().flatten() {
            if i64::try_from(time.unix_ns()).is_err() {
                return Err(NewKeyError::TooLate(time));
            }
        }
        if let Some(expires) = expires
            && expires <= now
        {
            return Err(NewKeyError::Expired(expires));
        }
        if let (Some(not_before), Some(expires)) = (not_before, expires)
            && expires <= not_before
        {
            return Err(NewKeyError::NeverValid { not_before, expires });
        }
        let created = now;
        Ok(KeyRecord {
            id,
            name,
            environment,
            roles,
            networks,
            created,
            not_before,
            expires,
            revoked: None,
        })
    }
}

fn is_printable(text: &str) -> bool {
    (1..=NewKey::NAME_LENGTH_MAX).contains(&text.len())
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
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
