//! Kinds of personal values that the audit log holds, and can forget.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a personal value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PersonalKind {
    /// The address of one host, or an IPv6 network that one subscriber has.
    Address,
    /// The name of a caller.
    Principal,
    /// Words of an operator, or about one case.
    Text,
    /// What a client says it is.
    UserAgent,
}

/// The text names no kind of value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no kind of personal value; write `address`, `principal`, `text` or `user-agent`")]
pub struct PersonalKindError(String);

impl PersonalKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Address, Self::Principal, Self::Text, Self::UserAgent];

    /// As records and the command line write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Principal => "principal",
            Self::Text => "text",
            Self::UserAgent => "user-agent",
        }
    }
}

impl fmt::Display for PersonalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PersonalKind {
    type Err = PersonalKindError;

    fn from_str(text: &str) -> Result<Self, PersonalKindError> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| PersonalKindError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_read_as_it_is_written() {
        for kind in PersonalKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("Address".parse::<PersonalKind>().unwrap_err().to_string().contains("user-agent"));
    }
}
