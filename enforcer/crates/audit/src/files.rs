//! The few ways in which the log touches its directory: whole files, renamed into place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation};

use crate::layout::Layout;

/// Room for a burst that was already accepted when the disk filled up.
const RESERVE_BYTES: u64 = 1 << 20;
/// The part of it that is given up only for the closing record.
const LAST_WORDS_BYTES: u64 = 128 << 10;
/// What the reserve is made of.
pub(crate) const ZEROES: [u8; 8_192] = [0; 8_192];

/// A call to the file system that did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{doing} `{}`", path.display())]
pub struct FileError {
    /// What was attempted, such as `write`.
    pub doing: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// What the system answered.
    pub source: io::Error,
}

/// Whether a file must survive a power cut before anything else happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durable {
    /// It must.
    Yes,
    /// It can be made again from what is durable.
    Derived,
}

/// How far the reserve is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reserve {
    /// All of it: the normal state.
    Whole,
    /// Given up for records that were accepted before the disk was full.
    LastWords,
    /// Given up for the closing record.
    Nothing,
}

impl FileError {
    /// Names the file and what was done to it, for `map_err`.
    pub(crate) fn on<E: Into<io::Error>>(
        doing: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self { doing, path: path.to_owned(), source: source.into() }
    }

    /// Whether the only cause is that there is no room.
    pub(crate) fn is_no_space(&self) -> bool {
        is_no_space(&self.source)
    }
}

pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Reserve {
    const fn bytes(self) -> u64 {
        match self {
            Self::Whole => RESERVE_BYTES,
            Self::LastWords => LAST_WORDS_BYTES,
            Self::Nothing => 0,
        }
    }
}

/// Writes `bytes` beside its place, then renames: readers see the old file or the new one.
pub(crate) fn replace(
    layout: &Layout,
    path: &Path,
    bytes: &[u8],
    mode: u32,
    durable: Durable,
) -> Result<File, FileError> {
    let unfinished = layout.unfinished();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&unfinished)
        .map_err(FileError::on("create", &unfinished))?;
    file.write_all(bytes).map_err(FileError::on("write", &unfinished))?;
    if durable == Durable::Yes {
        file.sync_data().map_err(FileError::on("sync", &unfinished))?;
    }
    fs::rename(&unfinished, path).map_err(FileError::on("rename to", path))?;
    Ok(file)
}

/// As [`replace`], making the directory when it is not there.
pub(crate) fn replace_in_tree(
    layout: &Layout,
    path: &Path,
    bytes: &[u8],
    mode: u32,
) -> Result<(), FileError> {
    let replaced = match replace(layout, path, bytes, mode, Durable::Derived) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(path);
            fs::create_dir_all(parent).map_err(FileError::on("create directory", parent))?;
            replace(layout, path, bytes, mode, Durable::Derived)
        }
        other => other,
    };
    replaced.map(drop)
}

/// Makes the names in a directory survive a power cut.
pub(crate) fn sync_directory(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(FileError::on("sync", path))
}

/// Keeps this much room for ourselves, or less than before. The content is zeroes, which an audit
/// checks: no byte in the log's directory is without meaning.
pub(crate) fn keep_reserve(layout: &Layout, reserve: Reserve) -> Result<(), FileError> {
    let path = layout.reserve();
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(FileError::on("create", &path))?;
    let length = file.metadata().map_err(FileError::on("examine", &path))?.len();
    if length >= reserve.bytes() {
        return file.set_len(reserve.bytes()).map_err(FileError::on("shrink", &path));
    }
    let allocated = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, reserve.bytes());
    match allocated {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let mut left = reserve.bytes();
            while left > 0 {
                file.write_all(&ZEROES).map_err(FileError::on("write", &path))?;
                left = left.saturating_sub(u64::try_from(ZEROES.len()).unwrap_or(left));
            }
            Ok(())
        }
        Err(error) => Err(FileError::on("allocate", &path)(error)),
    }
}

/// Holds the only right to write until the file is closed; none when somebody else has it.
pub(crate) fn lock(path: &Path) -> Result<Option<File>, FileError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(FileError::on("open", path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(FileError::on("lock", path)(error)),
    }
}

/// The permission bits of a file.
pub(crate) fn mode(path: &Path) -> Result<u32, FileError> {
    let metadata = fs::metadata(path).map_err(FileError::on("examine", path))?;
    Ok(metadata.permissions().mode() & 0o7777)
}

/// The text of a small file; none when there is no such file.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read(path) {
        // Bytes that are no text stay visible as a text that nothing accepts.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::on("read", path)(error)),
    }
}
