//! One meaning per request, or none.
//!
//! [`normalise`] answers one question: can this head be read in two ways? If so it is refused, with
//! a reason and a cause; nothing is repaired, because a repair is a second reading. What it returns
//! is computed once and used for routing, policy, limits and audit, and the path is forwarded byte
//! for byte. [`strip`] and [`forwarding_headers`] then make the head that the upstream sees.
//!
//! Pure functions over the head: no I/O, no clock, no policy. A fragment never arrives here (the
//! `http` crate cuts it off while it parses the target), and bodies are not looked at.

mod exact;
mod exposure;
mod forward;
mod forwarded;
mod framing;
mod headers;
mod host;
mod path;
mod query;
mod rewrite;
mod upgrade;

use enforcer_model::Rejection;
use http::Method;
use http::header::UPGRADE;
use http::request::Parts;

pub use exact::{OptOut, OptOutError, OptOuts};
pub use exposure::Exposure;
pub use forward::{
    Chain, forwarding_headers, is_forwarded_as_sent, strip, strip_credential, strip_response,
};
pub use forwarded::{Disagreement, HOPS_MAX, Walk, walk};
pub use framing::FramingError;
pub use headers::{BLOCK_MAX, FIELDS_MAX, HeaderError, may_trail, one_value};
pub use host::{Host, HostError};
pub use path::{Path, PathError, fold};
pub use query::{Pairs, QueryError, query_values};
pub use rewrite::Rewrite;
pub use upgrade::Upgrade;

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
    /// The protocol that the client wants to go on with; for the route to allow.
    pub upgrade: Option<Upgrade>,
}

/// The strict layer: refuses everything that could be read two ways.
///
/// Works on `Host` as well as on the authority of an absolute target or of HTTP/2's `:authority`.
pub fn normalise(parts: &Parts) -> Result<Head, Rejection> {
    let head = normalise_or(parts, |_, _| false)?;
    match head.upgrade {
        Some(_) => Err(FramingError::Upgrade(UPGRADE).into()),
        None => Ok(head),
    }
}

/// The same, where routes have a say: the opening of a WebSocket passes, to be refused by every
/// route that does not allow it; and `has_exact` is asked whether there is a route for just this
/// host and text, when the path has no canonical form. It is not asked about what is never accepted.
pub fn normalise_or(
    parts: &Parts,
    has_exact: impl FnOnce(&Host, &str) -> bool,
) -> Result<Head, Rejection> {
    // Size before content: every later check walks the block.
    headers::bounded(&parts.headers)?;
    framing::one_body(&parts.method, parts.version, &parts.headers)?;
    let upgrade = upgrade::of(&parts.method, parts.version, &parts.headers)?;
    headers::unambiguous(parts.version, &parts.headers)?;
    let host = host::of(parts)?;
    let path = path::of(&parts.uri, |text| has_exact(&host, text))?;
    let query = query::of(&parts.uri)?;
    Ok(Head { method: parts.method.clone(), host, path, query, upgrade })
}

/// Whether a request asks about the server as a whole (`OPTIONS *`, RFC 9110 section 9.3.7), which
/// nobody behind us can answer. Its head is as strict as any.
pub fn is_about_the_server(parts: &Parts) -> Result<bool, Rejection> {
    if parts.method != Method::OPTIONS || parts.uri.path() != "*" {
        return Ok(false);
    }
    headers::bounded(&parts.headers)?;
    framing::one_body(&parts.method, parts.version, &parts.headers)?;
    if upgrade::of(&parts.method, parts.version, &parts.headers)?.is_some() {
        return Err(FramingError::Upgrade(UPGRADE).into());
    }
    headers::unambiguous(parts.version, &parts.headers)?;
    host::of(parts)?;
    Ok(parts.uri.query().is_none())
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
