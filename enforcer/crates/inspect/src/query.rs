//! What stands behind `?`: kept verbatim, bounded, and never a way to another method.
//!
//! A query as a whole has no canonical form; only bytes that could end a line or a target, and the
//! keys by which frameworks change the method, are refused. A key that a policy reads must have one
//! reading: [`query_values`] refuses it where frameworks differ about what it says.

use std::borrow::Cow;

use enforcer_model::{Reason, Rejection};
use http::Uri;

use crate::path::escaped;

/// Why a query is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A byte below 0x20 or 0x7F.
    #[error("control byte at {0} of the query")]
    ControlByte(usize),
    /// A key that the policy reads stands there twice, in another spelling, or beside a `;`.
    #[error("the query key `{0}`, which the policy reads, can be read in two ways")]
    Ambiguous(String),
    /// A control byte, an escape that is none, or no UTF-8 in a value that the policy reads.
    #[error("the value of the query key `{0}`, which the policy reads, is not text")]
    NotText(String),
    /// A space or a byte beyond ASCII.
    #[error("byte that cannot stand in a query at {0}")]
    Malformed(usize),
    /// A key that asks for another method.
    #[error("the query key `{0}` asks for another method")]
    MethodOverride(&'static str),
    /// Longer than 8 KiB.
    #[error("{0} bytes are more than a query may have")]
    TooLong(usize),
}

/// The longest query that is accepted, in bytes.
const QUERY_MAX: usize = 8 * 1024;

/// Keys that widespread frameworks read as the method.
const OVERRIDES: &[&str] =
    &["_method", "x_http_method", "x_http_method_override", "x_method_override"];

pub(crate) fn of(uri: &Uri) -> Result<Option<String>, QueryError> {
    let Some(query) = uri.query() else { return Ok(None) };
    if query.len() > QUERY_MAX {
        return Err(QueryError::TooLong(query.len()));
    }
    for (at, byte) in query.bytes().enumerate() {
        match byte {
            0..0x20 | 0x7F => return Err(QueryError::ControlByte(at)),
            b' ' | 0x80.. => return Err(QueryError::Malformed(at)),
            _ => {}
        }
    }
    for pair in query.split(['&', ';']) {
        let key = as_read(pair.split('=').next().unwrap_or_default());
        if let Some(known) = OVERRIDES.iter().find(|known| known.as_bytes() == key) {
            return Err(QueryError::MethodOverride(known));
        }
    }
    Ok(Some(query.to_owned()))
}

/// Keys and values of a query, decoded.
pub type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// What the query says for each of `names` that it has: the name and the decoded value.
///
/// Refused is whatever another reader could take for another value: a key that stands there twice,
/// or once in another spelling (`TENANT`, `tenant[]`), a pair that some cut at `;`, and a value
/// that is not text.
pub fn query_values<'a, N: AsRef<str>>(
    query: Option<&'a str>,
    names: &'a [N],
) -> Result<Pairs<'a>, QueryError> {
    let mut values = Vec::new();
    let Some(query) = query else { return Ok(values) };
    for name in names.iter().map(AsRef::as_ref) {
        values.extend(value(query, name)?.map(|value| (Cow::Borrowed(name), value)));
    }
    Ok(values)
}

fn value<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, QueryError> {
    let ambiguous = || QueryError::Ambiguous(name.to_owned());
    let wanted = as_read(name);
    let mut found = None;
    for pair in query.split('&') {
        let mut parts = pair.split(';');
        let is_read = |part: &str| as_read(part.split('=').next().unwrap_or_default()) == wanted;
        if !parts.any(is_read) {
            continue;
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if found.is_some() || pair.contains(';') || decode(key) != name.as_bytes() {
            return Err(ambiguous());
        }
        found = Some(text(value).ok_or_else(|| QueryError::NotText(name.to_owned()))?);
    }
    Ok(found)
}

/// A value decoded, if it is text that everybody decodes alike.
fn text(value: &str) -> Option<Cow<'_, str>> {
    if !value.contains(['%', '+']) {
        return Some(Cow::Borrowed(value));
    }
    let mut pieces = value.split('%');
    pieces.next();
    if !pieces.all(|piece| piece.get(..2).is_some_and(|digits| escaped(digits).is_some())) {
        return None;
    }
    let text = String::from_utf8(decode(value)).ok()?;
    if text.chars().any(char::is_control) { None } else { Some(Cow::Owned(text)) }
}

/// A key as the most lenient framework reads it: decoded, in lower case, with `_` for `-` and for
/// what PHP turns into one; an array index and what follows NUL cut off.
fn as_read(key: &str) -> Vec<u8> {
    let decoded = decode(key);
    let text = decoded.split(|&byte| byte == 0).next().unwrap_or_default().trim_ascii();
    // A bracket in front is no index.
    let index = text.iter().skip(1).position(|&byte| byte == b'[').map(|at| at + 1);
    let text = index.and_then(|index| text.get(..index)).unwrap_or(text);
    text.iter()
        .map(|byte| match byte {
            b'-' | b'.' | b' ' | b'[' => b'_',
            byte => byte.to_ascii_lowercase(),
        })
        .collect()
}

fn decode(key: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(key.len());
    let mut rest = key;
    while let Some(byte) = rest.bytes().next() {
        let (first, after) = rest.split_at_checked(1).unwrap_or((rest, ""));
        let digits = after.split_at_checked(2).filter(|_| first == "%");
        match digits.and_then(|(digits, after)| Some((escaped(digits)?, after))) {
            Some((byte, after)) => {
                decoded.push(byte);
                rest = after;
            }
            None => {
                decoded.push(if byte == b'+' { b' ' } else { byte });
                rest = after;
            }
        }
    }
    decoded
}

impl From<QueryError> for Rejection {
    fn from(error: QueryError) -> Self {
        let reason = match error {
            QueryError::Ambiguous(_) => Reason::QueryDuplicate,
            QueryError::ControlByte(_) => Reason::PathControlByte,
            QueryError::Malformed(_) | QueryError::NotText(_) => Reason::PathMalformed,
            QueryError::MethodOverride(_) => Reason::MethodOverride,
            QueryError::TooLong(_) => Reason::PathTooLong,
        };
        reason.because(error)
    }
}
