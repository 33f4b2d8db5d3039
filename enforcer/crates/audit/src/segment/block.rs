//! Some records: their leaf hashes in the clear, then the records, packed, compressed and sealed.

use std::io;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{compress_bound, get_frame_content_size};

use super::pack::{Packer, Streams};
use super::unpack::Unpacked;
use super::{BLOCK_BYTES, BLOCK_RECORDS_MAX, Cursor, Fault, PLAIN_BYTES_MAX, push_frame};
use crate::merkle::{HASH_BYTES, Hash, leaf_hash};
use crate::sealing::{NONCE_BYTES, SALT_BYTES, Salts, SegmentKeys};

pub(super) const KIND: u8 = b'B';
/// Nonce, first index, count.
const HEAD_BYTES: usize = NONCE_BYTES + 8 + 4;
/// The fastest: records come faster than any disk.
const LEVEL: i32 = 1;
/// What is compressed is not longer: packing adds a little to what cannot be packed.
const STREAM_BYTES_MAX: usize = 2 * PLAIN_BYTES_MAX;

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
    packer: Packer,
    streams: Streams,
    bytes: usize,
    leaves: Vec<Hash>,
    compressor: Compressor<'static>,
    frame: Vec<u8>,
    packed: Vec<u8>,
    nonce: [u8; NONCE_BYTES],
}

/// Opens blocks, and keeps what that takes for the next one.
#[derive(Default)]
pub(crate) struct Opener {
    decompressor: Option<Decompressor<'static>>,
    sealed: Vec<u8>,
}

/// The records of an opened block. Each is what its leaf hash says, or is not given.
#[derive(Debug)]
pub(crate) struct Entries {
    first: u64,
    leaves: Vec<Hash>,
    unpacked: Unpacked,
    salts: Salts,
    leaf: Vec<u8>,
}

// === impl BlockBuilder ===

impl BlockBuilder {
    /// `prefix` tells this writer's blocks from those of any other of the same segment.
    pub(crate) fn new(prefix: [u8; 4]) -> io::Result<Self> {
        let mut nonce = [0; NONCE_BYTES];
        nonce.iter_mut().zip(prefix).for_each(|(to, from)| *to = from);
        Ok(Self {
            packer: Packer::default(),
            streams: Streams::default(),
            bytes: 0,
            leaves: Vec::new(),
            compressor: Compressor::new(LEVEL)?,
            frame: Vec::new(),
            packed: Vec::new(),
            nonce,
        })
    }

    pub(crate) fn push(&mut self, record: &[u8], leaf: Hash) {
        self.packer.push(record);
        self.bytes += record.len();
        self.leaves.push(leaf);
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn records(&self) -> u64 {
        u64::try_from(self.leaves.len()).unwrap_or(u64::MAX)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Whether the block is worth its seal.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= BLOCK_BYTES || self.leaves.len() >= BLOCK_RECORDS_MAX
    }

    pub(crate) fn clear(&mut self) {
        self.packer.clear();
        self.bytes = 0;
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
        self.packer.pack(&mut self.streams);
        self.packed.clear();
        for stream in [&self.streams.head, &self.streams.thin] {
            self.frame.clear();
            self.frame.reserve(compress_bound(stream.len()));
            self.compressor.compress_to_buffer(stream, &mut self.frame)?;
            let length = u32::try_from(self.frame.len()).unwrap_or(u32::MAX);
            self.packed.extend_from_slice(&length.to_be_bytes());
            self.packed.extend_from_slice(&self.frame);
        }
        self.packed.extend_from_slice(&self.streams.raw);
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
        holds(self.first, &self.leaves, index)
    }

    pub(crate) fn leaves(&self) -> &[Hash] {
        &self.leaves
    }

    /// Its records.
    pub(crate) fn open(
        &self,
        context: &Hash,
        keys: &SegmentKeys,
        opener: &mut Opener,
    ) -> Result<Entries, BadRecord> {
        let unpacked = opener.unpack(self, context, keys);
        Ok(Entries {
            first: self.first,
            leaves: self.leaves.clone(),
            unpacked: unpacked.ok_or(BadRecord { index: self.first, rest: true })?,
            salts: Salts::default(),
            leaf: Vec::new(),
        })
    }

    /// Whether all its records are what their leaf hashes say.
    pub(crate) fn check(
        &self,
        context: &Hash,
        keys: &SegmentKeys,
        opener: &mut Opener,
    ) -> Result<(), BadRecord> {
        let mut entries = self.open(context, keys, opener)?;
        let mut index = self.first;
        while entries.leaf(keys, index)?.is_some() {
            index += 1;
        }
        Ok(())
    }
}

impl Opener {
    fn unpack(&mut self, block: &Block, context: &Hash, keys: &SegmentKeys) -> Option<Unpacked> {
        let count = u32::try_from(block.leaves.len()).ok()?;
        self.sealed.clear();
        self.sealed.extend_from_slice(&block.sealed);
        let aad = aad(context, block.first, count);
        let mut packed = Cursor(keys.open(block.nonce, &aad, &mut self.sealed).ok()?);
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new().ok()?),
        };
        let mut stream = || {
            let length = usize::try_from(packed.u32()?).ok()?;
            let frame = packed.bytes(length)?;
            let length = usize::try_from(get_frame_content_size(frame).ok()??).ok()?;
            let mut stream = Vec::with_capacity(Some(length).filter(|it| *it <= STREAM_BYTES_MAX)?);
            decompressor.decompress_to_buffer(frame, &mut stream).ok()?;
            Some(stream)
        };
        let (head, thin) = (stream()?, stream()?);
        Unpacked::read(head, thin, packed.rest().to_vec(), block.leaves.len())
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opener(…)")
    }
}

/// A record, or all of a block from it on, is not what its leaf hash says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadRecord {
    /// The first of which that is so.
    pub(crate) index: u64,
    /// Nothing of the block can be read.
    pub(crate) rest: bool,
}

impl From<BadRecord> for Fault {
    fn from(_: BadRecord) -> Self {
        Self::Check
    }
}

fn holds(first: u64, leaves: &[Hash], index: u64) -> bool {
    let place = index.checked_sub(first).and_then(|place| usize::try_from(place).ok());
    place.is_some_and(|place| place < leaves.len())
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
    /// Whether the record at `index` is one of these.
    pub(crate) fn holds(&self, index: u64) -> bool {
        holds(self.first, &self.leaves, index)
    }

    /// The salt and the record at `index`, when it is one of these.
    pub(crate) fn leaf(
        &mut self,
        keys: &SegmentKeys,
        index: u64,
    ) -> Result<Option<&[u8]>, BadRecord> {
        let place = index.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let Some((place, wanted)) = place.and_then(|at| Some((at, self.leaves.get(at)?))) else {
            return Ok(None);
        };
        self.leaf.clear();
        self.leaf.extend_from_slice(&self.salts.get(keys, index));
        let written = self.unpacked.write(place, &mut self.leaf);
        if written.is_none() || leaf_hash(&self.leaf) != *wanted {
            return Err(BadRecord { index, rest: false });
        }
        Ok(Some(&self.leaf))
    }

    /// The record alone.
    pub(crate) fn get(
        &mut self,
        keys: &SegmentKeys,
        index: u64,
    ) -> Result<Option<&[u8]>, BadRecord> {
        Ok(self.leaf(keys, index)?.and_then(|leaf| leaf.get(SALT_BYTES..)))
    }
}
