//! Reading a log beside the agent that writes it, or without any agent.
//!
//! A [`Log`] is the log as of one checkpoint: what is behind it is not shown, for it may never be
//! acknowledged. Reading checks each record against its frame; that the records are those that were
//! signed is the business of [`crate::verify()`].

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::vec;

use enforcer_model::{PersonalKind, Timestamp};

use crate::chain::{self, ChainError};
use crate::files::{self, FileError};
use crate::index::IndexError;
use crate::layout::Layout;
use crate::note::{Checkpoint, KeyError, NoteError, VerifierKey};
use crate::query::{Condition, Query, Search};
use crate::segment::{Fault, Frames, Step};
use crate::select::Selector;
use crate::stored::Stored;
use crate::subject::Vault;

/// A log, read as of the checkpoint that was there when it was opened.
#[derive(Clone, Debug)]
pub struct Log {
    layout: Layout,
    key: VerifierKey,
    note: String,
    checkpoint: Checkpoint,
}

/// Records in the order of their indices.
#[derive(Debug)]
pub struct Records {
    layout: Layout,
    segments: vec::IntoIter<u64>,
    frames: Option<(u64, Frames)>,
    next: u64,
    until: u64,
}

/// The records of one selector, oldest first.
#[derive(Debug)]
pub struct Trail(Search);

/// One segment of a log, as far as its checkpoint goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Its first record.
    pub(crate) first: u64,
    /// The first record behind it.
    pub(crate) end: u64,
    /// Nothing is added to it any more.
    pub(crate) closed: bool,
}

/// A log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The checkpoint does not hold.
    #[error("the checkpoint `{}` is {source}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: NoteError,
    },
    /// A record is not as it was written.
    #[error("record {index} in `{}`: {fault}; `audit verify` tells more", file.display())]
    Damaged {
        /// The record.
        index: u64,
        /// Its segment.
        file: PathBuf,
        /// What is wrong.
        fault: Fault,
    },
    /// A call to the file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A segment cannot be indexed.
    #[error("the index of the segment that begins with record {first}")]
    Index {
        /// The first record of the segment.
        first: u64,
        /// Why not.
        source: IndexError,
    },
    /// The public key cannot be used.
    #[error("the key `{}`", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// The directory holds no log.
    #[error("there is no audit log in `{}`", .0.display())]
    NoLog(PathBuf),
    /// There is no such record yet.
    #[error("there is no record {index}; the log has {size}, counted from 0")]
    NoRecord {
        /// Asked for.
        index: u64,
        /// Records under the checkpoint.
        size: u64,
    },
    /// The records are not those that were signed.
    #[error("the records in `{}` do not have the signed root; `audit verify` tells more", .0.display())]
    Root(PathBuf),
    /// A segment is missing or altered.
    #[error(transparent)]
    Segment(#[from] ChainError),
    /// The tree cannot be read; without it nothing can be proven.
    #[error("the tile `{}` does not fit the records; `audit verify` tells more", .0.display())]
    Tile(PathBuf),
}

// === impl Log ===

impl Log {
    /// The log in `directory`, as of its newest checkpoint. Never writes, needs no agent.
    pub fn open_read_only(directory: &Path) -> Result<Self, ReadError> {
        let layout = Layout::new(directory);
        let key = read_key(&layout)?;
        let path = layout.checkpoint();
        let note = files::read_text(&path)?;
        let note = note.ok_or_else(|| ReadError::NoLog(directory.to_owned()))?;
        let checkpoint = key.open(&note);
        let checkpoint = checkpoint.map_err(|source| ReadError::Checkpoint { path, source })?;
        Ok(Self { layout, key, note, checkpoint })
    }

    /// The same log as of `note`, an earlier checkpoint of it; none when it is not one.
    pub fn as_of(&self, note: &str) -> Option<Self> {
        let checkpoint = self.key.open(note).ok()?;
        let earlier = checkpoint.size <= self.size();
        earlier.then(|| Self { note: note.to_owned(), checkpoint, ..self.clone() })
    }

    /// The tree head that this view ends at.
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The checkpoint as signed.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// The log's own statement of its key. Whoever distrusts the host has another copy.
    pub const fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// Records under the checkpoint.
    pub const fn size(&self) -> u64 {
        self.checkpoint.size
    }

    pub(crate) const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The records of `range`, as far as the checkpoint goes.
    pub fn records(&self, range: Range<u64>) -> Result<Records, ReadError> {
        let mut firsts = chain::segments(&self.layout)?;
        let until = range.end.min(self.size());
        // From the last segment that begins at or before the first record.
        let begin = firsts.partition_point(|first| *first <= range.start).saturating_sub(1);
        let segments = firsts.split_off(begin.min(firsts.len())).into_iter();
        let layout = self.layout.clone();
        Ok(Records { layout, segments, frames: None, next: range.start, until })
    }

