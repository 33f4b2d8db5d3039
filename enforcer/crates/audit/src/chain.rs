//! The segments of a log as a chain: each continues the one before, which it names.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::{self, FileError};
use crate::layout::{Layout, segment_first};
use crate::segment::{Fault, Frames, Header, SegmentError};

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

/// A segment whose header is intact and fits its name.
pub(crate) fn open_segment(path: &Path, first: u64) -> Result<Frames, ChainError> {
    match Frames::open(path) {
        Ok(frames) if frames.header().tree.size() == first => Ok(frames),
        Ok(_) => Err(ChainError::altered(path, first, &Fault::Header)),
        Err(SegmentError::Fault(fault)) => Err(ChainError::altered(path, first, &fault)),
        Err(SegmentError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            Err(ChainError::Missing(path.to_owned()))
        }
        Err(SegmentError::Io(error)) => Err(FileError::on("open", path)(error).into()),
    }
}

/// Every segment names the one before it and how long that is; gives the last.
pub(crate) fn check_all(layout: &Layout, firsts: &[u64]) -> Result<u64, ChainError> {
    let mut previous = None;
    for &first in firsts {
        let path = layout.segment(first);
        let header = open_segment(&path, first)?.header().clone();
        check_previous(&header, previous, layout)?;
        let length = fs::metadata(&path).map_err(FileError::on("examine", &path))?.len();
        previous = Some((first, length));
    }
    previous.map(|(first, _)| first).ok_or_else(|| ChainError::Missing(layout.segment(0)))
}

/// Whether `header` continues the segment `previous`, given with its length.
pub(crate) fn check_previous(
    header: &Header,
    previous: Option<(u64, u64)>,
    layout: &Layout,
) -> Result<(), ChainError> {
    let first = header.tree.size();
    let (named, length) = header.previous;
    match previous {
        None if first == 0 && header.previous == (0, 0) => Ok(()),
        Some((found, bytes)) if found == named && bytes == length && found < first => Ok(()),
        Some((found, bytes)) if found == named => {
            let why = format!("it has {bytes} bytes, and had {length} when it was closed");
            Err(ChainError::altered(&layout.segment(named), found, &why))
        }
        None | Some(_) => Err(ChainError::Missing(layout.segment(named))),
    }
}
