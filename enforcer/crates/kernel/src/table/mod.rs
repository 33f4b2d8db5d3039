//! One table of blocks, written in place while packets are compared with it.
//!
//! The order of writes is what readers rely on: a slot is filled before its meta says so, and
//! emptied by its meta first. A block that has to make room for another is copied forward before it
//! is taken out where it was, so a reader, who walks forward, meets one of the two. A slot that was
//! emptied rests: a reader who has seen its old meta may still be comparing its key, so nobody
//! else's key is written there until [`Quiet::wait`] says that no such reader is left.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::marker::PhantomData;
use std::sync::atomic::{Ordering, fence};

use enforcer_ebpf::table::{Hits, Meta, PROBES, Row, SLOTS, Seen, Slots, home};
use enforcer_ebpf::{Config, Shared};

/// The length of a block that has moved: no address has so many bits, so nobody looks for it.
const MOVED: u8 = u8::MAX;

/// How far away a free slot is looked for, to be moved near by moving blocks forward.
const REACH: u32 = 256;

/// Home rows of the smallest table: 4,096 blocks.
pub(crate) const FEWEST_HOMES: u32 = 1024;

/// Home rows of the largest: 16 million blocks at half of its slots.
const MOST_HOMES: u32 = 1 << 23;

/// Rows as their writer sees them.
pub(crate) trait Cells: Slots {
    fn hits(&self, slot: usize) -> &Hits<Shared>;
    fn key(&self, slot: usize) -> Self::Key;
    fn set_key(&self, slot: usize, key: &Self::Key);
}

/// A way to wait until every reader who runs now has ended.
pub(crate) trait Quiet {
    type Error;
    fn wait(&mut self) -> Result<(), Self::Error>;
}

/// What a slot says, besides whose it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) meta: Meta,
    pub(crate) id: u64,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) seen: Seen,
}

/// Where a block is: a slot of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct At {
    row: u32,
    slot: usize,
}

/// Why a block was not put in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused<E> {
    /// There is no room near its home; a larger table has some.
    Crowded,
    /// The readers could not be waited for.
    Quiet(E),
}

/// Rows in memory that readers may share, whoever owns it.
pub(crate) struct Table<R, M> {
    rows: M,
    homes: u32,
    seed: [u64; 2],
    used: u32,
    /// Slots that were emptied while readers may have been looking at them.
    resting: HashSet<At>,
    /// Whether there are readers.
    live: bool,
    _rows: PhantomData<R>,
}

impl<R: Cells, M: AsRef<[R]>> Table<R, M> {
    /// Works with what is in `rows`, of which the last [`PROBES`]` - 1` are nobody's home.
    ///
    /// `None` when there are too few. Readers are there from the beginning or come later.
    pub(crate) fn new(rows: M, seed: [u64; 2], live: bool) -> Option<Self> {
        let count = u32::try_from(rows.as_ref().len()).ok()?;
        let homes = count.checked_sub(PROBES - 1).filter(|&homes| homes > 0)?;
        let resting = HashSet::new();
        let mut table = Self { rows, homes, seed, used: 0, resting, live, _rows: PhantomData };
        table.used = u32::try_from(table.iter().count()).ok()?;
        Some(table)
    }

    /// Home rows.
    pub(crate) const fn homes(&self) -> u32 {
        self.homes
    }

    /// Slots in use, by blocks that have expired as well.
    pub(crate) const fn used(&self) -> u32 {
        self.used
    }

    pub(crate) fn rows(&self) -> &[R] {
        self.rows.as_ref()
    }

    /// From now on there are readers.
    pub(crate) const fn go_live(&mut self) {
        self.live = true;
    }

    /// How many of a hundred slots are in use.
    pub(crate) fn percent(&self) -> u32 {
        let slots = u64::from(self.homes) * u64::try_from(SLOTS).unwrap_or(1);
        u32::try_from(u64::from(self.used) * 100 / slots).unwrap_or(100)
    }

