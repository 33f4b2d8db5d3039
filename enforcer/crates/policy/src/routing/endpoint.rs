//! An endpoint as an operator names it: a pattern of host and path, with or without a method.
//!
//! The patterns are those of routes, read for another purpose: what is to be stopped must not be
//! reached by another spelling. So an endpoint is never narrower than the route with its pattern: a
//! slash at the end makes no difference on any host, `GET` is also `HEAD`, which services answer by
//! the same code, and a path without a canonical form lies inside the `{**}` before it.

use std::fmt;
use std::str::FromStr;

use enforcer_inspect::{Host, Path, fold};
use http::Method;

use super::pattern::{Pattern, PatternError, Segment};
use crate::Policy;

/// What an operator points at: `DELETE api.example.com/v1/export/{**}`, or without a method.
#[derive(Clone, Debug)]
pub struct Endpoint {
    text: Box<str>,
    /// `None`: every method.
    method: Option<Method>,
    pattern: Pattern,
}

/// The text names no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct EndpointError(#[from] Wrong);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Wrong {
    #[error("`{}` is not a method", .0.escape_debug())]
    Method(String),
    #[error("the endpoint has more than {TEXT_MAX} bytes")]
    TooLong,
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// Longest endpoint, in bytes.
const TEXT_MAX: usize = 1_024;

impl Endpoint {
    /// Whether the request is one of those that are meant.
    pub fn hits(&self, method: &Method, host: &Host, path: &Path) -> bool {
        self.hits_method(method)
            && self.pattern.host().is_none_or(|wanted| wanted == host.as_str())
            && self.hits_path(path.as_str())
    }

    /// Whether the two mean the same requests; names in braces make no difference.
    pub fn is_same(&self, other: &Self) -> bool {
        let (a, b) = (&self.pattern, &other.pattern);
        self.method == other.method
            && (a.host(), a.exact()) == (b.host(), b.exact())
            && a.segments().len() == b.segments().len()
            && a.segments().iter().zip(b.segments()).all(|pair| match pair {
                (Segment::Literal(a), Segment::Literal(b)) => a == b,
                (Segment::One(_), Segment::One(_)) | (Segment::Rest, Segment::Rest) => true,
                (Segment::Literal(_) | Segment::One(_) | Segment::Rest, _) => false,
            })
    }

    /// The names of the routes of `policy` that some such request may belong to.
    pub fn routes<'p>(&self, policy: &'p Policy) -> Vec<&'p str> {
        let met = policy.routes().iter().filter(|route| {
            route.pattern.parse::<Pattern>().is_ok_and(|pattern| meets(&self.pattern, &pattern))
        });
        met.map(|route| &*route.name).collect()
    }

    fn hits_method(&self, method: &Method) -> bool {
        self.method.as_ref().is_none_or(|wanted| {
            wanted == method || (*wanted == Method::GET && *method == Method::HEAD)
        })
    }

    fn hits_path(&self, path: &str) -> bool {
        if let Some(exact) = self.pattern.exact() {
            return exact == path;
        }
        let folded = fold(path);
        let inside = folded.strip_prefix('/').unwrap_or(&folded);
        let mut given = inside.split('/').filter(|_| !inside.is_empty());
        for segment in self.pattern.segments() {
            match (segment, given.next()) {
                (Segment::Rest, _) => return true,
                (Segment::One(_), Some(_)) => {}
                (Segment::Literal(wanted), Some(text)) if wanted == text => {}
                (Segment::Literal(_) | Segment::One(_), _) => return false,
            }
        }
        given.next().is_none()
    }
}

/// Whether some host and path matches both.
fn meets(a: &Pattern, b: &Pattern) -> bool {
    let hosts = a.host().zip(b.host()).is_none_or(|(a, b)| a == b);
    let (mut left, mut right) = (a.segments().iter(), b.segments().iter());
    hosts
        && loop {
            match (left.next(), right.next()) {
                (None, None) | (Some(Segment::Rest), _) | (_, Some(Segment::Rest)) => break true,
                (None, Some(_)) | (Some(_), None) => break false,
                (Some(Segment::Literal(a)), Some(Segment::Literal(b))) if a != b => break false,
                (
                    Some(Segment::Literal(_) | Segment::One(_)),
                    Some(Segment::Literal(_) | Segment::One(_)),
                ) => {}
            }
        }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.len() > TEXT_MAX {
            return Err(Wrong::TooLong.into());
        }
        let text = text.trim();
        let (method, pattern) = match text.split_once(' ') {
            Some((method, pattern)) => (Some(read_method(method)?), pattern.trim_start()),
            None => (None, text),
        };
        let checked: Pattern = pattern.parse().map_err(Wrong::from)?;
        let text = match &method {
            Some(method) => format!("{method} {pattern}"),
            None => pattern.to_owned(),
        };
        Ok(Self { text: text.into(), method, pattern: checked })
    }
}

/// Upper case: a method is compared byte for byte, and `delete` would stop nobody.
fn read_method(text: &str) -> Result<Method, Wrong> {
    let wrong = || Wrong::Method(text.to_owned());
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(wrong());
    }
    Method::from_bytes(text.as_bytes()).map_err(|_invalid| wrong())
}

