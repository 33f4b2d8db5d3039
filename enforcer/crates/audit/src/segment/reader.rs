//! Reading a segment: every byte from front to back, or one block out of many.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use ring::digest::{Context, SHA256};

use super::block::{self, Block, PEEK_BYTES};
use super::commit::{self, COMMIT_FRAME_BYTES, Commit};
use super::footer::{self, Footer};
use super::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, Fault, Header};
use crate::merkle::{Hash, finish};

const READ_BUFFER_BYTES: usize = 256 << 10;

/// What stands in a segment behind its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Block(Block),
    Commit(Commit),
    Footer(Footer),
}

/// What comes next in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A frame; a commit's hash fits the bytes before it.
    Frame(Frame),
    /// The file ends where a frame ends.
    End,
    /// What follows is no frame.
    Broken(Fault),
}

/// Reads a segment from front to back, and hashes it.
#[derive(Debug)]
pub(crate) struct Frames {
    reader: BufReader<File>,
    header: Header,
    context: Hash,
    offset: u64,
    hash: Hashing,
    body: Vec<u8>,
}

/// The blocks of a segment, in any order.
#[derive(Debug)]
pub(crate) struct Leaves {
    file: File,
    header: Header,
    context: Hash,
    /// Offset and first record of each block.
    blocks: Footer,
    closed: bool,
}

/// The hash of a file so far.
#[derive(Clone)]
pub(crate) struct Hashing(Context);

/// A segment cannot be opened for reading.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Fault(#[from] Fault),
}

// === impl Hashing ===

impl Hashing {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(bytes);
        Self(context)
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn so_far(&self) -> Hash {
        finish(self.0.clone())
    }
}

impl std::fmt::Debug for Hashing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashing(…)")
    }
}

// === impl Frames ===

impl Frames {
    pub(crate) fn open(path: &Path) -> Result<Self, SegmentError> {
        let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, File::open(path)?);
        let (header, bytes) = Header::read(&mut reader)?;
        let context = *bytes.last_chunk().ok_or(Fault::Header)?;
        let offset = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let hash = Hashing::new(&bytes);
        Ok(Self { reader, header, context, offset, hash, body: Vec::new() })
    }

    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    /// What binds blocks to this segment: the end of its header.
    pub(crate) const fn context(&self) -> &Hash {
        &self.context
    }

    /// Where the next frame begins.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The hash of the file up to there.
    pub(crate) fn hash(&self) -> Hashing {
        self.hash.clone()
    }

    pub(crate) fn next(&mut self) -> io::Result<Step> {
        let mut head = [0; FRAME_HEADER_BYTES];
        match read_some(&mut self.reader, &mut head)? {
            0 => return Ok(Step::End),
            FRAME_HEADER_BYTES => {}
            _ => return Ok(Step::Broken(Fault::CutShort)),
        }
        let Some(length) = length(head) else { return Ok(Step::Broken(Fault::Frame)) };
        self.body.resize(length, 0);
        if read_some(&mut self.reader, &mut self.body)? < length {
            return Ok(Step::Broken(Fault::CutShort));
        }
        let Some(frame) = parse(head, &self.body) else { return Ok(Step::Broken(Fault::Frame)) };
        if let Frame::Commit(commit) = &frame
            && commit.sha256 != self.hash.so_far()
        {
            return Ok(Step::Broken(Fault::Commit));
        }
        self.hash.update(&head);
        self.hash.update(&self.body);
        self.offset += u64::try_from(FRAME_HEADER_BYTES + length).unwrap_or(u64::MAX);
        Ok(Step::Frame(frame))
    }

    /// Whether anything that looks like a commit follows a frame that is broken: then what is broken
    /// had been on disk.
    pub(crate) fn is_followed_by_commit(&mut self) -> io::Result<bool> {
        let mut head = [0; FRAME_HEADER_BYTES];
        while read_some(&mut self.reader, &mut head)? == FRAME_HEADER_BYTES {
            let Some(length) = length(head) else { return Ok(false) };
            self.body.resize(length, 0);
            if read_some(&mut self.reader, &mut self.body)? < length {
                return Ok(false);
            }
            if matches!(parse(head, &self.body), Some(Frame::Commit(_))) {
                // The last commit of all may be there though what it covers is not.
                return Ok(read_some(&mut self.reader, &mut head)? > 0);
            }
        }
        Ok(false)
    }
}

fn length(head: [u8; FRAME_HEADER_BYTES]) -> Option<usize> {
    let [_, length @ ..] = head;
    usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| *length <= FRAME_BYTES_MAX)
}

