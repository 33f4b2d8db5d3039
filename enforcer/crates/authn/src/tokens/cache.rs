//! A table of fixed size for what was found out about tokens, by their SHA-256.
//!
//! Set-associative: a digest can stand in [`WAYS`] places only, so a look-up is short and memory is
//! fixed. When all are taken, one whose time is over goes first, then the one that was not asked for
//! the longest. What goes has to be found out again, and nothing else is lost.

use std::fmt;
use std::time::Instant;

use parking_lot::Mutex;

use crate::issuers::Digest;

/// Places in which a digest can stand.
const WAYS: usize = 8;

/// At most as many values as it was made for.
pub(crate) struct Cache<T> {
    sets: Box<[Mutex<Set<T>>]>,
}

struct Set<T> {
    /// The beginnings of the digests, so that a look-up touches few lines of memory; only hints.
    tags: [u64; WAYS],
    slots: [Option<Slot<T>>; WAYS],
    /// Counts look-ups that found something: who was asked for last.
    turns: u64,
}

struct Slot<T> {
    digest: Digest,
    until: Instant,
    asked: u64,
    value: T,
}

impl<T: Clone> Cache<T> {
    /// Room for `entries`, rounded up to a power of two.
    pub(crate) fn new(entries: usize) -> Self {
        let slots = || std::array::from_fn(|_| None);
        let set = || Mutex::new(Set { tags: [0; WAYS], slots: slots(), turns: 0 });
        let sets = entries.div_ceil(WAYS).next_power_of_two();
        Self { sets: (0..sets).map(|_| set()).collect() }
    }

    /// What is known of `digest`, unless its time is over at `now`.
    pub(crate) fn get(&self, digest: &Digest, now: Instant) -> Option<T> {
        let mut set = self.set(digest).lock();
        set.turns += 1;
        let turn = set.turns;
        let tag = tag(digest);
        let Set { tags, slots, .. } = &mut *set;
        let near = tags.iter().zip(slots).filter(|(near, _)| **near == tag);
        let slot =
            near.filter_map(|(_, slot)| slot.as_mut()).find(|slot| slot.digest == *digest)?;
        if slot.until <= now {
            return None;
        }
        slot.asked = turn;
        Some(slot.value.clone())
    }

    /// Remembers `value` for `digest` until `until`.
    pub(crate) fn insert(&self, digest: Digest, value: T, until: Instant, now: Instant) {
        let mut set = self.set(&digest).lock();
        set.turns += 1;
        let asked = set.turns;
        let new = Slot { digest, until, asked, value };
        let rank = |slot: &Option<Slot<T>>| match slot {
            Some(slot) if slot.digest == digest => (0, 0),
            None => (1, 0),
            Some(slot) if slot.until <= now => (2, slot.asked),
            Some(slot) => (3, slot.asked),
        };
        let Set { tags, slots, .. } = &mut *set;
        let places = tags.iter_mut().zip(slots);
        if let Some((near, slot)) = places.min_by_key(|(_, slot)| rank(slot)) {
            *near = tag(&digest);
            *slot = Some(new);
        }
    }

    /// Whatever `wanted` makes of the first value that it makes something of.
    pub(crate) fn find<F>(&self, mut wanted: impl FnMut(&T) -> Option<F>) -> Option<F> {
        self.sets.iter().find_map(|set| {
            let set = set.lock();
            set.slots.iter().flatten().find_map(|slot| wanted(&slot.value))
        })
    }

    fn set(&self, digest: &Digest) -> &Mutex<Set<T>> {
        let [.., a, b, c, d] = *digest;
        let place = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or_default();
        #[expect(clippy::indexing_slicing, reason = "the mask is below the length")]
        &self.sets[place & (self.sets.len() - 1)]
    }
}

fn tag(digest: &Digest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *digest;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl<T> fmt::Debug for Cache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({} sets)", self.sets.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_put_in_comes_out_until_its_time_is_over() {
        let cache = Cache::new(64);
        let now = instant();
        cache.insert(digest(1), "one", now + Duration::from_secs(5), now);

        assert_eq!(cache.get(&digest(1), now), Some("one"));
        assert_eq!(cache.get(&digest(2), now), None);
        assert_eq!(cache.get(&digest(1), now + Duration::from_secs(4)), Some("one"));
        assert_eq!(cache.get(&digest(1), now + Duration::from_secs(5)), None);
    }

    #[test]
    fn a_second_value_for_one_token_takes_the_place_of_the_first() {
        let cache = Cache::new(8);
        let now = instant();
        let later = now + Duration::from_secs(5);
        for value in 0..100 {
            cache.insert(digest(1), value, later, now);
        }

        let mut seen = 0;
        let none = cache.find(|_| {
            seen += 1;
            None::<()>
        });

        assert_eq!((cache.get(&digest(1), now), seen, none), (Some(99), 1, None));
    }

    #[test]
    fn a_full_set_gives_up_what_is_over_and_then_what_nobody_asks_for() {
        let cache = Cache::new(WAYS);
        let now = instant();
        let later = now + Duration::from_secs(5);
        for n in 0..8 {
            let until = if n == 3 { now } else { later };
            cache.insert(digest(n), n, until, now);
        }
        for n in [0, 1, 2, 4, 6, 7] {
            assert!(cache.get(&digest(n), now).is_some());
        }

        cache.insert(digest(8), 8, later, now);
        cache.insert(digest(9), 9, later, now);

        let kept: Vec<_> = (0..10).filter(|&n| cache.get(&digest(n), now).is_some()).collect();
        assert_eq!(kept, [0, 1, 2, 4, 6, 7, 8, 9], "3 was over, 5 was not asked for");
    }

    proptest! {
        #[test]
        fn it_never_holds_more_than_it_was_made_for(numbers in prop::collection::vec(0..5_000_u64, 0..2_000)) {
            let cache = Cache::new(64);
            let now = instant();
            for &n in &numbers {
                cache.insert(digest(n), n, now + Duration::from_secs(1), now);
                prop_assert_eq!(cache.get(&digest(n), now), Some(n), "the newest is always there");
            }
            let mut held = 0;
            let none = cache.find(|_| { held += 1; None::<()> });
            prop_assert!(none.is_none() && held <= 64);
        }
    }

    fn digest(n: u64) -> Digest {
        crate::issuers::digest_of(&n.to_le_bytes())
    }

    fn instant() -> Instant {
        use enforcer_model::{Clock, SystemClock};
        SystemClock.now().monotonic
    }
}