    /// Whether emptied slots wait for readers to end.
    pub(crate) fn has_resting(&self) -> bool {
        !self.resting.is_empty()
    }

    /// No reader of before is left.
    pub(crate) fn rested(&mut self) {
        self.resting.clear();
    }

    /// Mends what a writer did not live to finish: a block that he was moving is in two places, or
    /// where it was says that it has moved.
    pub(crate) fn repair(&mut self) {
        let twice = |(at, key, block): (At, R::Key, Block)| {
            let is_at_home = self.home(&key, block.meta.length()) == at.row;
            let first = || self.find(&key, block.meta.length()).map(|(first, _)| first);
            (!is_at_home && first() != Some(at)).then_some(at)
        };
        let twice: Vec<At> = self.iter().filter_map(twice).collect();
        twice.into_iter().for_each(|at| self.remove(at));
        let moved = |(at, cells): &(At, &R)| {
            let meta = Meta(cell(cells.metas(), at.slot).get());
            meta.is_used() && meta.length() == MOVED
        };
        let moved: Vec<At> = self.slots(0, u32::MAX).filter(moved).map(|(at, _)| at).collect();
        for at in moved {
            if let Some(row) = self.row(at.row) {
                set_meta(row, at.slot, Meta(0));
            }
            self.resting.insert(at);
        }
    }

    /// The block of exactly this network.
    pub(crate) fn find(&self, key: &R::Key, length: u8) -> Option<(At, Block)> {
        let home = self.home(key, length);
        for row in home..home + PROBES {
            let cells = self.row(row)?;
            for slot in 0..SLOTS {
                let meta = Meta(cell(cells.metas(), slot).get());
                let is_of_length = meta.is_used() && meta.length() == length;
                if is_of_length && cells.key(slot).as_ref() == key.as_ref() {
                    return Some((At { row, slot }, read(cells, slot)));
                }
            }
            if !cells.overflows() {
                return None;
            }
        }
        None
    }

    /// Puts in a network that is not there yet.
    pub(crate) fn insert<Q: Quiet>(
        &mut self,
        key: &R::Key,
        block: &Block,
        quiet: &mut Q,
    ) -> Result<(), Refused<Q::Error>> {
        let home = self.home(key, block.meta.length());
        let mut free = self.free(home, home + PROBES);
        if free.is_none() && self.live && !self.resting.is_empty() {
            quiet.wait().map_err(Refused::Quiet)?;
            self.rested();
            free = self.free(home, home + PROBES);
        }
        let free = match free {
            Some(free) => free,
            None => self.make_room(home, quiet)?,
        };
        self.lead_to(home, free.row);
        if let Some(row) = self.row(free.row) {
            fill(row, free.slot, key, block);
            self.used += 1;
        }
        Ok(())
    }

    /// Changes what is said of a network; its counters start anew when it is another block's.
    pub(crate) fn change(&mut self, at: At, meta: Meta, id: u64) {
        let Some(row) = self.row(at.row) else { return };
        let hits = row.hits(at.slot);
        if hits.id.get() != id {
            for count in [&hits.packets, &hits.bytes, &hits.seen] {
                count.set(0);
            }
            hits.id.set(id);
        }
        set_meta(row, at.slot, meta);
    }

    /// Takes a network out.
    pub(crate) fn remove(&mut self, at: At) {
        let Some(row) = self.row(at.row) else { return };
        if !Meta(cell(row.metas(), at.slot).get()).is_used() {
            return;
        }
        set_meta(row, at.slot, Meta(0));
        self.used = self.used.saturating_sub(1);
        if self.live {
            self.resting.insert(at);
        }
    }

    /// Adds what was counted elsewhere for the same block.
    pub(crate) fn add_counts(&self, at: At, counted: &Block) {
        let Some(row) = self.row(at.row) else { return };
        row.hits(at.slot).packets.add(counted.packets);
        row.hits(at.slot).bytes.add(counted.bytes);
        let seen = &row.hits(at.slot).seen;
        if seen.get() == 0 {
            seen.set(counted.seen.0);
        }
    }

