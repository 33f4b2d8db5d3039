//! Patterns of host and path, as a policy writes them.
//!
//! Literal segments are kept as [`enforcer_inspect::fold`] writes them. A path without a canonical
//! form (`/a%2Fb`) can only be written out whole; the route must have opted out of what stands
//! against it, which is for the section of routes to check.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::Arc;

use enforcer_inspect::{Host, HostError, OptOut, OptOuts, Path, fold};

/// A pattern of host and path that is well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// `None`: every host.
    pub(super) host: Option<Host>,
    pub(super) segments: Vec<Segment>,
    /// The path ends in a slash that means something; only on hosts that are strict about it.
    pub(super) slash: bool,
    /// The path as it is written, when it has no canonical form.
    pub(super) exact: Option<Path>,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// As [`fold`] writes it.
    Literal(String),
    /// `{NAME}`.
    One(Arc<str>),
    /// `{**}`.
    Rest,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("`{0}` has no path")]
    NoPath(String),
    #[error(transparent)]
    Host(HostError),
    #[error("`{0}` holds a `{{**}}` that is not the last segment")]
    RestInside(String),
    #[error("`{segment}` is not a segment of a pattern")]
    Braces { segment: String },
    #[error("`{0}` holds a `*`, which is not a wildcard here")]
    Star(String),
    #[error("`{{{0}}}` stands in the pattern twice")]
    NameTwice(Arc<str>),
    #[error("the pattern has more than {NAMES_MAX} names in braces")]
    TooManyNames,
    #[error("no request can have the path `{path}`: {why}")]
    Impossible { path: String, why: String },
}

/// Names in braces that a pattern may have; a request's parameters have room for so many.
pub(crate) const NAMES_MAX: usize = 16;

impl Pattern {
    /// The host; `None`: every host.
    pub(crate) fn host(&self) -> Option<&str> {
        self.host.as_ref().map(Host::as_str)
    }

    /// The segments of the path, from the left.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether the path ends in a slash that means something.
    pub(crate) const fn has_slash(&self) -> bool {
        self.slash
    }

    /// The path as it is written, when it has no canonical form.
    pub(crate) fn exact(&self) -> Option<&str> {
        self.exact.as_ref().map(Path::as_str)
    }

    /// What a route with this pattern must opt out of.
    pub(crate) fn needs(&self) -> OptOuts {
        self.exact.as_ref().map(Path::needs).unwrap_or_default()
    }

    /// Whether every path that it matches is written out.
    pub(crate) fn is_literal(&self) -> bool {
        self.segments.iter().all(|segment| matches!(segment, Segment::Literal(_)))
    }

    /// Whether the rest of the path is left open.
    pub(crate) fn has_rest(&self) -> bool {
        self.segments.last() == Some(&Segment::Rest)
    }

    /// The names in braces, each with the number of its segment.
    pub(crate) fn names(&self) -> impl Iterator<Item = (usize, &Arc<str>)> {
        self.segments.iter().enumerate().filter_map(|(n, segment)| match segment {
            Segment::One(name) => Some((n, name)),
            Segment::Literal(_) | Segment::Rest => None,
        })
    }

    /// As matchit writes it; and, for a final `{**}`, the path without a rest.
    pub(super) fn for_router(&self) -> (String, Option<String>) {
        let mut path = String::new();
        let mut prefix = None;
        for (n, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Literal(text) => {
                    path.push('/');
                    path.push_str(text);
                }
                // By number: names must not make two patterns differ.
                Segment::One(_) => path.push_str(&format!("/{{p{n}}}")),
                Segment::Rest => {
                    prefix = Some(if path.is_empty() { "/".to_owned() } else { path.clone() });
                    path.push_str("/{*rest}");
                }
            }
        }
        if path.is_empty() || self.slash {
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
        if !path.contains(['{', '}', '*'])
            && let Ok(exact) = Path::exact(path, OptOut::ALL.iter().copied().collect())
            && !exact.needs().is_empty()
        {
            let literal = |text: &str| Segment::Literal(text.to_owned());
            let segments = path.split('/').skip(1).map(literal).collect();
            return Ok(Self { host, segments, slash: false, exact: Some(exact) });
        }
        let (inside, slash) = match path.strip_suffix('/') {
            Some("") => {
                return Ok(Self { host, segments: Vec::new(), slash: false, exact: None });
            }
            Some(inside) => (inside, true),
            None => (path, false),
        };
        let segments: Vec<Segment> =
            inside.split('/').skip(1).map(segment).collect::<Result<_, _>>()?;
        let before_last = segments.split_last().map_or(&[][..], |(_, before)| before);
        if before_last.contains(&Segment::Rest)
            || (slash && segments.last() == Some(&Segment::Rest))
        {
            return Err(PatternError::RestInside(text.to_owned()));
        }
        possible(inside, &segments)?;
        let pattern = Self { host, segments, slash, exact: None };
        pattern.named_once()?;
        Ok(pattern)
    }
}

impl Pattern {
    fn named_once(&self) -> Result<(), PatternError> {
        let mut seen = HashSet::new();
        for (_, name) in self.names() {
            if !seen.insert(name) {
                return Err(PatternError::NameTwice(Arc::clone(name)));
            }
        }
        if seen.len() > NAMES_MAX { Err(PatternError::TooManyNames) } else { Ok(()) }
    }
}

fn segment(text: &str) -> Result<Segment, PatternError> {
    if text == "{**}" {
        return Ok(Segment::Rest);
    }
    if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if !name.is_empty() && name.bytes().all(inside) {
            return Ok(Segment::One(name.into()));
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
            Segment::One(_) | Segment::Rest => "/x".to_owned(),
        })
        .collect();
    match sample.parse::<Path>() {
        // A slash at the end of the sample is an empty segment of the pattern.
        Ok(path) if !path.as_str().ends_with('/') => Ok(()),
        Ok(path) => Err(PatternError::Impossible {
            path: path.as_str().to_owned(),
            why: "it has an empty segment".to_owned(),
        }),
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
            Self::RestInside(_) => {
                "`{**}` takes all that follows; use `{x}` for one segment".to_owned()
            }
            Self::Braces { .. } => {
                "a whole segment is `{x}` (any name), or the last one `{**}`".to_owned()
            }
            Self::Star(_) => {
                "write `{x}` for one segment, `{**}` at the end for the rest".to_owned()
            }
            Self::NameTwice(_) => "conditions read it as `param.NAME`; rename one".to_owned(),
            Self::TooManyNames => "end the pattern with `{**}`".to_owned(),
            Self::Impossible { .. } => {
                "requests with such a path are refused before a route is looked for".to_owned()
            }
        }
    }
}
