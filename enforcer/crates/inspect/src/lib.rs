//! One meaning per request, or none.
//!
//! [`normalise`] answers one question: can this head be read in two ways? If so it is refused, with
//! a reason and a cause; nothing is repaired, because a repair is a second reading. What it returns
//! is computed once and used for routing, policy, limits and audit, and the path is forwarded byte
//! for byte. [`strip`] and [`forwarding_headers`] then make the head that the upstream sees.
//!
//! Pure functions over the head: no I/O, no clock, no policy. A fragment never arrives here (the
//! `http` crate cuts it off while it parses the target), and bodies are not looked at.

mod forward;
mod framing;
mod headers;
mod host;
mod path;
mod query;

use enforcer_model::Rejection;
use http::Method;
use http::request::Parts;

pub use forward::{forwarding_headers, strip, strip_response};
pub use framing::FramingError;
pub use headers::{BLOCK_MAX, FIELDS_MAX, HeaderError};
pub use host::{Host, HostError};
pub use path::{Path, PathError, fold};
pub use query::QueryError;

/// The one meaning of a request head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// As sent; methods are case-sensitive.
    pub method: Method,
    /// The virtual host asked for.
    pub host: Host,
    /// The canonical path.
    pub path: Path,
    /// What stands behind `?`, verbatim; an empty query stays `Some("")`.
    pub query: Option<String>,
}

/// The strict layer: refuses everything that could be read two ways.
///
/// Works on `Host` as well as on the authority of an absolute target or of HTTP/2's `:authority`.
pub fn normalise(parts: &Parts) -> Result<Head, Rejection> {
    // Size before content: every later check walks the block.
    headers::bounded(&parts.headers)?;
    framing::one_body(&parts.method, parts.version, &parts.headers)?;
    headers::unambiguous(parts.version, &parts.headers)?;
    let host = host::of(parts)?;
    let path = path::of(&parts.uri)?;
    let query = query::of(&parts.uri)?;
    Ok(Head { method: parts.method.clone(), host, path, query })
}

impl Head {
    /// The request target in origin form, as it is forwarded: the path and, if any, `?query`.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.as_str().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
