//! The files of a log while it is written: staged, written, synced, signed, published, in this order.
//!
//! One write and one sync make a group durable: its blocks, and behind them the commit that signs
//! them. The checkpoint for everybody else follows without a sync of its own, for the commit says
//! the same. Each step remembers that it is done, so that a commit that stopped for want of room
//! goes on where it stopped. After a failed sync nobody knows what the disk holds: the group is
//! written again to another segment, and the file is never synced again.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use enforcer_model::{Moment, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};

use crate::encode;
use crate::epoch::Epoch;
use crate::files::{self, Durable, FileError, Reserve};
use crate::layout::Layout;
use crate::merkle::{Hash, Tile, Tree, salted_leaf_hash};
use crate::note::{Checkpoint, SigningKey};
use crate::open::OpenError;
use crate::sealing::{Salts, SegmentKeys, Vault};
use crate::segment::{BlockBuilder, Commit, Footer, Hashing, Header, Previous};
use crate::shared::Published;
use crate::store_error::StoreError;
use crate::subject::{self, Names};

/// When a segment is closed, and for how long its key stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    pub(crate) age: Duration,
    pub(crate) hot: Duration,
}

/// The log's files, held by one writer.
#[derive(Debug)]
pub(crate) struct Store {
    layout: Layout,
    key: SigningKey,
    epoch: Epoch,
    vault: Vault,
    extent: Extent,
    segment: Segment,
    /// With everything that is staged.
    tree: Tree,
    /// As of the last commit: what remains when staged records are given up.
    committed: Tree,
    /// The size under the published checkpoint.
    signed: u64,
    /// Records of the block that grows.
    block: BlockBuilder,
    /// Sealed blocks that wait to be written.
    staged: Vec<u8>,
    /// Where these begin: offset and first record.
    places: Vec<(u64, u64)>,
    group: Group,
    /// Bytes of the record that is being staged.
    text: Vec<u8>,
    /// Puts handles in the place of what is personal.
    names: Names,
    unsynced: bool,
    /// Why a block could not be sealed: out of memory.
    unsealed: Option<io::Error>,
    tiles: VecDeque<Tile>,
    /// Closed segments whose keys are beside the log, and when they ended.
    hot: VecDeque<(u64, Timestamp)>,
    /// Until it is dropped nobody else writes.
    _lock: File,
}

/// The segment that grows.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) first: u64,
    pub(crate) begun: Moment,
    pub(crate) keys: SegmentKeys,
    pub(crate) salts: Salts,
    /// The end of its header, which binds its blocks to it.
    pub(crate) context: Hash,
    /// What is written: whole frames only; what a failed write leaves behind is cut off.
    pub(crate) written: Extend,
    /// What is known to be on disk.
    pub(crate) synced: Extend,
    /// Whether frames stand behind its last commit.
    pub(crate) open_ended: bool,
    pub(crate) closed: bool,
    pub(crate) footer: Footer,
}

/// How far a file goes, and its hash up to there.
#[derive(Clone, Debug)]
pub(crate) struct Extend {
    pub(crate) length: u64,
    pub(crate) hash: Hashing,
}

/// What a store takes up when it is opened.
pub(crate) struct Opening {
    pub(crate) layout: Layout,
    pub(crate) key: SigningKey,
    pub(crate) epoch: Epoch,
    pub(crate) vault: Vault,
    pub(crate) extent: Extent,
    pub(crate) segment: Segment,
    pub(crate) names: Names,
    pub(crate) tree: Tree,
    pub(crate) signed: u64,
    pub(crate) hot: VecDeque<(u64, Timestamp)>,
    pub(crate) lock: File,
}

/// Records that are staged and not acknowledged, without their indices.
#[derive(Debug, Default)]
struct Group {
    rests: Vec<u8>,
    ends: Vec<usize>,
    indices: Vec<u64>,
}

impl Group {
    /// What it took of memory stays for the next one.
    fn clear(&mut self) {
        self.rests.clear();
        self.ends.clear();
        self.indices.clear();
    }
}

impl Store {
    pub(crate) fn new(opening: Opening) -> Result<Self, OpenError> {
        let Opening { layout, key, epoch, vault, extent, segment, names, tree, signed, hot, lock } =
            opening;
        let refused = FileError::on("seal blocks of", &segment.path);
        let mut prefix = [0; 4];
        let block = SystemRandom::new()
            .fill(&mut prefix)
            .map_err(|_unspecified| io::Error::other("no random bytes"))
            .and_then(|()| BlockBuilder::new(prefix))
            .map_err(refused)?;
        Ok(Self {
            layout,
            key,
            epoch,
            vault,
            extent,
            // Records above the checkpoint wait for nothing but their signature.
            unsynced: tree.size() > signed || segment.open_ended,
            segment,
            committed: tree.clone(),
            signed,
            tree,
            block,
            staged: Vec::new(),
            places: Vec::new(),
            group: Group::default(),
            text: Vec::new(),
            names,
            unsealed: None,
            tiles: VecDeque::new(),
            hot,
            _lock: lock,
        })
    }

