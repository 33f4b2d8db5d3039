//! Under what an answer is kept: who may have it, the way it came, and the canonical request.
//!
//! Two requests with one key are one request to the upstream, but for the fields that the answer
//! names in `Vary`. Every part is compared byte for byte; nothing is guessed from a hash. The query
//! is taken verbatim, so that two spellings of one query are two keys and never one.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use ring::digest::{Context, SHA256};

use crate::place::Place;
use crate::plan::Plan;

/// Whose an answer is: the authorisation context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Of everybody whom the route allows.
    Everyone,
    /// Of those of whom the upstream is told exactly the same.
    Only(Digest),
}

/// SHA-256 over everything that an upstream is told about a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// What a request asks for, in the one form that all requests for it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target<'a> {
    /// Whether the client came over TLS; upstreams are told, and answer by it.
    pub secure: bool,
    /// The canonical host.
    pub host: &'a str,
    /// The canonical path.
    pub path: &'a str,
    /// Verbatim; `Some("")` is another target than `None`.
    pub query: Option<&'a str>,
}

/// The key of a request, as long as it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyRef<'a> {
    pub(crate) route: &'a str,
    pub(crate) via: &'a str,
    pub(crate) scope: Scope,
    pub(crate) target: Target<'a>,
}

/// The key of an answer that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) route: Arc<str>,
    via: Arc<str>,
    scope: Scope,
    pub(crate) place: Arc<Place>,
}

impl Scope {
    /// Of those of whom all of `parts` are said, in this order.
    pub fn only<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            // With its length in front no two lists of parts read the same.
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        Self::Only(Digest::of(context))
    }
}

impl Digest {
    pub(crate) fn of(context: Context) -> Self {
        let mut bytes = [0; 32];
        // SHA-256 has as many.
        for (to, from) in bytes.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(bytes)
    }
}

impl Key {
    pub(crate) fn new(plan: &Plan, scope: Scope, place: &Arc<Place>) -> Self {
        let (route, via) = (Arc::clone(&plan.route), Arc::clone(&plan.via));
        Self { route, via, scope, place: Arc::clone(place) }
    }

    pub(crate) fn borrowed(&self) -> KeyRef<'_> {
        let target = self.place.target();
        KeyRef { route: &self.route, via: &self.via, scope: self.scope, target }
    }

    /// What it takes in memory, its place included.
    pub(crate) fn weight(&self) -> usize {
        self.place.weight()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.borrowed() == other.borrowed()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

impl moka::Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self == key.borrowed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lists_of_parts_have_one_scope() {
        let of = |parts: &[&str]| Scope::only(parts.iter().map(|part| part.as_bytes()));

        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["ab"]), of(&["a", "b"]));
        assert_ne!(of(&["a", ""]), of(&["", "a"]));
        assert_ne!(of(&[]), of(&[""]));
        assert_ne!(of(&["a"]), Scope::Everyone);
    }
}
