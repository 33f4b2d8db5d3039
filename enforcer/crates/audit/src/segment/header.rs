//! The beginning of a segment.
//!
//! It carries the unfinished tiles of the tree at the segment's first record, so that a start reads
//! the last segment and nothing else, and names the segment before it with its length and hash, so
//! that none can be missing, cut or altered unseen.

use std::io::Read;

use enforcer_model::Timestamp;

use super::reader::SegmentError;
use super::{Cursor, Fault};
use crate::merkle::{HASH_BYTES, Hash, Tree, partial_widths, sha256};
use crate::sealing::CHECK_BYTES;

const MAGIC: &[u8; 16] = b"enforcer-audit/2";
/// Recipients and tiles are few.
const HEADER_BYTES_MAX: u32 = 256 << 10;

/// The beginning of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The tree before the first record of the segment.
    tree: Tree,
    previous: Previous,
    begun: Timestamp,
    key_check: [u8; CHECK_BYTES],
    /// The data key in a file of age; empty when there are no recipients.
    wrapped: Vec<u8>,
}

/// The segment before; zeroes in the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Previous {
    pub(crate) first: u64,
    /// Its bytes that count.
    pub(crate) length: u64,
    /// Their hash.
    pub(crate) sha256: Hash,
    /// A sync of it failed: what lies behind these bytes was written again elsewhere.
    pub(crate) poisoned: bool,
}

impl Header {
    pub(crate) const fn new(
        tree: Tree,
        previous: Previous,
        begun: Timestamp,
        key_check: [u8; CHECK_BYTES],
        wrapped: Vec<u8>,
    ) -> Self {
        Self { tree, previous, begun, key_check, wrapped }
    }

    pub(crate) const fn first(&self) -> u64 {
        self.tree.size()
    }

    pub(crate) const fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(crate) const fn previous(&self) -> &Previous {
        &self.previous
    }

    pub(crate) const fn begun(&self) -> Timestamp {
        self.begun
    }

    pub(crate) const fn key_check(&self) -> &[u8; CHECK_BYTES] {
        &self.key_check
    }

    pub(crate) fn wrapped(&self) -> &[u8] {
        &self.wrapped
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let Previous { first, length, sha256: hash, poisoned } = &self.previous;
        let mut body = Vec::new();
        body.extend_from_slice(&self.first().to_be_bytes());
        body.extend_from_slice(&first.to_be_bytes());
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(hash);
        body.push(u8::from(*poisoned));
        body.extend_from_slice(&self.begun.unix_ns().to_be_bytes());
        body.extend_from_slice(&self.key_check);
        let wrapped = u32::try_from(self.wrapped.len()).unwrap_or(u32::MAX);
        body.extend_from_slice(&wrapped.to_be_bytes());
        body.extend_from_slice(&self.wrapped);
        self.tree.partial().iter().flatten().for_each(|hash| body.extend_from_slice(hash));

        let mut bytes = MAGIC.to_vec();
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&body);
        let check = sha256(&bytes);
        bytes.extend_from_slice(&check);
        bytes
    }

    /// Reads a header, and gives its bytes too.
    pub(crate) fn read(reader: &mut impl Read) -> Result<(Self, Vec<u8>), SegmentError> {
        let mut bytes = Vec::new();
        fill(reader, &mut bytes, MAGIC.len() + 4)?;
        let mut cursor = Cursor(&bytes);
        let magic = cursor.take().filter(|magic| magic == MAGIC);
        let length = magic.and_then(|_| cursor.u32()).filter(|length| *length <= HEADER_BYTES_MAX);
        let length = length.and_then(|length| usize::try_from(length).ok()).ok_or(Fault::Header)?;
        fill(reader, &mut bytes, length + HASH_BYTES)?;
        let (checked, check) = bytes.split_last_chunk::<HASH_BYTES>().ok_or(Fault::Header)?;
        let body = checked.get(MAGIC.len() + 4..).unwrap_or_default();
        if sha256(checked) != *check {
            return Err(Fault::Header.into());
        }
        let header = Self::parse(body).ok_or(Fault::Header)?;
        Ok((header, bytes))
    }

    fn parse(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(body);
        let size = cursor.u64()?;
        let previous = Previous {
            first: cursor.u64()?,
            length: cursor.u64()?,
            sha256: cursor.take()?,
            poisoned: match cursor.take()? {
                [0] => false,
                [1] => true,
                _ => return None,
            },
        };
        let begun = Timestamp::from_unix_ns(cursor.u64()?);
        let key_check = cursor.take()?;
        let wrapped = usize::try_from(cursor.u32()?).ok()?;
        let wrapped = cursor.bytes(wrapped)?.to_vec();
        let mut partial = Vec::new();
        for width in partial_widths(size) {
            let tile: Option<Vec<Hash>> = (0..width).map(|_| cursor.take()).collect();
            partial.push(tile?);
        }
        let tree = Tree::resume(size, partial)?;
        cursor.rest().is_empty().then_some(Self { tree, previous, begun, key_check, wrapped })
    }
}

fn fill(reader: &mut impl Read, bytes: &mut Vec<u8>, count: usize) -> Result<(), SegmentError> {
    let begins = bytes.len();
    bytes.resize(begins + count, 0);
    let rest = bytes.get_mut(begins..).unwrap_or_default();
    match reader.read_exact(rest) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(Fault::Header.into())
        }
        Err(error) => Err(error.into()),
    }
}
