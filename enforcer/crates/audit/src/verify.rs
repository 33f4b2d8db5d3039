//! The whole audit: every byte of the log against the signed root.
//!
//! Recomputes the tree from the leaf hashes, and these from the records wherever their key is at
//! hand, and holds everything else against it: the checkpoint and its signature, the chain of
//! epochs, every commit, every tile, the headers of the segments and their hashes, the keys, even
//! the reserve. With the public key alone the records stay sealed and everything else is checked:
//! each commit signs the very bytes of the file. Runs beside an agent that writes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::chain::{self, ChainError};
use crate::epoch;
use crate::files::{self, FileError};
use crate::layout::Layout;
use crate::merkle::{HASH_BYTES, Hash, TILE_WIDTH, Tile, Tree, root_of};
use crate::note::{Checkpoint, SigningKey, VerifierKey};
use crate::open::OpenError;
use crate::prune;
use crate::read::{ReadError, read_keys};
use crate::sealing::age::Identity;
use crate::sealing::{Keyring, SegmentKeys};
use crate::segment::{Block, Commit, Fault, Footer, Frame, Frames, Header, Step};
use crate::subject::{Vault, VaultError};

/// How many records pass between two calls of `progress`.
const PROGRESS_RECORDS: u64 = 8_192;
/// A secret that is being destroyed is looked at again so often …
const GONE_TRIES: u32 = 20;
/// … after so long.
const GONE_AFTER: Duration = Duration::from_millis(5);

/// What whoever verifies knows from elsewhere.
#[derive(Debug, Default)]
pub struct Expected {
    /// The log's key.
    pub key: Option<VerifierKey>,
    /// The key of its first epoch.
    pub first_epoch: Option<VerifierKey>,
    /// Tree heads that the log had, such as witnesses cosigned: it must have grown from each.
    pub pins: Vec<Checkpoint>,
    /// Keys for segments whose own the host has destroyed.
    pub identities: Arc<[Identity]>,
}

impl Expected {
    /// Nothing but the log's key.
    pub fn of(key: &VerifierKey) -> Self {
        Self { key: Some(key.clone()), ..Self::default() }
    }
}

/// A log that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The key that the checkpoint is signed with.
    pub key: VerifierKey,
    /// The tree head: all records below its size are what was signed.
    pub checkpoint: Checkpoint,
    /// The first record that is left; older ones were pruned.
    pub first: u64,
    /// Intact records behind the checkpoint, not signed yet: an agent is at work, or was killed.
    pub tail_records: u64,
    /// Bytes behind these: a write that is under way, or that a crash cut off.
    pub tail_torn_bytes: u64,
    /// Files of records.
    pub segments: usize,
    /// Of them, those whose records nobody here can open: their hashes were checked, and that the
    /// file is as it was signed.
    pub sealed: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Full tiles that were compared.
    pub tiles: u64,
    /// Epochs, each of whose keys vouched for the next.
    pub epochs: u32,
}

/// The log does not hold.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Something is not as it was signed.
    #[error("{0}")]
    Damaged(Damage),
    /// A call to the file system failed; nothing is said about the log.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no log to verify.
    #[error("there is no audit log in `{}`", .0.display())]
    NoLog(PathBuf),
}

/// What does not fit, and how far the log is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// The first record that is not what was signed; none when it is not about records.
    pub first_bad: Option<u64>,
    /// The last record before it that was read and fits its own check. Whether it is what was signed
    /// only the root of a whole log can say.
    pub last_good: Option<u64>,
    /// What does not fit.
    pub why: String,
}

/// The audit under way.
struct Audit<'a> {
    layout: &'a Layout,
    signed: &'a Checkpoint,
    epochs: &'a epoch::Chain,
    keyring: Keyring,
    tree: Tree,
    /// Records that fit their hashes.
    read: u64,
    /// Tree heads that are still to come: size, root and whose they are.
    heads: BTreeMap<u64, Vec<(Hash, Whose)>>,
    next_head: u64,
    tiles: u64,
    sealed: usize,
    /// The first tile that does not fit the records; the root will say who is right.
    suspect: Option<Suspect>,
}

/// Who says that the log had a tree head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
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

