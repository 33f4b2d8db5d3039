//! The file format of a segment: a header that stands on its own, then frames.
//!
//! A *block* holds records, compressed and sealed, under their leaf hashes, which are in the clear:
//! whoever has no key can still hold the tree against its signed root. A *commit* signs the tree
//! and the file so far, and stands behind every group of blocks. A *footer* says where the blocks
//! of a closed segment lie. Everything has one spelling; the last commit covers every byte before.

mod block;
mod columns;
mod commit;
mod footer;
mod header;
mod pack;
mod reader;
mod unpack;

pub(crate) use block::{BadRecord, Block, BlockBuilder, Entries, Opener};
pub(crate) use commit::Commit;
pub(crate) use footer::Footer;
pub(crate) use header::{Header, Previous};
pub(crate) use reader::{Frame, Frames, Hashing, Leaves, SegmentError, Step};

/// A record with its salt may be as long as an entry of a C2SP tiled log.
pub(crate) const RECORD_BYTES_MAX: usize = 65_535 - crate::sealing::SALT_BYTES;

/// Kind and length of what follows.
const FRAME_HEADER_BYTES: usize = 1 + 4;
/// Records of one block, before they are packed; the last one may go beyond.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;
/// Records in one block.
pub(crate) const BLOCK_RECORDS_MAX: usize = 1_024;
/// What the records of a block may be together.
const PLAIN_BYTES_MAX: usize = BLOCK_BYTES + RECORD_BYTES_MAX;
/// No frame is longer.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// Why a segment cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The header is not one.
    #[error("its header was altered")]
    Header,
    /// The bytes of a block cannot be opened, or are not the records whose hashes it names.
    #[error("its bytes do not fit their check")]
    Check,
    /// The file ends before the end of a frame.
    #[error("the file ends before it is complete")]
    CutShort,
    /// What follows is no frame, or not the one that must follow.
    #[error("what follows is no part of a segment")]
    Frame,
    /// The commit does not fit the bytes before it, or its signature does not hold.
    #[error("its bytes are not those that were signed")]
    Commit,
}

fn push_frame(bytes: &mut Vec<u8>, kind: u8, body: &[u8]) {
    bytes.push(kind);
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(body);
}

/// Takes numbers and hashes from the front of bytes.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn rest(self) -> &'a [u8] {
        self.0
    }
}
