//! Reading a log beside the agent that writes it, or without any agent.
//!
//! A [`Log`] is the log as of one checkpoint: what is behind it is not shown, for it may never be
//! acknowledged. Reading checks each record against its frame; that the records are those that were
//! signed is the business of [`crate::verify()`].

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;

use enforcer_model::{PersonalKind, Timestamp};

use crate::chain::{self, ChainError};
use crate::files::{self, FileError};
use crate::index::IndexError;
use crate::layout::Layout;
use crate::merkle::Tree;
use crate::note::{Checkpoint, KeyError, NoteError, VerifierKey};
use crate::query::{Condition, Query, Search};
use crate::reading::{Reading, Shelf, View};
use crate::sealing::age::Identity;
use crate::sealing::{KEY_BYTES, Keyring};
use crate::segment::Fault;
use crate::select::Selector;
use crate::stored::Stored;
use crate::subject::Vault;

/// How a `subject` record says that it is one.
pub(crate) const SUBJECT_CLASS: &str = "\"class\":\"subject\"";

/// A log, read as of the checkpoint that was there when it was opened.
#[derive(Clone, Debug)]
pub struct Log {
    layout: Layout,
    key: VerifierKey,
    first_epoch: VerifierKey,
    keyring: Keyring,
    note: String,
    checkpoint: Checkpoint,
    shelf: Shelf,
}

/// One segment of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its first record.
    pub first: u64,
    /// The first record behind it, as far as it is written.
    pub end: u64,
    /// Whether it says itself where its records are, and grows no more.
    pub closed: bool,
    /// When it was begun, which is when the one before ended.
    pub begun: Timestamp,
    /// Its file.
    pub path: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Records in the order of their indices.
#[derive(Debug)]
pub struct Records {
    layout: Layout,
    keyring: Keyring,
    segments: vec::IntoIter<u64>,
    shelf: Shelf,
    segment: Option<Reading>,
    view: View,
    next: u64,
    until: u64,
}

/// The records of one selector, oldest first.
#[derive(Debug)]
pub struct Trail(Search);

/// What a log takes on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// How many segments there are.
    pub segments: u64,
    /// How many of them have an index.
    pub indexed_segments: u64,
    /// What the segments take.
    pub segment_bytes: u64,
    /// What the indexes take.
    pub index_bytes: u64,
}

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
    /// Nobody here can open the segment.
    #[error("the records from {first} on are sealed, and their key is no longer on this host")]
    Sealed {
        /// The first record of the segment.
        first: u64,
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
        let (key, first_epoch) = read_keys(&layout)?;
        let path = layout.checkpoint();
        let note = files::read_text(&path)?;
        let note = note.ok_or_else(|| ReadError::NoLog(directory.to_owned()))?;
        let checkpoint = key.open(&note);
        let checkpoint = checkpoint.map_err(|source| ReadError::Checkpoint { path, source })?;
        let keyring = Keyring::default();
        let shelf = Shelf::default();
        Ok(Self { layout, key, first_epoch, keyring, note, checkpoint, shelf })
    }

    /// The same, for somebody who can open segments whose keys the host has destroyed.
    pub fn with_identities(mut self, identities: Arc<[Identity]>) -> Self {
        self.keyring = Keyring::new(identities);
        self.shelf = Shelf::default();
        self
    }

    /// The key of the first epoch, as the log states it.
    pub const fn first_epoch(&self) -> &VerifierKey {
        &self.first_epoch
    }

    /// All segments, oldest first.
    pub fn segments(&self) -> Result<Vec<SegmentInfo>, ReadError> {
        let firsts = chain::segments(&self.layout)?;
        firsts
            .into_iter()
            .map(|first| {
                let path = self.layout.segment(first);
                let leaves = chain::open_leaves(&path, first)?;
                let bytes = std::fs::metadata(&path).map_err(FileError::on("examine", &path))?;
                Ok(SegmentInfo {
                    first,
                    end: leaves.end(),
                    closed: leaves.is_closed(),
                    begun: leaves.header().begun(),
                    path,
                    bytes: bytes.len(),
                })
            })
            .collect()
    }

    /// The first record that is left; older ones were pruned.
    pub fn first(&self) -> Result<u64, ReadError> {
        Ok(chain::segments(&self.layout)?.first().copied().unwrap_or_default())
    }

    /// The tree at the beginning of the segment from `first` on.
    pub(crate) fn tree_before(&self, first: u64) -> Result<Tree, ReadError> {
        let path = self.layout.segment(first);
        Ok(chain::open_segment(&path, first)?.header().tree().clone())
    }

    /// The key that the index of the segment from `first` on is made with; none when it is not at
    /// hand.
    pub(crate) fn index_key(&self, first: u64) -> Option<[u8; KEY_BYTES]> {
        let header = chain::open_header(&self.layout.segment(first), first).ok()?;
        let keys = self.keyring.find(&self.layout, &header).ok()??;
        Some(*keys.index())
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
        self.view(range, View::Readable)
    }

    fn view(&self, range: Range<u64>, view: View) -> Result<Records, ReadError> {
        let mut firsts = chain::segments(&self.layout)?;
        let until = range.end.min(self.size());
        // From the last segment that begins at or before the first record.
        let begin = firsts.partition_point(|first| *first <= range.start).saturating_sub(1);
        let segments = firsts.split_off(begin.min(firsts.len())).into_iter();
        Ok(Records {
            layout: self.layout.clone(),
            keyring: self.keyring.clone(),
            segments,
            shelf: self.shelf.clone(),
            segment: None,
            view,
            next: range.start,
            until,
        })
    }

    /// One record.
    pub fn record(&self, index: u64) -> Result<Stored, ReadError> {
        self.one(index, View::Readable)
    }

    /// One record as it was hashed, for whoever proves it.
    pub(crate) fn sealed_record(&self, index: u64) -> Result<Stored, ReadError> {
        self.one(index, View::Sealed)
    }

    fn one(&self, index: u64, view: View) -> Result<Stored, ReadError> {
        let size = self.size();
        let record = self.view(index..index.saturating_add(1), view)?.next();
        record.unwrap_or(Err(ReadError::NoRecord { index, size }))
    }

    /// The last `count` records, oldest first.
    pub fn tail(&self, count: u64) -> Result<Records, ReadError> {
        self.records(self.size().saturating_sub(count).max(self.first()?)..self.size())
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

    /// What the log takes on the disk, tiles left out.
    pub fn disk_usage(&self) -> Result<DiskUsage, ReadError> {
        let length = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.len());
        let mut usage = DiskUsage::default();
        for span in self.spans()? {
            let path = self.layout.segment(span.first);
            usage.segments += 1;
            usage.segment_bytes += length(&path).map_err(FileError::on("examine", &path))?;
            if let Ok(bytes) = length(&self.layout.index(span.first)) {
                usage.indexed_segments += 1;
                usage.index_bytes += bytes;
            }
        }
        Ok(usage)
    }

    /// Whether personal values of a segment lie apart from its records.
    pub(crate) fn is_concealed(&self, first: u64) -> bool {
        Vault::of(self.layout.root()).knows(first)
    }

    /// The handles that values have in a segment which `selector` wants; none when that cannot be
    /// told without reading its records.
    pub(crate) fn handles(&self, first: u64, selector: &Selector) -> Option<Vec<String>> {
        if !self.is_concealed(first) {
            return Some(Vec::new());
        }
        let values = match selector {
            Selector::Network(network) if !network.is_single() => return None,
            Selector::Network(network) => vec![
                (PersonalKind::Address, network.to_string()),
                (PersonalKind::Text, network.to_string()),
            ],
            Selector::Principal(name) => vec![(PersonalKind::Principal, name.clone())],
            // As they stand in the arguments of an operator's command.
            Selector::Block(id) => vec![(PersonalKind::Text, id.to_string())],
            Selector::Case(id) => vec![(PersonalKind::Text, id.clone())],
            Selector::Hex(digits) => vec![(PersonalKind::Text, digits.clone())],
            Selector::Key(id) => vec![
                (PersonalKind::Text, id.to_string()),
                (PersonalKind::Text, format!("key:{id}")),
            ],
            Selector::Token(id) => vec![(PersonalKind::Text, id.clone())],
            Selector::Fingerprint(_)
            | Selector::Incident(_)
            | Selector::Request(_)
            | Selector::Route(_)
            | Selector::Rule(_) => return Some(Vec::new()),
        };
        let vault = Vault::of(self.layout.root());
        let mut handles = Vec::new();
        for (kind, value) in values {
            let found = vault.handles(first, kind, &value).ok()?;
            handles.extend(found.into_iter().map(|handle| handle.to_string()));
        }
        Some(handles)
    }
}

