//! One pass over all segments, from the first record that is left to the last.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::keys::is_gone_soon;
use super::{Damage, VerifyError, broken, damage};
use crate::chain::{self, ChainError};
use crate::epoch;
use crate::files::{self, FileError};
use crate::layout::Layout;
use crate::merkle::{HASH_BYTES, Hash, TILE_WIDTH, Tile, Tree, root_of};
use crate::note::Checkpoint;
use crate::sealing::{Keyring, SegmentKeys};
use crate::segment::{Block, Commit, Fault, Footer, Frame, Frames, Header, Opener, Step};

/// How many records pass between two calls of `progress`.
const PROGRESS_RECORDS: u64 = 8_192;
/// The audit under way.
pub(super) struct Audit<'a> {
    layout: &'a Layout,
    signed: &'a Checkpoint,
    epochs: &'a epoch::Chain,
    keyring: Keyring,
    opener: Opener,
    pub(super) tree: Tree,
    /// Records that fit their hashes.
    pub(super) read: u64,
    /// Tree heads that are still to come: size, root and whose they are.
    pub(super) heads: BTreeMap<u64, Vec<(Hash, Whose)>>,
    next_head: u64,
    pub(super) tiles: u64,
    pub(super) sealed: usize,
    /// The first tile that does not fit the records; the root will say who is right.
    suspect: Option<Suspect>,
}

/// Who says that the log had a tree head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Checkpoint,
    Epoch(u32),
    Pin,
}

struct Suspect {
    tile: PathBuf,
    record: u64,
    missing: bool,
}

/// A segment under way.
struct Reading<'a> {
    path: &'a Path,
    frames: Frames,
    keys: Option<SegmentKeys>,
    is_last: bool,
    /// How much of it counts, if the next one says so.
    limit: Option<u64>,
    footer: Footer,
    last_commit: Option<(Commit, u64)>,
    /// Records under its last commit.
    committed: u64,
}
impl<'a> Audit<'a> {
    pub(super) fn new(
        layout: &'a Layout,
        signed: &'a Checkpoint,
        epochs: &'a epoch::Chain,
        keyring: Keyring,
    ) -> Self {
        Self {
            layout,
            signed,
            epochs,
            keyring,
            opener: Opener::default(),
            tree: Tree::default(),
            read: 0,
            heads: BTreeMap::new(),
            next_head: 0,
            tiles: 0,
            sealed: 0,
            suspect: None,
        }
    }
}

