//! The whole audit: every byte of the log against the signed root.
//!
//! Recomputes the tree from the leaf hashes, and these from the records wherever their key is at
//! hand, and holds everything else against it: the checkpoint and its signature, the chain of
//! epochs, every commit, every tile, the headers of the segments and their hashes, the keys, even
//! the reserve. With the public key alone the records stay sealed and everything else is checked:
//! each commit signs the very bytes of the file. Runs beside an agent that writes.

mod audit;
mod keys;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chain::{self, ChainError};
use crate::epoch;
use crate::files::{self, FileError};
use crate::index;
use crate::layout::Layout;
use crate::note::{Checkpoint, VerifierKey};
use crate::open::OpenError;
use crate::prune;
use crate::sealing::Keyring;
use crate::sealing::age::Identity;
use audit::{Audit, Whose};
use keys::{check_epoch_key, check_keys, check_subjects};

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
    let keyring = Keyring::new(Arc::clone(&expected.identities));
    let mut audit = Audit::new(&layout, &signed, &epochs, keyring);
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
    if let Some(first) = index::damaged_files(directory)?.first() {
        let why = "it is not as it was made; without it a search reads the records, and the agent \
                   makes it again at its next start";
        return Err(damage(&layout.index(*first), None, &why).into());
    }
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
fn unopened(error: OpenError) -> VerifyError {
    match error {
        OpenError::Altered { file, record, why } => damage(&file, record, &why).into(),
        OpenError::Missing(file) => damage(&file, None, &"it is missing").into(),
        OpenError::File(error) => error.into(),
        other @ (OpenError::KeyMode { .. }
        | OpenError::Key { .. }
        | OpenError::Locked(_)
        | OpenError::NoSpace
        | OpenError::Origin(_)
        | OpenError::Subjects(_)
        | OpenError::OtherOrigin { .. }
        | OpenError::Thread(_)) => damage(Path::new("epochs"), None, &other).into(),
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

#[cfg(test)]
mod tests;
