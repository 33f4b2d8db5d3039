//! Which route a request belongs to: patterns, and the table that finds one.
//!
//! A pattern is `host/path`. The host is exact or `*`; an exact host's match wins. In the path, from
//! the left, a literal segment wins over `{x}` (one segment) and that over `{**}` (the rest, which
//! may be nothing: `/v1/{**}` matches `/v1` as well, unless another route has just that path).
//! Paths are compared as [`enforcer_inspect::fold`] writes them, so neither a trailing slash nor an
//! escape that a segment does not need leads to another route.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use enforcer_inspect::{Host, HostError, Path, fold};
use matchit::{InsertError, Router};

use crate::parse::Route;

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

/// Finds the route of a host and path.
#[derive(Debug, Default)]
pub(crate) struct Table {
    hosts: HashMap<Box<str>, Paths>,
    any: Paths,
}

/// The routes of one host.
#[derive(Debug, Default)]
struct Paths {
    router: Router<Arc<Route>>,
    /// What the router was given, to name the other side of a conflict.
    inserted: HashMap<String, Arc<Route>>,
    /// What each `{**}` matches when there is no rest.
    prefixes: Vec<(String, Arc<Route>)>,
}

impl Table {
    /// Adds a route; says which one is in its way.
    pub(crate) fn insert(&mut self, pattern: &Pattern, route: Arc<Route>) -> Result<(), String> {
        match &pattern.host {
            Some(host) => self.hosts.entry(host.as_str().into()).or_default(),
            None => &mut self.any,
        }
        .insert(pattern, route)
    }

    /// Ends the insertions: each `{**}` takes its bare prefix where no route has it.
    pub(crate) fn complete(&mut self) {
        for paths in self.hosts.values_mut().chain([&mut self.any]) {
            for (prefix, route) in std::mem::take(&mut paths.prefixes) {
                // A conflict means that a pattern of its own is there, which wins.
                drop(paths.router.insert(prefix, route));
            }
        }
    }

    pub(crate) fn find(&self, host: &str, path: &str) -> Option<&Arc<Route>> {
        let path = fold(path);
        let exact = self.hosts.get(host).and_then(|paths| paths.router.at(&path).ok());
        let found = exact.or_else(|| self.any.router.at(&path).ok());
        found.map(|found| found.value)
    }
}

impl Paths {
    fn insert(&mut self, pattern: &Pattern, route: Arc<Route>) -> Result<(), String> {
        let (path, prefix) = pattern.for_router();
        if let Err(error) = self.router.insert(path.as_str(), Arc::clone(&route)) {
            // A checked pattern gives no other error than a conflict.
            let InsertError::Conflict { with } = error else { return Err(error.to_string()) };
            return Err(match self.inserted.get(&with) {
                Some(other) => format!("`{}` of route `{}`", other.pattern, other.name),
                None => "another route".to_owned(),
            });
        }
        self.prefixes.extend(prefix.map(|prefix| (prefix, Arc::clone(&route))));
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

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_ref().map_or("*", Host::as_str);
        write!(f, "{host}{}", self.for_router().0)
    }
}