    /// Takes away what was counted, and returns it.
    pub(crate) fn take_counts(&self, at: At) -> Block {
        let Some(row) = self.row(at.row) else { return Block::default() };
        let block = read(row, at.slot);
        row.hits(at.slot).packets.add(block.packets.wrapping_neg());
        row.hits(at.slot).bytes.add(block.bytes.wrapping_neg());
        block
    }

    /// Every slot in use, row by row.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (At, R::Key, Block)> {
        self.iter_rows(0, u32::MAX)
    }

    /// The slots in use of at most `count` rows from `first` on.
    pub(crate) fn iter_rows(
        &self,
        first: u32,
        count: u32,
    ) -> impl Iterator<Item = (At, R::Key, Block)> {
        self.slots(first, count)
            .filter(|(at, cells)| {
                let meta = Meta(cell(cells.metas(), at.slot).get());
                meta.is_used() && meta.length() != MOVED
            })
            .map(|(at, cells)| (at, cells.key(at.slot), read(cells, at.slot)))
    }

    /// Makes rows forget that something went past them which is no longer there. Counts anew.
    pub(crate) fn shorten_walks(&mut self) {
        let mut needed = vec![false; self.rows().len()];
        let mut used = 0;
        for (at, key, block) in self.iter() {
            used += 1;
            let home = self.home(&key, block.meta.length());
            needed.iter_mut().take(skip(at.row)).skip(skip(home)).for_each(|row| *row = true);
        }
        self.used = used;
        for (row, needed) in self.rows().iter().zip(needed) {
            let [first, ..] = row.metas();
            if !needed && first.get() & Meta::OVERFLOW != 0 {
                first.set(first.get() & !Meta::OVERFLOW);
            }
        }
    }

    /// Frees a slot near `home` by moving other blocks forward, each within reach of its own home.
    fn make_room<Q: Quiet>(&mut self, home: u32, quiet: &mut Q) -> Result<At, Refused<Q::Error>> {
        let mut free = self.free(home + PROBES, home + REACH).ok_or(Refused::Crowded)?;
        while free.row >= home + PROBES {
            let (from, key, block) = self.movable_to(free.row).ok_or(Refused::Crowded)?;
            self.lead_to(from.row, free.row);
            if let Some(row) = self.row(free.row) {
                fill(row, free.slot, &key, &block);
            }
            if self.live {
                self.leave(from, &block, free, quiet)?;
            }
            if let Some(row) = self.row(from.row) {
                set_meta(row, from.slot, Meta(0));
            }
            free = from;
        }
        Ok(free)
    }

    /// Nobody finds the block at `from` any more. Who has found it there goes on to see it as it
    /// was; what they count is added where it lives now.
    fn leave<Q: Quiet>(
        &mut self,
        from: At,
        block: &Block,
        to: At,
        quiet: &mut Q,
    ) -> Result<(), Refused<Q::Error>> {
        let Some(row) = self.row(from.row) else { return Ok(()) };
        set_meta(row, from.slot, Meta(block.meta.0 & !0xff00 | u64::from(MOVED) << 8));
        quiet.wait().map_err(Refused::Quiet)?;
        self.rested();
        let Some(row) = self.row(from.row) else { return Ok(()) };
        let late = read(row, from.slot);
        let packets = late.packets.wrapping_sub(block.packets);
        let bytes = late.bytes.wrapping_sub(block.bytes);
        self.add_counts(to, &Block { packets, bytes, ..Block::default() });
        Ok(())
    }

    /// A block as far before `row` as can be, that may live in it.
    fn movable_to(&self, row: u32) -> Option<(At, R::Key, Block)> {
        let first = row.saturating_sub(PROBES - 1);
        self.iter_rows(first, row - first)
            .find(|(_, key, block)| self.home(key, block.meta.length()) + PROBES > row)
    }

    fn slots(&self, first: u32, count: u32) -> impl Iterator<Item = (At, &R)> {
        let rows = (first..first.saturating_add(count)).zip(self.rows().iter().skip(skip(first)));
        rows.flat_map(|(row, cells)| (0..SLOTS).map(move |slot| (At { row, slot }, cells)))
    }

    /// A slot that may be filled, in the first of these rows that has one.
    fn free(&self, from: u32, to: u32) -> Option<At> {
        self.slots(from, to - from)
            .find(|(at, cells)| {
                let meta = Meta(cell(cells.metas(), at.slot).get());
                !meta.is_used() && !self.resting.contains(at)
            })
            .map(|(at, _)| at)
    }

    /// Makes readers walk on from every row before `to`.
    fn lead_to(&self, from: u32, to: u32) {
        for row in (from..to).filter_map(|row| self.row(row)) {
            let [first, ..] = row.metas();
            if first.get() & Meta::OVERFLOW == 0 {
                first.set(first.get() | Meta::OVERFLOW);
            }
        }
    }

    fn home(&self, key: &R::Key, length: u8) -> u32 {
        home(key.as_ref(), u64::from(length), self.seed, self.homes)
    }

    fn row(&self, row: u32) -> Option<&R> {
        self.rows().get(skip(row))
    }
}

