//! The structs of all identities, by name: a slab in chunks, so that it never moves, and an index.

use super::IDENTITIES_MAX;
use super::identity::Identity;
use super::num::slot;

/// Identities of one chunk.
const CHUNK: usize = 1_024;

/// Of so many taken by chance, the least recently seen makes room for a newcomer when all places
/// are taken: near enough to the least recently seen of all, at a constant price.
const SAMPLE: u64 = 8;

/// Bits of an entry of the index that are the place; the others are the beginning of the name.
const PLACE: u32 = 24;

/// An entry of nobody.
const FREE: u64 = u64::MAX;

/// The identities.
#[derive(Debug)]
pub(super) struct Table {
    index: Index,
    chunks: Vec<Vec<Identity>>,
    names: Vec<Box<str>>,
    most: usize,
    chance: u64,
}

/// Places by name: open addressing, one line of the cache for nearly every question. Names are
/// hashes already; an entry has their first forty bits, and what is found is compared whole.
#[derive(Debug)]
struct Index {
    entries: Vec<u64>,
    /// How far a name is shifted for its first place.
    shift: u32,
}

impl Index {
    /// For `most` names; half stays free.
    fn new(most: usize) -> Self {
        let length = most.saturating_mul(2).next_power_of_two().clamp(16, 1 << PLACE);
        Self { entries: vec![FREE; length], shift: length.leading_zeros() + 1 }
    }

    fn home(&self, name: u64) -> usize {
        usize::try_from(name >> self.shift).unwrap_or_default()
    }

    const fn mask(&self) -> usize {
        self.entries.len() - 1
    }

    /// The places of all who may be `name`, the likely one first.
    fn places(&self, name: u64) -> impl Iterator<Item = (usize, usize)> {
        let mask = self.mask();
        let home = self.home(name);
        (0..self.entries.len())
            .map_while(move |step| {
                let at = home.wrapping_add(step) & mask;
                let entry = self.entries.get(at).copied().filter(|entry| *entry != FREE)?;
                Some((at, entry))
            })
            .filter(move |(_, entry)| entry >> PLACE == name >> PLACE)
            .map(|(at, entry)| (at, usize::try_from(entry % (1 << PLACE)).unwrap_or(usize::MAX)))
    }

    fn insert(&mut self, name: u64, place: usize) {
        let mask = self.mask();
        let mut at = self.home(name);
        while self.entries.get(at).is_some_and(|entry| *entry != FREE) {
            at = (at + 1) & mask;
        }
        let place = u64::try_from(place).unwrap_or(u64::MAX) % (1 << PLACE);
        if let Some(entry) = self.entries.get_mut(at) {
            *entry = name >> PLACE << PLACE | place;
        }
    }

    /// Removes the entry `at`: those behind it that it kept from their place move up.
    fn remove(&mut self, at: usize) {
        let mask = self.mask();
        let mut free = at;
        let mut next = (at + 1) & mask;
        while let Some(entry) = self.entries.get(next).copied().filter(|entry| *entry != FREE) {
            let home = self.home(entry);
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(free) & mask {
                if let Some(slot) = self.entries.get_mut(free) {
                    *slot = entry;
                }
                free = next;
            }
            next = (next + 1) & mask;
        }
        if let Some(slot) = self.entries.get_mut(free) {
            *slot = FREE;
        }
    }
}

impl Table {
    pub(super) fn new(most: usize) -> Self {
        let most = most.clamp(1, IDENTITIES_MAX);
        Self {
            index: Index::new(most),
            chunks: Vec::new(),
            names: Vec::new(),
            most,
            chance: 0x9E37_79B9_7F4A_7C15,
        }
    }