    /// The index that the next staged record gets.
    pub(crate) const fn next_index(&self) -> u64 {
        self.tree.size()
    }

    /// Bytes that wait to be written.
    pub(crate) const fn staged_bytes(&self) -> usize {
        self.staged.len() + self.block.bytes()
    }

    /// Whether everything is under the published checkpoint.
    pub(crate) const fn is_settled(&self) -> bool {
        self.tree.size() == self.signed && !self.segment.open_ended
    }

    /// Takes up a record that has no index yet; its place in the group.
    pub(crate) fn stage(&mut self, rest: &[u8]) -> usize {
        let place = self.group.indices.len();
        self.group.rests.extend_from_slice(rest);
        self.group.ends.push(self.group.rests.len());
        let index = self.append(rest);
        self.group.indices.push(index);
        place
    }

    /// Adds a record, and before it what the handles stand for that are new in it.
    fn append(&mut self, rest: &[u8]) -> u64 {
        loop {
            self.number(rest);
            let subjects = self.names.conceal(&mut self.text, self.tree.size());
            if subjects.is_empty() {
                return self.push();
            }
            // Once more behind them: the record has another number then. A table of known values
            // that was emptied meanwhile has the values of this record the next time.
            for subjects in subjects {
                self.number(&subject::beside(rest, &subjects));
                self.push();
            }
        }
    }

    /// Makes `rest` the text that is pushed next.
    fn number(&mut self, rest: &[u8]) {
        self.text.clear();
        encode::number(self.tree.size(), rest, &mut self.text);
    }

    fn push(&mut self) -> u64 {
        let index = self.tree.size();
        let Segment { keys, salts, .. } = &mut self.segment;
        let leaf = salted_leaf_hash(&salts.get(keys, index), &self.text);
        self.block.push(&self.text, leaf);
        self.tree.append(leaf, |tile| {
            // The lowest hashes are in the blocks.
            if tile.level > 0 {
                self.tiles.push_back(tile);
            }
        });
        if self.block.is_full() {
            self.seal();
        }
        index
    }

    fn seal(&mut self) {
        if self.block.is_empty() {
            return;
        }
        let first = self.tree.size() - self.block.records();
        let staged = u64::try_from(self.staged.len()).unwrap_or(u64::MAX);
        let place = (self.segment.written.length.saturating_add(staged), first);
        let Segment { context, keys, .. } = &self.segment;
        self.places.push(place);
        if let Err(error) = self.block.seal(first, context, keys, &mut self.staged) {
            self.unsealed = Some(error);
        }
    }

    /// The records of the group, in the order in which they were staged: index and text.
    pub(crate) fn group(&self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        let Group { rests, ends, indices } = &self.group;
        let begins = [0].into_iter().chain(ends.iter().copied());
        begins.zip(ends).zip(indices).map(|((begin, end), index)| {
            let mut text = Vec::new();
            encode::number(*index, rests.get(begin..*end).unwrap_or_default(), &mut text);
            (*index, text)
        })
    }

    /// The index of a record of the group.
    pub(crate) fn index_of(&self, place: usize) -> u64 {
        self.group.indices.get(place).copied().unwrap_or_default()
    }

    /// The group is acknowledged.
    pub(crate) fn end_group(&mut self) {
        self.group.clear();
    }

    /// Gives up what is staged and not written; how many records that were.
    pub(crate) fn discard_staged(&mut self) -> u64 {
        let lost = self.tree.size() - self.committed.size();
        if self.staged.is_empty() && self.block.is_empty() {
            return 0;
        }
        self.unstage();
        self.group = Group::default();
        lost
    }

    fn unstage(&mut self) {
        self.block.clear();
        self.staged.clear();
        self.places.clear();
        self.tiles.clear();
        self.tree = self.committed.clone();
        self.names.forget_from(self.tree.size());
    }

    /// Whether the segment is over its size and the next record begins another one.
    pub(crate) fn wants_roll(&self) -> bool {
        let staged = u64::try_from(self.staged.len()).unwrap_or(u64::MAX);
        let Segment { first, written, .. } = &self.segment;
        self.segment.closed
            || self.names.wants_roll()
            || written.length.saturating_add(staged) > self.extent.bytes
            || self.tree.size() - first >= self.extent.records
    }

