//! Buckets in a fixed number of places, changed by compare-and-swap alone.
//!
//! The table has sets of eight places. A bucket may lie in any place of the one set that its hash
//! names, and one 128-bit word is all there is of it: 64 bits that name the bucket and the time
//! when it will be full again. A full bucket equals an absent one, so throwing it out loses nothing.
//! A new bucket takes the place of the one that will be full soonest; when that one is not yet full,
//! something is lost, and it is counted.
//!
//! The word is swapped by one instruction on `x86_64` (`cmpxchg16b`) and `aarch64`.
//!
//! # One bucket, one place
//!
//! Two threads that miss the same bucket must not both make it, or it would admit its burst twice.
//! A thread first puts a *claim* with a number of its own into the place, then looks through the rest
//! of the set: if the bucket is there, the claim is withdrawn; another's claim to the same bucket is
//! struck out; then the claim becomes the bucket, if it is still there. Of two threads the one that
//! claimed later in the single order of all operations sees the other's claim or bucket when it
//! looks, so at most one claim of a bucket comes through. Numbers make claims unique: a thread whose
//! claim was struck out cannot mistake a later one for its own.
//!
//! # What an attacker can do
//!
//! Memory does not grow. To make the table forget a bucket that needs `d` to be full, all eight
//! places of its set must hold buckets that need longer. The attacker cannot tell which set that is,
//! so it has to spend about as much as the whole table holds: eight buckets in every set, each drawn
//! down by more than `d`, all inside `d`. Single requests under a million names only replace each
//! other.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portable_atomic::AtomicU128;

use crate::gcra::Draw;

/// All buckets. Sixteen bytes each, allocated once.
pub(crate) struct Table {
    sets: Box<[Set]>,
    claims: AtomicU64,
    lossy_evictions: AtomicU64,
}

/// Two lines of cache.
#[repr(align(128))]
struct Set([AtomicU128; WAYS]);

const _: () = assert!(size_of::<Set>() == WAYS * 16);

/// One request's draw on one bucket, while it may still be taken back.
pub(crate) struct Charge<'a> {
    place: &'a AtomicU128,
    before: u128,
    after: u128,
}

/// What a place holds, as its word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    Bucket { name: u64, full_at_ns: u64 },
    Claim { name: u64, number: u64 },
}

const WAYS: usize = 8;
const EMPTY: u128 = 0;
/// The highest bit of the low half; times and numbers stay below it.
const CLAIM: u64 = 1 << 63;
/// Each attempt that does not succeed was overtaken by another thread; so many in a row mean that
/// the bucket is under a storm, and the request is refused.
const ATTEMPTS_MAX: u32 = 256;
/// So long another's claim to the same bucket is given the time to become the bucket.
const PATIENT_ATTEMPTS: u32 = 64;

impl Table {
    /// At most this many buckets, 1 GiB.
    const ENTRIES_MAX: usize = 1 << 26;

    pub(crate) fn new(entries: NonZeroUsize) -> Self {
        let sets = entries.get().min(Self::ENTRIES_MAX).div_ceil(WAYS);
        let empty = || Set([const { AtomicU128::new(EMPTY) }; WAYS]);
        Self {
            sets: std::iter::repeat_with(empty).take(sets).collect(),
            claims: AtomicU64::new(0),
            lossy_evictions: AtomicU64::new(0),
        }
    }

    pub(crate) const fn capacity(&self) -> usize {
        self.sets.len() * WAYS
    }

    pub(crate) fn lossy_evictions(&self) -> u64 {
        self.lossy_evictions.load(Ordering::Relaxed)
    }

    /// How many buckets are not full at `now_ns`.
    pub(crate) fn used(&self, now_ns: u64) -> usize {
        let places = self.sets.iter().flat_map(|set| &set.0);
        places.filter(|place| Held::of(load(place)).full_at_ns() > now_ns).count()
    }

    /// When the bucket `name` will be full; zero when it is absent.
    pub(crate) fn full_at_ns(&self, name: u64) -> u64 {
        let Some(set) = self.set(name) else { return 0 };
        set.find(name).map_or(0, |(_, _, full_at_ns)| full_at_ns)
    }

