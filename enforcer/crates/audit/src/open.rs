//! Taking a log up again, whatever the last run left behind.
//!
//! A start reads the keys, the epochs, the checkpoint, every segment's header and the whole last
//! segment: it recomputes the tree over the last segment from its header and compares it with every
//! commit and with the root at the signed size. Older records and tiles are left to `verify`. Kept is
//! every intact record, also above the checkpoint, for it may have been acknowledged; dropped is only
//! an unfinished write above it, and a `gap` record says so. Anything else refuses to open.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use enforcer_model::Moment;

use crate::audit::Config;
use crate::chain::{self, ChainError};
use crate::epoch::Epoch;
use crate::files::{self, Durable, FileError, Reserve};
use crate::layout::Layout;
use crate::merkle::{Tile, Tree};
use crate::note::{
    Checkpoint, KeyError, NoteError, OriginError, SigningKey, VerifierKey, parse_origin,
};
use crate::prune;
use crate::read::SUBJECT_CLASS;
use crate::sealing::{Keyring, Salts, Vault};
use crate::segment::{BadRecord, Fault, Opener, Previous, Step};
use crate::store::{Extent, Opening, Segment, Store};
use crate::subject::{self, Names, VaultError};
use crate::tail::read_tail;

/// What was found when the log was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Records in the log.
    pub size: u64,
    /// Of them, intact records above the last checkpoint, kept and signed again.
    pub recovered: u64,
    /// Bytes of an unfinished write that were dropped; a `gap` record says so.
    pub torn_bytes: u64,
    /// Whether the log was begun.
    pub created: bool,
    /// The key that others verify with.
    pub key: VerifierKey,
    /// The key of the first epoch; whoever has both cannot be shown another past.
    pub first_epoch: VerifierKey,
    /// What an operator should know, a sentence each.
    pub warnings: Vec<String>,
}

/// Why the log cannot be opened. See [`OpenError::hint`] for the way out.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file is not as it was left.
    #[error("the audit log was altered: {}, `{}`: {why}", which(*record), file.display())]
    Altered {
        /// The file.
        file: PathBuf,
        /// The first record concerned, when it is one.
        record: Option<u64>,
        /// What does not fit.
        why: String,
    },
    /// A call to the file system failed.
    #[error(transparent)]
    File(FileError),
    /// A file of the log is gone.
    #[error("the audit log is incomplete: `{}` is missing", .0.display())]
    Missing(PathBuf),
    /// Others than the owner can read the signing key.
    #[error("the signing key `{}` has mode {mode:04o}; others must not read it", path.display())]
    KeyMode {
        /// The key.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key file cannot be used.
    #[error("the key `{}`", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// Another agent writes here.
    #[error("another agent has the audit log `{}` open", .0.display())]
    Locked(PathBuf),
    /// There is no room for what a start has to write.
    #[error("the disk of the audit log is full")]
    NoSpace,
    /// The configured name cannot be one.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The keys of personal values cannot be used.
    #[error(transparent)]
    Subjects(VaultError),
    /// The log has another name than the policy says.
    #[error("the audit log `{}` is called `{found}`, not `{wanted}`", directory.display())]
    OtherOrigin {
        /// The directory.
        directory: PathBuf,
        /// The name in its key.
        found: String,
        /// The name asked for.
        wanted: String,
    },
    /// The writer thread could not be started.
    #[error("start the writer thread of the audit log")]
    Thread(#[source] io::Error),
}

/// A log ready to be appended to.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) store: Store,
    pub(crate) opened: Opened,
    /// The last checkpoint of the run before, and its text.
    pub(crate) signed: Checkpoint,
    pub(crate) checkpoint: String,
    /// Whether there was room for the reserve.
    pub(crate) reserved: bool,
}

fn which(index: Option<u64>) -> String {
    index.map_or_else(|| "no single record".to_owned(), |index| format!("record {index}"))
}

