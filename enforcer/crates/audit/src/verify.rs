//! The whole audit: every byte of the log against the signed root.
//!
//! Recomputes the tree from the records alone and holds everything else against it: the checkpoint
//! and its signature, every tile, the headers of the segments, the keys, even the reserve. A record
//! that was altered together with its check is told from an altered tile by the signed root: if the
//! root still fits, the records are right. Runs beside an agent that writes.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::chain::{self, ChainError};
use crate::files::{self, FileError};
use crate::layout::Layout;
use crate::merkle::{HASH_BYTES, Hash, TILE_WIDTH, Tile, Tree};
use crate::note::{Checkpoint, SigningKey, VerifierKey};
use crate::read::{ReadError, read_key};
use crate::segment::{Fault, Step};

/// How many records pass between two calls of `progress`.
const PROGRESS_RECORDS: u64 = 8_192;

/// A log that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The key that the checkpoint is signed with.
    pub key: VerifierKey,
    /// The tree head: all records below its size are what was signed.
    pub checkpoint: Checkpoint,
    /// Intact records behind the checkpoint, not signed yet: an agent is at work, or was killed.
    pub tail_records: u64,
    /// Bytes behind these: a write that is under way, or that a crash cut off.
    pub tail_torn_bytes: u64,
    /// Files of records.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Full tiles that were compared.
    pub tiles: u64,
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
    tree: Tree,
    tiles: u64,
    root_holds: bool,
    /// The first disagreement of records and tiles; the root will say who is right.
    suspect: Option<Suspect>,
}

struct Suspect {
    tile: PathBuf,
    segment: PathBuf,
    record: u64,
    missing: bool,
}

