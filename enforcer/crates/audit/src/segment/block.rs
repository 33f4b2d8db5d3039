//! Some records: their leaf hashes in the clear, then the records, compressed and sealed.

use std::io;
use std::ops::Range;

use zstd::bulk::{Compressor, Decompressor};

use super::{BLOCK_BYTES, BLOCK_RECORDS_MAX, Cursor, Fault, RECORD_BYTES_MAX, push_frame};
use crate::merkle::{HASH_BYTES, Hash, salted_leaf_hash};
use crate::sealing::{NONCE_BYTES, SegmentKeys};

pub(super) const KIND: u8 = b'B';
const LENGTH_BYTES: usize = 2;
/// Nonce, first index, count.
const HEAD_BYTES: usize = NONCE_BYTES + 8 + 4;
/// The fastest: records come faster than any disk.
const LEVEL: i32 = 1;
/// What a block may hold when it is opened.
const PLAIN_BYTES_MAX: usize = BLOCK_BYTES + LENGTH_BYTES + RECORD_BYTES_MAX;

/// A block as it lies in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    first: u64,
    leaves: Vec<Hash>,
    nonce: [u8; NONCE_BYTES],
    sealed: Vec<u8>,
}

/// Gathers records for the next block.
pub(crate) struct BlockBuilder {
    plain: Vec<u8>,
    leaves: Vec<Hash>,
    compressor: Compressor<'static>,
    packed: Vec<u8>,
    nonce: [u8; NONCE_BYTES],
}

/// The records of an opened block.
#[derive(Debug)]
pub(crate) struct Entries {
    first: u64,
    leaves: Vec<Hash>,
    plain: Vec<u8>,
    bounds: Vec<Range<usize>>,
}

// === impl BlockBuilder ===

impl BlockBuilder {
    /// `prefix` tells this writer's blocks from those of any other of the same segment.
    pub(crate) fn new(prefix: [u8; 4]) -> io::Result<Self> {
        let mut nonce = [0; NONCE_BYTES];
        nonce.iter_mut().zip(prefix).for_each(|(to, from)| *to = from);
        Ok(Self {
            plain: Vec::with_capacity(PLAIN_BYTES_MAX),
            leaves: Vec::new(),
            compressor: Compressor::new(LEVEL)?,
            packed: Vec::new(),
            nonce,
        })
    }

    pub(crate) fn push(&mut self, record: &[u8], leaf: Hash) {
        let length = u16::try_from(record.len()).unwrap_or(u16::MAX);
        self.plain.extend_from_slice(&length.to_be_bytes());
        self.plain.extend_from_slice(record);
        self.leaves.push(leaf);
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.plain.len()
    }

    pub(crate) fn records(&self) -> u64 {
        u64::try_from(self.leaves.len()).unwrap_or(u64::MAX)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Whether the block is worth its seal.
    pub(crate) fn is_full(&self) -> bool {
        self.plain.len() >= BLOCK_BYTES || self.leaves.len() >= BLOCK_RECORDS_MAX
    }

    pub(crate) fn clear(&mut self) {
        self.plain.clear();
        self.leaves.clear();
    }

    /// Appends the block, which begins at record `first`, to `staged`, and begins another.
    pub(crate) fn seal(
        &mut self,
        first: u64,
        context: &Hash,
        keys: &SegmentKeys,
        staged: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(self.plain.len()));
        self.compressor.compress_to_buffer(&self.plain, &mut self.packed)?;
        // The last eight bytes count: a nonce is never used twice, whatever happens to the block.
        for byte in self.nonce.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        let count = u32::try_from(self.leaves.len()).unwrap_or(u32::MAX);
        let mut body = Vec::with_capacity(
            HEAD_BYTES + self.leaves.len() * HASH_BYTES + self.packed.len() + HASH_BYTES,
        );
        body.extend_from_slice(&self.nonce);
        body.extend_from_slice(&first.to_be_bytes());
        body.extend_from_slice(&count.to_be_bytes());
        body.extend_from_slice(self.leaves.as_flattened());
        let aad = aad(context, first, count);
        keys.seal(self.nonce, &aad, &mut self.packed, &mut body)
            .map_err(|_unopened| io::Error::other("a block cannot be sealed"))?;
        push_frame(staged, KIND, &body);
        self.clear();
        Ok(())
    }
}

impl std::fmt::Debug for BlockBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockBuilder({} records)", self.leaves.len())
    }
}

