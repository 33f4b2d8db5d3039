//! What is too old goes, whole segments at a time, and the log says until where.
//!
//! A note signed with the log's key names the first record that is left; without it a missing
//! segment is damage. The tree of what is gone stays: tiles above the lowest, and in the header of the
//! first segment that is left the unfinished ones, so that every proof still leads to the root.

use std::fs;
use std::io;
use std::path::Path;

use enforcer_model::Timestamp;

use crate::chain::{self, ChainError};
use crate::files::{self, FileError};
use crate::layout::Layout;
use crate::merkle::{Hash, Tree};
use crate::note::{SigningKey, VerifierKey, parse_number};
use crate::open::OpenError;
use crate::sealing::Vault;
use crate::subject;

const HEADING: &str = "enforcer.pruned/1";

/// What was pruned, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Records from `from` …
    pub from: u64,
    /// … to this one, which is the first that is left.
    pub until: u64,
    /// Their segments.
    pub segments: usize,
    /// Bytes of these.
    pub bytes: u64,
    /// Of the tree over all records before `until`.
    pub root: Hash,
}

/// The log cannot be pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The segments or keys are not as they were left.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// A file cannot be written or removed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<ChainError> for PruneError {
    fn from(error: ChainError) -> Self {
        Self::Log(error.into())
    }
}

/// What would go if everything were removed whose newest record is older than `before`.
///
/// Records from `below` on stay: nobody elsewhere could vouch for them.
pub fn prunable(directory: &Path, before: Timestamp, below: u64) -> Result<Pruned, PruneError> {
    let layout = Layout::new(directory);
    let firsts = chain::segments(&layout)?;
    let from = firsts.first().copied().unwrap_or_default();
    let root = Tree::default().root();
    let mut pruned = Pruned { from, until: from, segments: 0, bytes: 0, root };
    for (first, next) in firsts.iter().zip(firsts.iter().skip(1)) {
        // A segment ends when the next one begins; the last one stays.
        let frames = chain::open_segment(&layout.segment(*next), *next)?;
        let header = frames.header();
        if header.begun() >= before || *next > below {
            break;
        }
        let path = layout.segment(*first);
        let length = fs::metadata(&path).map_err(FileError::on("examine", &path))?.len();
        pruned.until = *next;
        pruned.root = header.tree().root();
        pruned.segments += 1;
        pruned.bytes = pruned.bytes.saturating_add(length);
    }
    Ok(pruned)
}

/// Removes the segments below the record `until`, which must begin one. A record in the log should
/// say so first.
pub fn prune(directory: &Path, until: u64) -> Result<(), PruneError> {
    let layout = Layout::new(directory);
    chain::open_segment(&layout.segment(until), until)?;
    let path = layout.key();
    let text = files::read_text(&path)?.map(zeroize::Zeroizing::new);
    let text = text.ok_or_else(|| OpenError::Missing(path.clone()))?;
    let key = SigningKey::parse(text.strip_suffix('\n').unwrap_or_default())
        .map_err(|source| OpenError::Key { path, source })?;
    let origin = key.verifier().origin();
    let note = key.sign_text(&format!("{HEADING}\n{origin}\n{until}\n"));
    let unfinished = layout.root().join("pruned.new");
    files::write_durably(&unfinished, note.as_bytes())?;
    let path = layout.pruned();
    fs::rename(&unfinished, &path).map_err(FileError::on("rename to", &path))?;
    files::sync_directory(layout.root())?;
    Ok(finish(&layout, key.verifier())?)
}

/// Removes what a pruning that was cut short has left.
pub(crate) fn finish(layout: &Layout, key: &VerifierKey) -> Result<(), OpenError> {
    let until = until(layout, key)?;
    for first in chain::segments(layout)?.into_iter().take_while(|first| *first < until) {
        Vault::forget(layout, first)?;
        subject::Vault::of(layout.root()).forget(first)?;
        for path in [layout.index(first), layout.segment(first)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(FileError::on("remove", &path)(error).into());
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

/// The first record that is left; 0 when nothing was pruned.
pub(crate) fn until(layout: &Layout, key: &VerifierKey) -> Result<u64, ChainError> {
    let path = layout.pruned();
    let Some(note) = files::read_text(&path)? else { return Ok(0) };
    let parsed = key.signed_text(&note).ok().and_then(|text| {
        let mut lines = text.split_terminator('\n');
        let fits = (lines.next()?, lines.next()?) == (HEADING, key.origin());
        let until = parse_number(lines.next()?)?;
        (fits && lines.next().is_none()).then_some(until)
    });
    parsed.ok_or_else(|| ChainError::Altered {
        file: path,
        record: 0,
        why: "it is not what the log's key has signed".to_owned(),
    })
}
