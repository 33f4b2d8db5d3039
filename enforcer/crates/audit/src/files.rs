//! The few ways in which the log touches its directory: whole files, renamed into place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FallocateFlags, FlockOperation, SeekFrom as Place};

use crate::layout::Layout;

/// Room for a burst that was already accepted when the disk filled up.
const RESERVE_BYTES: u64 = 16 << 20;
/// A small disk is not given away whole: the reserve takes at most one part in so many of it.
const RESERVE_PART: u64 = 4;
/// The part of the reserve that is given up only for the closing record.
const LAST_WORDS_BYTES: u64 = 128 << 10;
/// What the reserve is made of.
const ZEROES: [u8; 8_192] = [0; 8_192];

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
    /// Its length on a disk of `disk` bytes.
    fn bytes(self, disk: u64) -> u64 {
        match self {
            Self::Whole => RESERVE_BYTES.min(disk / RESERVE_PART),
            Self::LastWords => LAST_WORDS_BYTES.min(Self::Whole.bytes(disk)),
            Self::Nothing => 0,
        }
    }
}

/// Writes all of `bytes` at `offset`.
///
/// What a first call says it has written of them is not built upon: the whole is written again, and
/// whoever was wrong about the beginning is put right. Only when the second call is short too does
/// the rest follow alone, which tells why.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    for _ in 0..2 {
        written = match file.write_at(bytes, offset) {
            Ok(written) if written == bytes.len() => return Ok(()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
    }
    let place = offset.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
    file.write_all_at(bytes.get(written..).unwrap_or_default(), place)
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
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&unfinished)
        .map_err(FileError::on("create", &unfinished))?;
    write_at(&file, bytes, 0).map_err(FileError::on("write", &unfinished))?;
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

/// Writes a file that nobody else writes, to be renamed into place.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let file = File::create(path).map_err(FileError::on("create", path))?;
    write_at(&file, bytes, 0).map_err(FileError::on("write", path))?;
    file.sync_data().map_err(FileError::on("sync", path))
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
    let disk = rustix::fs::fstatvfs(&file).map_err(FileError::on("examine", &path))?;
    let wanted = reserve.bytes(disk.f_blocks.saturating_mul(disk.f_frsize));
    let length = file.metadata().map_err(FileError::on("examine", &path))?.len();
    if length > wanted {
        file.set_len(wanted).map_err(FileError::on("shrink", &path))?;
    }
    if wanted == 0 {
        return Ok(());
    }
    // Also what has its length may be a copy that takes no room.
    let allocated = match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, wanted) {
        Err(rustix::io::Errno::OPNOTSUPP) if length >= wanted => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeroes(&mut file, wanted),
        other => other.map_err(io::Error::from),
    };
    allocated.map_err(|error| {
        // Half a reserve would take the room that the records need.
        match file.set_len(length.min(wanted)) {
            Ok(()) => FileError::on("allocate", &path)(error),
            Err(error) => FileError::on("shrink", &path)(error),
        }
    })
}

fn write_zeroes(file: &mut File, length: u64) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        let most = u64::try_from(ZEROES.len()).unwrap_or(left).min(left);
        let zeroes = usize::try_from(most).ok().and_then(|most| ZEROES.get(..most));
        file.write_all(zeroes.unwrap_or(&ZEROES))?;
        left = left.saturating_sub(most);
    }
    Ok(())
}

/// Whether the reserve holds room and nothing else. It is not part of the evidence: an auditor's
/// copy may lack it, or not be able to read it.
pub(crate) fn is_reserve_empty(layout: &Layout) -> bool {
    let Ok(mut file) = File::open(layout.reserve()) else { return true };
    let mut bytes = [0; ZEROES.len()];
    let mut read = 0;
    // Room that was never written to is passed over.
    while let Ok(data) = rustix::fs::seek(&file, Place::Data(read)) {
        if file.seek(SeekFrom::Start(data)).is_err() {
            return true;
        }
        match file.read(&mut bytes) {
            Ok(length @ 1..) if bytes.get(..length) != ZEROES.get(..length) => return false,
            Ok(length @ 1..) => read = data.saturating_add(u64::try_from(length).unwrap_or(0)),
            Ok(_) | Err(_) => return true,
        }
    }
    true
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

/// The names in a directory, those of no text left out; none when there is no such directory.
///
/// Not with `std::fs::read_dir`, which ends the thread when closing the directory fails.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, FileError> {
    let directory = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(FileError::on("open", path))?,
    };
    let entries = Dir::read_from(directory).map_err(FileError::on("list", path))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(FileError::on("list", path))?;
        names.extend(entry.file_name().to_str().ok().map(str::to_owned));
    }
    Ok(names)
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
