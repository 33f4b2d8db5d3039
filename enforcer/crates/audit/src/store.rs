//! The files of a log while it is written: staged, written, synced, signed, published, in this order.
//!
//! Each step of [`Store::commit`] remembers that it is done, so that a commit that stopped for want
//! of room goes on where it stopped. Any other failure is final: after a failed sync nobody knows
//! what the disk holds, and only opening the log again finds out.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use enforcer_model::Timestamp;

use crate::files::{self, Durable, FileError, Reserve};
use crate::layout::Layout;
use crate::merkle::{TILE_WIDTH, Tile, Tree};
use crate::note::SigningKey;
use crate::open::OpenError;
use crate::segment::{Header, push_frame};
use crate::shared::Published;

/// The log's files, held by one writer.
#[derive(Debug)]
pub(crate) struct Store {
    layout: Layout,
    key: SigningKey,
    segment: Segment,
    segment_bytes: u64,
    /// With everything that is staged.
    tree: Tree,
    /// As of the last commit: what remains when staged records are given up.
    committed: Tree,
    /// The size under the published checkpoint.
    signed: u64,
    staged: Vec<u8>,
    unsynced: bool,
    tiles: VecDeque<Tile>,
    /// Until it is dropped nobody else writes.
    _lock: File,
}

/// The segment that grows.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) first: u64,
    /// Whole frames only; what a failed write leaves behind is cut off.
    pub(crate) length: u64,
}

/// Why a commit did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the disk is full")]
    NoSpace,
    #[error("`{}` was removed or moved away while the agent wrote to it", .0.display())]
    Moved(PathBuf),
    #[error("{0}: {cause}", cause = .0.source)]
    File(FileError),
}

impl From<FileError> for StoreError {
    fn from(error: FileError) -> Self {
        if error.is_no_space() { Self::NoSpace } else { Self::File(error) }
    }
}

impl StoreError {
    /// The same while a log is opened.
    pub(crate) fn into_open(self) -> OpenError {
        match self {
            Self::NoSpace => OpenError::NoSpace,
            Self::Moved(path) => OpenError::Missing(path),
            Self::File(error) => OpenError::File(error),
        }
    }
}

impl Store {
    pub(crate) fn new(
        layout: Layout,
        key: SigningKey,
        segment: Segment,
        segment_bytes: u64,
        tree: Tree,
        signed: u64,
        lock: File,
    ) -> Self {
        Self {
            layout,
            key,
            segment,
            segment_bytes,
            // Records above the checkpoint wait for nothing but their signature.
            unsynced: tree.size() > signed,
            committed: tree.clone(),
            signed,
            tree,
            staged: Vec::new(),
            tiles: VecDeque::new(),
            _lock: lock,
        }
    }

    /// The index that the next staged record gets.
    pub(crate) const fn next_index(&self) -> u64 {
        self.tree.size()
    }

    /// Bytes that wait to be written.
    pub(crate) const fn staged_bytes(&self) -> usize {
        self.staged.len()
    }

    /// Whether everything is under the published checkpoint.
    pub(crate) const fn is_settled(&self) -> bool {
        self.tree.size() == self.signed
    }

    /// Takes a record up; false when it cannot be an entry.
    pub(crate) fn stage(&mut self, record: &[u8]) -> bool {
        let Some(leaf) = push_frame(&mut self.staged, record) else { return false };
        self.tree.append(leaf, |tile| self.tiles.push_back(tile));
        true
    }

    /// Gives up what is staged and not written; how many records that were.
    pub(crate) fn discard_staged(&mut self) -> u64 {
        if self.staged.is_empty() {
            return 0;
        }
        let lost = self.tree.size() - self.committed.size();
        self.staged.clear();
        self.tiles.clear();
        self.tree = self.committed.clone();
        lost
    }

