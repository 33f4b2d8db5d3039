//! The agent's part of the contract, in the plainest way: blocks into rows, bits into the prefilter.

#![expect(clippy::disallowed_types, reason = "the packages of these tests need no other lock")]

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Mutex;

use enforcer_ebpf::prefilter::{AROUND, INSIDE, Level, WORDS4};
use enforcer_ebpf::table::{Meta, PROBES, Row, SLOTS, home};
use enforcer_ebpf::{Lengths, Shared, TableWord};

use crate::memory::{Family, Memory, empty_rows};
use crate::reference::AnyNetwork;

/// A block as a table holds it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub network: AnyNetwork,
    pub id: u64,
    pub expires_ns: u64,
    pub flags: u64,
}

/// What a slot has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub packets: u64,
    pub bytes: u64,
}

impl Memory {
    /// Puts tables of `homes` home rows in force.
    pub fn make_tables(&mut self, homes: u32) {
        let rows = (homes + PROBES - 1) as usize;
        self.v4.tables = [empty_rows(rows), empty_rows(rows)];
        self.v6.tables = [empty_rows(rows), empty_rows(rows)];
        let word = TableWord { index: 0, rows: homes }.word();
        self.config.table4.set(word);
        self.config.table6.set(word);
    }

    pub fn seed(&self) -> [u64; 2] {
        let [first, second] = &self.config.seed;
        [first.get(), second.get()]
    }

    /// Other secrets, before anything is remembered by hash.
    pub fn reseed(&self, seed: [u64; 2]) {
        self.config.seed.iter().zip(seed).for_each(|(word, secret)| word.set(secret));
    }

    /// Puts a block in force: bits and lengths, then the slot.
    pub fn block(&self, entry: Entry) {
        let AnyNetwork { v6, length, .. } = entry.network;
        self.mark(entry.network);
        let Lengths(wanted) = Lengths::of(entry.network.width() - length);
        let Lengths(lengths) = if v6 { &self.config.lengths6 } else { &self.config.lengths4 };
        lengths.iter().zip(wanted).for_each(|(word, bits)| word.set(word.get() | bits));
        self.write(self.table(v6), entry);
    }

    /// Writes a slot of this table.
    pub fn write(&self, table: TableWord, entry: Entry) {
        let [high, low] = entry.network.words();
        let rows = table.index as usize;
        let fits = if entry.network.v6 {
            put(&self.v6.tables[rows], table.rows, self.seed(), [high, low], entry)
        } else {
            put(&self.v4.tables[rows], table.rows, self.seed(), [low], entry)
        };
        assert!(fits, "no room for {entry:?}");
    }

    pub fn release(&self, network: AnyNetwork) {
        let table = self.table(network.v6);
        if network.v6 {
            let (row, slot) = self.find6(table, network).unwrap();
            take(row, slot);
        } else {
            let (row, slot) = self.find4(table, network).unwrap();
            take(row, slot);
        }
    }

    pub fn counts(&self, network: AnyNetwork) -> Counts {
        self.counts_in(self.table(network.v6), network)
    }

    pub fn counts_in(&self, table: TableWord, network: AnyNetwork) -> Counts {
        let [packets, bytes] = if network.v6 {
            let (row, slot) = self.find6(table, network).unwrap();
            [&row.hits[slot].packets, &row.hits[slot].bytes].map(Shared::get)
        } else {
            let (row, slot) = self.find4(table, network).unwrap();
            [&row.hits[slot].packets, &row.hits[slot].bytes].map(Shared::get)
        };
        Counts { packets, bytes }
    }

    pub fn table(&self, v6: bool) -> TableWord {
        let word = if v6 { &self.config.table6 } else { &self.config.table4 };
        TableWord::from_word(word.get())
    }

    fn find4(&self, table: TableWord, network: AnyNetwork) -> Option<(&Row<1, Shared>, usize)> {
        let [_, low] = network.words();
        search(&self.v4.tables[table.index as usize], [low], network.length)
    }

    fn find6(&self, table: TableWord, network: AnyNetwork) -> Option<(&Row<2, Shared>, usize)> {
        search(&self.v6.tables[table.index as usize], network.words(), network.length)
    }

