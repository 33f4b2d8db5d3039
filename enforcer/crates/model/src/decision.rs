//! A block: who is shut out, why, by whom, until when.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{KeyId, KeyIdError, Prefix, PrefixError, RequestId, Source, Timestamp};

/// The name of one block, `B-` and seven characters of Crockford's base 32, such as `B-7K2Q4XW`.
///
/// 35 random bits: short enough to read out over a telephone; the store refuses a repeat.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(u64);

/// The text is not a block id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a block id; it looks like `B-7K2Q4XW`")]
pub struct BlockIdError(String);

/// Whom a quarantine is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One API key: refused at layer 7.
    Key(KeyId),
    /// An address or network: dropped in the kernel and refused at layer 7.
    Network(Prefix),
}

/// The text is neither.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Behind `key:` stands no key id.
    #[error(transparent)]
    Key(#[from] KeyIdError),
    /// Not an address, network or `key:ID`.
    #[error(transparent)]
    Network(#[from] PrefixError),
}

/// When a block ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// At this wall time.
    At(Timestamp),
    /// Only by hand.
    Never,
}

/// Who decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Author {
    /// The agent itself, when it mends a difference or ends what is over.
    Agent,
    /// A person, by the peer credentials of the admin socket.
    Operator {
        /// User id of the caller.
        uid: u32,
        /// Its name in the user database, else the number.
        name: String,
    },
    /// A detection rule of the policy.
    Rule(String),
}

/// A decision to shut somebody out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Its name; `release` takes it.
    pub id: BlockId,
    /// Whom it hits.
    pub target: Target,
    /// The operator's words or the rule's explanation.
    pub reason: String,
    /// Who decided.
    pub author: Author,
    /// When it was decided.
    pub since: Timestamp,
    /// When it ends.
    pub until: Expiry,
    /// The proxy that the target came through. Its packets bear the proxy's address, so the block acts
    /// at layer 7 and nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<Source>,
}

/// What a rule of the policy has against a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Offence {
    /// The rule of the policy.
    pub rule: String,
    /// Whom it is about: one address, or the IPv6 /64 that the failures came from.
    pub target: Prefix,
    /// A proxy that the target came through, if that is how any of it is known.
    pub through: Option<Source>,
    /// What was counted.
    pub failures: FailureCount,
    /// How long the answer lasts.
    pub ttl: Duration,
    /// Requests that were counted, newest last, at most 16.
    pub evidence: Vec<RequestId>,
}

/// `seen` failures inside `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureCount {
    /// How many.
    pub seen: u32,
    /// The window of the rule.
    pub window: Duration,
    /// Of what kind.
    pub of: Failures,
}

/// What a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failures {
    /// Credentials that were not accepted.
    Authentication,
    /// Requests over the caller's own limits.
    Limits,
}

impl BlockId {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    const CHARACTERS: usize = 7;
    const BITS: u64 = (1 << 35) - 1;

    /// The id made of the low 35 bits of `bits`.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::BITS)
    }

    /// The number that the kernel map carries.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("B-")?;
        (0..Self::CHARACTERS).rev().try_for_each(|place| {
            let digit = usize::try_from(self.0 >> (place * 5) & 31).unwrap_or_default();
            let letter = Self::ALPHABET.get(digit).copied().unwrap_or(b'0');
            write!(f, "{}", char::from(letter))
        })
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockId({self})")
    }
}

impl FromStr for BlockId {
    type Err = BlockIdError;

    fn from_str(text: &str) -> Result<Self, BlockIdError> {
        let refused = || BlockIdError(text.to_owned());
        let upper = text.to_ascii_uppercase();
        let digits = upper.strip_prefix("B-").ok_or_else(refused)?;
        if digits.len() != Self::CHARACTERS {
            return Err(refused());
        }
        let bits = digits.bytes().try_fold(0u64, |bits, letter| {
            let digit = Self::ALPHABET.iter().position(|&known| known == letter)?;
            Some(bits << 5 | u64::try_from(digit).ok()?)
        });
        bits.map(Self).ok_or_else(refused)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Network(prefix) => prefix.fmt(f),
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text.strip_prefix("key:") {
            Some(id) => Ok(Self::Key(id.parse()?)),
            None => Ok(Self::Network(text.parse()?)),
        }
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(time) => time.fmt(f),
            Self::Never => f.write_str("forever"),
        }
    }
}

impl Expiry {
    /// Whether the time is over at `now`.
    pub fn is_over(self, now: Timestamp) -> bool {
        match self {
            Self::At(end) => end <= now,
            Self::Never => false,
        }
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent => f.write_str("the agent"),
            Self::Operator { name, .. } => write!(f, "operator {name}"),
            Self::Rule(rule) => write!(f, "rule {rule}"),
        }
    }
}

impl fmt::Display for FailureCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.of {
            Failures::Authentication => "failures of authentication",
            Failures::Limits => "refusals by limits",
        };
        write!(f, "{} {kind} in {:?}", self.seen, self.window)
    }
}

macro_rules! serde_as_text {
    ($($type:ty),+) => { $(
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+ };
}

serde_as_text!(BlockId, Expiry, Target);

impl FromStr for Expiry {
    type Err = crate::TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "forever" { Ok(Self::Never) } else { text.parse().map(Self::At) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_block_id_survives_printing_and_parsing(bits: u64) {
            let id = BlockId::from_bits(bits);

            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.to_string().to_lowercase().parse(), Ok(id));
        }
    }

    #[test]
    fn a_target_is_a_key_an_address_or_a_network() {
        for text in ["key:k7Qx2mP9aB3c", "203.0.113.7", "2001:db8::/48"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert!("key:short".parse::<Target>().is_err());
        assert!("host.example".parse::<Target>().is_err());
    }
}
