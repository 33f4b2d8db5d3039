//! From the records of a closed segment to its index, in one pass and bounded memory.
//!
//! Each term of each record is one number: its hash above, the record below. Sorted, they are the
//! index, but for its encoding.

use std::collections::HashMap;

use enforcer_model::Timestamp;

use super::IndexError;
use super::bits::{BitWriter, put_varint, rice_parameter};
use super::format::{
    FILTER_BITS_PER_KEY, Frame, GROUP, RECORD_BITS, RECORDS_MAX, START_BYTES, filter_bits, page_of,
    round_up,
};
use super::keys::{Keys, Lengths, id_bytes, words_of};
use super::pages::{PAGE_BYTES, Salt, seal};
use crate::merkle::{Hash, Tree, leaf_hash, sha256};
use crate::term::{Term, terms};

/// Collects the terms of a segment's records.
#[derive(Debug)]
pub struct IndexBuilder {
    key: [u8; 32],
    keys: Keys,
    first: u64,
    records: u64,
    /// Hash above, record below.
    pairs: Vec<u64>,
    filtered: Vec<u64>,
    /// Names of terms that were seen, for those that come again and again.
    known: HashMap<Vec<u8>, u64>,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    lengths: Lengths,
}

/// Terms whose names are remembered while a segment is indexed.
const KNOWN_MAX: usize = 1 << 16;

/// An index, ready to be written.
#[derive(Debug)]
pub struct Built {
    /// The bytes of the file.
    pub bytes: Vec<u8>,
    /// What the log shall say of it.
    pub statement: super::Statement,
}

impl IndexBuilder {
    /// For the segment that begins with record `first`; `key` is the segment's own.
    pub fn new(first: u64, key: &[u8; 32]) -> Self {
        Self {
            key: *key,
            keys: Keys::new(key),
            first,
            records: 0,
            pairs: Vec::new(),
            filtered: Vec::new(),
            known: HashMap::new(),
            from: None,
            until: None,
            lengths: Lengths::default(),
        }
    }

    /// The next record, as it is stored. One that is no record has a place and no terms.
    pub fn push(&mut self, text: &str) -> Result<(), IndexError> {
        let place = self.begin()?;
        let pairs = self.pairs.len();
        let lengths = self.lengths.clone();
        let envelope = terms(text, &mut |term| self.term(place, &term));
        match envelope.and_then(|envelope| envelope.time) {
            Some(time) => {
                self.from = Some(self.from.map_or(time, |from| from.min(time)));
                self.until = Some(self.until.map_or(time, |until| until.max(time)));
            }
            // Its time is unknown: no range of time may leave it out.
            None => {
                self.from = Some(Timestamp::from_unix_ns(0));
                self.until = Some(Timestamp::from_unix_ns(u64::MAX));
            }
        }
        if envelope.is_none() {
            self.pairs.truncate(pairs);
            self.lengths = lengths;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<u64, IndexError> {
        let place = self.records;
        if place >= RECORDS_MAX {
            return Err(IndexError::TooLong);
        }
        self.records += 1;
        Ok(place)
    }

    fn term(&mut self, place: u64, term: &Term<'_>) {
        if let Term::Place(named) = term {
            self.lengths.note(*named);
        }
        let Self { keys, pairs, filtered, known, .. } = self;
        words_of(term, &mut |kind, value| {
            if !kind.is_filtered() {
                pairs.push(keys.id(kind, value) << RECORD_BITS | place);
                return;
            }
            let mut name = kind.as_str().as_bytes().to_vec();
            name.push(b' ');
            name.extend_from_slice(value);
            let id = match known.get(&name) {
                Some(id) => *id,
                None => {
                    let id = keys.id(kind, value);
                    filtered.push(id);
                    if known.len() < KNOWN_MAX {
                        known.insert(name, id);
                    }
                    id
                }
            };
            pairs.push(id << RECORD_BITS | place);
        });
    }

    /// The index of what was pushed.
    pub fn finish(mut self, salt: Salt) -> Result<Built, IndexError> {
        self.pairs.sort_unstable();
        self.pairs.dedup();
        self.filtered.sort_unstable();
        self.filtered.dedup();
        let mut table = Table::new(&self.keys, self.first, self.records);
        for entry in self.pairs.chunk_by(|one, other| one >> RECORD_BITS == other >> RECORD_BITS) {
            table.entry(entry)?;
        }
        table.end_group();
        let filter = filter(&self.filtered);
        let frame = Frame {
            first: self.first,
            records: self.records,
            from: self.from.unwrap_or(Timestamp::from_unix_ns(0)),
            until: self.until.unwrap_or(Timestamp::from_unix_ns(0)),
            lengths: self.lengths,
            keys: table.tree.size(),
            root: table.tree.root(),
            filter_bytes: filter.len(),
            starts_bytes: table.starts.len(),
            table_bytes: table.table.len(),
            lists_bytes: table.lists.len(),
            roots_bytes: table.roots.len(),
        };
        let mut content = frame.encode();
        for section in [&filter, &table.starts, &table.table, &table.lists, &table.roots] {
            content.resize(round_up(content.len()), 0);
            content.extend_from_slice(section);
        }
        let bytes = seal(&self.key, salt, &content)?;
        Ok(Built { bytes, statement: frame.statement(&self.keys) })
    }
}

/// The sorted table while it grows.
struct Table<'a> {
    keys: &'a Keys,
    first: u64,
    width: u32,
    tree: Tree,
    /// The current group: names, and where their records are.
    group: Vec<(u64, Records)>,
    starts: Vec<u8>,
    table: Vec<u8>,
    lists: Vec<u8>,
    /// Equal lists lie there once.
    placed: HashMap<Hash, u64>,
    roots: Vec<u8>,
}

/// The records of one name.
#[derive(Clone, Copy)]
enum Records {
    One(u64),
    /// In the lists, from there on.
    List(u64),
}

impl<'a> Table<'a> {
    fn new(keys: &'a Keys, first: u64, records: u64) -> Self {
        Self {
            keys,
            first,
            width: super::format::width(records),
            tree: Tree::default(),
            group: Vec::with_capacity(GROUP),
            starts: Vec::new(),
            table: Vec::new(),
            lists: Vec::new(),
            placed: HashMap::new(),
            roots: Vec::new(),
        }
    }