    /// Draws on the bucket `name`, or says how long to wait until that is possible.
    pub(crate) fn charge(
        &self,
        name: u64,
        draw: Draw,
        now_ns: u64,
    ) -> Result<Charge<'_>, Duration> {
        let admit = |full_at_ns| draw.admit(full_at_ns, now_ns);
        self.change(name, now_ns, admit)?.ok_or_else(|| draw.breath())
    }

    /// Draws on the bucket `name` whatever it holds. In a storm of other draws that lasts longer
    /// than all the attempts, each of which pays by itself, the cost is forgotten and counted.
    pub(crate) fn owe(&self, name: u64, draw: Draw, now_ns: u64) {
        let owe = |full_at_ns| Ok::<_, Infallible>(draw.owe(full_at_ns, now_ns));
        if !matches!(self.change(name, now_ns, owe), Ok(Some(_))) {
            self.lossy_evictions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Moves the time of the bucket `name`; `None` when other threads were always faster.
    fn change<E>(
        &self,
        name: u64,
        now_ns: u64,
        next: impl Fn(u64) -> Result<u64, E>,
    ) -> Result<Option<Charge<'_>>, E> {
        let Some(set) = self.set(name) else { return Ok(None) };
        for attempt in 0..ATTEMPTS_MAX {
            let charge = match set.find(name) {
                Some((place, before, full_at_ns)) => {
                    let full_at_ns = next(full_at_ns)?;
                    let after = Held::Bucket { name, full_at_ns }.word();
                    swap(place, before, after).then_some(Charge { place, before, after })
                }
                None if attempt < PATIENT_ATTEMPTS && set.is_claimed(name) => None,
                None => self.make(set, name, next(0)?, now_ns),
            };
            match charge {
                Some(charge) => return Ok(Some(charge)),
                None => std::hint::spin_loop(),
            }
        }
        Ok(None)
    }

    fn make<'a>(
        &self,
        set: &'a Set,
        name: u64,
        full_at_ns: u64,
        now_ns: u64,
    ) -> Option<Charge<'a>> {
        let number = self.claims.fetch_add(1, Ordering::Relaxed) & !CLAIM;
        let claim = Held::Claim { name, number }.word();
        let (place, evicted) = set.soonest_full()?;
        if !swap(place, evicted, claim) {
            return None;
        }
        if matches!(Held::of(evicted), Held::Bucket { full_at_ns, .. } if full_at_ns > now_ns) {
            self.lossy_evictions.fetch_add(1, Ordering::Relaxed);
        }
        if set.admits_claim(place, name) {
            let after = Held::Bucket { name, full_at_ns }.word();
            return swap(place, claim, after).then_some(Charge { place, before: EMPTY, after });
        }
        // Struck out by another thread already, or withdrawn here: both leave no claim behind.
        swap(place, claim, EMPTY);
        None
    }

    /// The set of `name`: the high half of name × sets, which is fair for any number of sets.
    fn set(&self, name: u64) -> Option<&Set> {
        let sets = u128::try_from(self.sets.len()).ok()?;
        self.sets.get(usize::try_from((u128::from(name) * sets) >> 64).ok()?)
    }
}

impl Set {
    fn find(&self, name: u64) -> Option<(&AtomicU128, u128, u64)> {
        self.0.iter().find_map(|place| {
            let word = load(place);
            match Held::of(word) {
                Held::Bucket { name: found, full_at_ns } if found == name => {
                    Some((place, word, full_at_ns))
                }
                Held::Nothing | Held::Bucket { .. } | Held::Claim { .. } => None,
            }
        })
    }

    fn is_claimed(&self, name: u64) -> bool {
        let claimed = |held| matches!(held, Held::Claim { name: found, .. } if found == name);
        self.0.iter().any(|place| claimed(Held::of(load(place))))
    }

    /// The place that costs least to take, with what it holds. A claim is taken only when there is
    /// nothing else: eight threads that all stand still in the middle of theirs.
    fn soonest_full(&self) -> Option<(&AtomicU128, u128)> {
        let held = self.0.iter().map(|place| (place, load(place)));
        held.min_by_key(|(_, word)| Held::of(*word).full_at_ns())
    }

    /// Strikes out every other claim to `name`; whether none of the other places holds its bucket.
    fn admits_claim(&self, own: &AtomicU128, name: u64) -> bool {
        self.0.iter().filter(|place| !std::ptr::eq(*place, own)).all(|place| {
            loop {
                let word = load(place);
                match Held::of(word) {
                    Held::Bucket { name: found, .. } if found == name => break false,
                    Held::Claim { name: found, .. } if found == name => {
                        if swap(place, word, EMPTY) {
                            break true;
                        }
                    }
                    Held::Nothing | Held::Bucket { .. } | Held::Claim { .. } => break true,
                }
            }
        })
    }
}

impl Charge<'_> {
    /// Gives the request back, if nobody has drawn on the bucket since. Otherwise it stays charged:
    /// what others were told about the bucket cannot be taken back, and too much is the safe side.
    pub(crate) fn take_back(self) {
        swap(self.place, self.after, self.before);
    }
}

impl Held {
    const fn of(word: u128) -> Self {
        let (name, low) = halves(word);
        match (name, low & CLAIM) {
            (0, _) => Self::Nothing,
            (_, 0) => Self::Bucket { name, full_at_ns: low },
            (_, _) => Self::Claim { name, number: low & !CLAIM },
        }
    }

    fn word(self) -> u128 {
        let (name, low) = match self {
            Self::Nothing => (0, 0),
            Self::Bucket { name, full_at_ns } => (name, full_at_ns & !CLAIM),
            Self::Claim { name, number } => (name, number | CLAIM),
        };
        u128::from(name) << 64 | u128::from(low)
    }

    /// When the place is free; a claim counts as never.
    const fn full_at_ns(self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Bucket { full_at_ns, .. } => full_at_ns,
            Self::Claim { .. } => u64::MAX,
        }
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "both halves are taken, so nothing is lost"
)]
const fn halves(word: u128) -> (u64, u64) {
    ((word >> 64) as u64, word as u64)
}