/// Verifies the log in `directory` with `public_key`, or with the key that lies there.
///
/// `progress` is told how many of the signed records are done.
pub fn verify(
    directory: &Path,
    public_key: Option<&VerifierKey>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Report, VerifyError> {
    let layout = Layout::new(directory);
    let key = check_keys(&layout, public_key)?;
    check_reserve(&layout)?;
    let (signed, firsts) = head(&layout, &key)?;
    let last = *firsts.last().ok_or_else(|| damage(&layout.segment(0), Some(0), &"is missing"))?;
    let mut audit = Audit {
        layout: &layout,
        signed: &signed,
        tree: Tree::default(),
        tiles: 0,
        root_holds: false,
        suspect: None,
    };
    let (mut previous, mut bytes, mut torn) = (None, 0, 0);
    for &first in &firsts {
        let path = layout.segment(first);
        let end = match audit.segment(first, previous, first == last, &mut progress) {
            Ok(end) => end,
            Err(error) => return Err(error.up_to(audit.tree.size())),
        };
        let length = fs::metadata(&path).map_err(FileError::on("examine", &path))?.len();
        torn = length.saturating_sub(end);
        bytes += length;
        previous = Some((first, length));
    }
    let size = audit.tree.size();
    audit.check_root(&layout.segment(last))?;
    if !audit.root_holds {
        let why = format!("the log ends here, and the checkpoint signs {} records", signed.size);
        return Err(damage(&layout.segment(last), Some(size), &why).into());
    }
    progress(signed.size, signed.size);
    Ok(Report {
        tail_records: size - signed.size,
        tail_torn_bytes: torn,
        segments: firsts.len(),
        bytes,
        tiles: audit.tiles,
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
    /// Goes through one segment; gives where its last intact record ends.
    fn segment(
        &mut self,
        first: u64,
        previous: Option<(u64, u64)>,
        is_last: bool,
        progress: &mut impl FnMut(u64, u64),
    ) -> Result<u64, VerifyError> {
        let path = self.layout.segment(first);
        let mut frames =
            chain::open_segment(&path, first).map_err(|error| self.or_suspect(error))?;
        chain::check_previous(frames.header(), previous, self.layout).map_err(|error| {
            let reached = self.tree.size().min(first);
            self.or_suspect(error.at(reached))
        })?;
        if frames.header().tree != self.tree {
            self.check_root(&path)?;
            let bad = first.min(self.tree.size());
            let why = "its header does not continue the records before it";
            return Err(damage(&path, Some(bad), &why).into());
        }
        loop {
            self.check_root(&path)?;
            let index = self.tree.size();
            if index.is_multiple_of(PROGRESS_RECORDS) && index < self.signed.size {
                progress(index, self.signed.size);
            }
            let step = frames.next().map_err(FileError::on("read", &path))?;
            let fault = match step {
                Step::Record(leaf) => {
                    self.append(leaf, &path)?;
                    continue;
                }
                Step::End if !is_last || index >= self.signed.size => return Ok(frames.offset()),
                Step::End => Fault::CutShort,
                // What an agent is writing, or was when it was killed.
                Step::Broken(_) if is_last && index >= self.signed.size => {
                    return Ok(frames.offset());
                }
                Step::Broken(fault) => fault,
            };
            let why = fault.to_string();
            return Err(self.or_suspect(ChainError::Altered { file: path, record: index, why }));
        }
    }

    fn append(&mut self, leaf: Hash, segment: &Path) -> Result<(), FileError> {
        let mut completed = Vec::new();
        self.tree.append(leaf, |tile| completed.push(tile));
        for tile in completed.iter().filter(|tile| tile.end() <= self.signed.size) {
            self.tiles += 1;
            let path = self.layout.tile(tile.level, tile.index);
            let found = match fs::read(&path) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(FileError::on("read", &path)(error)),
            };
            if found != tile.hashes.as_flattened() && self.suspect.is_none() {
                self.suspect = Some(Suspect {
                    record: first_difference(tile, &found),
                    missing: found.is_empty(),
                    segment: segment.to_owned(),
                    tile: path,
                });
            }
        }
        Ok(())
    }

    /// At the signed size, the moment of truth.
    fn check_root(&mut self, segment: &Path) -> Result<(), Damage> {
        if self.root_holds || self.tree.size() != self.signed.size {
            return Ok(());
        }
        let right = self.tree.root() == self.signed.root;
        match self.suspect.take() {
            None if right => {
                self.root_holds = true;
                Ok(())
            }
            Some(Suspect { tile, missing: true, record, .. }) if right => Err(damage(
                &tile,
                None,
                &format!("the tile of records from {record} on is missing"),
            )),
            Some(Suspect { tile, record, .. }) if right => Err(damage(
                &tile,
                None,
                &format!("its hash of record {record} or above is altered"),
            )),
            Some(Suspect { segment, record, .. }) => {
                Err(damage(&segment, Some(record), &"its bytes are not those that were signed"))
            }
            None => {
                let size = self.signed.size;
                let first = size - size % TILE_WIDTH;
                let why = format!("one of the records {first} to {size} is not what was signed");
                Err(damage(segment, Some(first), &why))
            }
        }
    }

    /// The earlier of a disagreement that waits for the root and `error`, which prevents the root.
    fn or_suspect(&mut self, error: ChainError) -> VerifyError {
        if let Some(Suspect { segment, record, .. }) = self.suspect.take() {
            let why = "its bytes do not fit the tile of their hashes";
            return damage(&segment, Some(record), &why).into();
        }
        match error {
            ChainError::Altered { file, record, why } => damage(&file, Some(record), &why).into(),
            ChainError::File(error) => error.into(),
            ChainError::Missing(file) => {
                damage(&file, Some(self.tree.size()), &"the segment is missing").into()
            }
        }
    }
}

fn first_difference(tile: &Tile, found: &[u8]) -> u64 {
    let (found, _) = found.as_chunks::<HASH_BYTES>();
    let same = tile.hashes.iter().zip(found).take_while(|(ours, theirs)| ours == theirs).count();
    let each = (tile.end() - tile.first()) / TILE_WIDTH;
    tile.first() + u64::try_from(same).unwrap_or_default() * each
}

/// The key to verify with. Copies of it in the log must be true ones.
fn check_keys(
    layout: &Layout,
    public_key: Option<&VerifierKey>,
) -> Result<VerifierKey, VerifyError> {
    let path = layout.public_key();
    let found = match read_key(layout) {
        Ok(key) => key,
        Err(ReadError::NoLog(directory)) => return Err(VerifyError::NoLog(directory)),
        Err(ReadError::File(error)) => return Err(error.into()),
        Err(_) => return Err(damage(&path, None, &"it is no key, or was altered").into()),
    };
    if public_key.is_some_and(|key| *key != found) {
        return Err(damage(&path, None, &"it is another key than the one given").into());
    }
    // An auditor's copy has no private key, and need not be able to read it.
    let private = layout.key();
    if let Ok(text) = fs::read(&private) {
        let text = String::from_utf8(text).map(zeroize::Zeroizing::new).ok();
        let key = text.as_ref().and_then(|text| SigningKey::parse(text.strip_suffix('\n')?).ok());
        if key.is_none_or(|key| *key.verifier() != found) {
            return Err(damage(&private, None, &"it does not belong to the public key").into());
        }
    }
    Ok(found)
}

/// The reserve holds room and nothing else.
fn check_reserve(layout: &Layout) -> Result<(), Damage> {
    if files::is_reserve_empty(layout) {
        Ok(())
    } else {
        Err(damage(&layout.reserve(), None, &"it holds something"))
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
