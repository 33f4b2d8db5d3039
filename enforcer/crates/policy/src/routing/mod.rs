//! Which route a request belongs to: patterns, and the table that finds one.
//!
//! A pattern is `host/path`. The host is exact or `*`; an exact host's match wins. In the path, from
//! the left, a literal segment wins over `{x}` (one segment) and that over `{**}` (the rest, which
//! may be nothing: `/v1/{**}` matches `/v1` as well, unless another route has just that path).
//! Paths are compared as [`enforcer_inspect::fold`] writes them, so neither a trailing slash nor an
//! escape that a segment does not need leads to another route.

use std::collections::HashMap;
use std::str::FromStr;

use enforcer_inspect::{Host, HostError, Path, fold};
use matchit::{InsertError, Router};

/// A pattern of host and path that is well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// `None`: every host.
    host: Option<Host>,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// As [`fold`] writes it.
    Literal(String),
    One,
    Rest,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("`{0}` has no path")]
    NoPath(String),
    #[error(transparent)]
    Host(HostError),
    #[error("`{0}` ends in a slash")]
    TrailingSlash(String),
    #[error("`{0}` holds a `{{**}}` that is not the last segment")]
    RestInside(String),
    #[error("`{segment}` is not a segment of a pattern")]
    Braces { segment: String },
    #[error("`{0}` holds a `*`, which is not a wildcard here")]
    Star(String),
    #[error("no request can have the path `{path}`: {why}")]
    Impossible { path: String, why: String },
}

/// Finds the route of a host and path; routes go by their number in the policy.
#[derive(Debug, Default)]
pub(crate) struct Table {
    hosts: HashMap<Box<str>, Paths>,
    any: Paths,
}

/// The routes of one host.
#[derive(Debug, Default)]
struct Paths {
    router: Router<usize>,
    /// What the router was given, to name the other side of a conflict.
    inserted: HashMap<String, usize>,
    /// What each `{**}` matches when there is no rest.
    prefixes: Vec<(String, usize)>,
}

/// A pattern matches what another one matches, and neither is narrower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The number of the other route, where it is known.
    pub(crate) with: Option<usize>,
}

impl Table {
    /// The table of numbered patterns, and for each that found no place the reason.
    pub(crate) fn new<'a>(
        patterns: impl IntoIterator<Item = (usize, &'a Pattern)>,
    ) -> (Self, Vec<(usize, Conflict)>) {
        let mut table = Self::default();
        let mut conflicts = Vec::new();
        for (route, pattern) in patterns {
            let paths = match &pattern.host {
                Some(host) => table.hosts.entry(host.as_str().into()).or_default(),
                None => &mut table.any,
            };
            conflicts.extend(paths.insert(pattern, route).err().map(|conflict| (route, conflict)));
        }
        // Only when every pattern has its place: a `{**}` leaves its bare prefix to a route of its
        // own, so a conflict here is no problem.
        for paths in table.hosts.values_mut().chain([&mut table.any]) {
            for (prefix, route) in std::mem::take(&mut paths.prefixes) {
                drop(paths.router.insert(prefix, route));
            }
            paths.inserted = HashMap::new();
        }
        (table, conflicts)
    }

    /// The number of the route that decides on a canonical host and path.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<usize> {
        let path = fold(path);
        let exact = self.hosts.get(host).and_then(|paths| paths.router.at(&path).ok());
        let found = exact.or_else(|| self.any.router.at(&path).ok());
        found.map(|found| *found.value)
    }
}

impl Paths {
    fn insert(&mut self, pattern: &Pattern, route: usize) -> Result<(), Conflict> {
        let (path, prefix) = pattern.for_router();
        match self.router.insert(path.as_str(), route) {
            Ok(()) => {}
            Err(InsertError::Conflict { with }) => {
                return Err(Conflict { with: self.inserted.get(&with).copied() });
            }
            // What else it refuses, a checked pattern does not have; it has no place then either.
            Err(_) => return Err(Conflict { with: None }),
        }
        self.prefixes.extend(prefix.map(|prefix| (prefix, route)));
        self.inserted.insert(path, route);
        Ok(())
    }
}

impl Pattern {
    /// As matchit writes it; and, for a final `{**}`, the path without a rest.
    fn for_router(&self) -> (String, Option<String>) {
        let mut path = String::new();
        let mut prefix = None;
        for (n, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Literal(text) => {
                    path.push('/');
                    path.push_str(text);
                }
                // By number: names must not make two patterns differ.
                Segment::One => path.push_str(&format!("/{{p{n}}}")),
                Segment::Rest => {
                    prefix = Some(if path.is_empty() { "/".to_owned() } else { path.clone() });
                    path.push_str("/{*rest}");
                }
            }
        }
        if path.is_empty() {
            path.push('/');
        }
        (path, prefix)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let Some((host, path)) = text.find('/').and_then(|at| text.split_at_checked(at)) else {
            return Err(PatternError::NoPath(text.to_owned()));
        };
        let host = match host {
            "*" => None,
            host => Some(host.parse::<Host>().map_err(PatternError::Host)?),
        };
        if path == "/" {
            return Ok(Self { host, segments: Vec::new() });
        }
        if path.ends_with('/') {
            return Err(PatternError::TrailingSlash(text.to_owned()));
        }
        let segments: Vec<Segment> =
            path.split('/').skip(1).map(segment).collect::<Result<_, _>>()?;
        let before_last = segments.split_last().map_or(&[][..], |(_, before)| before);
        if before_last.contains(&Segment::Rest) {
            return Err(PatternError::RestInside(text.to_owned()));
        }
        possible(path, &segments)?;
        Ok(Self { host, segments })
    }
}

fn segment(text: &str) -> Result<Segment, PatternError> {
    if text == "{**}" {
        return Ok(Segment::Rest);
    }
    if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if !name.is_empty() && name.bytes().all(inside) {
            return Ok(Segment::One);
        }
    }
    if text.contains(['{', '}']) {
        return Err(PatternError::Braces { segment: text.to_owned() });
    }
    if text.contains('*') {
        return Err(PatternError::Star(text.to_owned()));
    }
    Ok(Segment::Literal(fold(text).into_owned()))
}

/// A literal that inspection refuses in requests would be a rule that never decides.
fn possible(path: &str, segments: &[Segment]) -> Result<(), PatternError> {
    let sample: String = path
        .split('/')
        .skip(1)
        .zip(segments)
        .map(|(text, segment)| match segment {
            Segment::Literal(_) => format!("/{text}"),
            Segment::One | Segment::Rest => "/x".to_owned(),
        })
        .collect();
    match sample.parse::<Path>() {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(PatternError::Impossible { path: path.to_owned(), why: error.to_string() })
        }
    }
}

impl PatternError {
    /// What to do.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::NoPath(host) => {
                format!("write it as `{host}/`, or `{host}/{{**}}` for everything")
            }
            Self::Host(_) => {
                "a name without port or scheme, an address, or `*` for every host".to_owned()
            }
            Self::TrailingSlash(text) => {
                let shorter = text.trim_end_matches('/');
                format!("write `{shorter}`: it matches with and without the slash")
            }
            Self::RestInside(_) => {
                "`{**}` takes all that follows; use `{x}` for one segment".to_owned()
            }
            Self::Braces { .. } => {
                "a whole segment is `{x}` (any name), or the last one `{**}`".to_owned()
            }
            Self::Star(_) => {
                "write `{x}` for one segment, `{**}` at the end for the rest".to_owned()
            }
            Self::Impossible { .. } => {
                "requests with such a path are refused before a route is looked for".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests;