impl<const N: usize> Cells for Row<N, Shared> {
    fn hits(&self, slot: usize) -> &Hits<Shared> {
        cell(&self.hits, slot)
    }

    fn key(&self, slot: usize) -> [u64; N] {
        self.key.each_ref().map(|slots| cell(slots, slot).get())
    }

    fn set_key(&self, slot: usize, key: &[u64; N]) {
        for (slots, word) in self.key.iter().zip(key) {
            cell(slots, slot).set(*word);
        }
    }
}

/// Home rows for so many blocks, when `percent` of the slots are to be in use.
pub(crate) fn homes_for(blocks: u32, percent: u32) -> u32 {
    let slots = u64::from(blocks).saturating_mul(100).div_ceil(u64::from(percent.max(1)));
    let homes = slots.div_ceil(u64::try_from(SLOTS).unwrap_or(1));
    u32::try_from(homes).unwrap_or(u32::MAX).clamp(FEWEST_HOMES, MOST_HOMES)
}

/// The secrets of this host's hashes.
pub(crate) fn seed(config: &Config<Shared>) -> [u64; 2] {
    config.seed.each_ref().map(Shared::get)
}

fn read<R: Cells>(row: &R, slot: usize) -> Block {
    Block {
        meta: Meta(cell(row.metas(), slot).get() & !Meta::OVERFLOW),
        id: row.hits(slot).id.get(),
        packets: row.hits(slot).packets.get(),
        bytes: row.hits(slot).bytes.get(),
        seen: Seen(row.hits(slot).seen.get()),
    }
}

fn fill<R: Cells>(row: &R, slot: usize, key: &R::Key, block: &Block) {
    row.set_key(slot, key);
    row.hits(slot).id.set(block.id);
    row.hits(slot).packets.set(block.packets);
    row.hits(slot).bytes.set(block.bytes);
    row.hits(slot).seen.set(block.seen.0);
    set_meta(row, slot, block.meta);
}

/// After everything that was written before; what the row's first meta says of the row stays.
fn set_meta<R: Cells>(row: &R, slot: usize, meta: Meta) {
    let word = cell(row.metas(), slot);
    fence(Ordering::Release);
    word.set(word.get() & Meta::OVERFLOW | meta.0 & !Meta::OVERFLOW);
}

const fn cell<T>(four: &[T; SLOTS], slot: usize) -> &T {
    let [a, b, c, d] = four;
    match slot {
        0 => a,
        1 => b,
        2 => c,
        _ => d,
    }
}

fn skip(row: u32) -> usize {
    usize::try_from(row).unwrap_or(usize::MAX)
}
