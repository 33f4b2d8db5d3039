//! Asking an index: a page of the filter, the start of a group, the group, a list.
//!
//! Nothing that is read is believed before its page has opened; what does not fit its own bounds is
//! damage, and whoever asked reads the segment instead.

use std::fs::File;
use std::path::Path;

use super::IndexError;
use super::bits::{BitReader, take_varint};
use super::build::{entry_leaf, numbers_commitment};
use super::format::{Frame, GROUP, START_BYTES, Sections, filter_bits, page_of, width};
use super::keys::{ID_BITS, ID_BYTES, Keys, Word};
use super::pages::{PAGE_BYTES, Pages};
use crate::merkle::{HASH_BYTES, Hash, Nodes, node_hash};

/// Starts of groups that are read around the place where a name ought to be.
const WINDOW: usize = 64;

/// What is read of a list at first.
const LIST_BYTES_FIRST: usize = 64;
const LIST_HEAD_BYTES_MAX: usize = 24;

/// The index of one segment.
#[derive(Debug)]
pub(super) struct Index {
    pages: Pages,
    pub(super) keys: Keys,
    pub(super) frame: Frame,
    sections: Sections,
}

/// The records of one name, by their places in the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Places {
    One(u64),
    List(u64),
}

/// An entry of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) places: Places,
}

const DAMAGED: IndexError = IndexError::Damaged("what it says does not fit together");

impl Index {
    /// The index in the file at `path` of the segment that begins with record `first`.
    pub(super) fn open(path: &Path, first: u64, key: &[u8; 32]) -> Result<Self, IndexError> {
        let file = File::open(path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                IndexError::Missing
            } else {
                IndexError::Io(error)
            }
        })?;
        Self::read(file, first, key)
    }

    pub(super) fn read(file: File, first: u64, key: &[u8; 32]) -> Result<Self, IndexError> {
        let pages = Pages::open(file, key)?;
        let frame = Frame::parse(&pages.read(0, PAGE_BYTES)?, first)?;
        let sections = frame.sections();
        Ok(Self { pages, keys: Keys::new(key), frame, sections })
    }

    /// The places of all records with `word`, ascending; none when there are none.
    pub(super) fn find(&self, word: &Word) -> Result<Option<Vec<u64>>, IndexError> {
        let id = self.keys.id(word.kind, &word.value);
        if word.kind.is_filtered() && !self.may_have(id)? {
            return Ok(None);
        }
        let Some(group) = self.group_of(id)? else { return Ok(None) };
        let entry = self.group(group)?.into_iter().find(|entry| entry.id == id);
        entry.map(|entry| self.places(&entry.places)).transpose()
    }

    fn may_have(&self, id: u64) -> Result<bool, IndexError> {
        let pages = self.frame.filter_bytes / PAGE_BYTES;
        if pages == 0 {
            return Ok(false);
        }
        let page = self.sections.filter + page_of(id, pages) * PAGE_BYTES;
        let page = self.pages.read(page, PAGE_BYTES)?;
        let is_set = |bit: usize| page.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
        Ok(filter_bits(id).into_iter().all(is_set))
    }

    /// The last group that begins at or before `id`; none when all begin behind it.
    pub(super) fn group_of(&self, id: u64) -> Result<Option<usize>, IndexError> {
        let (mut from, mut until) = (0, self.frame.groups());
        // Names are hashes: the place is known but for a few groups. Whatever a file says, each turn
        // leaves less.
        let guess = (u128::from(id) * u128::try_from(until).unwrap_or_default()) >> ID_BITS;
        let mut middle = usize::try_from(guess).unwrap_or_default();
        while from < until {
            let low = middle.saturating_sub(WINDOW / 2).clamp(from, until - 1);
            let high = (low + WINDOW).min(until);
            let starts = self.starts(low, high)?;
            let at = starts.partition_point(|(first, _)| *first <= id);
            if at > 0 && (low + at < high || high == until) {
                return Ok(Some(low + at - 1));
            }
            if at == 0 {
                if low == from {
                    return Ok(low.checked_sub(1));
                }
                until = low;
            } else {
                from = low + at;
                // The group before stays an answer.
                if from == until {
                    return Ok(Some(from - 1));
                }
            }
            middle = from + (until - from) / 2;
        }
        Ok(from.checked_sub(1))
    }

    /// First name and offset of each group of `from..until`.
    fn starts(&self, from: usize, until: usize) -> Result<Vec<(u64, usize)>, IndexError> {
        let at = self.sections.starts + from * START_BYTES;
        let bytes = self.pages.read(at, (until - from) * START_BYTES)?;
        let start = |bytes: &[u8; START_BYTES]| {
            let [a, b, c, d, e, w, x, y, z] = *bytes;
            let offset = u32::from_be_bytes([w, x, y, z]);
            let id = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
            (id, usize::try_from(offset).unwrap_or(usize::MAX))
        };
        let (starts, _) = bytes.as_chunks::<START_BYTES>();
        Ok(starts.iter().map(start).collect())
    }

    /// The entries of a group.
    pub(super) fn group(&self, group: usize) -> Result<Vec<Entry>, IndexError> {
        let groups = self.frame.groups();
        let starts = self.starts(group, (group + 2).min(groups))?;
        let (first, offset) = *starts.first().ok_or(DAMAGED)?;
        let end = starts.get(1).map_or(self.frame.table_bytes, |(_, offset)| *offset);
        let length = end.checked_sub(offset).ok_or(DAMAGED)?;
        if end > self.frame.table_bytes {
            return Err(DAMAGED);
        }
        let bytes = self.pages.read(self.sections.table + offset, length)?;
        let keys = usize::try_from(self.frame.keys).unwrap_or(usize::MAX);
        let count = keys.saturating_sub(group * GROUP).min(GROUP);
        self.entries(first, count, &bytes).ok_or(DAMAGED)
    }

    fn entries(&self, first: u64, count: usize, bytes: &[u8]) -> Option<Vec<Entry>> {
        let most = (1 << ID_BITS) - 1;
        let width = width(self.frame.records);
        let mut bits = BitReader::new(bytes);
        let k = u32::try_from(bits.take(6)?).ok()?;
        let mut entries = Vec::with_capacity(count);
        let mut id = first;
        for place in 0..count {
            if place > 0 {
                id = id.checked_add(bits.rice(k, most)?)?.checked_add(1)?;
            }
            let places = match bits.take(1)? {
                0 => Places::One(bits.take(width)?),
                _ => Places::List(bits.take(32)?),
            };
            let is_inside = id <= most && places != Places::One(self.frame.records);
            is_inside.then(|| entries.push(Entry { id, places }))?;
        }
        Some(entries)
    }

    /// The places of an entry, ascending.
    pub(super) fn places(&self, places: &Places) -> Result<Vec<u64>, IndexError> {
        match places {
            Places::One(place) if *place < self.frame.records => Ok(vec![*place]),
            Places::One(_) => Err(DAMAGED),
            Places::List(at) => self.list(usize::try_from(*at).unwrap_or(usize::MAX)),
        }
    }

    fn list(&self, at: usize) -> Result<Vec<u64>, IndexError> {
        let left = self.frame.lists_bytes.checked_sub(at).ok_or(DAMAGED)?;
        let at = self.sections.lists + at;
        let mut bytes = self.pages.read(at, left.min(LIST_BYTES_FIRST))?;
        let mut rest = bytes.as_slice();
        let length = take_varint(&mut rest).and_then(|it| usize::try_from(it).ok());
        let length = length.filter(|length| *length <= left).ok_or(DAMAGED)?;
        let whole = left.min(length + LIST_HEAD_BYTES_MAX);
        if whole > bytes.len() {
            bytes = self.pages.read(at, whole)?;
        }
        self.decode_list(&bytes).ok_or(DAMAGED)
    }

    fn decode_list(&self, mut bytes: &[u8]) -> Option<Vec<u64>> {
        let records = self.frame.records;
        let length = usize::try_from(take_varint(&mut bytes)?).ok()?;
        let count = take_varint(&mut bytes).filter(|count| *count <= records)?;
        let k = u32::try_from(take_varint(&mut bytes)?).ok()?;
        let mut bits = BitReader::new(bytes.get(..length)?);
        let mut places = Vec::with_capacity(usize::try_from(count).ok()?);
        let mut before = None;
        for _ in 0..count {
            let place = match before {
                None => bits.take(width(records))?,
                Some(before) => bits.rice(k, records)?.checked_add(before)?.checked_add(1)?,
            };
            if place >= records {
                return None;
            }
            places.push(place);
            before = Some(place);
        }
        Some(places)
    }

    /// The commitment to the records of an entry, and what they are.
    pub(super) fn committed(&self, entry: &Entry) -> Result<(Hash, Vec<u64>), IndexError> {
        let first = self.frame.first;
        let numbers: Vec<u64> =
            self.places(&entry.places)?.into_iter().map(|place| first + place).collect();
        let nonce = self.keys.nonce(entry.id);
        Ok((numbers_commitment(&nonce, numbers.iter().copied()), numbers))
    }

    /// The root over a full group, as stored.
    fn root(&self, group: usize) -> Result<Hash, IndexError> {
        let at = self.sections.roots + group * HASH_BYTES;
        let bytes = self.pages.read(at, HASH_BYTES)?;
        bytes.try_into().map_err(|_short| DAMAGED)
    }
}

