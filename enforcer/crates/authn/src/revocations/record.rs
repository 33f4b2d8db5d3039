//! What is taken back, and by whom: one decision that ends tokens, or a certificate, before their
//! time.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use enforcer_model::{
    Author, Expiry, Reason, Thumbprint, ThumbprintError, Timestamp, TimestampError,
};
use serde::{Deserialize, Serialize};

use crate::identity::{Identity, Proof, TokenFacts};

/// The name of one revocation, such as `R-17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RevocationId(u32);

/// The text is not such a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a revocation; it looks like `R-17`", .0.escape_debug())]
pub struct RevocationIdError(String);

/// What is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TokenTarget {
    /// A client certificate, alone or with any credential: `cert:HEX`.
    Certificate(Thumbprint),
    /// Every token that was given to a client: `client:ID`.
    Client(Arc<str>),
    /// Every token issued before this; one that does not say when it was issued is among them:
    /// `before:TIME`.
    IssuedBefore(Timestamp),
    /// Every token that a key signed: `kid:ID`.
    Key(Arc<str>),
    /// Every token of a subject: `sub:SUBJECT`.
    Subject(Arc<str>),
    /// One token: `jti:ID`.
    Token(Arc<str>),
}

/// The text names nothing that can be taken back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenTargetError {
    /// Behind `cert:` stands no thumbprint.
    #[error(transparent)]
    Certificate(#[from] ThumbprintError),
    /// Nothing behind the colon, or too much.
    #[error("behind `{0}:` belong 1 to {max} bytes of text", max = TokenTarget::TEXT_MAX)]
    Length(&'static str),
    /// Behind `before:` stands no time.
    #[error(transparent)]
    Time(#[from] TimestampError),
    /// None of the known beginnings.
    #[error(
        "`{}` does not say what to revoke; write `jti:ID`, `sub:SUBJECT`, `kid:ID`, `client:ID`, \
         `before:TIME` or `cert:SHA256`", .0.escape_debug()
    )]
    Unknown(String),
}

/// A decision to take tokens back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRevocation {
    /// Its name.
    pub id: RevocationId,
    /// What is taken back.
    pub target: TokenTarget,
    /// The `[issuer.NAME]` whose tokens are meant; none: those of all. Certificates have none.
    pub issuer: Option<Arc<str>>,
    /// When it was decided.
    pub since: Timestamp,
    /// When it ends.
    pub until: Expiry,
    /// Who decided.
    pub author: Author,
    /// Why.
    pub reason: String,
}

impl TokenRevocation {
    /// Whether the caller `identity` is one of those that it ends; whether it is over is not asked.
    pub fn hits(&self, identity: &Identity) -> bool {
        if let TokenTarget::Certificate(thumbprint) = &self.target {
            return identity.certificate().is_some_and(|held| held.thumbprint == *thumbprint);
        }
        match identity.proof() {
            Proof::Token(facts) => self.hits_token(facts),
            Proof::Certificate | Proof::Key(_) => false,
        }
    }

    pub(crate) fn hits_token(&self, facts: &TokenFacts) -> bool {
        if self.issuer.as_ref().is_some_and(|issuer| *issuer != facts.issuer) {
            return false;
        }
        match &self.target {
            TokenTarget::Certificate(_) => false,
            TokenTarget::Client(client) => facts.client.as_ref() == Some(client),
            TokenTarget::IssuedBefore(time) => facts.issued.is_none_or(|issued| issued < *time),
            TokenTarget::Key(key) => facts.key.as_ref() == Some(key),
            TokenTarget::Subject(subject) => facts.subject == *subject,
            TokenTarget::Token(id) => facts.id.as_ref() == Some(id),
        }
    }
}

impl RevocationId {
    pub(crate) const fn new(number: u32) -> Self {
        Self(number)
    }

    pub(crate) const fn number(self) -> u32 {
        self.0
    }
}

impl TokenTarget {
    /// What the record of a request that it ends says.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Certificate(_) => Reason::CertificateRevoked,
            Self::Client(_)
            | Self::IssuedBefore(_)
            | Self::Key(_)
            | Self::Subject(_)
            | Self::Token(_) => Reason::TokenRevoked,
        }
    }

    /// Bytes of an id, a subject, a client or the name of a key.
    pub const TEXT_MAX: usize = 1_024;
}

impl fmt::Display for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R-{}", self.0)
    }
}

impl FromStr for RevocationId {
    type Err = RevocationIdError;

    fn from_str(text: &str) -> Result<Self, RevocationIdError> {
        let digits = text.strip_prefix("R-").or_else(|| text.strip_prefix("r-"));
        digits
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .map(Self)
            .ok_or_else(|| RevocationIdError(text.to_owned()))
    }
}

impl Serialize for RevocationId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RevocationId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for TokenTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(thumbprint) => write!(f, "cert:{thumbprint}"),
            Self::Client(client) => write!(f, "client:{client}"),
            Self::IssuedBefore(time) => write!(f, "before:{time}"),
            Self::Key(key) => write!(f, "kid:{key}"),
            Self::Subject(subject) => write!(f, "sub:{subject}"),
            Self::Token(id) => write!(f, "jti:{id}"),
        }
    }
}

impl FromStr for TokenTarget {
    type Err = TokenTargetError;

    fn from_str(text: &str) -> Result<Self, TokenTargetError> {
        let bounded = |word: &'static str, text: &str| -> Result<Arc<str>, TokenTargetError> {
            let fits = (1..=Self::TEXT_MAX).contains(&text.len());
            if fits { Ok(text.into()) } else { Err(TokenTargetError::Length(word)) }
        };
        match text.split_once(':') {
            Some(("before", time)) => Ok(Self::IssuedBefore(time.parse()?)),
            Some(("cert", digits)) => Ok(Self::Certificate(digits.parse()?)),
            Some(("client", client)) => bounded("client", client).map(Self::Client),
            Some(("jti", id)) => bounded("jti", id).map(Self::Token),
            Some(("kid", key)) => bounded("kid", key).map(Self::Key),
            Some(("sub", subject)) => bounded("sub", subject).map(Self::Subject),
            Some(_) | None => Err(TokenTargetError::Unknown(text.to_owned())),
        }
    }
}

impl Serialize for TokenTarget {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenTarget {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
