//! The keys of one rule, in bounded memory.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::cells::Cell;

/// Keys remembered per rule. When full, the sixteenth with the least counted makes room, the longest
/// silent first: a flood of new keys forgets itself before whoever does more.
pub const KEYS_MAX: usize = 65_536;

/// Bytes that the keys of one rule may take; beyond, room is made as if the table were full.
pub const TABLE_BYTES_MAX: usize = 16 << 20;

/// Keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Same(u64);

#[derive(Debug)]
pub(super) struct Table<C> {
    cells: HashMap<u64, C, BuildHasherDefault<Same>>,
    /// Bytes of the cells on the heap.
    heap: usize,
}

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl<C> Default for Table<C> {
    fn default() -> Self {
        Self { cells: HashMap::default(), heap: 0 }
    }
}

impl<C: Cell> Table<C> {
    /// Writes to the cell of `key`, a new one if it has none.
    #[inline]
    pub(super) fn with<R>(&mut self, key: u64, write: impl FnOnce(&mut C) -> R) -> R {
        if let Some(cell) = self.cells.get_mut(&key) {
            let before = cell.heap();
            let result = write(cell);
            let after = cell.heap();
            self.heap = (self.heap + after).saturating_sub(before);
            return result;
        }
        if self.is_full() {
            self.make_room();
        }
        let cell = self.cells.entry(key).or_default();
        let result = write(cell);
        self.heap += cell.heap();
        result
    }

    fn is_full(&self) -> bool {
        self.cells.len() >= KEYS_MAX || self.bytes() >= TABLE_BYTES_MAX
    }

    fn make_room(&mut self) {
        let value = |cell: &C| (cell.weight(), cell.head().last);
        let mut values: Vec<(u64, u64)> = self.cells.values().map(value).collect();
        let cut = values.len() / 16;
        if values.is_empty() {
            return;
        }
        let (_, &mut last_dropped, _) = values.select_nth_unstable(cut);
        self.retain(|cell| value(cell) > last_dropped);
    }

    fn retain(&mut self, keeps: impl Fn(&C) -> bool) {
        self.cells.retain(|_, cell| keeps(cell));
        self.heap = self.cells.values().map(C::heap).sum();
    }

    /// Forgets what is over.
    pub(super) fn forget_old(&mut self, now: u64, within: u64) {
        self.retain(|cell| !cell.head().is_over(now, within));
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Memory that the cells take, about.
    pub(super) fn bytes(&self) -> usize {
        self.cells.len() * (size_of::<C>() + size_of::<u64>() + 1) + self.heap
    }
}