/// The tree over an index, from the stored roots of its groups and the entries of those that a path
/// leads through.
#[derive(Debug)]
pub(super) struct Leaves<'a> {
    index: &'a Index,
    groups: Vec<(usize, Vec<Hash>)>,
}

impl<'a> Leaves<'a> {
    pub(super) const fn new(index: &'a Index) -> Self {
        Self { index, groups: Vec::new() }
    }

    fn leaf(&mut self, at: usize) -> Result<Hash, IndexError> {
        let (group, place) = (at / GROUP, at % GROUP);
        if let Some((_, leaves)) = self.groups.iter().find(|(known, _)| *known == group) {
            return leaves.get(place).copied().ok_or(DAMAGED);
        }
        let mut leaves = Vec::with_capacity(GROUP);
        for entry in self.index.group(group)? {
            let (numbers, _) = self.index.committed(&entry)?;
            leaves.push(entry_leaf(entry.id, &numbers));
        }
        let leaf = leaves.get(place).copied().ok_or(DAMAGED);
        self.groups.push((group, leaves));
        leaf
    }
}

impl Nodes for Leaves<'_> {
    type Error = IndexError;

    fn node(&mut self, height: u32, index: u64) -> Result<Hash, IndexError> {
        let at = usize::try_from(index).map_err(|_large| DAMAGED)?;
        match height {
            0 => self.leaf(at),
            8 => self.index.root(at),
            _ => {
                let left = self.node(height - 1, 2 * index)?;
                let right = self.node(height - 1, 2 * index + 1)?;
                Ok(node_hash(&left, &right))
            }
        }
    }
}

const _: () = assert!(ID_BYTES * 8 == 40 && ID_BITS == 40);
