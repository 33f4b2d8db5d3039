//! The places of which something is kept or under way: one for each target, whoever asks.
//!
//! A place has a generation. An answer, or one that is still arriving, is good only for the
//! generation in which it was asked for; whatever changes the resource begins another, so that no
//! answer from before is used or comes to be kept afterwards. Places exist as long as something
//! refers to them, so that their number is bounded by what is kept and by what is under way.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::flight::Flight;
use crate::key::Target;

/// All places, in shards that lock one at a time.
#[derive(Debug)]
pub(crate) struct Places {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Debug, Default)]
struct Shard {
    /// By hash; places that are gone are swept out when there are many.
    known: HashMap<u64, Vec<Weak<Place>>>,
    sweep_at: usize,
}

/// One target, of every route and scope.
#[derive(Debug)]
pub(crate) struct Place {
    secure: bool,
    host: Box<str>,
    path: Box<str>,
    query: Option<Box<str>>,
    generation: AtomicU64,
    pub(crate) flights: Mutex<Vec<Arc<Flight>>>,
}

const SHARDS: usize = 64;
/// A shard with fewer hashes is not swept.
const SWEEP_MIN: usize = 64;

impl Places {
    pub(crate) fn new() -> Self {
        Self { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// The place of `target`, which exists as long as somebody holds it.
    pub(crate) fn place(&self, target: Target<'_>) -> Arc<Place> {
        let hash = self.hasher.hash_one(target);
        let mut shard = self.shard(hash).lock();
        if let Some(place) = shard.find(hash, target) {
            return place;
        }
        shard.sweep();
        let place = Arc::new(Place::new(target));
        shard.known.entry(hash).or_default().push(Arc::downgrade(&place));
        place
    }

    /// Begins another generation of `target`, if anything refers to it.
    pub(crate) fn change(&self, target: Target<'_>) -> bool {
        let hash = self.hasher.hash_one(target);
        let place = self.shard(hash).lock().find(hash, target);
        place.is_some_and(|place| {
            place.change();
            true
        })
    }

    #[expect(clippy::indexing_slicing, reason = "taken modulo the length")]
    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        // The low bits choose within the shard.
        let high = usize::try_from(hash >> 40).unwrap_or_default();
        &self.shards[high % SHARDS]
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().known.len()).sum()
    }
}

impl Shard {
    fn find(&self, hash: u64, target: Target<'_>) -> Option<Arc<Place>> {
        let mut places = self.known.get(&hash)?.iter().filter_map(Weak::upgrade);
        places.find(|place| place.target() == target)
    }

    /// Forgets the places that are gone, once there may be as many of them as of others.
    fn sweep(&mut self) {
        if self.known.len() < self.sweep_at.max(SWEEP_MIN) {
            return;
        }
        self.known.retain(|_, places| {
            places.retain(|place| place.strong_count() > 0);
            !places.is_empty()
        });
        self.sweep_at = self.known.len().saturating_mul(2);
    }
}

impl Place {
    fn new(target: Target<'_>) -> Self {
        Self {
            secure: target.secure,
            host: target.host.into(),
            path: target.path.into(),
            query: target.query.map(Into::into),
            generation: AtomicU64::new(0),
            flights: Mutex::default(),
        }
    }

    pub(crate) fn target(&self) -> Target<'_> {
        Target {
            secure: self.secure,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whatever was asked for until here is out of date.
    pub(crate) fn change(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn weight(&self) -> usize {
        let query = self.query.as_ref().map_or(0, |query| query.len());
        size_of::<Self>() + self.host.len() + self.path.len() + query
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Target<'_> {
        Target { secure: true, host: "a.example", path, query: None }
    }

    #[test]
    fn one_target_has_one_place_as_long_as_it_is_held() {
        let places = Places::new();
        let held = places.place(target("/a"));

        assert!(Arc::ptr_eq(&held, &places.place(target("/a"))));
        assert!(!Arc::ptr_eq(&held, &places.place(Target { secure: false, ..target("/a") })));
        assert!(!Arc::ptr_eq(&held, &places.place(Target { query: Some(""), ..target("/a") })));
    }

    #[test]
    fn a_change_reaches_who_holds_the_place_and_nobody_else() {
        let places = Places::new();
        let (a, b) = (places.place(target("/a")), places.place(target("/b")));

        assert!(places.change(target("/a")));
        assert!(!places.change(target("/c")), "nothing refers to it");
        assert_eq!((a.generation(), b.generation()), (1, 0));
    }

    #[test]
    fn places_that_nobody_holds_take_no_room() {
        let places = Places::new();
        let held: Vec<_> = (0..10).map(|n| places.place(target(&format!("/held/{n}")))).collect();

        for n in 0..100_000 {
            drop(places.place(target(&format!("/{n}"))));
        }

        assert!(places.count() <= SHARDS * SWEEP_MIN * 2, "{}", places.count());
        for (n, place) in held.iter().enumerate() {
            assert!(Arc::ptr_eq(place, &places.place(target(&format!("/held/{n}")))));
        }
    }
}
