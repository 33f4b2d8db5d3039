//! The structs of all identities, by name: a slab in chunks, so that it never moves, and an index.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::identity::Identity;
use super::num::slot;

/// Identities of one chunk.
const CHUNK: usize = 1_024;

/// Of so many taken by chance, the least recently seen makes room for a newcomer when all places
/// are taken: near enough to the least recently seen of all, at a constant price.
const SAMPLE: u64 = 8;

/// The identities.
#[derive(Debug)]
pub(super) struct Table {
    index: HashMap<u64, u32, BuildHasherDefault<Named>>,
    chunks: Vec<Vec<Identity>>,
    names: Vec<Box<str>>,
    most: usize,
    chance: u64,
}

/// Names are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Named(u64);

impl Hasher for Named {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, name: u64) {
        self.0 = name;
    }
}

impl Table {
    pub(super) fn new(most: usize) -> Self {
        Self {
            index: HashMap::default(),
            chunks: Vec::new(),
            names: Vec::new(),
            most: most.max(1),
            chance: 0x9E37_79B9_7F4A_7C15,
        }
    }

    pub(super) fn bound(&mut self, most: usize) {
        self.most = most.max(1);
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// The place of the identity called `name`.
    pub(super) fn find(&self, name: u64) -> Option<usize> {
        self.index.get(&name).and_then(|place| usize::try_from(*place).ok())
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
            self.index.insert(name, u32::try_from(place).unwrap_or(u32::MAX));
            return (place, None);
        }
        let place = self.least_recent();
        let gone = self.get_mut(place).map(|slot| std::mem::replace(slot, identity));
        if let Some(gone) = &gone {
            self.index.remove(&gone.name);
        }
        if let Some(slot) = self.names.get_mut(place) {
            *slot = text.into();
        }
        self.index.insert(name, u32::try_from(place).unwrap_or(u32::MAX));
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
        assert_eq!(table.index.len(), 100);
        assert!(table.find(2_000).is_some());
    }
}