/// What the seal of a block binds it to: its segment and its place.
fn aad(context: &Hash, first: u64, count: u32) -> Vec<u8> {
    let mut aad = context.to_vec();
    aad.extend_from_slice(&first.to_be_bytes());
    aad.extend_from_slice(&count.to_be_bytes());
    aad
}

// === impl Block ===

impl Block {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(body);
        let nonce = cursor.take()?;
        let (first, leaves) = head(&mut cursor)?;
        let (leaves, _) = cursor.bytes(leaves * HASH_BYTES)?.as_chunks::<HASH_BYTES>();
        Some(Self { first, leaves: leaves.to_vec(), nonce, sealed: cursor.rest().to_vec() })
    }

    /// First index and number of the records of a block that begins so.
    pub(super) fn peek(beginning: &[u8]) -> Option<(u64, usize)> {
        let mut cursor = Cursor(beginning);
        cursor.take::<NONCE_BYTES>()?;
        head(&mut cursor)
    }

    pub(crate) const fn first(&self) -> u64 {
        self.first
    }

    /// Whether the record at `index` is one of its.
    pub(super) fn holds(&self, index: u64) -> bool {
        let place = index.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        place.is_some_and(|place| place < self.leaves.len())
    }

    pub(crate) fn leaves(&self) -> &[Hash] {
        &self.leaves
    }

    /// Its records, once each is what the leaf hash says.
    pub(crate) fn open(&self, context: &Hash, keys: &SegmentKeys) -> Result<Entries, BadRecord> {
        let entries = self.unseal(context, keys)?;
        for index in (self.first..).take(self.leaves.len()) {
            entries.checked(index, keys)?;
        }
        Ok(entries)
    }

    /// Its records, as the seal vouches for them; see [`Entries::checked`].
    pub(crate) fn unseal(&self, context: &Hash, keys: &SegmentKeys) -> Result<Entries, BadRecord> {
        let whole = BadRecord { index: self.first, rest: true };
        let count = u32::try_from(self.leaves.len()).unwrap_or(u32::MAX);
        let mut sealed = self.sealed.clone();
        let packed = keys.open(self.nonce, &aad(context, self.first, count), &mut sealed);
        let packed = packed.or(Err(whole))?;
        let mut decompressor = Decompressor::new().or(Err(whole))?;
        let plain = decompressor.decompress(packed, PLAIN_BYTES_MAX).or(Err(whole))?;
        let mut bounds = Vec::with_capacity(self.leaves.len());
        let mut at = 0;
        for index in (self.first..).take(self.leaves.len()) {
            let bad = BadRecord { index, rest: false };
            let begins = at + LENGTH_BYTES;
            let length = plain.get(at..).and_then(|rest| rest.first_chunk()).ok_or(bad)?;
            at = begins + usize::from(u16::from_be_bytes(*length));
            plain.get(begins..at).filter(|record| !record.is_empty()).ok_or(bad)?;
            bounds.push(begins..at);
        }
        let whole = if at == plain.len() { Ok(()) } else { Err(whole) };
        let leaves = self.leaves.clone();
        whole.map(|()| Entries { first: self.first, leaves, plain, bounds })
    }
}

/// A record, or all of a block from it on, is not what its leaf hash says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadRecord {
    pub(crate) index: u64,
    /// Nothing of the block can be read.
    pub(crate) rest: bool,
}

impl From<BadRecord> for Fault {
    fn from(_: BadRecord) -> Self {
        Self::Check
    }
}

/// First index and number of leaves.
fn head(cursor: &mut Cursor<'_>) -> Option<(u64, usize)> {
    let first = cursor.u64()?;
    let count = usize::try_from(cursor.u32()?).ok()?;
    (1..=BLOCK_RECORDS_MAX).contains(&count).then_some((first, count))
}

pub(super) const PEEK_BYTES: usize = HEAD_BYTES;

// === impl Entries ===

impl Entries {
    /// The record at `index`, once it is what its leaf hash says; none when it is not one of these.
    pub(crate) fn checked(
        &self,
        index: u64,
        keys: &SegmentKeys,
    ) -> Result<Option<&[u8]>, BadRecord> {
        let Some(record) = self.get(index) else { return Ok(None) };
        let place = index.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let leaf = place.and_then(|place| self.leaves.get(place));
        if leaf == Some(&salted_leaf_hash(&keys.salt(index), record)) {
            Ok(Some(record))
        } else {
            Err(BadRecord { index, rest: false })
        }
    }

    /// The record at `index`, when it is one of these.
    pub(crate) fn get(&self, index: u64) -> Option<&[u8]> {
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.plain.get(self.bounds.get(place)?.clone())
    }
}
