//! Keys that live for minutes: whoever takes the host takes only the one of now.
//!
//! Every commit is signed with the key of its epoch. Before an epoch ends its key signs the next
//! one, together with the tree head at that moment; then its private half is destroyed. The chain of
//! these notes, from the first epoch on, is public: nothing below its last tree head can be altered
//! by anybody who holds only newer keys. Epochs end by count and by the monotonic clock, never by
//! wall time.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::encode::host_clock;
use crate::files::{self, Durable, FileError};
use crate::layout::Layout;
use crate::merkle::{Hash, Tree};
use crate::note::{Checkpoint, KeyError, SigningKey, VerifierKey, decode, encode, parse_number};
use crate::open::OpenError;
use crate::sealing::destroy;

const HEADING: &str = "enforcer.epoch/1";
/// Lines of a link: seven of text, an empty one, a signature.
const LINES: usize = 9;
/// Notes that are read; more epochs than a century of ten minutes has.
const LINKS_BYTES_MAX: u64 = 2 << 30;

/// The private key that signs commits.
#[derive(Debug)]
pub(crate) struct Epoch {
    pub(crate) number: u32,
    /// Records when it began.
    pub(crate) since: u64,
    began: Began,
    key: SigningKey,
}

/// When an epoch began, on a clock that nobody sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Began {
    /// The kernel's boot id.
    boot: String,
    /// Nanoseconds of that boot's monotonic clock.
    mono_ns: u64,
}

/// The beginning of one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) number: u32,
    /// The tree when the epoch before signed for the last time.
    pub(crate) size: u64,
    pub(crate) root: Hash,
    pub(crate) key: VerifierKey,
    began: Began,
}

/// All epochs so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    before: Vec<Link>,
    last: Link,
}

/// Why the epochs of a log do not hold together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChainFault {
    #[error("the note of epoch {0} is not signed by the key before it, or is altered")]
    Link(u32),
    #[error("it names no epoch")]
    Empty,
    #[error("the first epoch has another key than the one given")]
    First,
}

// === impl Epoch ===

impl Epoch {
    pub(crate) const fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Its number and its public key.
    pub(crate) fn public(&self) -> (u32, String) {
        (self.number, self.key.verifier().to_string())
    }

    /// A key for the epoch `number`, kept in `epoch.next` until the log has named it.
    pub(crate) fn prepare(
        layout: &Layout,
        origin: &str,
        number: u32,
        since: u64,
    ) -> Result<Self, OpenError> {
        let path = layout.next_epoch();
        let refused = |source| OpenError::Key { path: path.clone(), source };
        let key = SigningKey::generate(&name(origin, number)).map_err(refused)?;
        let line = Zeroizing::new(format!("{}\n", *key.to_text()));
        files::replace(layout, &path, line.as_bytes(), 0o600, Durable::Yes)?;
        files::sync_directory(layout.root())?;
        Ok(Self { number, since, began: Began::now(), key })
    }

    /// For how long it has been under way; none when that was before the host was started.
    pub(crate) fn age(&self) -> Option<Duration> {
        let now = Began::now();
        (now.boot == self.began.boot)
            .then(|| Duration::from_nanos(now.mono_ns.saturating_sub(self.began.mono_ns)))
    }

    /// The first epoch of a log, vouched for by the log's own key.
    pub(crate) fn begin(layout: &Layout, key: &SigningKey) -> Result<(Self, Chain), OpenError> {
        let origin = key.verifier().origin();
        let first = Self::prepare(layout, origin, 0, 0)?;
        let root = Tree::default().root();
        let link = Link {
            number: 0,
            size: 0,
            root,
            key: first.key.verifier().clone(),
            began: first.began.clone(),
        };
        let note = key.sign_text(&link.text(origin));
        files::replace(layout, &layout.epochs(), note.as_bytes(), 0o644, Durable::Yes)?;
        install(layout)?;
        Ok((first, Chain { before: Vec::new(), last: link }))
    }