    fn entry(&mut self, pairs: &[u64]) -> Result<(), IndexError> {
        let Some((one, more)) = pairs.split_first() else { return Ok(()) };
        let id = one >> RECORD_BITS;
        let places = pairs.iter().map(|pair| pair & (RECORDS_MAX - 1));
        let numbers = places.clone().map(|place| self.first + place);
        let leaf = entry_leaf(id, &numbers_commitment(&self.keys.nonce(id), numbers));
        let Self { tree, roots, .. } = self;
        tree.append(leaf, |tile| {
            if tile.level == 0 {
                roots.extend_from_slice(&crate::merkle::root_of(&tile.hashes));
            }
        });
        let records = if more.is_empty() {
            Records::One(one & (RECORDS_MAX - 1))
        } else {
            let list = encode_list(&places.collect::<Vec<_>>(), self.width);
            let next = u64::try_from(self.lists.len()).unwrap_or(u64::MAX);
            let at = *self.placed.entry(sha256(&list)).or_insert(next);
            if at == next {
                self.lists.extend_from_slice(&list);
            }
            if self.lists.len() > usize::try_from(u32::MAX).unwrap_or(usize::MAX) {
                return Err(IndexError::TooLong);
            }
            Records::List(at)
        };
        self.group.push((id, records));
        if self.group.len() == GROUP {
            self.end_group();
        }
        Ok(())
    }

    fn end_group(&mut self) {
        let Some(((first, _), (last, _))) = self.group.first().zip(self.group.last()) else {
            return;
        };
        let count = u64::try_from(self.group.len()).unwrap_or(u64::MAX);
        let k = rice_parameter(last - first, count);
        let at = u32::try_from(self.table.len()).unwrap_or(u32::MAX);
        self.starts.extend_from_slice(&id_bytes(*first));
        self.starts.extend_from_slice(&at.to_be_bytes());
        debug_assert_eq!(self.starts.len() % START_BYTES, 0, "whole starts");
        let mut bits = BitWriter::default();
        bits.put(u64::from(k), 6);
        let mut before = *first;
        for (place, (id, records)) in self.group.drain(..).enumerate() {
            if place > 0 {
                bits.rice(id - before - 1, k);
            }
            before = id;
            match records {
                Records::One(record) => {
                    bits.put(0, 1);
                    bits.put(record, self.width);
                }
                Records::List(at) => {
                    bits.put(1, 1);
                    bits.put(at, 32);
                }
            }
        }
        self.table.extend_from_slice(&bits.finish());
    }
}

/// The leaf of an entry: its name, and a commitment to its records.
pub(super) fn entry_leaf(id: u64, numbers: &Hash) -> Hash {
    let mut bytes = id_bytes(id).to_vec();
    bytes.extend_from_slice(numbers);
    leaf_hash(&bytes)
}

/// Commits to record numbers; the nonce keeps them from being guessed.
pub(super) fn numbers_commitment(nonce: &[u8; 16], numbers: impl Iterator<Item = u64>) -> Hash {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(nonce);
    numbers.for_each(|number| context.update(&number.to_be_bytes()));
    let mut hash = [0; crate::merkle::HASH_BYTES];
    hash.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

/// Length of the bits in bytes, count, parameter, then the bits: the first place, then what lies
/// between one and the next.
fn encode_list(places: &[u64], width: u32) -> Vec<u8> {
    let count = u64::try_from(places.len()).unwrap_or(u64::MAX);
    let ends = places.first().zip(places.last());
    let k = rice_parameter(ends.map_or(0, |(first, last)| last - first), count);
    let mut bits = BitWriter::default();
    let mut before = None;
    for place in places {
        match before {
            None => bits.put(*place, width),
            Some(before) => bits.rice(place - before - 1, k),
        }
        before = Some(*place);
    }
    let bits = bits.finish();
    let mut list = Vec::with_capacity(bits.len() + 9);
    put_varint(&mut list, u64::try_from(bits.len()).unwrap_or(u64::MAX));
    put_varint(&mut list, count);
    put_varint(&mut list, u64::from(k));
    list.extend_from_slice(&bits);
    list
}

/// A Bloom filter of one page for each block: whoever asks for one name reads one page.
fn filter(ids: &[u64]) -> Vec<u8> {
    if ids.is_empty() {
        return Vec::new();
    }
    let pages = (ids.len() * FILTER_BITS_PER_KEY).div_ceil(PAGE_BYTES * 8);
    let mut filter = vec![0; pages * PAGE_BYTES];
    for id in ids {
        let page = page_of(*id, pages) * PAGE_BYTES;
        for bit in filter_bits(*id) {
            if let Some(byte) = filter.get_mut(page + bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    filter
}