    /// Whether the segment is over its age.
    pub(crate) fn is_old(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.segment.begun.monotonic);
        age >= self.extent.age && self.tree.size() > self.segment.first
    }

    /// Makes everything staged durable and signs it.
    pub(crate) fn commit(&mut self, now: Moment) -> Result<Published, StoreError> {
        self.check_in_place()?;
        // What is sealed can be opened again, or is not written.
        self.names.settle()?;
        self.seal();
        self.write()?;
        if self.unsynced {
            if let Err(error) = self.segment.file.sync_data() {
                // Whatever the system calls it, it is not tried again on this file.
                let error = FileError::on("sync", &self.segment.path)(error);
                tracing::error!(%error, "a segment is given up and its last group written again");
                self.reseat(now)?;
                self.seal();
                self.write()?;
                let again = self.segment.file.sync_data();
                again
                    .map_err(FileError::on("sync", &self.segment.path))
                    .map_err(StoreError::File)?;
            }
            self.segment.synced = self.segment.written.clone();
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
        let published =
            files::replace(&self.layout, &path, checkpoint.as_bytes(), 0o644, Durable::Derived);
        if published.is_err() {
            // The whole directory may have gone meanwhile, which says more.
            self.check_in_place()?;
        }
        published?;
        self.committed = self.tree.clone();
        self.signed = size;
        Ok(Published { size, root, checkpoint: Arc::from(checkpoint), at: now.wall })
    }

    /// Closes the segment and begins another one. Everything staged must be committed.
    pub(crate) fn roll(&mut self, now: Moment) -> Result<(), StoreError> {
        if self.tree.size() != self.committed.size() || self.tree.size() == self.segment.first {
            return Ok(());
        }
        self.close()?;
        let Segment { first, written, .. } = &self.segment;
        let previous = Previous {
            first: *first,
            length: written.length,
            sha256: written.hash.so_far(),
            poisoned: false,
        };
        self.begin(previous, now)
    }

    /// Says in the segment where its blocks are, so that it can be read from anywhere.
    fn close(&mut self) -> Result<(), StoreError> {
        if self.segment.closed {
            return Ok(());
        }
        let mut footer = std::mem::take(&mut self.segment.footer);
        footer.end = self.tree.size();
        footer.push(&mut self.staged);
        self.segment.footer = footer;
        self.segment.open_ended = true;
        if let Err(error) = self.write() {
            self.staged.clear();
            self.segment.open_ended = false;
            return Err(error);
        }
        let synced = self.segment.file.sync_data();
        synced.map_err(FileError::on("sync", &self.segment.path)).map_err(StoreError::File)?;
        self.segment.synced = self.segment.written.clone();
        // Tiles and names; a start does not look at those of a closed segment again.
        rustix::fs::syncfs(&self.segment.file)
            .map_err(FileError::on("sync the file system of", &self.segment.path))?;
        self.segment.closed = true;
        self.unsynced = false;
        Ok(())
    }

    /// Another segment, where the group is written again: what the old one holds behind its last
    /// commit that was synced does not count.
    fn reseat(&mut self, now: Moment) -> Result<(), StoreError> {
        let Segment { first, synced, .. } = &self.segment;
        let previous = Previous {
            first: *first,
            length: synced.length,
            sha256: synced.hash.so_far(),
            poisoned: true,
        };
        self.unstage();
        if self.tree.size() == previous.first {
            // Nothing of it was ever durable, and two segments cannot begin at one record.
            return Err(StoreError::File(FileError::on("sync", &self.segment.path)(
                io::Error::other("the first sync of a segment failed"),
            )));
        }
        self.begin(previous, now)?;
        let Group { rests, ends, .. } = &self.group;
        let (rests, ends) = (rests.clone(), ends.clone());
        self.group.indices.clear();
        let mut begin = 0;
        for end in ends {
            let index = self.append(rests.get(begin..end).unwrap_or_default());
            self.group.indices.push(index);
            begin = end;
        }
        Ok(())
    }

    fn begin(&mut self, previous: Previous, now: Moment) -> Result<(), StoreError> {
        // A segment begins only under a checkpoint that survives a power cut.
        let path = self.layout.checkpoint();
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(FileError::on("sync", &path))?;
        files::sync_directory(self.layout.root())?;
        let ended = (self.segment.first, now.wall);
        self.segment = Segment::create(&self.layout, &self.vault, &self.tree, previous, now)?;
        self.names.begin_segment(self.segment.first)?;
        self.names.settle()?;
        self.hot.push_back(ended);
        Ok(())
    }

    /// Destroys the keys of segments that have cooled down, when somebody else can open them.
    pub(crate) fn forget(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.names.settle()?;
        if !self.vault.has_recipients() {
            return Ok(());
        }
        let hot = u64::try_from(self.extent.hot.as_nanos()).unwrap_or(u64::MAX);
        while let Some((first, ended)) = self.hot.front() {
            if now.unix_ns().saturating_sub(ended.unix_ns()) < hot {
                break;
            }
            Vault::forget(&self.layout, *first)?;
            self.hot.pop_front();
        }
        Ok(())
    }

    /// Records since the epoch began.
    pub(crate) const fn epoch_records(&self) -> u64 {
        self.tree.size().saturating_sub(self.epoch.since)
    }

    /// For how long the epoch has been under way; none when it began before the host was started.
    pub(crate) fn epoch_age(&self) -> Option<Duration> {
        self.epoch.age()
    }

    /// The key of the next epoch, which a record must name before it is in force.
    pub(crate) fn next_epoch(&self) -> Result<Epoch, StoreError> {
        let number = self.epoch.number.saturating_add(1);
        let origin = self.key.verifier().origin();
        Ok(Epoch::prepare(&self.layout, origin, number, self.tree.size())?)
    }

    /// The old epoch signs for the last time. Everything staged must be committed.
    pub(crate) fn hand_over(&mut self, mut next: Epoch) -> Result<(), StoreError> {
        let head = Checkpoint {
            origin: self.key.verifier().origin().to_owned(),
            size: self.committed.size(),
            root: self.committed.root(),
        };
        self.epoch.hand_over(&self.layout, &next, &head)?;
        next.since = head.size;
        self.epoch = next;
        Ok(())
    }

    /// Keeps more or less of the disk for ourselves.
    pub(crate) fn reserve(&self, reserve: Reserve) -> Result<(), StoreError> {
        Ok(files::keep_reserve(&self.layout, reserve)?)
    }

    /// Writes what is staged and behind it the commit that signs it.
    fn write(&mut self) -> Result<(), StoreError> {
        if let Some(error) = self.unsealed.take() {
            return Err(StoreError::File(FileError::on("seal blocks of", &self.segment.path)(
                error,
            )));
        }
        if self.staged.is_empty() && !self.segment.open_ended {
            return Ok(());
        }
        let Segment { file, path, first, written, .. } = &mut self.segment;
        let blocks = self.staged.len();
        let mut hash = written.hash.clone();
        hash.update(&self.staged);
        let offset = written.length.saturating_add(u64::try_from(blocks).unwrap_or(u64::MAX));
        let origin = self.key.verifier().origin();
        let commit = Commit::sign(
            self.epoch.key(),
            (origin, self.epoch.number),
            (*first, offset),
            (self.tree.size(), self.tree.root(), hash.so_far()),
        );
        commit.push(&mut self.staged);
        hash.update(self.staged.get(blocks..).unwrap_or_default());
        if let Err(error) = files::write_at(file, &self.staged, written.length) {
            let error = FileError::on("write", path)(error);
            self.staged.truncate(blocks);
            // Half a frame is left of it, perhaps.
            file.set_len(written.length).map_err(FileError::on("cut", path))?;
            return Err(error.into());
        }
        let length = u64::try_from(self.staged.len()).unwrap_or(u64::MAX);
        *written = Extend { length: written.length.saturating_add(length), hash };
        self.segment.open_ended = false;
        self.segment.footer.blocks.append(&mut self.places);
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
        vault: &Vault,
        tree: &Tree,
        previous: Previous,
        now: Moment,
    ) -> Result<Self, FileError> {
        let first = tree.size();
        let path = layout.segment(first);
        let (keys, wrapped) = vault.create(layout, first)?;
        let header = Header::new(tree.clone(), previous, now.wall, *keys.check(), wrapped).encode();
        let file = files::replace(layout, &path, &header, 0o600, Durable::Yes)?;
        files::sync_directory(&layout.segments())?;
        let length = u64::try_from(header.len()).unwrap_or(u64::MAX);
        let written = Extend { length, hash: Hashing::new(&header) };
        Ok(Self {
            file,
            path,
            first,
            begun: now,
            keys,
            salts: Salts::default(),
            context: header.last_chunk().copied().unwrap_or_default(),
            synced: written.clone(),
            written,
            open_ended: false,
            closed: false,
            footer: Footer::default(),
        })
    }
}