    /// Hands over to `next` at the tree head `head`; the key of this one is destroyed.
    pub(crate) fn hand_over(
        &self,
        layout: &Layout,
        next: &Self,
        head: &Checkpoint,
    ) -> Result<(), FileError> {
        let link = Link {
            number: next.number,
            size: head.size,
            root: head.root,
            key: next.key.verifier().clone(),
            began: next.began.clone(),
        };
        let note = self.key.sign_text(&link.text(&head.origin));
        let path = layout.epochs();
        let mut file =
            OpenOptions::new().append(true).open(&path).map_err(FileError::on("open", &path))?;
        let length = file.metadata().map_err(FileError::on("examine", &path))?.len();
        let written = file
            .write_all(note.as_bytes())
            .map_err(FileError::on("write", &path))
            .and_then(|()| file.sync_data().map_err(FileError::on("sync", &path)));
        if let Err(error) = written {
            file.set_len(length).map_err(FileError::on("cut", &path))?;
            return Err(error);
        }
        install(layout)
    }

    /// Takes up the epoch that a run before left behind.
    pub(crate) fn resume(layout: &Layout, origin: &str) -> Result<(Self, Chain), OpenError> {
        let log = read_signing_key(layout, &layout.key())?;
        let log = log.ok_or_else(|| OpenError::Missing(layout.key()))?;
        cut_unfinished(layout)?;
        let chain = Chain::read(layout, log.verifier(), None)?;
        let last = chain.last().clone();
        let (number, since, began) = (last.number, last.size, last.began);
        let fits = |key: &SigningKey| {
            *key.verifier() == last.key && key.verifier().origin() == name(origin, number)
        };
        let (here, next) = (layout.epoch(), layout.next_epoch());
        if let Some(key) = read_signing_key(layout, &here)?.filter(fits) {
            destroy(&next)?;
            return Ok((Self { number, since, began, key }, chain));
        }
        match read_signing_key(layout, &next)?.filter(fits) {
            Some(key) => {
                install(layout)?;
                Ok((Self { number, since, began, key }, chain))
            }
            None if here.exists() => Err(OpenError::Key { path: here, source: KeyError::Id }),
            None => Err(OpenError::Missing(here)),
        }
    }
}

fn name(origin: &str, number: u32) -> String {
    format!("{origin}/epoch-{number}")
}

/// Puts the next key in the place of the one that has signed for the last time.
fn install(layout: &Layout) -> Result<(), FileError> {
    let (here, next) = (layout.epoch(), layout.next_epoch());
    destroy(&here)?;
    std::fs::rename(&next, &here).map_err(FileError::on("rename to", &here))?;
    files::sync_directory(layout.root())
}

fn read_signing_key(layout: &Layout, path: &Path) -> Result<Option<SigningKey>, OpenError> {
    let Some(text) = files::read_text(path)?.map(Zeroizing::new) else { return Ok(None) };
    let mode = files::mode(path)?;
    if mode & 0o077 != 0 {
        return Err(OpenError::KeyMode { path: path.to_owned(), mode });
    }
    match SigningKey::parse(text.strip_suffix('\n').unwrap_or_default()) {
        Ok(key) => Ok(Some(key)),
        // A crash while the next one was made.
        Err(_) if path == layout.next_epoch() => Ok(None),
        Err(source) => Err(OpenError::Key { path: path.to_owned(), source }),
    }
}

/// A hand-over that a crash cut short left part of a note, and the next key beside the old one.
fn cut_unfinished(layout: &Layout) -> Result<(), OpenError> {
    let path = layout.epochs();
    if !layout.next_epoch().exists() {
        return Ok(());
    }
    let text = files::read_text(&path)?.unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).count();
    let kept = text.split_inclusive('\n').take(whole - whole % LINES).map(str::len).sum::<usize>();
    if kept < text.len() {
        let file = OpenOptions::new().write(true).open(&path);
        let file = file.map_err(FileError::on("open", &path))?;
        file.set_len(u64::try_from(kept).unwrap_or_default())
            .map_err(FileError::on("cut", &path))?;
        file.sync_data().map_err(FileError::on("sync", &path))?;
    }
    Ok(())
}

