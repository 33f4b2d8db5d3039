//! The file format of a segment: a header that stands on its own, then framed records.
//!
//! The header carries the unfinished tiles of the tree at the segment's first record, so that a
//! start reads the last segment and nothing else, and names the segment before it with its length,
//! so that none can be missing or cut unseen. It begins at a tile boundary. The check of a frame is
//! the beginning of the record's leaf hash: it finds torn writes; the tree finds the rest.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::merkle::{HASH_BYTES, Hash, TILE_WIDTH, Tree, leaf_hash, partial_widths, sha256};

const MAGIC: &[u8; 16] = b"enforcer-audit/1";
const LENGTH_BYTES: usize = 2;
const CHECK_BYTES: usize = 6;
const FRAME_HEADER_BYTES: usize = LENGTH_BYTES + CHECK_BYTES;
const READ_BUFFER_BYTES: usize = 256 << 10;

/// A record may be as long as an entry of a C2SP tiled log.
pub(crate) const RECORD_BYTES_MAX: usize = 65_535;

/// The beginning of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The tree before the first record of the segment.
    pub(crate) tree: Tree,
    /// First index and length of the segment before; zeroes in the first one.
    pub(crate) previous: (u64, u64),
}

/// Why a segment cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The header is not one.
    #[error("its header was altered")]
    Header,
    /// The bytes of a record do not fit its check.
    #[error("its bytes do not fit their check")]
    Check,
    /// The file ends before the end of the record.
    #[error("the file ends before it is complete")]
    CutShort,
}

/// What comes next in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A record with this leaf hash; its bytes are in [`Frames::record`].
    Record(Hash),
    /// The file ends where a frame ends.
    End,
    /// What follows is no frame.
    Broken(Fault),
}

/// Reads a segment from front to back.
#[derive(Debug)]
pub(crate) struct Frames {
    reader: BufReader<File>,
    header: Header,
    offset: u64,
    record: Vec<u8>,
}

/// A segment cannot be opened for reading.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Fault(#[from] Fault),
}

// === impl Header ===

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (previous_first, previous_length) = self.previous;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.tree.size().to_be_bytes());
        bytes.extend_from_slice(&previous_first.to_be_bytes());
        bytes.extend_from_slice(&previous_length.to_be_bytes());
        self.tree.partial().iter().flatten().for_each(|hash| bytes.extend_from_slice(hash));
        let check = sha256(&bytes);
        bytes.extend_from_slice(&check);
        bytes
    }

    fn read(reader: &mut impl Read) -> Result<Self, SegmentError> {
        let mut bytes = Vec::new();
        let magic: [u8; MAGIC.len()] = take(reader, &mut bytes)?;
        let first = u64::from_be_bytes(take(reader, &mut bytes)?);
        let previous_first = u64::from_be_bytes(take(reader, &mut bytes)?);
        let previous_length = u64::from_be_bytes(take(reader, &mut bytes)?);
        if magic != *MAGIC || !first.is_multiple_of(TILE_WIDTH) {
            return Err(Fault::Header.into());
        }
        let mut partial = Vec::new();
        for width in partial_widths(first) {
            let tile =
                (0..width).map(|_| take(reader, &mut bytes)).collect::<Result<Vec<Hash>, _>>();
            partial.push(tile?);
        }
        let check = sha256(&bytes);
        if take(reader, &mut bytes)? != check {
            return Err(Fault::Header.into());
        }
        let tree = Tree::resume(first, partial).ok_or(Fault::Header)?;
        Ok(Self { tree, previous: (previous_first, previous_length) })
    }
}

fn take<const N: usize>(
    reader: &mut impl Read,
    all: &mut Vec<u8>,
) -> Result<[u8; N], SegmentError> {
    let mut bytes = [0; N];
    match reader.read_exact(&mut bytes) {
        Ok(()) => {
            all.extend_from_slice(&bytes);
            Ok(bytes)
        }
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Fault::Header.into()),
        Err(error) => Err(error.into()),
    }
}

// === impl Frames ===

impl Frames {
    pub(crate) fn open(path: &Path) -> Result<Self, SegmentError> {
        let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, File::open(path)?);
        let header = Header::read(&mut reader)?;
        let offset = u64::try_from(header.encode().len()).unwrap_or(u64::MAX);
        Ok(Self { reader, header, offset, record: Vec::new() })
    }

    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    /// Where the next frame begins.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes of the last record read.
    pub(crate) fn record(&self) -> &[u8] {
        &self.record
    }

    pub(crate) fn next(&mut self) -> io::Result<Step> {
        let (length, check) = match self.frame()? {
            Frame::Of { length, check } if length > 0 => (length, check),
            Frame::Of { .. } => return Ok(Step::Broken(Fault::Check)),
            Frame::CutShort => return Ok(Step::Broken(Fault::CutShort)),
            Frame::End => return Ok(Step::End),
        };
        self.record.resize(usize::from(length), 0);
        if !read_whole(&mut self.reader, &mut self.record)? {
            return Ok(Step::Broken(Fault::CutShort));
        }
        let leaf = leaf_hash(&self.record);
        if !leaf.starts_with(&check) {
            return Ok(Step::Broken(Fault::Check));
        }
        self.offset += frame_bytes(length);
        Ok(Step::Record(leaf))
    }

    /// Passes over a record without looking at it; false where no frame follows.
    pub(crate) fn skip(&mut self) -> io::Result<bool> {
        let Frame::Of { length, .. } = self.frame()? else { return Ok(false) };
        self.reader.seek_relative(i64::from(length))?;
        self.offset += frame_bytes(length);
        Ok(length > 0)
    }

    fn frame(&mut self) -> io::Result<Frame> {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest) {
                Ok(0) if filled == 0 => return Ok(Frame::End),
                Ok(0) => return Ok(Frame::CutShort),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let [high, low, check @ ..] = bytes;
        Ok(Frame::Of { length: u16::from_be_bytes([high, low]), check })
    }
}

enum Frame {
    Of { length: u16, check: [u8; CHECK_BYTES] },
    CutShort,
    End,
}

fn read_whole(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn frame_bytes(record: u16) -> u64 {
    u64::from(record) + u64::try_from(FRAME_HEADER_BYTES).unwrap_or_default()
}

/// Appends the frame of a record to `buffer`; none when the record is empty or too long.
pub(crate) fn push_frame(buffer: &mut Vec<u8>, record: &[u8]) -> Option<Hash> {
    let length = u16::try_from(record.len()).ok().filter(|length| *length > 0)?;
    let leaf = leaf_hash(record);
    buffer.extend_from_slice(&length.to_be_bytes());
    buffer.extend(leaf.iter().take(CHECK_BYTES));
    buffer.extend_from_slice(record);
    Some(leaf)
}

const _: () = assert!(HASH_BYTES > CHECK_BYTES);