    /// Sets another bound; who is there stays.
    pub(super) fn bound(&mut self, most: usize) {
        let most = most.clamp(1, IDENTITIES_MAX);
        if most == self.most {
            return;
        }
        self.most = most;
        let mut index = Index::new(most.max(self.len()));
        for (place, identity) in self.chunks.iter().flatten().enumerate() {
            index.insert(identity.name, place);
        }
        self.index = index;
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// The place of the identity called `name`.
    pub(super) fn find(&self, name: u64) -> Option<usize> {
        self.index.places(name).map(|(_, place)| place).find(|place| self.is(*place, name))
    }

    /// Where `name` most likely is: it is not looked whether it is really there.
    pub(super) fn guess(&self, name: u64) -> Option<usize> {
        self.index.places(name).map(|(_, place)| place).next()
    }

    /// Whether the identity at `place` is called `name`.
    pub(super) fn is(&self, place: usize, name: u64) -> bool {
        self.get(place).is_some_and(|identity| identity.name == name)
    }

    pub(super) fn get(&self, place: usize) -> Option<&Identity> {
        self.chunks.get(place / CHUNK)?.get(place % CHUNK)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Identity> {
        self.chunks.get_mut(place / CHUNK)?.get_mut(place % CHUNK)
    }

    pub(super) fn text(&self, place: usize) -> &str {
        self.names.get(place).map_or("", |name| name)
    }

    /// All identities with their names.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Identity, &str)> {
        let names = self.names.iter().map(|name| &**name);
        self.chunks.iter().flatten().zip(names)
    }

    /// Adds an identity; the one that had to go for it, if any.
    pub(super) fn add(&mut self, identity: Identity, text: &str) -> (usize, Option<Identity>) {
        let name = identity.name;
        if self.len() < self.most {
            let place = self.len();
            if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
                self.chunks.push(Vec::with_capacity(CHUNK.min(self.most)));
            }
            if let Some(chunk) = self.chunks.last_mut() {
                chunk.push(identity);
            }
            self.names.push(text.into());
            self.index.insert(name, place);
            return (place, None);
        }
        let place = self.least_recent();
        let before = self.get(place).map(|identity| identity.name);
        let entry = before.and_then(|name| {
            self.index.places(name).find(|(_, other)| *other == place).map(|(at, _)| at)
        });
        if let Some(entry) = entry {
            self.index.remove(entry);
        }
        let gone = self.get_mut(place).map(|slot| std::mem::replace(slot, identity));
        if let Some(slot) = self.names.get_mut(place) {
            *slot = text.into();
        }
        self.index.insert(name, place);
        (place, gone)
    }

    fn least_recent(&mut self) -> usize {
        let mut found = (u32::MAX, 0);
        for _ in 0..SAMPLE {
            // xorshift64: which ones are taken need not be unforeseeable, only spread.
            self.chance ^= self.chance << 13;
            self.chance ^= self.chance >> 7;
            self.chance ^= self.chance << 17;
            let place = slot(self.chance, self.len());
            let last = self.get(place).map_or(0, |identity| identity.last);
            found = found.min((last, place));
        }
        found.1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_table_makes_room_and_keeps_who_is_seen_often() {
        let mut table = Table::new(100);
        table.add(Identity::new(1, 0, 1_000_000), "often");
        for name in 2..=2_000 {
            table.add(Identity::new(name, 0, u32::try_from(name).unwrap()), "once");
        }

        assert_eq!(table.len(), 100);
        assert_eq!(table.find(1).map(|place| table.text(place)), Some("often"));
        let taken = table.index.entries.iter().filter(|entry| **entry != FREE).count();
        assert_eq!(taken, 100);
        assert!(table.find(2_000).is_some());
    }

    proptest! {
        /// Names of a few places of the index only, so that they stand in each other's way.
        #[test]
        fn whoever_is_there_is_found_and_nobody_else(
            names in proptest::collection::vec((0..12_u64, 0..40_u64), 1..400),
            most in 1..24_usize,
        ) {
            let mut table = Table::new(most);
            let mut there = BTreeSet::new();
            for (first, last) in names {
                let name = first << 60 | last << 30 | 1;
                if !there.contains(&name) {
                    let (_, gone) = table.add(Identity::new(name, 0, 1), "x");
                    if let Some(gone) = gone {
                        there.remove(&gone.name);
                    }
                    there.insert(name);
                }
                for name in &there {
                    let found = table.find(*name);
                    prop_assert!(found.is_some_and(|place| table.is(place, *name)));
                }
            }
            for (first, last) in (0..12_u64).flat_map(|first| (0..40).map(move |last| (first, last))) {
                let name = first << 60 | last << 30 | 1;
                prop_assert_eq!(table.find(name).is_some(), there.contains(&name));
            }
            prop_assert_eq!(table.len(), there.len());
        }
    }

    #[test]
    fn another_bound_keeps_everybody() {
        let mut table = Table::new(50);
        for name in 0..50 {
            table.add(Identity::new(name << 40 | 7, 0, 1), "x");
        }
        for most in [10, 1_000] {
            table.bound(most);
            assert!((0..50).all(|name| table.find(name << 40 | 7).is_some()));
        }
    }
}