// === impl Began ===

impl Began {
    fn now() -> Self {
        let (boot, mono_ns) = host_clock();
        Self { boot, mono_ns }
    }
}

// === impl Link ===

impl Link {
    fn text(&self, origin: &str) -> String {
        let Self { number, size, root, key, began: Began { boot, mono_ns } } = self;
        let root = encode(root);
        format!("{HEADING}\n{origin}\n{number}\n{size}\n{root}\n{key}\n{boot} {mono_ns}\n")
    }

    fn parse(text: &str, origin: &str) -> Option<Self> {
        let mut lines = text.split_terminator('\n');
        let heading = (lines.next()?, lines.next()?);
        let number = u32::try_from(parse_number(lines.next()?)?).ok()?;
        let size = parse_number(lines.next()?)?;
        let root = decode(lines.next()?)?.try_into().ok()?;
        let key: VerifierKey = lines.next()?.parse().ok()?;
        let (boot, mono_ns) = lines.next()?.split_once(' ')?;
        let began = Began { boot: boot.to_owned(), mono_ns: parse_number(mono_ns)? };
        let fits = heading == (HEADING, origin)
            && lines.next().is_none()
            && key.origin() == name(origin, number);
        fits.then_some(Self { number, size, root, key, began })
    }
}

// === impl Chain ===

impl Chain {
    /// The epochs of the log whose key is `log`, once each has vouched for the next; the first one
    /// has the key `first`, if that is known from elsewhere.
    pub(crate) fn read(
        layout: &Layout,
        log: &VerifierKey,
        first: Option<&VerifierKey>,
    ) -> Result<Self, OpenError> {
        let path = layout.epochs();
        let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let text = files::read_text(&path)?.filter(|_| length <= LINKS_BYTES_MAX);
        let text = text.ok_or_else(|| OpenError::Missing(path.clone()))?;
        Self::parse(&text, log, first).map_err(|fault| OpenError::Altered {
            file: path,
            record: None,
            why: fault.to_string(),
        })
    }

    pub(crate) fn parse(
        text: &str,
        log: &VerifierKey,
        first: Option<&VerifierKey>,
    ) -> Result<Self, ChainFault> {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let mut links: Vec<Link> = Vec::new();
        for (number, note) in (0..).zip(lines.chunks(LINES)) {
            let note = note.concat();
            let signer = links.last().map_or(log, |link| &link.key);
            let broken = || ChainFault::Link(number);
            let signed = signer.signed_text(&note).map_err(|_error| broken())?;
            let link = Link::parse(signed, log.origin()).ok_or_else(broken)?;
            // One signature, in its only place.
            let follows = link.number == number
                && note.lines().count() == LINES
                && links.last().is_none_or(|before| before.size <= link.size);
            if !follows {
                return Err(broken());
            }
            links.push(link);
        }
        let last = links.pop().ok_or(ChainFault::Empty)?;
        let chain = Self { before: links, last };
        if first.is_some_and(|first| first != chain.first()) {
            return Err(ChainFault::First);
        }
        Ok(chain)
    }

    pub(crate) fn first(&self) -> &VerifierKey {
        &self.before.first().unwrap_or(&self.last).key
    }

    /// The epoch that signs now.
    pub(crate) const fn last(&self) -> &Link {
        &self.last
    }

    pub(crate) fn key(&self, number: u32) -> Option<&VerifierKey> {
        let before = usize::try_from(number).ok().and_then(|number| self.before.get(number));
        let link = before.or_else(|| (self.last.number == number).then_some(&self.last));
        link.map(|link| &link.key)
    }

    /// What each epoch but the first found, and the one before had signed.
    pub(crate) fn heads(&self) -> impl Iterator<Item = &Link> {
        self.before.iter().chain([&self.last])
    }
}
