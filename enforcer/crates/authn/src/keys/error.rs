//! What can go wrong with the key database, and what to do about it.

use std::path::PathBuf;

use enforcer_model::{KeyId, Timestamp};

use super::new::NewKeyError;
use super::record::KeyState;
use crate::SecretFileError;

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
    /// The key is over, so nothing about it changes any more.
    #[error(
        "key {id} is {state}: it has no use for another secret; `enforcer keys issue` makes a new key"
    )]
    Ended {
        /// Which key.
        id: KeyId,
        /// Expired or revoked.
        state: KeyState,
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
    /// The key has one secret.
    #[error("key {id} has one live secret: there is no older one to end")]
    NothingToFinish {
        /// Which key.
        id: KeyId,
    },
    /// The system gave no random bytes.
    #[error("the system has no random numbers for a key")]
    Random,
    /// The key has two secrets, and no third one is made.
    #[error(
        "key {id} has two live secrets; the older one ends at {ends}, or at once with `enforcer \
         keys rotate {id} --finish`"
    )]
    RotationUnderWay {
        /// Which key.
        id: KeyId,
        /// When the older one ends by itself.
        ends: Timestamp,
    },
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