fn parse([kind, ..]: [u8; FRAME_HEADER_BYTES], body: &[u8]) -> Option<Frame> {
    match kind {
        block::KIND => Block::parse(body).map(Frame::Block),
        commit::KIND => Commit::parse(body).map(Frame::Commit),
        footer::KIND => Footer::parse(body).map(Frame::Footer),
        _ => None,
    }
}

fn read_some(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

// === impl Leaves ===

impl Leaves {
    /// Finds the blocks of a segment: by its footer, or by walking over its frames.
    pub(crate) fn open(path: &Path) -> Result<Self, SegmentError> {
        let file = File::open(path)?;
        let (header, bytes) = Header::read(&mut BufReader::new(&file))?;
        let context = *bytes.last_chunk().ok_or(Fault::Header)?;
        let begins = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let length = file.metadata()?.len();
        let (blocks, closed) = match read_footer(&file, length)? {
            Some(footer) => (footer, true),
            None => (walk(&file, begins, length, header.first())?, false),
        };
        Ok(Self { file, header, context, blocks, closed })
    }

    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) const fn context(&self) -> &Hash {
        &self.context
    }

    /// The first record behind the segment, as far as it is written.
    pub(crate) const fn end(&self) -> u64 {
        self.blocks.end
    }

    pub(crate) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// The block that holds the record at `index`; none when it is not in this segment.
    pub(crate) fn block(&self, index: u64) -> Result<Option<Block>, SegmentError> {
        let Some(offset) = self.blocks.offset_of(index).filter(|_| index < self.end()) else {
            return Ok(None);
        };
        let Some((head, body)) = read_frame(&self.file, offset)? else {
            return Err(Fault::CutShort.into());
        };
        match parse(head, &body) {
            // A footer may say anything.
            Some(Frame::Block(block)) if block.holds(index) => Ok(Some(block)),
            _ => Err(Fault::Frame.into()),
        }
    }
}

fn read_frame(file: &File, offset: u64) -> io::Result<Option<([u8; FRAME_HEADER_BYTES], Vec<u8>)>> {
    let mut head = [0; FRAME_HEADER_BYTES];
    if !read_at(file, &mut head, offset)? {
        return Ok(None);
    }
    let Some(length) = length(head) else { return Ok(None) };
    let mut body = vec![0; length];
    let begins = offset + u64::try_from(FRAME_HEADER_BYTES).unwrap_or_default();
    Ok(read_at(file, &mut body, begins)?.then_some((head, body)))
}

fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(bytes, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The footer of a closed segment, which stands before its last commit.
fn read_footer(file: &File, length: u64) -> io::Result<Option<Footer>> {
    let behind = u64::try_from(COMMIT_FRAME_BYTES).unwrap_or_default();
    let Some(ends) = length.checked_sub(behind) else { return Ok(None) };
    let mut own = [0; 4];
    if !read_at(file, &mut own, ends.saturating_sub(4))? {
        return Ok(None);
    }
    let frame =
        u64::from(u32::from_be_bytes(own)) + u64::try_from(FRAME_HEADER_BYTES).unwrap_or_default();
    let Some(offset) = ends.checked_sub(frame) else { return Ok(None) };
    let frame = read_frame(file, offset)?;
    Ok(frame.and_then(|(head, body)| match parse(head, &body) {
        Some(Frame::Footer(footer)) => Some(footer),
        _ => None,
    }))
}

/// Goes from frame to frame without reading what is in them.
fn walk(file: &File, begins: u64, length: u64, first: u64) -> io::Result<Footer> {
    let mut found = Footer { blocks: Vec::new(), end: first };
    let mut offset = begins;
    let mut bytes = [0; FRAME_HEADER_BYTES + PEEK_BYTES];
    while read_at(file, &mut bytes, offset)? {
        let Some((head, peek)) = bytes.split_first_chunk() else { break };
        let Some(body) = self::length(*head).and_then(|length| u64::try_from(length).ok()) else {
            break;
        };
        let next = offset + u64::try_from(FRAME_HEADER_BYTES).unwrap_or_default() + body;
        if next > length {
            break;
        }
        if let [block::KIND, ..] = head {
            let Some((first, count)) = Block::peek(peek).filter(|(at, _)| *at == found.end) else {
                break;
            };
            found.blocks.push((offset, first));
            found.end = first + u64::try_from(count).unwrap_or_default();
        }
        offset = next;
    }
    Ok(found)
}
