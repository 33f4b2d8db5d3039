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
        let key = pair.split('=').next().unwrap_or_default();
        if let Some(known) = OVERRIDES.iter().find(|&&known| key_reads_as(key, known)) {
            return Err(QueryError::MethodOverride(known));
        }
    }
    Ok(Some(query.to_owned()))
}

/// Whether some framework takes `key` for `name`.
///
/// Decoded; case apart; `-`, and what PHP turns into an underscore, for `_`; an array index and
/// what follows NUL cut off.
fn key_reads_as(key: &str, name: &str) -> bool {
    let decoded = decode(key);
    let text = decoded.split(|&byte| byte == 0).next().unwrap_or_default().trim_ascii();
    let text = match text.iter().skip(1).position(|&byte| byte == b'[') {
        Some(index) => text.get(..=index).unwrap_or(text),
        None => text,
    };
    text.len() == name.len()
        && text.iter().zip(name.bytes()).all(|(&byte, expected)| match byte {
            b'-' | b'.' | b' ' | b'[' => expected == b'_',
            _ => byte.to_ascii_lowercase() == expected,
        })
}

fn decode(key: &str) -> Vec<u8> {
    let mut pieces = key.split('%');
    let plus = |byte| if byte == b'+' { b' ' } else { byte };
    let mut decoded: Vec<u8> = pieces.next().unwrap_or_default().bytes().map(plus).collect();
    for piece in pieces {
        match piece.split_at_checked(2).and_then(|(digits, rest)| Some((escaped(digits)?, rest))) {
            Some((byte, rest)) => {
                decoded.push(byte);
                decoded.extend(rest.bytes().map(plus));
            }
            None => {
                decoded.push(b'%');
                decoded.extend(piece.bytes().map(plus));
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
