//! What stands behind `?`: kept verbatim, bounded, and never a way to another method.
//!
//! Policy reads nothing of a query, so it has no canonical form; only bytes that could end a line
//! or a target, and the keys by which frameworks change the method, are refused.

use enforcer_model::{Reason, Rejection};
use http::Uri;

use crate::path::escaped;

/// Why a query is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A byte below 0x20 or 0x7F.
    #[error("control byte at {0} of the query")]
    ControlByte(usize),
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
            QueryError::ControlByte(_) => Reason::PathControlByte,
            QueryError::Malformed(_) => Reason::PathMalformed,
            QueryError::MethodOverride(_) => Reason::MethodOverride,
            QueryError::TooLong(_) => Reason::PathTooLong,
        };
        reason.because(error)
    }
}
