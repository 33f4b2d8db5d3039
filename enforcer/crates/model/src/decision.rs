//! A block: who is shut out, why, by whom, until when.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Fingerprint, KeyId, KeyIdError, Prefix, PrefixError, Principal, RequestId, Role, Source,
    Timestamp,
};

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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A kind of TLS client, by its fingerprint: refused at layer 7.
    Ja4(Arc<str>),
    /// One API key: refused at layer 7.
    Key(KeyId),
    /// An address or network: dropped in the kernel and refused at layer 7.
    Network(Prefix),
    /// Whoever holds a role of the policy: refused at layer 7.
    Role(Role),
    /// One credential, by the fingerprint that the audit log names it by: refused at layer 7.
    Token(Fingerprint),
    /// One caller, however often its credential is renewed; never one that is a key: refused at
    /// layer 7.
    User(Principal),
}

/// The text names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Behind `ja4:` stands no fingerprint.
    #[error("`{0}` is not a JA4 fingerprint; it looks like `t13d1516h2_8daaf6152771_e5627efa2ab1`")]
    Ja4(String),
    /// Behind `key:` stands no key id.
    #[error(transparent)]
    Key(#[from] KeyIdError),
    /// Not an address, network or `KIND:NAME`.
    #[error(transparent)]
    Network(#[from] PrefixError),
    /// Behind `role:` stands no name.
    #[error("`{0}` is not the name of a role")]
    Role(String),
    /// Behind `token:` stands no fingerprint.
    #[error(
        "`{0}` is not the fingerprint of a credential; it has 32 hexadecimal digits, as `enforcer \
         trail` shows it; a caller is `user:token:ISSUER/SUBJECT`"
    )]
    Token(String),
    /// Behind `user:` stands no principal.
    #[error(
        "`{0}` is not a caller as the audit log names it: `token:ISSUER/SUBJECT`, `spiffe://…` or \
         `cert:…`"
    )]
    User(String),
}

/// Longest name of a caller or role that a block is aimed at, in bytes.
const NAME_MAX: usize = 1_024;

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

impl Target {
    /// The block that hits `caller`: a key by its id, everybody else by name.
    pub fn caller(caller: &Principal) -> Self {
        let key = caller.as_str().strip_prefix("key:").and_then(|id| id.parse().ok());
        key.map_or_else(|| Self::User(caller.clone()), Self::Key)
    }

    /// The network, where packets tell whom it hits.
    pub const fn network(&self) -> Option<Prefix> {
        match self {
            Self::Network(prefix) => Some(*prefix),
            Self::Ja4(_) | Self::Key(_) | Self::Role(_) | Self::Token(_) | Self::User(_) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ja4(ja4) => write!(f, "ja4:{ja4}"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Network(prefix) => prefix.fmt(f),
            Self::Role(role) => write!(f, "role:{role}"),
            Self::Token(fingerprint) => write!(f, "token:{fingerprint}"),
            Self::User(principal) => write!(f, "user:{principal}"),
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let named = |name: &str| {
            !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(|b| b.is_ascii_graphic())
        };
        match text.split_once(':') {
            Some(("ja4", ja4)) if is_ja4(ja4) => Ok(Self::Ja4(ja4.into())),
            Some(("ja4", ja4)) => Err(TargetError::Ja4(ja4.to_owned())),
            Some(("key", id)) => Ok(Self::Key(id.parse()?)),
            Some(("role", role)) if named(role) => Ok(Self::Role(Role::new(role))),
            Some(("role", role)) => Err(TargetError::Role(role.to_owned())),
            Some(("token", digits)) => {
                let wrong = || TargetError::Token(digits.to_owned());
                Ok(Self::Token(digits.parse().or(Err(wrong()))?))
            }
            Some(("user", name)) => {
                let kinds = ["cert:", "key:", "spiffe:", "token:"];
                let is_kind = kinds.iter().any(|kind| name.starts_with(kind));
                if !is_kind || !named(name) {
                    return Err(TargetError::User(name.to_owned()));
                }
                if let Some(id) = name.strip_prefix("key:") {
                    return Ok(Self::Key(id.parse()?));
                }
                Ok(Self::User(Principal::recorded(name)))
            }
            // An IPv6 address has colons as well.
            Some(_) | None => Ok(Self::Network(text.parse()?)),
        }
    }
}

/// `t13d1516h2_8daaf6152771_e5627efa2ab1`: ten characters, and twice twelve digits.
fn is_ja4(text: &str) -> bool {
    let mut parts = text.split('_');
    let digits = |part: Option<&str>| {
        part.is_some_and(|part| {
            part.len() == 12
                && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        })
    };
    parts.next().is_some_and(|a| a.len() == 10 && a.bytes().all(|b| b.is_ascii_alphanumeric()))
        && digits(parts.next())
        && digits(parts.next())
        && parts.next().is_none()
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
    fn a_target_survives_printing_and_parsing() {
        for text in [
            "key:k7Qx2mP9aB3c",
            "203.0.113.7",
            "2001:db8::/48",
            "user:token:corp/alice",
            "user:spiffe://example.com/ns/pay/api",
            "role:auditor",
            "token:00112233445566778899aabbccddeeff",
            "ja4:t13d1516h2_8daaf6152771_e5627efa2ab1",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_names_nobody_is_no_target() {
        for text in [
            "key:short",
            "host.example",
            "user:",
            "user:alice",
            "user:token:corp/a b",
            "role:",
            "role:a b",
            "token:corp/alice",
            "token:+0112233445566778899aabbccddeeff",
            "ja4:",
            "ja4:t13d1516h2",
            "ja4:t13d1516h2_8daaf6152771_e5627efa2ab1_x",
            "ja4:t13d1516h2_8daaf6152771_E5627EFA2AB1",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_caller_that_is_a_key_is_one_target_whichever_way_it_is_named() {
        let key: Target = "key:k7Qx2mP9aB3c".parse().unwrap();

        assert_eq!("user:key:k7Qx2mP9aB3c".parse::<Target>().unwrap(), key);
        assert_eq!(Target::caller(&Principal::from_key("k7Qx2mP9aB3c".parse().unwrap())), key);
        let alice = Principal::from_token("corp", "alice");
        assert_eq!(Target::caller(&alice), Target::User(alice));
    }
}
