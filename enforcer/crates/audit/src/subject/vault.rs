//! The files beside the segments that hold the keys of personal values.
//!
//! `subjects/<first index>.seed` while a segment grows, `subjects/<first index>.keys` when it is
//! closed. Both are written before anything needs them and replaced by renaming; what they held
//! before is overwritten before it is let go. What a file system or a device keeps of overwritten
//! bytes is beyond this program's reach.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use enforcer_model::PersonalKind as Kind;
use zeroize::Zeroizing;

use super::conceal::{Concealer, escaped};
use super::fields::is_address;
use super::reveal::Keys;
use super::seal::{Handle, SECRET_BYTES, SealError, Seed};
use super::table::{Link, Table, TableError};
use crate::files::{self, FileError, sync_directory};
use crate::merkle::{HASH_BYTES, sha256};

const SEED_MAGIC: &[u8; 16] = b"enforcer-seed/1\n";
const SEED_FILE_BYTES: usize = SEED_MAGIC.len() + 8 + SECRET_BYTES + HASH_BYTES;
/// What files are overwritten with.
const ZEROES: [u8; 8_192] = [0; 8_192];
/// Digits of the first index in a name, as in that of the segment.
const NAME_DIGITS: usize = 20;
/// A table of the most rows that a segment can have is far smaller.
const TABLE_BYTES_MAX: u64 = 1 << 30;

/// The keys of a log's personal values.
#[derive(Clone, Debug)]
pub struct Vault {
    directory: PathBuf,
}

/// The keys cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The value is none that could be in a log.
    #[error("{0}")]
    Value(&'static str),
    /// A file is not as it was written.
    #[error("`{}`: {source}", path.display())]
    Altered {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: TableError,
    },
    /// A call to the file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The system's cryptography failed.
    #[error("the system gave no random bytes")]
    Random,
}

/// Whether it is done or only told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erasing {
    /// It is done, for good.
    ForGood,
    /// Nothing changes.
    Rehearsed,
}

/// What was erased, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Handles that nobody can put a value to any more.
    pub handles: u64,
    /// Segments that they are of.
    pub segments: u64,
}

impl From<SealError> for VaultError {
    fn from(_: SealError) -> Self {
        Self::Random
    }
}

impl Vault {
    /// The vault of the log in `directory`.
    pub fn of(directory: &Path) -> Self {
        Self { directory: directory.join("subjects") }
    }