    fn mark(&self, network: AnyNetwork) {
        let [high, low] = network.words();
        if network.v6 {
            if let Some(level) = Level::of(network.length as u8) {
                let (word, shift) = level.place(high, self.seed());
                self.v6.prefilter.set(word..word + 1, 1 << shift);
            }
            return;
        }
        let cell = low as u32 >> 8;
        let (word, shift) = (cell / 32, cell % 32 * 2);
        match network.length {
            25.. => self.v4.prefilter.set(word..word + 1, INSIDE << shift),
            20..25 => {
                let bits = (0..1 << (24 - network.length)).map(|more| AROUND << (shift + 2 * more));
                self.v4.prefilter.set(word..word + 1, bits.sum());
            }
            length => {
                let all = (0..32).map(|more| AROUND << (2 * more)).sum();
                self.v4.prefilter.set(word..word + (WORDS4 >> length), all);
            }
        }
    }

    /// What nothing but the agent may ever change: who is blocked, by whom, for how long.
    pub fn decisions(&self) -> Vec<u64> {
        fn of<const N: usize>(family: &Family<N>) -> impl Iterator<Item = u64> {
            let words = |row: &Row<N, Shared>| {
                let keys = row.key.iter().flatten();
                let words = row.meta.iter().chain(keys).chain(row.hits.iter().map(|hits| &hits.id));
                words.map(Shared::get).collect::<Vec<_>>()
            };
            family.tables.iter().flatten().flat_map(words)
        }
        let Lengths(lengths4) = &self.config.lengths4;
        let Lengths(lengths6) = &self.config.lengths6;
        let words = lengths4.iter().chain(lengths6).map(Shared::get);
        words.chain(of(&self.v4)).chain(of(&self.v6)).collect()
    }
}

fn put<const N: usize>(
    rows: &[Row<N, Shared>],
    homes: u32,
    seed: [u64; 2],
    key: [u64; N],
    entry: Entry,
) -> bool {
    let home = home(&key, entry.network.length.into(), seed, homes) as usize;
    for at in home..home + PROBES as usize {
        let row = &rows[at];
        let is_free = |slot: &usize| !Meta(row.meta[*slot].get()).is_used();
        let Some(slot) = (0..SLOTS).find(is_free) else { continue };
        for passed in &rows[home..at] {
            passed.meta[0].set(passed.meta[0].get() | Meta::OVERFLOW);
        }
        for (words, word) in row.key.iter().zip(key) {
            words[slot].set(word);
        }
        let hits = &row.hits[slot];
        hits.id.set(entry.id);
        for word in [&hits.packets, &hits.bytes, &hits.seen] {
            word.set(0);
        }
        let meta = Meta::new(entry.network.length as u8, entry.expires_ns, entry.flags);
        row.meta[slot].set(meta.0 | row.meta[slot].get() & Meta::OVERFLOW);
        return true;
    }
    false
}

fn search<const N: usize>(
    rows: &[Row<N, Shared>],
    key: [u64; N],
    length: u32,
) -> Option<(&Row<N, Shared>, usize)> {
    let slots = rows.iter().flat_map(|row| (0..SLOTS).map(move |slot| (row, slot)));
    let mut found = slots.filter(|(row, slot)| {
        let meta = Meta(row.meta[*slot].get());
        let is_key = row.key.iter().zip(key).all(|(words, word)| words[*slot].get() == word);
        meta.is_used() && u32::from(meta.length()) == length && is_key
    });
    let first = found.next();
    assert!(found.next().is_none(), "in two places");
    first
}

fn take<const N: usize>(row: &Row<N, Shared>, slot: usize) {
    row.meta[slot].set(row.meta[slot].get() & Meta::OVERFLOW);
}

/// A prefilter. Half a million words are used again by the next one of the thread.
pub struct Bits {
    words: Vec<Shared>,
    touched: Mutex<Vec<Range<u32>>>,
}

thread_local! {
    static USED: RefCell<Vec<Vec<Shared>>> = const { RefCell::new(Vec::new()) };
}

impl Bits {
    pub fn new() -> Self {
        let used = USED.with_borrow_mut(Vec::pop);
        let words = used.unwrap_or_else(|| crate::memory::many(WORDS4 as usize));
        Self { words, touched: Mutex::default() }
    }

    pub fn word(&self, index: u32) -> Option<&Shared> {
        self.words.get(index as usize)
    }

    pub fn set(&self, range: Range<u32>, bits: u64) {
        self.touched.lock().unwrap().push(range.clone());
        for word in &self.words[range.start as usize..range.end as usize] {
            word.set(word.get() | bits);
        }
    }
}

impl Drop for Bits {
    fn drop(&mut self) {
        for range in self.touched.lock().unwrap().drain(..) {
            let words = &self.words[range.start as usize..range.end as usize];
            words.iter().for_each(|word| word.set(0));
        }
        USED.with_borrow_mut(|used| used.push(std::mem::take(&mut self.words)));
    }
}
