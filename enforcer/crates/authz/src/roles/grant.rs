//! Which credentials can carry a role: one entry of `from`.
//!
//! A SPIFFE id is compared byte for byte (SPIFFE-ID section 2). A pattern may end in `/*`, which stands
//! for one or more whole segments below: `spiffe://example.com/ns/pay/*` is every workload under
//! `/ns/pay`, however deep, and neither `/ns/pay` itself nor `/ns/payroll/x`. The trust domain is
//! always written out, so no pattern reaches from one into another.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// One entry of a role's `from`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// `key`: an API key that was issued with the role.
    Key,
    /// `issuer:NAME/VALUE`: a token of that issuer that has the value among its scopes, or where the
    /// policy says that role values stand.
    Issuer {
        /// The `[issuer.NAME]` of the policy.
        issuer: Arc<str>,
        /// Compared byte for byte.
        value: Arc<str>,
    },
    /// `spiffe://…`: a client certificate with such an id.
    Spiffe(SpiffePattern),
}

/// A SPIFFE id, or all below one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpiffePattern {
    /// This id and no other.
    Exact(Arc<str>),
    /// Every id that begins with this text, which ends in `/`, and goes on.
    Below(Arc<str>),
}

/// The text is not an entry of `from`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// None of the three forms.
    #[error("`{0}` says nothing; write `key`, `issuer:NAME/VALUE` or `spiffe://…`")]
    Form(String),
    /// `issuer:` without a name or a value.
    #[error("`{0}` lacks a part; write `issuer:NAME/VALUE`, such as `issuer:corp/api.read`")]
    Issuer(String),
    /// Not a SPIFFE id.
    #[error(
        "`{0}` is not a SPIFFE id; write `spiffe://trust.domain/path`, lower-case domain, no empty \
         or dot segment, no port"
    )]
    Spiffe(String),
    /// A star that is not the whole last segment, or stands for the trust domain.
    #[error("`{0}` has a `*` in the wrong place; only the whole last segment of a path can be one")]
    Star(String),
}

const SCHEME: &str = "spiffe://";

/// The longest SPIFFE id (SPIFFE-ID section 2.3).
const SPIFFE_MAX: usize = 2048;

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        if text == "key" {
            return Ok(Self::Key);
        }
        if let Some(rest) = text.strip_prefix("issuer:") {
            let parts = rest.split_once('/').filter(|(name, value)| {
                !name.is_empty() && !value.is_empty() && !value.chars().any(char::is_control)
            });
            let (issuer, value) = parts.ok_or_else(|| GrantError::Issuer(text.to_owned()))?;
            return Ok(Self::Issuer { issuer: issuer.into(), value: value.into() });
        }
        if text.starts_with("spiffe:") {
            return text.parse().map(Self::Spiffe);
        }
        Err(GrantError::Form(text.to_owned()))
    }
}

impl FromStr for SpiffePattern {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let (id, is_open) = match text.strip_suffix("/*") {
            Some(id) => (id, true),
            None => (text, false),
        };
        let domain = text.strip_prefix(SCHEME).unwrap_or_default();
        if id.contains('*') || domain.starts_with('*') {
            return Err(GrantError::Star(text.to_owned()));
        }
        if !is_id(id) {
            return Err(GrantError::Spiffe(text.to_owned()));
        }
        Ok(if is_open { Self::Below(format!("{id}/").into()) } else { Self::Exact(id.into()) })
    }
}

impl SpiffePattern {
    /// Whether `id` is the id, or one below it. What is not a SPIFFE id matches nothing.
    pub fn matches(&self, id: &str) -> bool {
        match self {
            Self::Exact(exact) => &**exact == id,
            Self::Below(above) => id.strip_prefix(&**above).is_some_and(|_| is_id(id)),
        }
    }
}

/// Whether `id` has the one form that a SPIFFE id can have: lower-case trust domain, then segments
/// of letters, digits, `.`, `-` and `_`, none of them empty, `.` or `..`.
pub(super) fn is_id(id: &str) -> bool {
    let Some(rest) = id.strip_prefix(SCHEME) else { return false };
    let mut parts = rest.split('/');
    let domain = parts.next().unwrap_or_default();
    let is_domain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    let is_segment =
        |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    id.len() <= SPIFFE_MAX
        && !domain.is_empty()
        && domain.bytes().all(is_domain)
        && parts.all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(is_segment))
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("key"),
            Self::Issuer { issuer, value } => write!(f, "issuer:{issuer}/{value}"),
            Self::Spiffe(pattern) => pattern.fmt(f),
        }
    }
}

impl fmt::Display for SpiffePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(id) => f.write_str(id),
            Self::Below(above) => write!(f, "{above}*"),
        }
    }
}
