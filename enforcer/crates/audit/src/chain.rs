//! The segments of a log as a chain: each continues the one before, which it names.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use enforcer_model::Timestamp;

use crate::files::{self, FileError};
use crate::layout::{Layout, segment_first};
use crate::note::VerifierKey;
use crate::prune;
use crate::segment::{Fault, Frames, Header, Leaves, Previous, SegmentError};

/// The segments are not as they were left.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// One was altered.
    #[error("`{}`, record {record}: {why}", file.display())]
    Altered {
        /// The segment.
        file: PathBuf,
        /// The first record concerned.
        record: u64,
        /// What does not fit.
        why: String,
    },
    /// A call to the file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// One is gone.
    #[error("`{}` is missing", .0.display())]
    Missing(PathBuf),
}

impl ChainError {
    fn altered(file: &Path, record: u64, why: &impl fmt::Display) -> Self {
        Self::Altered { file: file.to_owned(), record, why: why.to_string() }
    }

    /// The same, with the record that a reader has come to.
    pub(crate) fn at(self, record: u64) -> Self {
        match self {
            Self::Altered { file, why, .. } => Self::Altered { file, record, why },
            Self::File(_) | Self::Missing(_) => self,
        }
    }
}

/// First indices of all segments, ascending.
pub(crate) fn segments(layout: &Layout) -> Result<Vec<u64>, FileError> {
    let directory = layout.segments();
    let names = files::names(&directory)?;
    let mut firsts: Vec<u64> = names.iter().filter_map(|name| segment_first(name)).collect();
    firsts.sort_unstable();
    Ok(firsts)
}

/// A segment whose header is intact and fits its name, to be read from front to back.
pub(crate) fn open_segment(path: &Path, first: u64) -> Result<Frames, ChainError> {
    let frames = Frames::open(path).map_err(|error| unopened(path, first, error))?;
    if frames.header().first() == first {
        Ok(frames)
    } else {
        Err(ChainError::altered(path, first, &Fault::Header))
    }
}

/// The same, to be read anywhere.
pub(crate) fn open_leaves(path: &Path, first: u64) -> Result<Leaves, ChainError> {
    let leaves = Leaves::open(path).map_err(|error| unopened(path, first, error))?;
    if leaves.header().first() == first {
        Ok(leaves)
    } else {
        Err(ChainError::altered(path, first, &Fault::Header))
    }
}

/// The header of a segment, which fits its name; nothing else is read.
pub(crate) fn open_header(path: &Path, first: u64) -> Result<Header, ChainError> {
    let file = File::open(path).map_err(SegmentError::Io);
    let header = file.and_then(|file| Header::read(&mut BufReader::new(file)));
    let (header, _) = header.map_err(|error| unopened(path, first, error))?;
    if header.first() == first {
        Ok(header)
    } else {
        Err(ChainError::altered(path, first, &Fault::Header))
    }
}

pub(crate) fn unopened(path: &Path, record: u64, error: SegmentError) -> ChainError {
    match error {
        SegmentError::Fault(fault) => ChainError::altered(path, record, &fault),
        SegmentError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            ChainError::Missing(path.to_owned())
        }
        SegmentError::Io(error) => FileError::on("read", path)(error).into(),
    }
}

/// The segments, each of which continues the one before.
pub(crate) struct Chained {
    /// First index of the last one.
    pub(crate) last: u64,
    /// First indices of the others, and when they ended.
    pub(crate) ended: Vec<(u64, Timestamp)>,
}

/// Every segment names the one before it and how long that is; only what was pruned is missing.
pub(crate) fn check_all(layout: &Layout, key: &VerifierKey) -> Result<Chained, ChainError> {
    let firsts = segments(layout)?;
    let pruned = prune::until(layout, key)?;
    let mut previous = None;
    let mut ended = Vec::new();
    for &first in &firsts {
        let path = layout.segment(first);
        let header = open_segment(&path, first)?.header().clone();
        check_previous(&header, previous, pruned, layout)?;
        // Without recipients the key beside the log is the only one.
        let key = layout.data_key(first);
        if header.wrapped().is_empty() && !key.exists() {
            return Err(ChainError::Missing(key));
        }
        if let Some((before, _)) = previous {
            ended.push((before, header.begun()));
        }
        let length = fs::metadata(&path).map_err(FileError::on("examine", &path))?.len();
        previous = Some((first, length));
    }
    let last = previous.map(|(first, _)| first);
    Ok(Chained { last: last.ok_or_else(|| ChainError::Missing(layout.segment(pruned)))?, ended })
}

/// Whether `header` continues the segment `previous`, given with its length; the first segment
/// begins where the log was pruned.
pub(crate) fn check_previous(
    header: &Header,
    previous: Option<(u64, u64)>,
    pruned: u64,
    layout: &Layout,
) -> Result<(), ChainError> {
    let first = header.first();
    let named = header.previous();
    match previous {
        None if first == 0 && pruned == 0 && *named == Previous::default() => Ok(()),
        None if first == pruned && pruned > 0 => Ok(()),
        Some((found, bytes)) if found == named.first && found < first => {
            let fits = if named.poisoned { bytes >= named.length } else { bytes == named.length };
            if fits {
                return Ok(());
            }
            let why = format!("it has {bytes} bytes, and had {} when it was closed", named.length);
            Err(ChainError::altered(&layout.segment(named.first), found, &why))
        }
        None if first > 0 && pruned < first => {
            let missing = if pruned > 0 { pruned } else { named.first };
            Err(ChainError::Missing(layout.segment(missing)))
        }
        None | Some(_) => Err(ChainError::Missing(layout.segment(named.first))),
    }
}