impl EndpointError {
    /// What to do.
    pub fn hint(&self) -> String {
        match &self.0 {
            Wrong::Method(text) => format!(
                "write `{} HOST/PATH`, or no method for all of them",
                text.to_ascii_uppercase().escape_debug()
            ),
            Wrong::TooLong => "end it with `{**}` for the rest of the path".to_owned(),
            Wrong::Pattern(error) => error.hint(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use enforcer_inspect::OptOut;

    use super::*;

    #[test]
    fn a_request_is_hit_whatever_its_spelling() {
        let endpoint = endpoint("DELETE api.test/v1/export/{**}");

        for path in ["/v1/export", "/v1/export/", "/v1/export/7", "/v1/export/a/b/"] {
            assert!(hits(&endpoint, ("DELETE", "api.test", path)), "{path}");
        }
        for (method, host, path) in [
            ("GET", "api.test", "/v1/export/7"),
            ("DELETE", "www.test", "/v1/export/7"),
            ("DELETE", "api.test", "/v1/exports"),
            ("DELETE", "api.test", "/v1"),
            ("DELETE", "api.test", "/"),
        ] {
            assert!(!hits(&endpoint, (method, host, path)), "{method} {host}{path}");
        }
    }

    #[test]
    fn without_a_method_all_are_meant_and_get_is_head_as_well() {
        for method in ["GET", "HEAD", "POST", "PURGE"] {
            assert!(hits(&endpoint("*/a"), (method, "h", "/a")), "{method}");
        }
        assert!(hits(&endpoint("GET */a"), ("HEAD", "h", "/a")));
        assert!(!hits(&endpoint("HEAD */a"), ("GET", "h", "/a")));
    }

    #[test]
    fn one_segment_is_one_and_the_rest_of_everything_is_everything() {
        assert!(hits(&endpoint("*/a/{id}/c"), ("GET", "h", "/a/b/c")));
        assert!(!hits(&endpoint("*/a/{id}"), ("GET", "h", "/a")));
        assert!(!hits(&endpoint("*/a/{id}"), ("GET", "h", "/a/b/c")));
        assert!(hits(&endpoint("*/"), ("GET", "h", "/")));
        assert!(!hits(&endpoint("*/"), ("GET", "h", "/a")));
        for path in ["/", "/a", "/a/b/"] {
            assert!(hits(&endpoint("*/{**}"), ("GET", "h", path)), "{path}");
        }
    }

    #[test]
    fn a_path_without_a_canonical_form_does_not_slip_through_a_rest() {
        let allowed = OptOut::ALL.iter().copied().collect();
        let odd = Path::exact("/v1/a%2Fb", allowed).unwrap();
        let host = "h".parse().unwrap();
        let hits = |text: &str| endpoint(text).hits(&Method::GET, &host, &odd);

        assert!(hits("h/v1/{**}"));
        assert!(hits("h/v1/a%2Fb"));
        assert!(!hits("h/v1/a/b"));
    }

    #[test]
    fn the_same_endpoint_is_known_again_by_its_meaning() {
        assert!(endpoint("GET H/a/{x}").is_same(&endpoint("GET  h/a/{y}/")));
        for other in ["POST h/a/{x}", "h/a/{x}", "GET */a/{x}", "GET h/a/b", "GET h/a/{**}"] {
            assert!(!endpoint("GET h/a/{x}").is_same(&endpoint(other)), "{other}");
        }
    }

    #[test]
    fn what_names_no_endpoint_is_told_with_the_right_form() {
        for (text, told, hint) in [
            ("delete h/a", "`delete` is not a method", "DELETE HOST/PATH"),
            ("h", "`h` has no path", "h/"),
            ("GET h/*", "`*`, which is not a wildcard", "{**}"),
            ("GET /a", "host", "name without port"),
            ("h/a/../b", "no request can have the path", "refused before"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(error.to_string().contains(told), "{text}: {error}");
            assert!(error.hint().contains(hint), "{text}: {}", error.hint());
        }
        assert!("x".repeat(2_000).parse::<Endpoint>().is_err());
    }

    #[test]
    fn an_endpoint_knows_the_patterns_that_it_meets() {
        let meets = |a: &str, b: &str| meets(&a.parse().unwrap(), &b.parse().unwrap());

        assert!(meets("h/v1/export/{**}", "h/v1/{**}"));
        assert!(meets("h/v1/{**}", "*/{x}/b"));
        assert!(meets("h/v1", "h/v1/{**}"));
        assert!(!meets("h/v1", "g/v1"));
        assert!(!meets("h/v1/a", "h/v1"));
        assert!(!meets("h/v1/{**}", "h/v2/{**}"));
    }

    fn endpoint(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    fn hits(endpoint: &Endpoint, (method, host, path): (&str, &str, &str)) -> bool {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        endpoint.hits(&method, &host.parse().unwrap(), &path.parse().unwrap())
    }
}