/// Verifies the log in `directory`. `progress` is told how many of the signed records are done.
pub fn verify(
    directory: &Path,
    expected: &Expected,
    mut progress: impl FnMut(u64, u64),
) -> Result<Report, VerifyError> {
    let layout = Layout::new(directory);
    let (key, first_epoch) = check_keys(&layout, expected)?;
    let epochs = epoch::Chain::read(&layout, &key, Some(&first_epoch)).map_err(unopened)?;
    check_epoch_key(&layout, &epochs)?;
    if !files::is_reserve_empty(&layout) {
        return Err(damage(&layout.reserve(), None, &"it holds something").into());
    }
    check_subjects(directory)?;
    let pruned = prune::until(&layout, &key).map_err(|error| broken(&layout, error))?;
    let (signed, firsts) = head(&layout, &key)?;
    let keyring = Keyring::new(expected.identities.clone());
    let mut audit = Audit {
        layout: &layout,
        signed: &signed,
        epochs: &epochs,
        keyring,
        tree: Tree::default(),
        read: 0,
        heads: BTreeMap::new(),
        next_head: 0,
        tiles: 0,
        sealed: 0,
        suspect: None,
    };
    audit.expect(&expected.pins)?;
    let (mut previous, mut bytes, mut torn) = (None, 0, 0);
    for (place, &first) in firsts.iter().enumerate() {
        let path = layout.segment(first);
        let next = firsts.get(place + 1).copied();
        let read = audit.segment(first, previous, next, pruned, &mut progress);
        let (length, end) = read.map_err(|error| error.up_to(audit.read))?;
        let whole = fs::metadata(&path).map_err(FileError::on("examine", &path))?.len();
        torn = whole.saturating_sub(length);
        bytes += whole;
        previous = Some((first, length, end));
    }
    let last = firsts.last().map(|first| layout.segment(*first));
    let last = last.ok_or_else(|| damage(&layout.segment(0), Some(0), &"is missing"))?;
    let size = audit.tree.size();
    if let Some((missing, heads)) = audit.heads.first_key_value() {
        let whose = heads.first().map_or(Whose::Checkpoint, |(_, whose)| *whose);
        let why = format!("the log ends here, and {whose} {missing} records");
        return Err(damage(&last, Some(size), &why).into());
    }
    audit.end_suspicion()?;
    audit.pruned_tiles(pruned)?;
    progress(signed.size, signed.size);
    Ok(Report {
        first: pruned,
        tail_records: size - signed.size,
        tail_torn_bytes: torn,
        segments: firsts.len(),
        sealed: audit.sealed,
        bytes,
        tiles: audit.tiles,
        epochs: epochs.last().number.saturating_add(1),
        key,
        checkpoint: signed,
    })
}

/// The signed tree head, and the segments as of that moment or later.
fn head(layout: &Layout, key: &VerifierKey) -> Result<(Checkpoint, Vec<u64>), VerifyError> {
    let path = layout.checkpoint();
    let mut seen = None;
    loop {
        let note = files::read_text(&path)?;
        let note = note.ok_or_else(|| damage(&path, None, &"it is missing"))?;
        let signed = key.open(&note).map_err(|error| damage(&path, None, &error))?;
        let firsts = chain::segments(layout)?;
        if firsts.last().is_none_or(|last| *last <= signed.size) {
            return Ok((signed, firsts));
        }
        // A segment begins only under a checkpoint: an agent has published one since, or this one
        // was put back.
        if seen.as_ref() == Some(&note) {
            let why = "it is older than the newest segment, which begins under a newer one";
            return Err(damage(&path, Some(signed.size), &why).into());
        }
        seen = Some(note);
    }
}

