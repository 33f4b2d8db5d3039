//! The one owner of `revocations.db`: revokes, restores, and keeps the memory index current.
//!
//! One process may have the store open; a lock file beside it keeps a second one out. People may read
//! the file with `sqlite3` at any time; what they change by hand is seen after a restart. To revoke
//! reaches memory first and the disk before it is answered; to restore reaches the disk first: what
//! fails in between leaves a token refused, never one accepted.

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use enforcer_model::{Author, Expiry, Timestamp};
use rusqlite::Connection;

use super::record::{RevocationId, TokenRevocation, TokenTarget};
use super::schema;
use super::{Revocations, SecretFileError};
use crate::private::{self, beside, io_error};

/// The revocations on disk. Whoever holds it is the only writer.
pub struct RevocationStore {
    path: PathBuf,
    connection: Connection,
    index: Revocations,
    /// The number of the one that comes next; none is used twice.
    next: u32,
    /// The lock ends with the file.
    lock: File,
}

/// A revocation as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRevocation {
    /// What is taken back.
    pub target: TokenTarget,
    /// The `[issuer.NAME]` whose tokens are meant; none: those of all.
    pub issuer: Option<Arc<str>>,
    /// When it ends.
    pub until: Expiry,
    /// Who decides.
    pub author: Author,
    /// Why.
    pub reason: String,
}

/// The store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// As many times before which tokens are refused as may be.
    #[error(
        "there are {max} revocations of the form `before:TIME` already, which is the limit; \
         `enforcer tokens list` shows them, `enforcer tokens restore` ends one"
    )]
    BeforeFull {
        /// The limit.
        max: usize,
    },
    /// Not readable as what it should be.
    #[error(
        "the database of revocations `{path}` is damaged: {what}; move it aside together with its \
         `-wal` and `-shm` files, then restore it from a backup, or start without it and revoke \
         again with `enforcer tokens revoke`"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The database or a file beside it is not private, or the system refused.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// `SQLite`, but not our tables.
    #[error("`{path}` is the database of another program; move it aside")]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// As many revocations as may be.
    #[error(
        "there are {max} revocations already, which is the limit; `before:TIME` or `sub:SUBJECT` \
         takes back many tokens at once"
    )]
    Full {
        /// The limit.
        max: usize,
    },
    /// Another process is the owner.
    #[error(
        "the database of revocations `{path}` is in use by another process; ask the running agent \
         instead, or stop it first"
    )]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// A certificate belongs to no issuer of tokens.
    #[error("a certificate is of no issuer of tokens; leave the issuer out")]
    IssuerOfCertificate,
    /// Written by a later version.
    #[error(
        "the database of revocations `{path}` has schema {found}, and this version knows {known}; \
         run the version that wrote it, or a later one"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// No such revocation.
    #[error("there is no revocation {0}; `enforcer tokens list` shows all")]
    NoSuch(RevocationId),
    /// Taken back in memory, not on disk.
    #[error(
        "{id} is in force from here on, but could not be written to `{path}` and will be forgotten \
         at the next start; remove the cause and revoke again"
    )]
    OnlyInMemory {
        /// Which one.
        id: RevocationId,
        /// The database.
        path: PathBuf,
        /// What `SQLite` says.
        source: rusqlite::Error,
    },
    /// `SQLite` failed.
    #[error("cannot {doing} the database of revocations `{path}`")]
    Sqlite {
        /// Open, read, write, …
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// What `SQLite` says.
        source: rusqlite::Error,
    },
}

impl RevocationStore {
    /// How many revocations there may be.
    pub const MOST: usize = 100_000;
    /// How many of them may be of the form `before:TIME`: each is compared with every token.
    pub const BEFORE_MOST: usize = 16;
    /// Characters of a reason that are kept.
    pub const REASON_LENGTH_MAX: usize = 500;

    /// Opens the store at `path`, after making it when there is none.
    pub fn open(path: &Path) -> Result<Self, RevocationError> {
        private::make_directory(path)?;
        let lock = lock(path)?;
        let connection = schema::open(path)?;
        let all = schema::read(&connection, path)?;
        let next = schema::next(&connection, path)?;
        let index = Revocations::default();
        index.publish(all.into_iter().map(Arc::new).collect());
        Ok(Self { path: path.to_owned(), connection, index, next, lock })
    }

    /// What the store at `path` says at this moment, whoever its writer is; puts it in force in
    /// `index`. For an agent whose successor is the writer.
    pub fn reread(path: &Path, index: &Revocations) -> Result<(), RevocationError> {
        let connection = schema::open(path)?;
        let all = schema::read(&connection, path)?;
        index.publish(all.into_iter().map(Arc::new).collect());
        Ok(())
    }