/// The log's key and the first epoch's.
pub(crate) fn read_keys(layout: &Layout) -> Result<(VerifierKey, VerifierKey), ReadError> {
    let path = layout.public_key();
    let text = files::read_text(&path)?;
    if text.is_none() && layout.checkpoint().exists() {
        return Err(ReadError::Segment(ChainError::Missing(path)));
    }
    let text = text.ok_or_else(|| ReadError::NoLog(layout.root().to_owned()))?;
    parse_keys(&text).map_err(|source| ReadError::Key { path, source })
}

/// Two keys, a line each.
fn parse_keys(text: &str) -> Result<(VerifierKey, VerifierKey), KeyError> {
    let lines = text.strip_suffix('\n').and_then(|lines| lines.split_once('\n'));
    let (log, epoch) = lines.ok_or(KeyError::Form)?;
    Ok((log.parse()?, epoch.parse()?))
}

// === impl Records ===

impl Records {
    fn advance(&mut self) -> Result<Stored, ReadError> {
        let index = self.next;
        loop {
            let mut segment = match self.segment.take() {
                Some(segment) => segment,
                None => self.next_segment()?,
            };
            // What a segment holds behind the beginning of the next one was given up, and written
            // again there.
            let end = self.segments.as_slice().first().copied();
            if end.is_none_or(|end| index < end)
                && let Some(stored) = segment.record(index, self.view)?
            {
                self.segment = Some(segment);
                self.next += 1;
                return Ok(stored);
            }
            if end.is_none() {
                return Err(segment.damaged(index, Fault::CutShort));
            }
            self.shelf.put(segment);
        }
    }

    /// Opens the segment that holds the next record.
    fn next_segment(&mut self) -> Result<Reading, ReadError> {
        let missing = || ChainError::Missing(self.layout.segments());
        let first = self.segments.next().ok_or_else(missing)?;
        if first > self.next {
            return Err(ChainError::Missing(self.layout.segment(self.next)).into());
        }
        self.shelf.take(&self.layout, &self.keyring, first)
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        if let Some(segment) = self.segment.take() {
            self.shelf.put(segment);
        }
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
