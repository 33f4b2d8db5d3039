//! How many requests of a subject are under way: counted up on admission, down when they end.
//!
//! A subject has an entry only while something of it is under way, so the table is as large as what
//! is under way; [`SUBJECTS_MAX`] bounds it all the same, and one more subject is refused. The
//! table is cut into shards, each under a lock that is held for one look-up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use parking_lot::Mutex;

/// Subjects that may have requests under way at once.
pub(crate) const SUBJECTS_MAX: usize = SHARDS * SHARD_MAX;

const SHARDS: usize = 64;
const SHARD_MAX: usize = 4_096;

/// All counters.
pub(crate) struct Concurrency {
    shards: [Shard; SHARDS],
}

/// On lines of its own, so that two threads do not wait for each other's shards.
#[repr(align(128))]
#[derive(Default)]
struct Shard(Mutex<HashMap<u64, u32, BuildHasherDefault<Hashed>>>);

/// The keys are hashes already.
#[derive(Default)]
struct Hashed(u64);

/// Why there is no room for another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// As many as admitted are under way.
    Reached,
    /// The shard has all the subjects that it may.
    Full,
}

impl Concurrency {
    pub(crate) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Shard::default()) }
    }

    /// Counts one more of the subject `name`; how many there are now.
    pub(crate) fn enter(&self, name: u64, most: u32) -> Result<u32, NoRoom> {
        let Some(shard) = self.shard(name) else { return Err(NoRoom::Full) };
        let mut counts = shard.0.lock();
        let room = counts.len() < SHARD_MAX;
        match counts.entry(name) {
            Entry::Occupied(entry) if *entry.get() >= most => Err(NoRoom::Reached),
            Entry::Occupied(entry) => {
                let count = entry.into_mut();
                *count = count.saturating_add(1);
                Ok(*count)
            }
            Entry::Vacant(entry) if room => Ok(*entry.insert(1)),
            Entry::Vacant(_) => Err(NoRoom::Full),
        }
    }

    /// One of the subject `name` has ended.
    pub(crate) fn leave(&self, name: u64) {
        let Some(shard) = self.shard(name) else { return };
        let mut counts = shard.0.lock();
        if let Entry::Occupied(mut entry) = counts.entry(name) {
            match entry.get().checked_sub(1) {
                None | Some(0) => {
                    entry.remove();
                }
                Some(left) => *entry.get_mut() = left,
            }
        }
    }

    /// How many of the subject `name` are under way.
    pub(crate) fn under_way(&self, name: u64) -> u32 {
        self.shard(name).and_then(|shard| shard.0.lock().get(&name).copied()).unwrap_or(0)
    }

    /// How many subjects have requests under way.
    pub(crate) fn subjects(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().len()).sum()
    }

    fn shard(&self, name: u64) -> Option<&Shard> {
        // The highest bits: the lowest name the place inside the shard.
        self.shards.get(usize::try_from(name >> 58).ok()?)
    }
}

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn one_more_than_admitted_waits_until_one_ends() {
        let table = Concurrency::new();

        assert_eq!(table.enter(7, 2), Ok(1));
        assert_eq!(table.enter(7, 2), Ok(2));
        assert_eq!(table.enter(7, 2), Err(NoRoom::Reached));
        assert_eq!(table.enter(8, 2), Ok(1));
        table.leave(7);

        assert_eq!(table.enter(7, 2), Ok(2));
        assert_eq!((table.under_way(7), table.subjects()), (2, 2));
    }

    #[test]
    fn what_has_ended_leaves_nothing_behind() {
        let table = Concurrency::new();
        for name in 1..=10_000u64 {
            assert!(table.enter(name << 40, 1).is_ok());
            table.leave(name << 40);
            table.leave(name << 40);
        }

        assert_eq!(table.subjects(), 0);
    }

    #[test]
    fn a_full_shard_refuses_new_subjects_and_goes_on_with_known_ones() {
        let table = Concurrency::new();
        for name in 1..=SHARD_MAX {
            assert!(table.enter(u64::try_from(name).unwrap(), 5).is_ok());
        }

        assert_eq!(table.enter(u64::MAX >> 7, 5), Err(NoRoom::Full));
        assert_eq!(table.enter(1, 5), Ok(2));
        table.leave(2);
        assert_eq!(table.enter(u64::MAX >> 7, 5), Ok(1));
    }

    #[test]
    fn threads_are_never_under_way_in_greater_number_than_admitted() {
        const MOST: u32 = 3;
        let table = Concurrency::new();
        let (now, highest) = (AtomicU32::new(0), AtomicU32::new(0));

        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if table.enter(1, MOST).is_ok() {
                            let inside = now.fetch_add(1, Ordering::SeqCst) + 1;
                            highest.fetch_max(inside, Ordering::SeqCst);
                            now.fetch_sub(1, Ordering::SeqCst);
                            table.leave(1);
                        }
                    }
                });
            }
        });

        assert!((1..=MOST).contains(&highest.into_inner()));
        assert_eq!(table.subjects(), 0);
    }
}
