//! Targets of one kind that have a name: a table, and a number that spares everybody the look-up
//! while the table is empty.

use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use enforcer_model::{Rejection, Target, Timestamp};

use super::{Entry, Held};

/// Changed by one writer at a time; read by everybody.
pub(super) struct Named<K: Eq + Hash> {
    count: AtomicUsize,
    held: DashMap<K, Held>,
}

impl<K: Clone + Eq + Hash> Default for Named<K> {
    fn default() -> Self {
        Self { count: AtomicUsize::new(0), held: DashMap::new() }
    }
}

impl<K: Clone + Eq + Hash> Named<K> {
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn get(&self, key: &K) -> Option<Held> {
        self.held.get(key).map(|held| *held)
    }

    /// In the place of an earlier one.
    pub(super) fn insert(&self, key: &K, held: Held) {
        if self.held.insert(key.clone(), held).is_none() {
            // Behind the entry: whoever is told to look finds it.
            self.count.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether there was one.
    pub(super) fn remove(&self, key: &K) -> bool {
        let removed = self.held.remove(key).is_some();
        if removed {
            self.count.fetch_sub(1, Ordering::Release);
        }
        removed
    }

    /// Refuses `key` while its block is not over; `target` is what the block hits.
    pub(super) fn refuse(
        &self,
        key: &K,
        now: Timestamp,
        target: impl FnOnce() -> Target,
    ) -> Result<(), Rejection> {
        if self.is_empty() {
            return Ok(());
        }
        match self.get(key) {
            Some(held) if !held.until.is_over(now) => Err(held.shut(target())),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn add_to(&self, all: &mut Vec<Entry>, target: impl Fn(&K) -> Target) {
        all.extend(self.held.iter().map(|entry| {
            let held = entry.value();
            (target(entry.key()), held.id, held.until)
        }));
    }
}