    /// Where its files lie.
    #[cfg(test)]
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the vault's folder, and does away with what a crash left in it.
    pub(crate) fn prepare(&self) -> Result<(), FileError> {
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&self.directory);
        made.map_err(FileError::on("create directory", &self.directory))?;
        for (path, first) in self.list()? {
            if first.is_none() {
                destroy(&path)?;
            }
        }
        Ok(())
    }

    /// A seed for the segment that begins at `first`, on disk before anything is sealed with it.
    #[cfg(test)]
    pub(crate) fn begin(&self, first: u64) -> Result<Seed, VaultError> {
        let seed = Seed::random()?;
        self.keep(first, &seed)?;
        Ok(seed)
    }

    /// Puts the seed of the segment that begins at `first` on disk.
    pub(crate) fn keep(&self, first: u64, seed: &Seed) -> Result<(), FileError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(SEED_FILE_BYTES));
        bytes.extend_from_slice(SEED_MAGIC);
        bytes.extend_from_slice(&first.to_be_bytes());
        bytes.extend_from_slice(seed.bytes());
        let hash = sha256(&bytes);
        bytes.extend_from_slice(&hash);
        self.replace(&self.seed(first), &bytes, "beginning")
    }

    /// Writes the keys of a closed segment, then destroys its seed.
    pub(crate) fn close(&self, table: &Table) -> Result<(), FileError> {
        self.replace(&self.keys(table.first()), &table.encode(), "closing")?;
        destroy(&self.seed(table.first()))?;
        sync_directory(&self.directory)
    }

    /// Whether the segment that begins at `first` still has its seed.
    pub(crate) fn is_open(&self, first: u64) -> bool {
        self.seed(first).exists()
    }

    /// Whether there are keys of a segment, or were before they were erased.
    pub(crate) fn knows(&self, first: u64) -> bool {
        self.seed(first).exists() || self.keys(first).exists()
    }

    /// First indices of segments whose seed is still there.
    pub(crate) fn unfinished(&self) -> Result<Vec<u64>, FileError> {
        let mut firsts: Vec<u64> = self
            .list()?
            .into_iter()
            .filter(|(path, _)| path.extension().is_some_and(|it| it == "seed"))
            .filter_map(|(_, first)| first)
            .collect();
        firsts.sort_unstable();
        Ok(firsts)
    }

    /// Ends a segment whose writer is gone, from its `subject` records and their places in it.
    pub(crate) fn recover<T: AsRef<str>>(
        &self,
        first: u64,
        records: impl IntoIterator<Item = (u32, T)>,
    ) -> Result<(), VaultError> {
        // A table is written whole before the seed goes: then only that was left to do.
        if self.table(first)?.is_none()
            && let Some(concealer) = self.resume(first, records)?
        {
            return Ok(self.close(&concealer.end())?);
        }
        destroy(&self.seed(first))?;
        Ok(sync_directory(&self.directory)?)
    }

    /// Goes on with a segment that was not ended; none when it has no seed.
    pub(crate) fn resume<T: AsRef<str>>(
        &self,
        first: u64,
        records: impl IntoIterator<Item = (u32, T)>,
    ) -> Result<Option<Concealer>, VaultError> {
        let seed = self.read_seed(first)?;
        Ok(seed.map(|seed| Concealer::resume(first, seed, records)).transpose()?)
    }

    /// The keys of a segment, for reading it.
    pub(crate) fn open(&self, first: u64) -> Result<Keys, VaultError> {
        // Twice: the segment may be closed between the two looks.
        for _ in 0..2 {
            if let Some(table) = self.table(first)? {
                return Ok(table.into());
            }
            if let Some(seed) = self.read_seed(first)? {
                return Ok(Keys::Open(seed));
            }
        }
        Ok(Keys::None)
    }

    /// The handles that `value`, as it stands in records, has in a segment.
    pub fn handles(&self, first: u64, kind: Kind, value: &str) -> Result<Vec<Handle>, VaultError> {
        let values = spellings(kind, value)?;
        if let Some(table) = self.table(first)? {
            return Ok(table.find(&values, &[Link::Value]));
        }
        let seed = self.read_seed(first)?;
        Ok(seed.map_or_else(Vec::new, |seed| {
            values.iter().map(|(kind, value)| seed.handle(*kind, value)).collect()
        }))
    }

    /// Destroys the keys of `value` in every closed segment, and of every text that mentions it.
    ///
    /// What is in the segment that grows stays: close it first. One caller at a time.
    pub fn erase(&self, kind: Kind, value: &str, erasing: Erasing) -> Result<Erased, VaultError> {
        let values = spellings(kind, value)?;
        let mut erased = Erased::default();
        for first in self.closed()? {
            let Some(mut table) = self.table(first)? else { continue };
            let handles = table.find(&values, &Link::ALL);
            if handles.is_empty() {
                continue;
            }
            erased.handles += u64::try_from(handles.len()).unwrap_or(u64::MAX);
            erased.segments += 1;
            if erasing == Erasing::ForGood {
                table.erase(&handles);
                self.replace(&self.keys(first), &table.encode(), "erasing")?;
            }
        }
        Ok(erased)
    }

    /// Forgets the keys of a segment that is gone.
    pub(crate) fn forget(&self, first: u64) -> Result<(), FileError> {
        destroy(&self.keys(first))?;
        destroy(&self.seed(first))
    }

    /// Whether every file is as it was written; gives their bytes.
    pub(crate) fn check(&self) -> Result<u64, VaultError> {
        let mut bytes = 0;
        for (path, first) in self.list()? {
            if let Some(first) = first {
                bytes += fs::metadata(&path).map_or(0, |metadata| metadata.len());
                if path.extension().is_some_and(|it| it == "seed") {
                    self.read_seed(first)?;
                } else {
                    self.table(first)?;
                }
            }
        }
        Ok(bytes)
    }

    /// First indices of closed segments.
    fn closed(&self) -> Result<Vec<u64>, FileError> {
        let mut firsts: Vec<u64> = self
            .list()?
            .into_iter()
            .filter(|(path, _)| path.extension().is_some_and(|it| it == "keys"))
            .filter_map(|(_, first)| first)
            .collect();
        firsts.sort_unstable();
        Ok(firsts)
    }

    fn table(&self, first: u64) -> Result<Option<Table>, VaultError> {
        let path = self.keys(first);
        let Some(bytes) = read(&path)? else { return Ok(None) };
        match Table::decode(&bytes) {
            Ok(table) if table.first() == first => Ok(Some(table)),
            Ok(_) | Err(TableError) => Err(VaultError::Altered { path, source: TableError }),
        }
    }

    fn read_seed(&self, first: u64) -> Result<Option<Seed>, VaultError> {
        let path = self.seed(first);
        let Some(bytes) = read(&path)? else { return Ok(None) };
        seed_in(&bytes, first).map(Some).ok_or(VaultError::Altered { path, source: TableError })
    }

    /// Every file, with the first index that its name tells; none: a file that a crash left.
    fn list(&self) -> Result<Vec<(PathBuf, Option<u64>)>, FileError> {
        let names = files::names(&self.directory)?.into_iter();
        let names = names.filter(|name| name != "." && name != "..");
        Ok(names.map(|name| (self.directory.join(&name), first_in(&name))).collect())
    }

    fn seed(&self, first: u64) -> PathBuf {
        self.directory.join(format!("{first:0NAME_DIGITS$}.seed"))
    }

    fn keys(&self, first: u64) -> PathBuf {
        self.directory.join(format!("{first:0NAME_DIGITS$}.keys"))
    }

    /// Puts `bytes` in the place of `path`, durably, and destroys what was there.
    fn replace(&self, path: &Path, bytes: &[u8], by: &str) -> Result<(), FileError> {
        let unfinished = self.directory.join(by);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(FileError::on("create", &unfinished))?;
        files::write_at(&file, bytes, 0).map_err(FileError::on("write", &unfinished))?;
        file.sync_all().map_err(FileError::on("sync", &unfinished))?;
        // A name of its own, so that a crash behind the renaming leaves it to be destroyed.
        let former = self.directory.join(format!("{by}-former"));
        destroy(&former)?;
        match fs::hard_link(path, &former) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(FileError::on("link", &former))?,
        }
        fs::rename(&unfinished, path).map_err(FileError::on("rename to", path))?;
        sync_directory(&self.directory)?;
        destroy(&former)
    }
}

