//! The one owner of `keys.db`: issues, lists, revokes, and keeps the memory index current.
//!
//! One process may have the store open; a lock file beside it keeps a second one out, because that
//! one's index would not learn of a revocation. People may read the file with `sqlite3` at any
//! time; what they change by hand is seen after a restart. A change reaches the disk before it is
//! answered. Secrets are never stored, only their HMAC under the [`Pepper`].

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use enforcer_model::{KeyId, Timestamp};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{Connection, TransactionBehavior};

use super::schema;
use super::token::random_id;
use crate::Token;
use crate::private::{self, beside, io_error};
use crate::{ApiKeys, IssuedKey, KeyRecord, NewKey, NewKeyError, Revocation, SecretFileError};

/// The keys on disk. Whoever holds it is the only writer.
pub struct KeyStore {
    path: PathBuf,
    connection: Connection,
    index: ApiKeys,
    random: SystemRandom,
    /// Held, never read: the lock ends with the file.
    _lock: File,
}

/// The secret that is mixed into every stored HMAC and lies outside the database.
pub struct Pepper(hmac::Key);

/// HMAC-SHA-256 of a key's secret under the pepper.
pub(crate) type Mac = [u8; 32];

/// The store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not readable as what it should be.
    #[error(
        "the key database `{path}` is damaged; move it aside together with its `-wal` and `-shm` \
         files, then restore it from a backup, or start without it and give out new keys with \
         `enforcer keys issue`"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        #[source]
        damage: Damage,
    },
    /// No room for a change.
    #[error("there is no space left for the key database `{path}`; free some space and try again")]
    DiskFull {
        /// The database.
        path: PathBuf,
        /// What `SQLite` says.
        source: rusqlite::Error,
    },
    /// `SQLite`, but not our tables.
    #[error("`{path}` is the database of another program; move it aside")]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// As many keys as may be.
    #[error("there are {max} keys already, which is the limit")]
    Full {
        /// The limit.
        max: usize,
    },
    /// Another process is the owner.
    #[error(
        "the key database `{path}` is in use by another process; ask the running agent instead, \
         or stop it first"
    )]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// A name must mean one key, for all time.
    #[error("there is a key `{0}` already; choose another name (`enforcer keys list` shows all)")]
    NameTaken(String),
    /// The key cannot be made as asked.
    #[error(transparent)]
    New(#[from] NewKeyError),
    /// Written by a later version.
    #[error(
        "the key database `{path}` has schema {found}, and this version knows {known}; run the \
         version that wrote it, or a later one"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// No such key.
    #[error("no key has the id or name `{}`; `enforcer keys list` shows all", .0.escape_debug())]
    NoSuchKey(String),
    /// The file system has no shared memory.
    #[error(
        "the key database `{path}` cannot use a write-ahead log (journal mode `{journal}`); put \
         it on a local file system"
    )]
    NoWal {
        /// The database.
        path: PathBuf,
        /// What `SQLite` chose.
        journal: String,
    },
    /// The system gave no random bytes.
    #[error("the system has no random numbers for a key")]
    Random,
    /// The database or a file beside it is not private, or the system refused.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// Revoked in memory, not on disk.
    #[error(
        "key {id} is refused from here on, but this could not be written to `{path}` and will be \
         forgotten at the next start; remove the cause and revoke it again"
    )]
    RevokedInMemoryOnly {
        /// Which key.
        id: KeyId,
        /// The database.
        path: PathBuf,
        /// What `SQLite` says.
        source: rusqlite::Error,
    },
    /// `SQLite` failed.
    #[error("cannot {doing} the key database `{path}`")]
    Sqlite {
        /// Open, read, write, …
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// What `SQLite` says.
        source: rusqlite::Error,
    },
    /// The keys were stored under another pepper; none of them could be recognised.
    #[error(
        "the key database `{path}` was written with another pepper; restore the `pepper` file \
         that belongs to it, or move both aside and give out new keys"
    )]
    WrongPepper {
        /// The database.
        path: PathBuf,
    },
}

/// What is wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Cut to nothing.
    #[error("it is empty")]
    Empty,
    /// The log is there, the database is not.
    #[error("its log exists without it")]
    Headless,
    /// The integrity check of `SQLite`.
    #[error("integrity check: {0}")]
    Pages(String),
    /// A value that the program never writes.
    #[error("{0}")]
    Row(String),
    /// `SQLite` cannot read it.
    #[error("not a readable database")]
    Sqlite(#[source] rusqlite::Error),
}

impl KeyStore {
    /// How many keys there may be, revoked ones included.
    pub const KEYS_MAX: usize = 100_000;
    /// Characters of a reason that are kept.
    pub const REASON_LENGTH_MAX: usize = 500;

    /// Opens the store at `path`, after making it when there is none.
    pub fn open(path: &Path, pepper: Pepper) -> Result<Self, StoreError> {
        private::make_directory(path)?;
        let lock = lock(path)?;
        let connection = schema::open(path, &pepper)?;
        let keys = schema::read(&connection, path, None)?;
        let random = SystemRandom::new();
        let mut nobody = Mac::default();
        random.fill(&mut nobody).map_err(|ring::error::Unspecified| StoreError::Random)?;
        let index = ApiKeys::new(pepper, nobody, &keys);
        Ok(Self { path: path.to_owned(), connection, index, random, _lock: lock })
    }

    /// The keys in memory, kept current by this store.
    pub fn index(&self) -> ApiKeys {
        self.index.clone()
    }