    /// Lets another process open the store. Nothing may be changed here until [`Self::take_back`].
    pub fn lend(&self) -> Result<(), RevocationError> {
        self.lock.unlock().map_err(|error| io_error("unlock", &self.path)(error).into())
    }

    /// The only writer again, of a store that nobody has changed meanwhile.
    pub fn take_back(&self) -> Result<(), RevocationError> {
        match self.lock.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                Err(RevocationError::InUse { path: self.path.clone() })
            }
            Err(TryLockError::Error(error)) => Err(io_error("lock", &self.path)(error).into()),
        }
    }

    /// The revocations in memory, kept current by this store.
    pub fn index(&self) -> Revocations {
        self.index.clone()
    }

    /// Those that are in force at `now`, oldest first.
    pub fn list(&self, now: Timestamp) -> Vec<Arc<TokenRevocation>> {
        self.index.all().into_iter().filter(|one| !one.until.is_over(now)).collect()
    }

    /// Takes back what `new` says; in force on every thread and on disk before it returns.
    ///
    /// What is taken back already, and for as long, stays as it is. When the disk refuses it is in
    /// force all the same, and [`RevocationError::OnlyInMemory`] says that this does not last.
    /// Control characters of the reason become blanks, and a long one is cut.
    pub fn revoke(
        &mut self,
        new: NewRevocation,
        now: Timestamp,
    ) -> Result<Arc<TokenRevocation>, RevocationError> {
        let NewRevocation { target, issuer, until, author, reason } = new;
        if matches!(target, TokenTarget::Certificate(_)) && issuer.is_some() {
            return Err(RevocationError::IssuerOfCertificate);
        }
        let mut all = self.list(now);
        let is_the_same = |one: &Arc<TokenRevocation>| {
            one.target == target && one.issuer == issuer && lasts(one.until, until)
        };
        if let Some(known) = all.iter().find(|one| is_the_same(one)) {
            return Ok(Arc::clone(known));
        }
        let is_before = |target: &TokenTarget| matches!(target, TokenTarget::IssuedBefore(_));
        let befores = all.iter().filter(|one| is_before(&one.target)).count();
        if is_before(&target) && befores >= Self::BEFORE_MOST {
            return Err(RevocationError::BeforeFull { max: Self::BEFORE_MOST });
        }
        if all.len() >= Self::MOST {
            return Err(RevocationError::Full { max: Self::MOST });
        }
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let reason = reason.chars().take(Self::REASON_LENGTH_MAX).map(printable).collect();
        let id = RevocationId::new(self.next);
        self.next = self.next.saturating_add(1);
        let one =
            Arc::new(TokenRevocation { id, target, issuer, since: now, until, author, reason });
        all.push(Arc::clone(&one));
        self.index.publish(all);

        schema::insert(&self.connection, &one, now).map_err(|source| {
            RevocationError::OnlyInMemory { id, path: self.path.clone(), source }
        })?;
        Ok(one)
    }

    /// Ends a revocation: what it took back is accepted again where nothing else speaks against it.
    pub fn restore(
        &mut self,
        id: RevocationId,
        now: Timestamp,
    ) -> Result<Arc<TokenRevocation>, RevocationError> {
        let mut all = self.list(now);
        let place = all.iter().position(|one| one.id == id).ok_or(RevocationError::NoSuch(id))?;
        schema::delete(&self.connection, id, now)
            .map_err(|error| schema::failed("write", &self.path, error))?;
        let one = all.remove(place);
        self.index.publish(all);
        Ok(one)
    }

    #[cfg(test)]
    pub(crate) const fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// Whether what ends at `end` lasts until `other` at least.
fn lasts(end: Expiry, other: Expiry) -> bool {
    match (end, other) {
        (Expiry::Never, _) => true,
        (Expiry::At(_), Expiry::Never) => false,
        (Expiry::At(end), Expiry::At(other)) => end >= other,
    }
}

/// Keeps a second process away from the database at `path` while the file lives.
fn lock(path: &Path) -> Result<File, RevocationError> {
    let beside = beside(path, ".lock");
    let in_use = || RevocationError::InUse { path: path.to_owned() };
    let file = match private::create_new(&beside) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            private::open(&beside)?.ok_or_else(in_use)?
        }
        Err(error) => return Err(io_error("create", &beside)(error).into()),
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(in_use()),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &beside)(error).into()),
    }
}

impl fmt::Debug for RevocationStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationStore").field("path", &self.path).finish_non_exhaustive()
    }
}