// The argument about claims above needs one order of all operations.

fn load(place: &AtomicU128) -> u128 {
    place.load(Ordering::SeqCst)
}

fn swap(place: &AtomicU128, from: u128, to: u128) -> bool {
    place.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Barrier;

    use enforcer_model::Rate;
    use proptest::prelude::*;

    use super::*;
    use crate::Factor;
    use crate::gcra::Gcra;

    const HOUR_NS: u64 = 3_600_000_000_000;

    /// Every name falls into the one set and is missed by all threads at the same moment.
    #[test]
    fn threads_that_make_one_bucket_at_once_make_it_once() {
        const THREADS: usize = 4;
        for round in 1..=3_000u64 {
            let table = table(WAYS);
            let start = Barrier::new(THREADS);
            let charge = |name: u64| table.charge(name, per_hour(1), HOUR_NS).is_ok();
            // Four claims and four buckets fit into eight places: nothing has to be thrown out.
            let names = [round, round << 20, round << 40, u64::MAX - round];

            let admitted: usize = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS)
                    .map(|thread| {
                        let mut order = names;
                        order.rotate_left(if round % 2 == 0 { thread } else { 0 });
                        let (start, charge) = (&start, &charge);
                        scope.spawn(move || {
                            start.wait();
                            order.into_iter().filter(|name| charge(*name)).count()
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });

            assert_eq!((admitted, table.lossy_evictions()), (names.len(), 0), "round {round}");
        }
    }

    #[test]
    fn a_place_is_changed_without_a_lock() {
        assert!(AtomicU128::is_lock_free());
    }

    #[test]
    fn a_full_set_forgets_the_bucket_that_is_full_soonest() {
        let table = table(WAYS);
        for name in 1..=8u64 {
            for _ in 0..name {
                assert!(table.charge(name, per_hour(100), HOUR_NS).is_ok());
            }
        }

        assert!(table.charge(9, per_hour(100), HOUR_NS).is_ok());

        assert_eq!(table.full_at_ns(1), 0);
        assert!((2..=9).all(|name| table.full_at_ns(name) > HOUR_NS));
        assert_eq!(table.lossy_evictions(), 1);
    }

    #[test]
    fn throwing_out_a_full_bucket_loses_nothing() {
        let table = table(WAYS);
        for name in 1..=8u64 {
            assert!(table.charge(name, per_hour(1), HOUR_NS).is_ok());
        }

        assert!(table.charge(9, per_hour(1), 2 * HOUR_NS).is_ok());

        assert_eq!((table.used(2 * HOUR_NS), table.lossy_evictions()), (1, 0));
    }

    #[test]
    fn places_held_by_claims_that_never_end_are_taken_in_the_end() {
        let table = table(WAYS);
        for (number, place) in (0u64..).zip(&table.sets[0].0) {
            place.store(Held::Claim { name: 7, number }.word(), Ordering::SeqCst);
        }

        assert!(table.charge(7, per_hour(1), HOUR_NS).is_ok());
        assert!(table.charge(8, per_hour(1), HOUR_NS).is_ok());

        assert!(table.charge(7, per_hour(1), HOUR_NS).is_err());
        assert!(!table.sets[0].is_claimed(7));
    }

    #[test]
    fn a_charge_is_taken_back_only_while_nobody_else_has_drawn() {
        let table = table(WAYS);
        let first = table.charge(1, per_hour(5), HOUR_NS).unwrap();
        first.take_back();
        assert_eq!(table.full_at_ns(1), 0);

        let second = table.charge(1, per_hour(5), HOUR_NS).unwrap();
        assert!(table.charge(1, per_hour(5), HOUR_NS).is_ok());
        second.take_back();

        assert_eq!(table.full_at_ns(1), 3 * HOUR_NS);
    }

    #[test]
    fn the_size_is_what_was_asked_for_rounded_up_to_a_set() {
        for (asked, capacity) in [(1, 8), (8, 8), (9, 16), (65_536, 65_536)] {
            assert_eq!(table(asked).capacity(), capacity);
        }
    }

    proptest! {
        #[test]
        fn a_word_says_what_it_was_made_of(name in 1u64.., low in 0..CLAIM) {
            for held in [
                Held::Nothing,
                Held::Bucket { name, full_at_ns: low },
                Held::Claim { name, number: low },
            ] {
                prop_assert_eq!(Held::of(held.word()), held);
            }
        }

        #[test]
        fn every_name_has_a_set(name: u64, entries in 1..1000usize) {
            prop_assert!(table(entries).set(name).is_some());
        }
    }

    fn table(entries: usize) -> Table {
        Table::new(NonZeroUsize::new(entries).unwrap())
    }

    fn per_hour(burst: u32) -> Draw {
        let rate = Rate::new(NonZeroU32::MIN, Duration::from_secs(3_600)).unwrap();
        let gcra = Gcra::of(rate, NonZeroU32::new(burst).unwrap());
        gcra.draw(1, 1, Factor::WHOLE).unwrap()
    }
}
