//! Which virtual host a request is for: one name, in one spelling.
//!
//! A host is a DNS name in letters, digits, `-` and `_`, a dotted IPv4 address or a bracketed IPv6
//! address. Case is folded, for it never carries meaning. A trailing dot is refused rather than cut:
//! `a.example.` and `a.example` are two names for caches and virtual hosts downstream, and TLS
//! knows only the second. Numbers that old resolvers read as addresses (`127.1`, `0x7f.1`) are
//! refused too.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use enforcer_model::{Reason, Rejection};
use http::header::HOST;
use http::request::Parts;

/// A canonical host: lower case, no port, no trailing dot; IPv6 in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Box<str>);

/// Why the request does not name one host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Neither Host nor an authority.
    #[error("the request names no host")]
    Missing,
    /// More than one Host field.
    #[error("the request has {0} Host fields")]
    Repeated(usize),
    /// Host has bytes beyond ASCII.
    #[error("the Host field is not ASCII")]
    NotAscii,
    /// Not a host with an optional port.
    #[error("`{text}` is not a host: {why}")]
    Malformed {
        /// As sent.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Host says one thing and the target another.
    #[error("Host is `{field}`, the target is for `{target}`")]
    Mismatch {
        /// From the Host field.
        field: String,
        /// From `:authority` or the absolute target.
        target: String,
    },
}

/// A host with the port that was written behind it.
#[derive(PartialEq, Eq)]
struct Authority {
    host: Host,
    port: Option<u16>,
}

/// The longest DNS name, RFC 1035 section 2.3.4.
const NAME_MAX: usize = 253;
/// The longest label of one, same place.
const LABEL_MAX: usize = 63;

pub(crate) fn of(parts: &Parts) -> Result<Host, HostError> {
    let mut fields = parts.headers.get_all(HOST).iter();
    let field = match (fields.next(), fields.count()) {
        (None, _) => None,
        (Some(value), 0) => {
            Some(value.to_str().ok().ok_or(HostError::NotAscii)?.parse::<Authority>()?)
        }
        (Some(_), more) => return Err(HostError::Repeated(more.saturating_add(1))),
    };
    let target =
        parts.uri.authority().map(|text| text.as_str().parse::<Authority>()).transpose()?;
    match (field, target) {
        (None, None) => Err(HostError::Missing),
        // An HTTP/1.1 request without Host is malformed even when its target is absolute
        // (RFC 9112 section 3.2).
        (None, Some(_)) if parts.version < http::Version::HTTP_2 => Err(HostError::Missing),
        (Some(only), None) | (None, Some(only)) => Ok(only.host),
        (Some(field), Some(target)) if field == target => Ok(field.host),
        (Some(field), Some(target)) => {
            Err(HostError::Mismatch { field: field.to_string(), target: target.to_string() })
        }
    }
}

impl Host {
    /// As compared, logged and forwarded.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Host {
    type Err = HostError;

    /// A host alone; a port is refused.
    fn from_str(text: &str) -> Result<Self, HostError> {
        let refused = |why| HostError::Malformed { text: text.to_owned(), why };
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or_else(|| refused("`[` is not closed"))?;
            let address: Ipv6Addr =
                inner.parse().ok().ok_or_else(|| refused("not an IPv6 address"))?;
            return Ok(Self(format!("[{address}]").into()));
        }
        if text.is_empty() {
            return Err(refused("it is empty"));
        }
        if text.len() > NAME_MAX {
            return Err(refused("it is longer than 253 characters"));
        }
        if text.ends_with('.') {
            return Err(refused("it ends in a dot"));
        }
        text.split('.').try_for_each(label).map_err(refused)?;
        if ends_in_a_number(text) && text.parse::<Ipv4Addr>().is_err() {
            return Err(refused("it ends in a number and is not a dotted IPv4 address"));
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Authority {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let refused = |why| HostError::Malformed { text: text.to_owned(), why };
        if text.contains('@') {
            return Err(refused("user information has no place in it"));
        }
        // Behind the last `]`, so that the colons of an IPv6 address are not taken for a port.
        let (bracketed, rest) = match text.rfind(']').and_then(|at| text.split_at_checked(at + 1)) {
            Some(parts) => parts,
            None => ("", text),
        };
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => (name, Some(self::port(port).ok_or_else(|| refused(PORT))?)),
            None => (rest, None),
        };
        let host = match (bracketed, name) {
            ("", name) => name.parse()?,
            (bracketed, "") => bracketed.parse()?,
            _ => return Err(refused("something stands behind `]`")),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

impl From<HostError> for Rejection {
    fn from(error: HostError) -> Self {
        let reason = match error {
            HostError::Mismatch { .. } => Reason::HostMismatch,
            HostError::Malformed { .. }
            | HostError::Missing
            | HostError::NotAscii
            | HostError::Repeated(_) => Reason::HostMalformed,
        };
        reason.because(error)
    }
}

const PORT: &str = "the port is not a number from 1 to 65535";

fn port(digits: &str) -> Option<u16> {
    // `u16::from_str` takes `+80` and `0080`: second spellings of one port.
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| plain)
}

fn label(label: &str) -> Result<(), &'static str> {
    if label.is_empty() {
        return Err("a label is empty");
    }
    if label.len() > LABEL_MAX {
        return Err("a label is longer than 63 characters");
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err("a label begins or ends with a hyphen");
    }
    if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Err("only letters, digits, `-`, `_` and dots make a name");
    }
    Ok(())
}

/// The test of the WHATWG URL standard for "this will be read as an IPv4 address".
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
