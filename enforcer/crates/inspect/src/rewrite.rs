//! Another path for the upstream: a prefix cut off, another put in front.
//!
//! Both happen at the borders of segments, in the form in which paths are compared, and the outcome
//! is a path that was checked like one that came in (Traefik measured a prefix in the decoded path
//! and cut the encoded one: CVE-2026-40912).

use crate::path::{Path, PathError, fold};

/// What a route cuts off and puts in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Segments as [`fold`] writes them.
    strip: Box<[Box<str>]>,
    /// Begins with a slash and does not end in one; or nothing.
    prefix: Box<str>,
}

impl Rewrite {
    /// Cuts `strip` off, then puts `prefix` in front. Both are paths; `/` is none of either.
    pub fn new(strip: &str, prefix: &str) -> Result<Self, PathError> {
        for path in [strip, prefix] {
            path.parse::<Path>()?;
        }
        let strip = fold(strip);
        let strip = strip.split('/').filter(|segment| !segment.is_empty()).map(Box::from).collect();
        Ok(Self { strip, prefix: prefix.trim_end_matches('/').into() })
    }

    /// The segments that are cut off, as [`fold`] writes them.
    pub fn stripped(&self) -> impl Iterator<Item = &str> {
        self.strip.iter().map(AsRef::as_ref)
    }
}

impl Path {
    /// The path that an upstream is asked for instead: a new one, to be authorised like any other.
    pub fn rewritten(&self, rewrite: &Rewrite) -> Result<Self, PathError> {
        let mut rest = self.as_str();
        for wanted in &rewrite.strip {
            let inside = rest.strip_prefix('/').ok_or(PathError::OutsidePrefix)?;
            let end = inside.find('/').unwrap_or(inside.len());
            let (segment, behind) = inside.split_at_checked(end).ok_or(PathError::OutsidePrefix)?;
            if fold(segment) != **wanted {
                return Err(PathError::OutsidePrefix);
            }
            rest = behind;
        }
        match (&*rewrite.prefix, rest) {
            ("", "") => "/".parse(),
            (prefix, rest) => format!("{prefix}{rest}").parse(),
        }
    }
}