    /// Whether the segment is over its size and the next record may begin another one.
    pub(crate) fn wants_roll(&self) -> bool {
        let staged = u64::try_from(self.staged.len()).unwrap_or(u64::MAX);
        self.segment.length.saturating_add(staged) > self.segment_bytes
            && self.tree.size().is_multiple_of(TILE_WIDTH)
            && self.tree.size() > self.segment.first
    }

    /// Makes everything staged durable and signs it.
    pub(crate) fn commit(&mut self, now: Timestamp) -> Result<Published, StoreError> {
        self.check_in_place()?;
        self.write()?;
        if self.unsynced {
            let synced = self.segment.file.sync_data();
            // Never NoSpace, whatever the system calls it: a failed sync is not tried again.
            synced.map_err(FileError::on("sync", &self.segment.path)).map_err(StoreError::File)?;
            self.unsynced = false;
        }
        while let Some(tile) = self.tiles.front() {
            let path = self.layout.tile(tile.level, tile.index);
            files::replace_in_tree(&self.layout, &path, tile.hashes.as_flattened(), 0o644)?;
            self.tiles.pop_front();
        }
        let (size, root) = (self.tree.size(), self.tree.root());
        let checkpoint = self.key.sign(size, root);
        let path = self.layout.checkpoint();
        files::replace(&self.layout, &path, checkpoint.as_bytes(), 0o644, Durable::Yes)?;
        self.committed = self.tree.clone();
        self.signed = size;
        Ok(Published { size, root, checkpoint: Arc::from(checkpoint), at: now })
    }

    /// Begins another segment when it is time. Everything staged must be committed.
    pub(crate) fn roll(&mut self) -> Result<(), StoreError> {
        if !self.wants_roll() || self.tree.size() != self.committed.size() {
            return Ok(());
        }
        // Tiles and names of the closed segment; a start does not look at them again.
        rustix::fs::syncfs(&self.segment.file)
            .map_err(FileError::on("sync the file system of", &self.segment.path))?;
        let previous = (self.segment.first, self.segment.length);
        self.segment = Segment::create(&self.layout, &self.tree, previous)?;
        Ok(())
    }

    /// Keeps more or less of the disk for ourselves.
    pub(crate) fn reserve(&self, reserve: Reserve) -> Result<(), StoreError> {
        Ok(files::keep_reserve(&self.layout, reserve)?)
    }

    fn write(&mut self) -> Result<(), StoreError> {
        if self.staged.is_empty() {
            return Ok(());
        }
        let Segment { file, path, length, .. } = &mut self.segment;
        if let Err(error) = files::write_at(file, &self.staged, *length) {
            let error = FileError::on("write", path)(error);
            // Half a frame is left of it, perhaps.
            file.set_len(*length).map_err(FileError::on("cut", path))?;
            return Err(error.into());
        }
        *length = length.saturating_add(u64::try_from(self.staged.len()).unwrap_or(u64::MAX));
        self.staged.clear();
        self.unsynced = true;
        Ok(())
    }

    /// A file that was removed takes writes as before, and nobody would ever read them.
    fn check_in_place(&self) -> Result<(), StoreError> {
        let Segment { file, path, .. } = &self.segment;
        let open = file.metadata().map_err(FileError::on("examine", path))?;
        let named = std::fs::metadata(path);
        let same = named.is_ok_and(|it| it.ino() == open.ino() && it.dev() == open.dev());
        if same { Ok(()) } else { Err(StoreError::Moved(path.clone())) }
    }
}

impl Segment {
    /// A new segment that continues `tree`.
    pub(crate) fn create(
        layout: &Layout,
        tree: &Tree,
        previous: (u64, u64),
    ) -> Result<Self, FileError> {
        let first = tree.size();
        let path = layout.segment(first);
        let header = Header { tree: tree.clone(), previous }.encode();
        let file = files::replace(layout, &path, &header, 0o600, Durable::Yes)?;
        files::sync_directory(&layout.segments())?;
        let length = u64::try_from(header.len()).unwrap_or(u64::MAX);
        Ok(Self { file, path, first, length })
    }
}