impl OpenError {
    /// What an operator can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Altered { .. } | Self::Missing(_) => {
                "the log is evidence and is not repaired: copy or move its directory away, keep \
                 it, and start again; a new log begins"
                    .to_owned()
            }
            Self::File(_) => "check the disk and the permissions of the directory".to_owned(),
            Self::KeyMode { path, .. } => format!(
                "if nobody can have read it: `chmod 600 {0}`; else move the log away and begin \
                 another",
                path.display()
            ),
            Self::Key { .. } => "restore the key from a backup, or move the log's directory away, \
                                 keep it, and start again; a new log begins"
                .to_owned(),
            Self::Locked(_) => "stop the other agent first; `enforcer status` shows it".to_owned(),
            Self::NoSpace => "free some space on the disk of the audit log".to_owned(),
            Self::Origin(_) => "set `origin` in the section `[audit]` of the policy".to_owned(),
            Self::OtherOrigin { found, .. } => format!(
                "a log keeps its name: set `origin = \"{found}\"` in `[audit]`, or point `state` \
                 to another directory"
            ),
            Self::Subjects(_) => "restore the folder `subjects` from a backup, or move the log's \
                                  directory away, keep it, and start again; a new log begins"
                .to_owned(),
            Self::Thread(_) => "check the limits on threads and memory of the service".to_owned(),
        }
    }

    pub(crate) fn altered(file: &Path, record: Option<u64>, why: &impl fmt::Display) -> Self {
        Self::Altered { file: file.to_owned(), record, why: why.to_string() }
    }
}

/// Opens the log for writing, or begins it.
pub(crate) fn open(config: &Config, now: Moment) -> Result<Ready, OpenError> {
    let directory = config.directory.as_path();
    let origin = parse_origin(&config.origin)?;
    let layout = Layout::new(directory);
    make_directory(directory)?;
    let lock = files::lock(&layout.lock())?;
    let lock = lock.ok_or_else(|| OpenError::Locked(directory.to_owned()))?;
    remove_unfinished(&layout)?;

    let vault = Vault::new(config.recipients.clone());
    let begun = layout.checkpoint().exists() || is_begun(&layout)?;
    if !begun {
        // Segment, key, epoch, checkpoint: a beginning that was cut short begins again, and a key
        // whose segments are gone is never used for another log.
        Segment::create(&layout, &vault, &Tree::default(), Previous::default(), now)?;
    }
    let key = load_key(&layout, origin, begun)?;
    let (epoch, epochs) =
        if begun { Epoch::resume(&layout, origin)? } else { Epoch::begin(&layout, &key)? };
    check_public(&layout, &key, epochs.first(), begun)?;
    let reserved = match files::keep_reserve(&layout, Reserve::Whole) {
        Ok(()) => true,
        Err(error) if error.is_no_space() => false,
        Err(error) => return Err(error.into()),
    };
    if !begun {
        let note = key.sign(0, Tree::default().root());
        files::replace(&layout, &layout.checkpoint(), note.as_bytes(), 0o644, Durable::Yes)?;
        files::sync_directory(directory)?;
    }

    prune::finish(&layout, key.verifier())?;
    let chained = chain::check_all(&layout, key.verifier())?;
    let last = chained.last;
    let (signed, checkpoint) = newest_head(&layout, &key, last)?;
    let (tail, header) = read_tail(&layout, last, &signed, &epochs)?;
    let warnings = restore_tiles(&layout, &tail.tiles, signed.size)?;

    let path = layout.segment(last);
    let file = OpenOptions::new().read(true).write(true).open(&path);
    let file = file.map_err(FileError::on("open", &path))?;
    if tail.torn_bytes > 0 {
        file.set_len(tail.written.length).map_err(FileError::on("cut", &path))?;
        file.sync_data().map_err(FileError::on("sync", &path))?;
    }
    let size = tail.tree.size();
    let opened = Opened {
        size,
        recovered: size - signed.size,
        torn_bytes: tail.torn_bytes,
        created: !begun,
        key: key.verifier().clone(),
        first_epoch: epochs.first().clone(),
        warnings,
    };
    let segment = Segment {
        file,
        path,
        first: last,
        begun: now,
        keys: header.keys,
        salts: Salts::default(),
        context: header.context,
        synced: tail.written.clone(),
        written: tail.written,
        open_ended: tail.open_ended,
        closed: tail.closed,
        footer: tail.footer,
    };
    let firsts = chain::segments(&layout)?;
    let names = Names::open(subject::Vault::of(directory), last, |first| {
        let next = firsts.iter().copied().find(|next| *next > first);
        // Of a segment that never came to be there are no records.
        let known = firsts.contains(&first);
        let end = next.unwrap_or(size);
        if known { subject_records(&layout, first, end).ok() } else { Some(Vec::new()) }
    })?;
    let Config { segment_bytes, segment_records, segment_age, hot, .. } = *config;
    let store = Store::new(Opening {
        extent: Extent {
            bytes: segment_bytes,
            records: segment_records.max(1),
            age: segment_age,
            hot,
        },
        hot: chained
            .ended
            .into_iter()
            .filter(|(first, _)| layout.data_key(*first).exists())
            .collect(),
        names,
        tree: tail.tree,
        signed: signed.size,
        layout,
        key,
        epoch,
        vault,
        segment,
        lock,
    })?;
    Ok(Ready { store, opened, signed, checkpoint, reserved })
}