/// Every value whose erasure is meant: an IPv6 address stands in the network of its subscriber too.
fn spellings(kind: Kind, value: &str) -> Result<Vec<(Kind, Vec<u8>)>, VaultError> {
    if value.is_empty() {
        return Err(VaultError::Value("there is no empty value in a log"));
    }
    if kind != Kind::Address {
        return Ok(vec![(kind, escaped(value).into_bytes())]);
    }
    if let Ok(address) = value.parse::<IpAddr>() {
        let address = address.to_canonical();
        let mut values = vec![(kind, address.to_string().into_bytes())];
        if let IpAddr::V6(address) = address {
            let network = std::net::Ipv6Addr::from_bits(address.to_bits() >> 64 << 64);
            values.push((kind, format!("{network}/64").into_bytes()));
        }
        return Ok(values);
    }
    if is_address(value.as_bytes()) {
        return Ok(vec![(kind, value.as_bytes().to_vec())]);
    }
    Err(VaultError::Value("a value of the kind `address` is one address, not a network or a name"))
}

fn seed_in(bytes: &[u8], first: u64) -> Option<Seed> {
    let (content, hash) = bytes.split_last_chunk::<HASH_BYTES>()?;
    let rest = content.strip_prefix(SEED_MAGIC)?.strip_prefix(&first.to_be_bytes())?;
    let seed = Zeroizing::new(<[u8; SECRET_BYTES]>::try_from(rest).ok()?);
    (sha256(content) == *hash).then(|| Seed::from_bytes(seed))
}

fn first_in(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seed").or_else(|| name.strip_suffix(".keys"))?;
    let is_plain = digits.len() == NAME_DIGITS && digits.bytes().all(|it| it.is_ascii_digit());
    digits.parse().ok().filter(|_| is_plain)
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(FileError::on("open", path))?,
    };
    let length = file.metadata().map_err(FileError::on("examine", path))?.len();
    let capacity = usize::try_from(length.min(TABLE_BYTES_MAX)).unwrap_or(0);
    // One byte more, so that the end is seen without growing: no copy of the keys is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity + 1));
    io::Read::read_to_end(&mut io::Read::take(file, TABLE_BYTES_MAX), &mut bytes)
        .map_err(FileError::on("read", path))?;
    Ok(Some(bytes))
}

/// Overwrites a file, then removes it.
fn destroy(path: &Path) -> Result<(), FileError> {
    let mut file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(FileError::on("open", path))?,
    };
    let mut left = file.metadata().map_err(FileError::on("examine", path))?.len();
    file.rewind().map_err(FileError::on("overwrite", path))?;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROES.len());
        file.write_all(ZEROES.get(..count).unwrap_or_default())
            .map_err(FileError::on("overwrite", path))?;
        left = left.saturating_sub(u64::try_from(count).unwrap_or(left));
    }
    file.sync_data().map_err(FileError::on("sync", path))?;
    fs::remove_file(path).map_err(FileError::on("remove", path))
}