impl Audit<'_> {
    /// Every tree head that somebody has signed.
    pub(super) fn expect(&mut self, pins: &[Checkpoint]) -> Result<(), VerifyError> {
        let Checkpoint { origin, size, root } = self.signed;
        self.heads.entry(*size).or_default().push((*root, Whose::Checkpoint));
        for link in self.epochs.heads() {
            self.heads.entry(link.size).or_default().push((link.root, Whose::Epoch(link.number)));
        }
        for pin in pins {
            let path = self.layout.checkpoint();
            if pin.origin != *origin {
                return Err(
                    damage(&path, None, &"a checkpoint to compare is of another log").into()
                );
            }
            if pin.size > *size {
                let why = format!(
                    "it signs {size} records, and another checkpoint of this log {}: the log was \
                     cut or put back",
                    pin.size
                );
                return Err(damage(&path, Some(*size), &why).into());
            }
            self.heads.entry(pin.size).or_default().push((pin.root, Whose::Pin));
        }
        Ok(())
    }

    /// Goes through one segment; gives how much of the file counts, and the hash of that.
    pub(super) fn segment(
        &mut self,
        first: u64,
        previous: Option<(u64, u64, Hash)>,
        next: Option<u64>,
        pruned: u64,
        progress: &mut impl FnMut(u64, u64),
    ) -> Result<(u64, Hash), VerifyError> {
        let path = self.layout.segment(first);
        let frames = self.open(&path, first)?;
        let header = frames.header().clone();
        self.continues(&header, previous, pruned)?;
        let keys = self.unlock(&header)?;
        self.sealed += usize::from(keys.is_none());
        // A segment that was given up counts as far as the next one says.
        let following = next.and_then(|next| self.open(&self.layout.segment(next), next).ok());
        let limit = following.map(|next| *next.header().previous());
        let limit = limit.filter(|it| it.poisoned && it.first == first).map(|it| it.length);
        let mut reading = Reading {
            path: &path,
            frames,
            keys,
            is_last: next.is_none(),
            limit,
            footer: Footer::default(),
            last_commit: None,
            committed: first,
        };
        loop {
            self.reach_heads(&reading)?;
            if reading.limit.is_some_and(|limit| reading.frames.offset() >= limit) {
                break;
            }
            match self.frame(&mut reading, progress) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err(error),
            }
        }
        if reading.is_last && reading.committed < self.signed.size {
            return Err(damage(&path, Some(reading.committed), &Fault::CutShort).into());
        }
        self.check_signature(&reading, first)?;
        Ok((reading.frames.offset(), reading.frames.hash().so_far()))
    }

    fn open(&self, path: &Path, first: u64) -> Result<Frames, VerifyError> {
        chain::open_segment(path, first).map_err(|error| match error {
            ChainError::Missing(file) => {
                damage(&file, Some(self.tree.size()), &"the segment is missing").into()
            }
            other @ (ChainError::Altered { .. } | ChainError::File(_)) => {
                broken(self.layout, other)
            }
        })
    }

    /// The header continues what was read before.
    fn continues(
        &mut self,
        header: &Header,
        previous: Option<(u64, u64, Hash)>,
        pruned: u64,
    ) -> Result<(), VerifyError> {
        let (first, path) = (header.first(), self.layout.segment(header.first()));
        let reached = self.tree.size().min(first);
        let before = previous.map(|(first, length, _)| (first, length));
        chain::check_previous(header, before, pruned, self.layout).map_err(
            |error| match error {
                ChainError::Missing(file) => {
                    damage(&file, Some(reached), &"the segment is missing").into()
                }
                other @ (ChainError::Altered { .. } | ChainError::File(_)) => {
                    broken(self.layout, other.at(reached))
                }
            },
        )?;
        if let Some((before, _, sha256)) = previous
            && sha256 != header.previous().sha256
        {
            let why = "its bytes are not those that the next segment names";
            return Err(damage(&self.layout.segment(before), Some(before), &why).into());
        }
        if previous.is_none() {
            // The root will say whether this tree is the one that was signed.
            self.tree = header.tree().clone();
            self.heads = self.heads.split_off(&first);
            self.find_next_head();
        }
        if *header.tree() != self.tree {
            let why = "its header does not continue the records before it";
            return Err(damage(&path, Some(reached), &why).into());
        }
        Ok(())
    }

    fn unlock(&self, header: &Header) -> Result<Option<SegmentKeys>, VerifyError> {
        let keys = self.keyring.find(self.layout, header)?;
        let path = self.layout.data_key(header.first());
        // A key that lies there and does not fit was altered, unless it cannot be read.
        if keys.is_none() && matches!(files::read_text(&path), Ok(Some(_))) && !is_gone_soon(&path)
        {
            return Err(damage(&path, None, &"it is not the key of its segment").into());
        }
        Ok(keys)
    }

    /// Takes up what comes next; false at the end of what counts.
    fn frame(
        &mut self,
        reading: &mut Reading<'_>,
        progress: &mut impl FnMut(u64, u64),
    ) -> Result<bool, VerifyError> {
        let index = self.tree.size();
        let offset = reading.frames.offset();
        let step = reading.frames.next().map_err(FileError::on("read", reading.path))?;
        let fault = match step {
            Step::Frame(Frame::Block(block)) if block.first() == index => {
                return match self.block(&block, reading, offset, progress) {
                    Ok(()) => Ok(true),
                    Err(_) if reading.is_last && index >= self.signed.size => Ok(false),
                    Err(error) => Err(error),
                };
            }
            Step::Frame(Frame::Commit(commit)) => {
                if (commit.size, commit.root) == (index, self.tree.root()) {
                    reading.last_commit = Some((commit, offset));
                    reading.committed = index;
                    return Ok(true);
                }
                Fault::Commit
            }
            Step::Frame(Frame::Footer(footer))
                if footer.blocks == reading.footer.blocks && footer.end == index =>
            {
                return Ok(true);
            }
            Step::Frame(Frame::Block(_) | Frame::Footer(_)) => Fault::Frame,
            Step::End if !reading.is_last || index >= self.signed.size => return Ok(false),
            Step::End => Fault::CutShort,
            Step::Broken(fault) => fault,
        };
        // What an agent is writing, or was when it was killed.
        if reading.is_last && index >= self.signed.size && fault != Fault::Commit {
            return Ok(false);
        }
        // A commit covers all since the one before.
        let bad = if fault == Fault::Commit { reading.committed } else { index };
        Err(damage(reading.path, Some(bad), &fault).into())
    }

    fn block(
        &mut self,
        block: &Block,
        reading: &mut Reading<'_>,
        offset: u64,
        progress: &mut impl FnMut(u64, u64),
    ) -> Result<(), VerifyError> {
        if let Some(keys) = &reading.keys {
            let checked = block.check(reading.frames.context(), keys, &mut self.opener);
            checked.map_err(|bad| {
                self.read = bad.index;
                let why = if bad.rest {
                    "the block that begins with it cannot be opened: its bytes were altered"
                } else {
                    "its bytes do not fit their hash"
                };
                damage(reading.path, Some(bad.index), &why)
            })?;
        }
        reading.footer.blocks.push((offset, block.first()));
        for leaf in block.leaves() {
            self.append(*leaf)?;
            let size = self.tree.size();
            self.read = size;
            if size == self.next_head {
                self.reach_heads(reading)?;
            }
            if size.is_multiple_of(PROGRESS_RECORDS) && size < self.signed.size {
                progress(size, self.signed.size);
            }
        }
        Ok(())
    }

    fn append(&mut self, leaf: Hash) -> Result<(), FileError> {
        let mut completed = Vec::new();
        self.tree.append(leaf, |tile| {
            if tile.level > 0 {
                completed.push(tile);
            }
        });
        for tile in completed.iter().filter(|tile| tile.end() <= self.signed.size) {
            self.tiles += 1;
            let path = self.layout.tile(tile.level, tile.index);
            let found = read_or_nothing(&path)?;
            if found != tile.hashes.as_flattened() && self.suspect.is_none() {
                self.suspect = Some(Suspect {
                    record: first_difference(tile, &found),
                    missing: found.is_empty(),
                    tile: path,
                });
            }
        }
        Ok(())
    }

    /// At a size that somebody has signed, the moment of truth.
    fn reach_heads(&mut self, reading: &Reading<'_>) -> Result<(), Damage> {
        let size = self.tree.size();
        if size != self.next_head {
            return Ok(());
        }
        let heads = self.heads.remove(&size).unwrap_or_default();
        self.find_next_head();
        let root = self.tree.root();
        let Some((_, whose)) = heads.iter().find(|(signed, _)| *signed != root) else {
            return Ok(());
        };
        let from = reading.frames.header().first();
        let why = match whose {
            Whose::Checkpoint => {
                format!("the records {from} to {size} are not what the checkpoint signs")
            }
            Whose::Epoch(number) => format!(
                "the records {from} to {size} are not what was signed before epoch {number} began"
            ),
            Whose::Pin => format!(
                "the first {size} records are not those of a checkpoint that was kept elsewhere: \
                 the past was rewritten"
            ),
        };
        Err(damage(reading.path, Some(from), &why))
    }

    fn find_next_head(&mut self) {
        self.next_head = self.heads.first_key_value().map_or(u64::MAX, |(size, _)| *size);
    }

    /// Each commit covers those before it, so the last of a segment is enough.
    fn check_signature(&self, reading: &Reading<'_>, first: u64) -> Result<(), VerifyError> {
        let path = reading.path;
        match &reading.last_commit {
            Some((commit, offset)) => {
                let key = self.epochs.key(commit.epoch);
                if key.is_some_and(|key| commit.holds(key, &self.signed.origin, first, *offset)) {
                    Ok(())
                } else {
                    let why = "its last commit is not signed by the key of its epoch";
                    Err(damage(path, Some(reading.committed.min(first)), &why).into())
                }
            }
            None if reading.is_last && self.signed.size <= first => Ok(()),
            None => Err(damage(path, Some(first), &"nothing in it is signed").into()),
        }
    }

    /// The root holds, so a tile that does not fit the records was altered.
    pub(super) fn end_suspicion(&mut self) -> Result<(), Damage> {
        match self.suspect.take() {
            None => Ok(()),
            Some(Suspect { tile, missing: true, record }) => {
                let why = format!("the tree of records from {record} on is missing");
                Err(damage(&tile, None, &why))
            }
            Some(Suspect { tile, record, .. }) => {
                let why = format!("its hash of record {record} or above is altered");
                Err(damage(&tile, None, &why))
            }
        }
    }

    /// Tiles over records that are gone, each against the one above it.
    pub(super) fn pruned_tiles(&mut self, pruned: u64) -> Result<(), VerifyError> {
        let mut nodes = pruned;
        for level in 1.. {
            nodes /= TILE_WIDTH;
            if nodes < TILE_WIDTH {
                return Ok(());
            }
            for index in 0..nodes / TILE_WIDTH {
                self.tiles += 1;
                let path = self.layout.tile(level, index);
                let bytes = read_or_nothing(&path)?;
                let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
                let whole = rest.is_empty() && u64::try_from(hashes.len()) == Ok(TILE_WIDTH);
                if !whole || self.parent(level, index)? != Some(root_of(hashes)) {
                    let why = "it does not fit the tree above it";
                    return Err(damage(&path, None, &why).into());
                }
            }
        }
        Ok(())
    }

    /// What the tree above says of the tile `index` of `level`.
    fn parent(&self, level: usize, index: u64) -> Result<Option<Hash>, FileError> {
        let place = usize::try_from(index % TILE_WIDTH).unwrap_or_default();
        let partial = self.tree.partial().get(level + 1);
        let width = TILE_WIDTH.checked_pow(u32::try_from(level + 2).unwrap_or(u32::MAX));
        let unfinished = width.map_or(0, |width| self.tree.size() / width);
        if index / TILE_WIDTH == unfinished {
            return Ok(partial.and_then(|tile| tile.get(place)).copied());
        }
        let bytes = read_or_nothing(&self.layout.tile(level + 1, index / TILE_WIDTH))?;
        let (hashes, _) = bytes.as_chunks::<HASH_BYTES>();
        Ok(hashes.get(place).copied())
    }
}

fn read_or_nothing(path: &Path) -> Result<Vec<u8>, FileError> {
    match fs::read(path) {
        Ok(found) => Ok(found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(FileError::on("read", path)(error)),
    }
}

fn first_difference(tile: &Tile, found: &[u8]) -> u64 {
    let (found, _) = found.as_chunks::<HASH_BYTES>();
    let same = tile.hashes.iter().zip(found).take_while(|(ours, theirs)| ours == theirs).count();
    let each = (tile.end() - tile.first()) / TILE_WIDTH;
    tile.first() + u64::try_from(same).unwrap_or_default() * each
}
impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint => f.write_str("the checkpoint signs"),
            Self::Epoch(number) => write!(f, "before epoch {number} began were signed"),
            Self::Pin => f.write_str("a checkpoint that was kept elsewhere signs"),
        }
    }
}