    /// One record.
    pub fn record(&self, index: u64) -> Result<Stored, ReadError> {
        let size = self.size();
        let record = self.records(index..index.saturating_add(1))?.next();
        record.unwrap_or(Err(ReadError::NoRecord { index, size }))
    }

    /// The last `count` records, oldest first.
    pub fn tail(&self, count: u64) -> Result<Records, ReadError> {
        self.records(self.size().saturating_sub(count)..self.size())
    }

    /// Every record that has to do with `selector`, from `since` on.
    pub fn trail(&self, selector: Selector, since: Option<Timestamp>) -> Result<Trail, ReadError> {
        let conditions = vec![Condition::Who(selector)];
        Ok(Trail(self.search(Query { conditions, since, ..Query::default() })?))
    }

    /// The segments, in order.
    pub(crate) fn spans(&self) -> Result<Vec<Span>, ReadError> {
        let firsts = chain::segments(&self.layout)?;
        let ends = firsts.iter().skip(1).map(|next| (*next, true)).chain([(self.size(), false)]);
        let spans = firsts.iter().zip(ends).map(|(first, (end, closed))| {
            let (first, end) = ((*first).min(self.size()), end.min(self.size()));
            Span { first, end, closed }
        });
        Ok(spans.collect())
    }

    /// The key of a segment's index; none when it is not at hand.
    pub(crate) fn index_key(&self, first: u64) -> Option<[u8; 32]> {
        let secret = std::fs::read(self.layout.index_secret()).ok()?;
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
        ring::hmac::sign(&key, &first.to_be_bytes()).as_ref().try_into().ok()
    }

    /// The handles that values have in a segment which `selector` wants; none when that cannot be
    /// told without reading its records.
    pub(crate) fn handles(&self, first: u64, selector: &Selector) -> Option<Vec<String>> {
        let (kind, value) = match selector {
            Selector::Network(network) if !network.is_single() => return Some(Vec::new()),
            Selector::Network(network) => (PersonalKind::Address, network.to_string()),
            Selector::Principal(name) => (PersonalKind::Principal, name.clone()),
            Selector::Block(_)
            | Selector::Fingerprint(_)
            | Selector::Hex(_)
            | Selector::Incident(_)
            | Selector::Key(_)
            | Selector::Request(_)
            | Selector::Route(_)
            | Selector::Rule(_)
            | Selector::Token(_) => return Some(Vec::new()),
        };
        let handles = Vault::of(self.layout.root()).handles(first, kind, &value).ok()?;
        Some(handles.into_iter().map(|handle| handle.to_string()).collect())
    }
}

pub(crate) fn read_key(layout: &Layout) -> Result<VerifierKey, ReadError> {
    let path = layout.public_key();
    let text = files::read_text(&path)?;
    if text.is_none() && layout.checkpoint().exists() {
        return Err(ReadError::Segment(ChainError::Missing(path)));
    }
    let text = text.ok_or_else(|| ReadError::NoLog(layout.root().to_owned()))?;
    let line = text.strip_suffix('\n').unwrap_or_default();
    line.parse().map_err(|source| ReadError::Key { path, source })
}

// === impl Records ===

impl Records {
    fn advance(&mut self) -> Result<Stored, ReadError> {
        loop {
            let (first, mut frames) = match self.frames.take() {
                Some(segment) => segment,
                None => self.next_segment()?,
            };
            let (index, file) = (self.next, self.layout.segment(first));
            let step = frames.next().map_err(FileError::on("read", &file))?;
            let fault = match step {
                Step::Record(_) => {
                    let text = String::from_utf8_lossy(frames.record()).into();
                    self.next += 1;
                    self.frames = Some((first, frames));
                    return Ok(Stored { index, text });
                }
                Step::End if self.segments.len() > 0 => continue,
                Step::End => Fault::CutShort,
                Step::Broken(fault) => fault,
            };
            return Err(ReadError::Damaged { index, file, fault });
        }
    }

    /// Opens the segment that holds the next record, and goes there.
    fn next_segment(&mut self) -> Result<(u64, Frames), ReadError> {
        let missing = || ChainError::Missing(self.layout.segments());
        let first = self.segments.next().ok_or_else(missing)?;
        let path = self.layout.segment(first);
        let mut frames = chain::open_segment(&path, first)?;
        if first > self.next {
            return Err(ChainError::Missing(self.layout.segment(self.next)).into());
        }
        for index in first..self.next {
            if !frames.skip().map_err(FileError::on("read", &path))? {
                let fault = Fault::CutShort;
                return Err(ReadError::Damaged { index, file: path, fault });
            }
        }
        Ok((first, frames))
    }
}

impl Iterator for Records {
    type Item = Result<Stored, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.until {
            return None;
        }
        let record = self.advance();
        if record.is_err() {
            // Behind damage nothing is known to be in its place.
            self.until = self.next;
        }
        Some(record)
    }
}

// === impl Trail ===

impl Iterator for Trail {
    type Item = Result<Stored, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}