/// The `subject` records of a segment, with their places in it.
fn subject_records(
    layout: &Layout,
    first: u64,
    end: u64,
) -> Result<Vec<(u32, Box<str>)>, OpenError> {
    let path = layout.segment(first);
    let leaves = chain::open_leaves(&path, first)?;
    let Some(keys) = Keyring::default().find(layout, leaves.header())? else {
        return Ok(Vec::new());
    };
    let mut records = Vec::new();
    let mut opener = Opener::default();
    let mut next = first;
    while next < end {
        let block = leaves.block(next).map_err(|error| chain::unopened(&path, next, error))?;
        let Some(block) = block else { break };
        let altered =
            |bad: BadRecord| OpenError::altered(&path, Some(bad.index), &Fault::from(bad));
        let mut entries = block.open(leaves.context(), &keys, &mut opener).map_err(altered)?;
        while let Some(json) = entries.get(&keys, next).map_err(altered)? {
            let text = String::from_utf8_lossy(json);
            if text.contains(SUBJECT_CLASS) {
                records.push((u32::try_from(next - first).unwrap_or(u32::MAX), text.into()));
            }
            next += 1;
        }
    }
    Ok(records)
}

/// The tree head that the log was left with. One that a crash left empty is as good as an older
/// one: the segment's own commits say the rest.
fn newest_head(
    layout: &Layout,
    key: &SigningKey,
    last: u64,
) -> Result<(Checkpoint, String), OpenError> {
    let path = layout.checkpoint();
    let note = files::read_text(&path)?.ok_or_else(|| OpenError::Missing(path.clone()))?;
    if note.is_empty() {
        let header = chain::open_segment(&layout.segment(last), last)?.header().clone();
        let note = key.sign(last, header.tree().root());
        let origin = key.verifier().origin().to_owned();
        return Ok((Checkpoint { origin, size: last, root: header.tree().root() }, note));
    }
    let signed = key.verifier().open(&note);
    let signed = signed.map_err(|error: NoteError| OpenError::altered(&path, None, &error))?;
    Ok((signed, note))
}

fn make_directory(directory: &Path) -> Result<(), FileError> {
    let make = |path: &Path| {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(FileError::on("create directory", path))
    };
    make(directory)?;
    make(&directory.join("segments"))?;
    make(&directory.join("keys"))?;
    make(&directory.join("tile"))
}

