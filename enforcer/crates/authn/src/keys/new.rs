//! A key as asked for, and what is checked before there is one.

use enforcer_model::{KeyId, Prefix, Role, Thumbprint, Timestamp};

use super::record::{Environment, KeyRecord};

/// A key to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewKey {
    /// What people call it: unique, 1 to 64 printable ASCII characters.
    pub name: String,
    /// Whose it is: a person or a team.
    pub owner: Option<String>,
    /// Which application uses it.
    pub application: Option<String>,
    /// What it may do, as the policy names roles; at least one.
    pub roles: Vec<Role>,
    /// Scopes as RFC 6749 writes them, for conditions to look at.
    pub scopes: Vec<String>,
    /// The routes it may be used for, as the policy names them; all when empty.
    pub routes: Vec<String>,
    /// From where it may be used; from everywhere when empty.
    pub networks: Vec<Prefix>,
    /// The client certificate it may be used with; any and none when not said.
    pub certificate: Option<Thumbprint>,
    /// From when on it is valid; at once when none.
    pub not_before: Option<Timestamp>,
    /// When it ends; never when none.
    pub expires: Option<Timestamp>,
    /// Limits of the policy that hold for it in addition to the route's.
    pub limits: Vec<String>,
    /// For people.
    pub notes: String,
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
    /// Too long, or with control characters.
    #[error(
        "the notes are longer than {} characters, or have control characters",
        NewKey::NOTES_LENGTH_MAX
    )]
    Notes,
    /// An owner or application that is empty, too long, or has control characters.
    #[error(
        "`{}` is not an {what}; use 1 to {} bytes of text without control characters, no blank at \
         either end", .text.escape_debug(), NewKey::TEXT_LENGTH_MAX
    )]
    Text {
        /// `owner` or `application`.
        what: &'static str,
        /// What was given.
        text: String,
    },
    /// Not the name of a role, scope, route or limit.
    #[error(
        "`{}` is not a {what}; use 1 to {} printable ASCII characters without blanks, quotes and \
         backslashes", .text.escape_debug(), NewKey::NAME_LENGTH_MAX
    )]
    Word {
        /// `role`, `scope`, …
        what: &'static str,
        /// What was given.
        text: String,
    },
    /// The store counts time in signed nanoseconds.
    #[error("{0} is too far ahead; the last time a key can carry is in the year 2262")]
    TooLate(Timestamp),
    /// More than the limit.
    #[error("the key would have {found} {what}; at most {} are possible", NewKey::LIST_LENGTH_MAX)]
    TooMany {
        /// `roles`, `networks`, …
        what: &'static str,
        /// How many were given.
        found: usize,
    },
}

impl NewKey {
    /// Characters in the name of a key, role, scope, route or limit.
    pub const NAME_LENGTH_MAX: usize = 64;
    /// Bytes in an owner or application.
    pub const TEXT_LENGTH_MAX: usize = 128;
    /// Characters in the notes.
    pub const NOTES_LENGTH_MAX: usize = 500;
    /// Roles, networks, …, of one key.
    pub const LIST_LENGTH_MAX: usize = 64;

    /// What is wrong with it, if anything is.
    pub fn check(&self, now: Timestamp) -> Result<(), NewKeyError> {
        if !is_printable(&self.name)
            || self.name.trim() != self.name
            || self.name.starts_with("key:")
        {
            return Err(NewKeyError::Name(self.name.clone()));
        }
        for (what, text) in [("owner", &self.owner), ("application", &self.application)] {
            if let Some(text) = text
                && !is_text(text)
            {
                return Err(NewKeyError::Text { what, text: text.clone() });
            }
        }
        let notes_length = self.notes.chars().count();
        if notes_length > Self::NOTES_LENGTH_MAX || self.notes.chars().any(char::is_control) {
            return Err(NewKeyError::Notes);
        }
        self.check_lists()?;
        self.check_times(now)
    }

    fn check_lists(&self) -> Result<(), NewKeyError> {
        if self.roles.is_empty() {
            return Err(NewKeyError::NoRole);
        }
        let counts = [
            ("roles", self.roles.len()),
            ("scopes", self.scopes.len()),
            ("routes", self.routes.len()),
            ("networks", self.networks.len()),
            ("limits", self.limits.len()),
        ];
        if let Some((what, found)) =
            counts.into_iter().find(|(_, found)| *found > Self::LIST_LENGTH_MAX)
        {
            return Err(NewKeyError::TooMany { what, found });
        }
        let words = |what, list: &[String]| match list.iter().find(|word| !is_word(word)) {
            Some(text) => Err(NewKeyError::Word { what, text: text.clone() }),
            None => Ok(()),
        };
        if let Some(role) = self.roles.iter().find(|role| !is_word(role.as_str())) {
            return Err(NewKeyError::Word { what: "role", text: role.as_str().to_owned() });
        }
        words("scope", &self.scopes)?;
        words("route", &self.routes)?;
        words("limit", &self.limits)
    }

    fn check_times(&self, now: Timestamp) -> Result<(), NewKeyError> {
        for time in [self.not_before, self.expires].into_iter().flatten() {
            if i64::try_from(time.unix_ns()).is_err() {
                return Err(NewKeyError::TooLate(time));
            }
        }
        if let Some(expires) = self.expires
            && expires <= now
        {
            return Err(NewKeyError::Expired(expires));
        }
        if let (Some(not_before), Some(expires)) = (self.not_before, self.expires)
            && expires <= not_before
        {
            return Err(NewKeyError::NeverValid { not_before, expires });
        }
        Ok(())
    }

    /// The record of this key under `id`, with every list sorted and without repeats; no secret yet.
    pub(super) fn into_record(self, id: KeyId, now: Timestamp) -> Result<KeyRecord, NewKeyError> {
        self.check(now)?;
        Ok(KeyRecord {
            id,
            name: self.name,
            owner: self.owner,
            application: self.application,
            environment: self.environment,
            roles: set(self.roles),
            scopes: set(self.scopes),
            routes: set(self.routes),
            networks: set(self.networks),
            certificate: self.certificate,
            limits: set(self.limits),
            notes: self.notes,
            created: now,
            not_before: self.not_before,
            expires: self.expires,
            revoked: None,
            secrets: Vec::new(),
        })
    }
}

fn set<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort_unstable();
    list.dedup();
    list
}

fn is_printable(text: &str) -> bool {
    (1..=NewKey::NAME_LENGTH_MAX).contains(&text.len())
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// What a scope may be made of (RFC 6749, section 3.3) is enough for every name in a policy.
fn is_word(text: &str) -> bool {
    is_printable(text) && !text.contains([' ', '"', '\\'])
}

fn is_text(text: &str) -> bool {
    (1..=NewKey::TEXT_LENGTH_MAX).contains(&text.len())
        && text.trim() == text
        && !text.chars().any(char::is_control)
}