    /// Makes a key. The secret is in the answer and nowhere else.
    pub fn issue(
        &mut self,
        new: NewKey,
        now: Timestamp,
    ) -> Result<(KeyRecord, IssuedKey), StoreError> {
        if self.index.len() >= Self::KEYS_MAX {
            return Err(StoreError::Full { max: Self::KEYS_MAX });
        }
        let on = |error| schema::failed("write", &self.path, error);
        let no_random = |ring::error::Unspecified| StoreError::Random;

        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior).map_err(on)?;
        let id = loop {
            let id = random_id(&self.random).map_err(no_random)?;
            if !schema::is_taken(&transaction, id.as_str()).map_err(on)? {
                break id;
            }
        };
        let record = new.into_record(id, now)?;
        if schema::is_taken(&transaction, &record.name).map_err(on)? || record.name == id.as_str() {
            return Err(StoreError::NameTaken(record.name));
        }
        let key = IssuedKey::with_fresh_secret(id, record.environment, &self.random)
            .map_err(no_random)?;
        let mac = match Token::parse(key.expose().as_bytes()) {
            Ok(token) => self.index.pepper().mac(token.secret()),
            Err(_) => return Err(StoreError::Random),
        };
        schema::insert(&transaction, &record, &mac).map_err(on)?;
        transaction.commit().map_err(on)?;
        self.index.insert(&record, mac);
        Ok((record, key))
    }

    /// All keys, oldest first.
    pub fn list(&self) -> Result<Vec<KeyRecord>, StoreError> {
        let keys = schema::read(&self.connection, &self.path, None)?;
        Ok(keys.into_iter().map(|(record, _)| record).collect())
    }

    /// The key with this id (also written `key:ID`) or name.
    pub fn show(&self, id_or_name: &str) -> Result<KeyRecord, StoreError> {
        self.record(self.resolve(id_or_name)?)
    }

    /// Ends a key before its time; in force on every thread and on disk before it returns.
    ///
    /// Revoking twice changes nothing and is no error. When the disk refuses, the key is refused all
    /// the same, and [`StoreError::RevokedInMemoryOnly`] says that this does not last. Control
    /// characters of `reason` become blanks, and a long one is cut: neither stops a revocation.
    pub fn revoke(
        &mut self,
        id_or_name: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<KeyRecord, StoreError> {
        let id = self.resolve(id_or_name)?;
        self.index.revoke(id, now);

        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let reason = reason.chars().take(Self::REASON_LENGTH_MAX).map(printable).collect();
        let revocation = Revocation { at: now, reason };
        schema::revoke(&self.connection, id, &revocation).map_err(|source| {
            StoreError::RevokedInMemoryOnly { id, path: self.path.clone(), source }
        })?;
        self.record(id)
    }

    #[cfg(test)]
    pub(crate) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// An id that is in memory needs no disk, so that a key can be shut out when the disk is broken.
    fn resolve(&self, id_or_name: &str) -> Result<KeyId, StoreError> {
        let text = id_or_name.strip_prefix("key:").unwrap_or(id_or_name);
        if let Ok(id) = text.parse()
            && self.index.contains(id)
        {
            return Ok(id);
        }
        let found = schema::id_of_name(&self.connection, id_or_name);
        let found = found.map_err(|error| schema::failed("read", &self.path, error))?;
        let id = found.and_then(|id| id.parse().ok());
        id.ok_or_else(|| StoreError::NoSuchKey(id_or_name.to_owned()))
    }

    fn record(&self, id: KeyId) -> Result<KeyRecord, StoreError> {
        let keys = schema::read(&self.connection, &self.path, Some(id))?;
        let record = keys.into_iter().next().map(|(record, _)| record);
        record.ok_or_else(|| StoreError::NoSuchKey(id.to_string()))
    }
}

/// Keeps a second process away from the database at `path` while the file lives.
fn lock(path: &Path) -> Result<File, StoreError> {
    let beside = beside(path, ".lock");
    let file = match private::create_new(&beside) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let vanished = || StoreError::InUse { path: path.to_owned() };
            private::open(&beside)?.ok_or_else(vanished)?
        }
        Err(error) => return Err(io_error("create", &beside)(error).into()),
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &beside)(error).into()),
    }
}

impl Pepper {
    /// The pepper in the file at `path`; a fresh one is written there first when there is none.
    pub fn load_or_create(path: &Path) -> Result<Self, SecretFileError> {
        let secret = private::load_or_create(path)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &*secret)))
    }

    pub(crate) fn mac(&self, secret: &[u8]) -> Mac {
        let tag = hmac::sign(&self.0, secret);
        let mut mac = Mac::default();
        mac.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        mac
    }

    /// Whether `mac` is that of `secret`, in a time that does not depend on where they differ.
    pub(crate) fn verify(&self, secret: &[u8], mac: &Mac) -> bool {
        hmac::verify(&self.0, secret, mac).is_ok()
    }

    /// What a database keeps to recognise its pepper. No key has a secret of this form.
    pub(crate) fn mark(&self) -> Mac {
        self.mac(Self::MARK)
    }

    pub(crate) fn is_the_one_of(&self, mark: &Mac) -> bool {
        self.verify(Self::MARK, mark)
    }

    const MARK: &[u8] = b"enforcer: the pepper of this key database";
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

impl fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyStore").field("path", &self.path).finish_non_exhaustive()
    }
}
