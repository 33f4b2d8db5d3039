//! The layout of an index inside its pages, and its first page.
//!
//! Sections, each from a page boundary on: the frame, the filter, the start of each group, the table
//! in groups of 256 entries, the lists of records, the roots of full groups.

use enforcer_model::Timestamp;

use super::keys::{Keys, Lengths};
use super::pages::PAGE_BYTES;
use super::{IndexError, Statement};
use crate::merkle::{HASH_BYTES, Hash};

/// Entries of a group: those under one node of height 8 of the tree.
pub(super) const GROUP: usize = 256;

/// Bits of a record's place in its segment.
pub(super) const RECORD_BITS: u32 = 24;
/// Records in a segment that can be indexed.
pub(super) const RECORDS_MAX: u64 = 1 << RECORD_BITS;

/// Where a group begins: its first name and its offset in the table.
pub(super) const START_BYTES: usize = 5 + 4;

/// With six bits set for each, one name in 150 that is not there seems to be.
pub(super) const FILTER_BITS_PER_KEY: usize = 12;
const FILTER_PROBES: usize = 6;

const FRAME_BYTES: usize = 8 * 11 + 16 + HASH_BYTES;

/// The first page: what an index is about, and where its sections are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) first: u64,
    pub(super) records: u64,
    /// Of the earliest record, by the clock that may have been set back meanwhile.
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) lengths: Lengths,
    pub(super) keys: u64,
    pub(super) root: Hash,
    pub(super) filter_bytes: usize,
    pub(super) starts_bytes: usize,
    pub(super) table_bytes: usize,
    pub(super) lists_bytes: usize,
    pub(super) roots_bytes: usize,
}

/// Where each section begins, in content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sections {
    pub(super) filter: usize,
    pub(super) starts: usize,
    pub(super) table: usize,
    pub(super) lists: usize,
    pub(super) roots: usize,
}

impl Frame {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FRAME_BYTES);
        let numbers = [
            self.first,
            self.records,
            self.from.unix_ns(),
            self.until.unix_ns(),
            self.keys,
            self.lengths.v4,
        ];
        numbers.into_iter().for_each(|number| bytes.extend_from_slice(&number.to_be_bytes()));
        bytes.extend_from_slice(&self.lengths.v6.to_be_bytes());
        bytes.extend_from_slice(&self.root);
        let lengths = [
            self.filter_bytes,
            self.starts_bytes,
            self.table_bytes,
            self.lists_bytes,
            self.roots_bytes,
        ];
        for length in lengths {
            bytes.extend_from_slice(&u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
        }
        debug_assert_eq!(bytes.len(), FRAME_BYTES, "the frame's length");
        bytes
    }

    /// The frame in the first page of an index for the segment that begins with record `first`.
    pub(super) fn parse(page: &[u8], first: u64) -> Result<Self, IndexError> {
        let mut reader = Reader(page);
        let frame = Self::read(&mut reader).ok_or(IndexError::Damaged("its frame is too short"))?;
        let groups = usize::try_from(frame.keys).unwrap_or(usize::MAX).div_ceil(GROUP);
        let full = usize::try_from(frame.keys).unwrap_or(usize::MAX) / GROUP;
        let fits = frame.first == first
            && frame.records <= RECORDS_MAX
            && frame.filter_bytes.is_multiple_of(PAGE_BYTES)
            && groups.checked_mul(START_BYTES) == Some(frame.starts_bytes)
            && full.checked_mul(HASH_BYTES) == Some(frame.roots_bytes);
        if fits { Ok(frame) } else { Err(IndexError::Damaged("its frame does not fit")) }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            first: reader.number()?,
            records: reader.number()?,
            from: Timestamp::from_unix_ns(reader.number()?),
            until: Timestamp::from_unix_ns(reader.number()?),
            keys: reader.number()?,
            lengths: Lengths { v4: reader.number()?, v6: u128::from_be_bytes(reader.take()?) },
            root: reader.take()?,
            filter_bytes: reader.length()?,
            starts_bytes: reader.length()?,
            table_bytes: reader.length()?,
            lists_bytes: reader.length()?,
            roots_bytes: reader.length()?,
        })
    }

    pub(super) fn sections(&self) -> Sections {
        let filter = round_up(FRAME_BYTES);
        let starts = round_up(filter.saturating_add(self.filter_bytes));
        let table = round_up(starts.saturating_add(self.starts_bytes));
        let lists = round_up(table.saturating_add(self.table_bytes));
        let roots = round_up(lists.saturating_add(self.lists_bytes));
        Sections { filter, starts, table, lists, roots }
    }

    pub(super) fn groups(&self) -> usize {
        self.starts_bytes / START_BYTES
    }

    /// What the log shall say of this index.
    pub(super) fn statement(&self, keys: &Keys) -> Statement {
        Statement {
            first: self.first,
            end: self.first.saturating_add(self.records),
            from: self.from,
            until: self.until,
            keys: self.keys,
            root: self.root,
            v4: Lengths::list(u128::from(self.lengths.v4)),
            v6: Lengths::list(self.lengths.v6),
            kinds: keys
                .commitments()
                .into_iter()
                .map(|(kind, hash)| (kind.as_str().to_owned(), super::statement::Hex(hash)))
                .collect(),
        }
    }
}

/// Bits that a place in a segment of so many records needs.
pub(super) fn width(records: u64) -> u32 {
    records.saturating_sub(1).checked_ilog2().map_or(1, |log| log + 1)
}

/// The next page boundary.
pub(super) const fn round_up(at: usize) -> usize {
    at.div_ceil(PAGE_BYTES).saturating_mul(PAGE_BYTES)
}

/// Which page of the filter knows of a name.
pub(super) fn page_of(id: u64, pages: usize) -> usize {
    let pages = u64::try_from(pages).unwrap_or(1).max(1);
    usize::try_from(id % pages).unwrap_or_default()
}

/// Which bits of that page are set for it.
pub(super) fn filter_bits(id: u64) -> [usize; FILTER_PROBES] {
    // The multiplier of Fibonacci hashing spreads what the page number has not used.
    let mixed = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let (base, step) = (mixed >> 40, mixed >> 17 & 0x7f_ffff | 1);
    let bits = u64::try_from(PAGE_BYTES * 8).unwrap_or(u64::MAX);
    let mut probe = base;
    [(); FILTER_PROBES].map(|()| {
        probe = probe.wrapping_add(step);
        usize::try_from(probe % bits).unwrap_or_default()
    })
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn length(&mut self) -> Option<usize> {
        // A file that is longer than memory is none of ours.
        self.number().filter(|it| *it <= u64::from(u32::MAX)).and_then(|it| it.try_into().ok())
    }
}
