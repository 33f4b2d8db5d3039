//! Which route a request belongs to: the table that finds one.
//!
//! A pattern is `host/path`. The host is exact or `*`; an exact host's match wins. In the path, from
//! the left, a literal segment wins over `{x}` (one segment) and that over `{**}` (the rest, which
//! may be nothing: `/v1/{**}` matches `/v1` as well, unless another route has just that path).
//! Paths are compared as [`enforcer_inspect::fold`] writes them, so neither an escape that a segment
//! does not need nor a trailing slash leads to another route. On hosts that are strict about the
//! slash, `/admin/` is not `/admin`; but it is not a part of the rest of something wider either.

mod endpoint;
mod pattern;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use enforcer_inspect::fold;
use matchit::{InsertError, Router};

pub use endpoint::{Endpoint, EndpointError};
pub(crate) use pattern::{Pattern, Segment};

/// Finds the route of a host and path; routes go by their number in the policy.
#[derive(Debug, Default)]
pub(crate) struct Table {
    hosts: Hosts<Paths>,
    any: Paths,
    /// Routes whose paths have no canonical form, under their host (`*`: every host) and text.
    exact: HashMap<Box<str>, HashMap<Box<str>, usize>>,
}

/// By host. Whoever writes the policy chooses the hosts, so nobody else can make them collide.
type Hosts<T> = HashMap<Box<str>, T, BuildHasherDefault<HostHasher>>;

/// The routes of one host.
#[derive(Debug, Default)]
struct Paths {
    router: Router<Place>,
    /// A path with a trailing slash is not the path without.
    strict: bool,
    /// What the router was given, to name the other side of a conflict.
    inserted: HashMap<String, usize>,
    /// What each `{**}` matches when there is no rest.
    prefixes: Vec<(String, usize)>,
}

/// What the router knows of a pattern.
#[derive(Clone, Copy, Debug)]
struct Place {
    route: usize,
    end: End,
}

/// How a pattern ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Segment,
    Slash,
    Rest,
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
        strict_hosts: &HashSet<Box<str>>,
    ) -> (Self, Vec<(usize, Conflict)>) {
        let mut table = Self::default();
        for host in strict_hosts {
            table.hosts.entry(host.clone()).or_default().strict = true;
        }
        let mut conflicts = Vec::new();
        for (route, pattern) in patterns {
            let placed = table.insert(pattern, route);
            conflicts.extend(placed.err().map(|conflict| (route, conflict)));
        }
        // Only when every pattern has its place: a `{**}` leaves its bare prefix to a route of its
        // own, so a conflict here is no problem.
        for paths in table.hosts.values_mut().chain([&mut table.any]) {
            for (prefix, route) in std::mem::take(&mut paths.prefixes) {
                drop(paths.router.insert(prefix, Place { route, end: End::Rest }));
            }
            paths.inserted = HashMap::new();
        }
        (table, conflicts)
    }

    fn insert(&mut self, pattern: &Pattern, route: usize) -> Result<(), Conflict> {
        if let Some(text) = pattern.exact() {
            let host = pattern.host().unwrap_or("*");
            let texts = self.exact.entry(host.into()).or_default();
            return match texts.insert(text.into(), route) {
                None => Ok(()),
                with => Err(Conflict { with }),
            };
        }
        let paths = match pattern.host() {
            Some(host) => self.hosts.entry(host.into()).or_default(),
            None => &mut self.any,
        };
        paths.insert(pattern, route)
    }

    /// The number of the route that decides on a canonical host and path, and the path as it was
    /// compared.
    pub(crate) fn find<'p>(&self, host: &str, path: &'p str) -> Option<(usize, Cow<'p, str>)> {
        let own = self.hosts.get(host);
        let folded = fold(path);
        let has_slash = path.len() > 1 && path.ends_with('/');
        if has_slash && own.is_some_and(|paths| paths.strict) {
            let route = self.find_with_slash(own?, &folded)?;
            return Some((route, folded));
        }
        let found = own.and_then(|paths| paths.router.at(&folded).ok());
        let found = match found {
            Some(found) => found,
            None => self.any.router.at(&folded).ok()?,
        };
        let route = found.value.route;
        Some((route, folded))
    }

    /// The same for a path whose trailing slash, cut off in `folded`, means something.
    fn find_with_slash(&self, own: &Paths, folded: &str) -> Option<usize> {
        let with_slash = format!("{folded}/");
        if let Ok(found) = own.router.at(&with_slash)
            && found.value.end == End::Slash
        {
            return Some(found.value.route);
        }
        // Where a narrower route has the path without the slash, no wider one takes it with the
        // slash: the service might not know the difference.
        let found = own.router.at(folded).or_else(|_| self.any.router.at(folded)).ok()?;
        (found.value.end == End::Rest).then_some(found.value.route)
    }

    /// The number of the route for just this text, among those whose paths have no canonical form.
    pub(crate) fn find_exact(&self, host: &str, text: &str) -> Option<usize> {
        let of = |host| self.exact.get(host).and_then(|texts| texts.get(text)).copied();
        of(host).or_else(|| of("*"))
    }
}

impl Paths {
    fn insert(&mut self, pattern: &Pattern, route: usize) -> Result<(), Conflict> {
        let (path, prefix) = pattern.for_router();
        let end = match (pattern.has_rest(), pattern.has_slash()) {
            (true, _) => End::Rest,
            (false, true) => End::Slash,
            (false, false) => End::Segment,
        };
        match self.router.insert(path.as_str(), Place { route, end }) {
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

/// Multiplies and rotates eight bytes at a time: a look-up with every request, in a table that is
/// never written to.
#[derive(Debug, Default)]
struct HostHasher(u64);

impl HostHasher {
    const fn mix(&mut self, word: u64) {
        // 2^64 divided by the golden ratio.
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for HostHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        let last = rest.iter().fold(0, |word, &byte| (word << 8) | u64::from(byte));
        self.mix(last);
    }

    fn finish(&self) -> u64 {
        // The table takes its bits from both ends.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests;
