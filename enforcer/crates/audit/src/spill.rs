//! Records that found no log: kept aside by an agent that had handed its log over, whose successor
//! died before it did, and appended by whoever opens the log next.
//!
//! A spill is a file of lines: first what it is and how many records the log had when it was handed
//! over, then one record a line. Its writer holds a lock on it to the end, so nobody appends half of
//! one. A line that a crash cut short is no record. Records that are in the log already are left
//! out, so appending twice does no harm.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use enforcer_model::Moment;
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::audit::{AppendError, Audit};
use crate::encode::{Encoder, Unnumbered};
use crate::read::{Log, ReadError};
use crate::record::Record;

/// A spill never grows beyond this; what no longer fits is lost, and told.
const BYTES_MAX: u64 = 256 << 20;

/// Version of the file.
const VERSION: u32 = 1;

/// How the name of a spill ends.
const EXTENSION: &str = "spill";

/// The spill of those who read a log that nobody writes.
const LOOKS: &str = "looks.spill";

/// For a queue that is full.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tickets that wait at once.
const AT_ONCE: usize = 1_024;

/// Where records go that nobody takes.
pub(crate) struct Spill {
    file: File,
    length: u64,
}

/// Records that never got into the log, from a file that nobody writes to any more.
#[derive(Debug)]
pub struct Spilled {
    path: PathBuf,
    /// Held until the records are in the log: nobody else appends them.
    _file: File,
    since: u64,
    records: Vec<Unnumbered>,
}

/// A spill cannot be appended.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// The file cannot be read or removed.
    #[error("{doing} `{}`", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// It is no spill, or one of another version.
    #[error("`{}` is not a spill that this version knows", .0.display())]
    Foreign(PathBuf),
    /// The log cannot be looked through for records that are there already.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log takes no records.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// The records of a log from some index on, to be found by what they say.
pub(crate) struct Known(HashMap<Unnumbered, Vec<u64>>);

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Heading {
    spill: u32,
    since: u64,
}

// === impl Spill ===

impl Spill {
    /// Begins the spill of a log that was handed over with `since` records.
    pub(crate) fn create(path: &Path, since: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .mode(0o600)
            .custom_flags(nofollow())
            .open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let mut heading = serde_json::to_vec(&Heading { spill: VERSION, since })?;
        heading.push(b'\n');
        let mut spill = Self { file, length: 0 };
        spill.write(&heading)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(spill)
    }

    /// Makes these durable.
    pub(crate) fn append(&mut self, records: &[Unnumbered]) -> io::Result<()> {
        let lines: Vec<u8> = records
            .iter()
            .flat_map(|record| record.bytes().iter().copied().chain([b'\n']))
            .collect();
        self.write(&lines)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if length > BYTES_MAX {
            return Err(io::Error::other("the spill is as long as it may be"));
        }
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        self.length = length;
        Ok(())
    }
}

/// Keeps one record aside for whoever opens the log next: there is nobody now who could append it.
///
/// `folder` is where [`Spilled::find`] looks, `since` how many records the log has. The file belongs
/// to whom the folder above belongs to, which may not be who writes it.
pub fn keep_aside(
    folder: &Path,
    since: u64,
    now: Moment,
    record: &Record,
) -> Result<(), SpillError> {
    let path = folder.join(LOOKS);
    let failed = |doing| {
        let path = path.clone();
        move |source: io::Error| SpillError::File { doing, path, source }
    };
    let record = Encoder::new(now).encode_unnumbered(now, record);
    let owner = folder.parent().and_then(|parent| fs::metadata(parent).ok());
    let mut spill = loop {
        match Spill::create(&path, since) {
            Ok(spill) => {
                if let Some(owner) = &owner {
                    for file in [folder, &path] {
                        chown(file, Some(owner.uid()), Some(owner.gid())).map_err(failed("own"))?;
                    }
                }
                break spill;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("create")(error)),
        }
        let file = OpenOptions::new().append(true).custom_flags(nofollow()).open(&path);
        let file = match file {
            Ok(file) => file,
            // It was appended to the log just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("open")(error)),
        };
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|errno| failed("lock")(errno.into()))?;
        let found = file.metadata().map_err(failed("examine"))?;
        // Whoever appended it to the log meanwhile has removed it.
        if found.nlink() > 0 {
            break Spill { file, length: found.len() };
        }
    };
    spill.append(&[record]).map_err(failed("write"))
}

// === impl Spilled ===

impl Spilled {
    /// The spills in `folder` that nobody writes to any more, oldest name first.
    pub fn find(folder: &Path) -> Result<Vec<Self>, SpillError> {
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| SpillError::File { doing, path, source }
        };
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", folder)(error)),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed("read", folder))?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        let mut found = Vec::new();
        for path in paths {
            let file = OpenOptions::new()
                .read(true)
                .custom_flags(nofollow())
                .open(&path)
                .map_err(failed("open", &path))?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            let mut bytes = Vec::new();
            let limit = BYTES_MAX.saturating_add(1);
            (&file).take(limit).read_to_end(&mut bytes).map_err(failed("read", &path))?;
            // Behind the last line is what a crash cut short.
            let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
            let mut next = || lines.next().and_then(|line| line.strip_suffix(b"\n"));
            let since = match next().map(serde_json::from_slice::<Heading>) {
                // Its writer died before it had written anything.
                None => 0,
                Some(Ok(Heading { spill: VERSION, since })) => since,
                Some(_) => return Err(SpillError::Foreign(path)),
            };
            let mut records = Vec::new();
            while let Some(line) = next() {
                let record = Unnumbered::parse(line);
                records.push(record.ok_or_else(|| SpillError::Foreign(path.clone()))?);
            }
            found.push(Self { path, _file: file, since, records });
        }
        Ok(found)
    }

    /// Appends to `audit`, whose log is in `directory`, what is not there yet, and removes the file;
    /// how many records that were.
    pub async fn append(self, audit: &Audit, directory: &Path) -> Result<u64, SpillError> {
        let mut known = Known::since(self.since, directory)?;
        let mut appended = 0_u64;
        let mut tickets = Vec::new();
        for record in &self.records {
            if known.take(record).is_some() {
                continue;
            }
            let slot = audit.reserve_within(PATIENCE).await.map_err(AppendError::from)?;
            tickets.push(slot.pass(record.clone()));
            appended = appended.saturating_add(1);
            if tickets.len() >= AT_ONCE {
                for ticket in tickets.drain(..) {
                    ticket.committed().await.map_err(AppendError::from)?;
                }
            }
        }
        for ticket in tickets {
            ticket.committed().await.map_err(AppendError::from)?;
        }
        let failed = |source| SpillError::File { doing: "remove", path: self.path.clone(), source };
        fs::remove_file(&self.path).map_err(failed)?;
        Ok(appended)
    }
}

// === impl Known ===

impl Known {
    /// The records of the log in `directory` from `since` on, as far as they are signed.
    pub(crate) fn since(since: u64, directory: &Path) -> Result<Self, ReadError> {
        let log = Log::open_read_only(directory)?;
        let mut known = HashMap::<_, Vec<_>>::new();
        for stored in log.records(since..log.size())? {
            let stored = stored?;
            if let Some(record) = Unnumbered::of(&stored) {
                known.entry(record).or_default().push(stored.index);
            }
        }
        Ok(Self(known))
    }

    /// Where `record` is; each place is told once.
    pub(crate) fn take(&mut self, record: &Unnumbered) -> Option<u64> {
        self.0.get_mut(record)?.pop()
    }
}

fn nofollow() -> i32 {
    i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default()
}