impl Audit<'_> {
    /// Every tree head that somebody has signed.
    fn expect(&mut self, pins: &[Checkpoint]) -> Result<(), VerifyError> {
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
    fn segment(
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
            other => broken(self.layout, other),
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
                other => broken(self.layout, other.at(reached)),
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
            block.open(reading.frames.context(), keys).map_err(|bad| {
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
    fn end_suspicion(&mut self) -> Result<(), Damage> {
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
    fn pruned_tiles(&mut self, pruned: u64) -> Result<(), VerifyError> {
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

/// The keys to verify with: the log's and the first epoch's. Copies in the log must be true ones.
fn check_keys(
    layout: &Layout,
    expected: &Expected,
) -> Result<(VerifierKey, VerifierKey), VerifyError> {
    let path = layout.public_key();
    let (key, first_epoch) = match read_keys(layout) {
        Ok(keys) => keys,
        Err(ReadError::NoLog(directory)) => return Err(VerifyError::NoLog(directory)),
        Err(ReadError::File(error)) => return Err(error.into()),
        Err(_) => return Err(damage(&path, None, &"it is no key, or was altered").into()),
    };
    let differs =
        |wanted: &Option<VerifierKey>, found| wanted.as_ref().is_some_and(|it| it != found);
    if differs(&expected.key, &key) || differs(&expected.first_epoch, &first_epoch) {
        return Err(damage(&path, None, &"it is another key than the one given").into());
    }
    // An auditor's copy has no private key, and need not be able to read it.
    check_private(&layout.key(), &key)?;
    Ok((key, first_epoch))
}

/// The key of the epoch that is under way. While it is replaced there may be none.
fn check_epoch_key(layout: &Layout, epochs: &epoch::Chain) -> Result<(), VerifyError> {
    let path = layout.epoch();
    match check_private(&path, &epochs.last().key) {
        Ok(()) => Ok(()),
        // An agent may have begun another epoch since.
        Err(error) => {
            let again = epoch::Chain::read(layout, &read_keys_again(layout)?, None);
            let again = again.map_err(unopened)?;
            if again.last().number > epochs.last().number { Ok(()) } else { Err(error.into()) }
        }
    }
}

fn read_keys_again(layout: &Layout) -> Result<VerifierKey, VerifyError> {
    let keys = read_keys(layout);
    let keys = keys.map_err(|_| damage(&layout.public_key(), None, &"it was altered"))?;
    Ok(keys.0)
}

/// The keys of personal values, as far as whoever verifies has them.
fn check_subjects(directory: &Path) -> Result<(), VerifyError> {
    match Vault::of(directory).check() {
        Ok(_) => Ok(()),
        // An agent overwrites what it destroys before it removes it.
        Err(VaultError::Altered { path, .. }) if is_gone_soon(&path) => check_subjects(directory),
        Err(VaultError::Altered { path, source }) => Err(damage(&path, None, &source).into()),
        Err(VaultError::File(error)) if error.source.kind() == io::ErrorKind::NotFound => {
            check_subjects(directory)
        }
        Err(VaultError::File(error)) if error.source.kind() != io::ErrorKind::PermissionDenied => {
            Err(error.into())
        }
        Err(_) => Ok(()),
    }
}

/// Whether a file is removed within the moments that a destruction takes.
fn is_gone_soon(path: &Path) -> bool {
    (0..GONE_TRIES).any(|_| {
        std::thread::sleep(GONE_AFTER);
        !path.exists()
    })
}

fn check_private(path: &Path, public: &VerifierKey) -> Result<(), Damage> {
    let Ok(text) = fs::read(path) else { return Ok(()) };
    let text = String::from_utf8(text).map(zeroize::Zeroizing::new).ok();
    let key = text.as_ref().and_then(|text| SigningKey::parse(text.strip_suffix('\n')?).ok());
    if key.is_none_or(|key| key.verifier() != public) {
        return Err(damage(path, None, &"it does not belong to the public key"));
    }
    Ok(())
}

fn unopened(error: OpenError) -> VerifyError {
    match error {
        OpenError::Altered { file, record, why } => damage(&file, record, &why).into(),
        OpenError::Missing(file) => damage(&file, None, &"it is missing").into(),
        OpenError::File(error) => error.into(),
        other => damage(Path::new("epochs"), None, &other).into(),
    }
}

fn broken(layout: &Layout, error: ChainError) -> VerifyError {
    match error {
        ChainError::Altered { file, record, why } if file == layout.pruned() => {
            let _ = record;
            damage(&file, None, &why).into()
        }
        ChainError::Altered { file, record, why } => damage(&file, Some(record), &why).into(),
        ChainError::File(error) => error.into(),
        ChainError::Missing(file) => damage(&file, None, &"the segment is missing").into(),
    }
}

fn damage(file: &Path, first_bad: Option<u64>, why: &impl fmt::Display) -> Damage {
    let last_good = first_bad.and_then(|bad| bad.checked_sub(1));
    Damage { file: file.to_owned(), first_bad, last_good, why: why.to_string() }
}

impl VerifyError {
    /// The same, with nothing said about records from `read` on, which were not read.
    fn up_to(mut self, read: u64) -> Self {
        if let Self::Damaged(damage) = &mut self {
            damage.last_good = damage.last_good.min(read.checked_sub(1));
        }
        self
    }
}

impl From<Damage> for VerifyError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first_bad {
            Some(bad) => write!(f, "record {bad} in `{}`: {}", self.file.display(), self.why)?,
            None => write!(f, "`{}`: {}", self.file.display(), self.why)?,
        }
        match self.last_good {
            Some(0) => write!(f, "; record 0 fits its check"),
            Some(last) => write!(f, "; the records 0 to {last} fit their checks"),
            None => Ok(()),
        }
    }
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

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