fn remove_unfinished(layout: &Layout) -> Result<(), FileError> {
    let path = layout.unfinished();
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::on("remove", &path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a log without a checkpoint is more than a beginning that was cut short.
fn is_begun(layout: &Layout) -> Result<bool, OpenError> {
    match chain::segments(layout)?.as_slice() {
        [] => {
            let key = layout.key();
            key.try_exists().map_err(|error| FileError::on("examine", &key)(error).into())
        }
        [0] => {
            let path = layout.segment(0);
            let step =
                chain::open_segment(&path, 0)?.next().map_err(FileError::on("read", &path))?;
            Ok(step != Step::End)
        }
        _ => Ok(true),
    }
}

fn load_key(layout: &Layout, origin: &str, begun: bool) -> Result<SigningKey, OpenError> {
    let path = layout.key();
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Key { path, source }
    };
    let key = match files::read_text(&path)? {
        Some(text) => {
            let mode = files::mode(&path)?;
            if mode & 0o077 != 0 {
                return Err(OpenError::KeyMode { path, mode });
            }
            let line = text.strip_suffix('\n').unwrap_or_default();
            SigningKey::parse(line).map_err(refused(&path))?
        }
        None if begun => return Err(OpenError::Missing(path)),
        None => {
            let key = SigningKey::generate(origin).map_err(refused(&path))?;
            let line = zeroize::Zeroizing::new(format!("{}\n", *key.to_text()));
            files::replace(layout, &path, line.as_bytes(), 0o600, Durable::Yes)?;
            key
        }
    };
    let found = key.verifier().origin();
    if found != origin {
        return Err(OpenError::OtherOrigin {
            directory: layout.root().to_owned(),
            found: found.to_owned(),
            wanted: origin.to_owned(),
        });
    }
    Ok(key)
}

/// The public half: the log's key and the first epoch's, a line each.
fn check_public(
    layout: &Layout,
    key: &SigningKey,
    first_epoch: &VerifierKey,
    begun: bool,
) -> Result<(), OpenError> {
    let (path, lines) = (layout.public_key(), format!("{}\n{first_epoch}\n", key.verifier()));
    match files::read_text(&path)? {
        Some(text) if text == lines => Ok(()),
        Some(_) if begun => Err(OpenError::altered(&path, None, &"it does not belong to the key")),
        None if begun => Err(OpenError::Missing(path)),
        Some(_) | None => {
            files::replace(layout, &path, lines.as_bytes(), 0o644, Durable::Yes)?;
            Ok(())
        }
    }
}

/// Tiles are written without a sync, because the records hold all that is in them: the newest may
/// be missing or short after a power cut. One that is whole and different was altered.
fn restore_tiles(layout: &Layout, tiles: &[Tile], signed: u64) -> Result<Vec<String>, OpenError> {
    let mut warnings = Vec::new();
    for tile in tiles {
        let path = layout.tile(tile.level, tile.index);
        let bytes = tile.hashes.as_flattened();
        let found = match fs::read(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(FileError::on("read", &path)(error).into()),
        };
        if found == bytes {
            continue;
        }
        let is_signed = tile.end() <= signed;
        if found.len() >= bytes.len() && is_signed {
            let why = "it does not fit the signed records";
            return Err(OpenError::altered(&path, Some(tile.first()), &why));
        }
        files::replace_in_tree(layout, &path, bytes, 0o644)?;
        if is_signed {
            warnings.push(format!(
                "`{}` was lost in a crash and has been made again from the signed records",
                path.display()
            ));
        }
    }
    Ok(warnings)
}

impl From<VaultError> for OpenError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::File(error) => error.into(),
            other @ (VaultError::Value(_) | VaultError::Altered { .. } | VaultError::Random) => {
                Self::Subjects(other)
            }
        }
    }
}

impl From<ChainError> for OpenError {
    fn from(error: ChainError) -> Self {
        match error {
            ChainError::Altered { file, record, why } => {
                Self::Altered { file, record: Some(record), why }
            }
            ChainError::File(error) => error.into(),
            ChainError::Missing(file) => Self::Missing(file),
        }
    }
}

impl From<FileError> for OpenError {
    fn from(error: FileError) -> Self {
        if error.is_no_space() { Self::NoSpace } else { Self::File(error) }
    }
}
