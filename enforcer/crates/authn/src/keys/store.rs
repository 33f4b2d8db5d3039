//! The one owner of `keys.db`: issues, lists, revokes, and keeps the memory index current.
//!
//! One process may have the store open; a lock file beside it keeps a second one out, because that
//! one's index would not learn of a revocation. People may read the file with `sqlite3` at any
//! time; what they change by hand is seen after a restart. A change reaches the disk before it is
//! answered. Secrets are never stored, only their HMAC under the [`Pepper`]. Last uses are written
//! in the background: a crash loses those since [`KeyStore::flush_uses`] was last called.

use std::collections::HashSet;
use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use enforcer_model::{KeyId, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::error::{Damage, StoreError};
use super::index::ApiKeys;
use super::new::NewKey;
use super::notices::{self, NoticeMark};
use super::pepper::{Mac, Pepper};
use super::plan::KeyPrefix;
use super::record::{KeyRecord, Revocation, SecretForm, SecretRecord};
use super::rows::{self, StoredKey};
use super::schema;
use super::token::{IssuedKey, Token, random_id};
use crate::private::{self, beside, io_error};

/// The keys on disk. Whoever holds it is the only writer.
pub struct KeyStore {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) index: ApiKeys,
    pub(super) random: SystemRandom,
    /// The notices that were given.
    pub(super) noticed: HashSet<NoticeMark>,
    /// The lock ends with the file.
    lock: File,
}

impl KeyStore {
    /// How many keys there may be, revoked ones included.
    pub const KEYS_MAX: usize = 100_000;
    /// Characters of a reason that are kept.
    pub const REASON_LENGTH_MAX: usize = 500;
    /// Last uses written at once.
    pub const USES_AT_ONCE: usize = 5_000;

    /// Opens the store at `path`, after making it when there is none, or bringing it up to date when
    /// an earlier version made it.
    pub fn open(path: &Path, pepper: Pepper) -> Result<Self, StoreError> {
        private::make_directory(path)?;
        let lock = lock(path)?;
        let connection = schema::open(path, &pepper)?;
        let keys = rows::read(&connection, path, None)?;
        let random = SystemRandom::new();
        let mut nobody = Mac::default();
        random.fill(&mut nobody).map_err(|ring::error::Unspecified| StoreError::Random)?;
        let index = ApiKeys::new(pepper, nobody, &keys);
        let given =
            notices::given(&connection).map_err(|error| schema::failed("read", path, error))?;
        let noticed = given.into_iter().collect::<Result<_, _>>();
        let noticed = noticed.map_err(|what| schema::damaged(path, Damage::Row(what)))?;
        Ok(Self { path: path.to_owned(), connection, index, random, noticed, lock })
    }

    /// Lets another process open the store. Nothing may be changed here until [`Self::take_back`].
    pub fn lend(&self) -> Result<(), StoreError> {
        self.lock.unlock().map_err(|error| io_error("unlock", &self.path)(error).into())
    }

    /// The only writer again, of a store that nobody has changed meanwhile.
    pub fn take_back(&self) -> Result<(), StoreError> {
        match self.lock.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: self.path.clone() }),
            Err(TryLockError::Error(error)) => Err(io_error("lock", &self.path)(error).into()),
        }
    }

    /// The keys in memory, kept current by this store.
    pub fn index(&self) -> ApiKeys {
        self.index.clone()
    }

    /// Lets new secrets begin with `prefix`. Keys that begin otherwise stay as they are.
    pub fn set_prefix(&mut self, prefix: KeyPrefix) {
        if self.index.prefix() != prefix {
            self.index.accept_prefix(prefix);
        }
    }

    /// What would keep `new` from being made, if anything does.
    pub fn check(&self, new: &NewKey, now: Timestamp) -> Result<(), StoreError> {
        new.check(now)?;
        if self.index.len() >= Self::KEYS_MAX {
            return Err(StoreError::Full { max: Self::KEYS_MAX });
        }
        let taken = rows::is_taken(&self.connection, &new.name);
        match taken.map_err(|error| schema::failed("read", &self.path, error))? {
            true => Err(StoreError::NameTaken(new.name.clone())),
            false => Ok(()),
        }
    }

    /// Makes a key. The secret is in the answer and nowhere else.
    pub fn issue(
        &mut self,
        new: NewKey,
        now: Timestamp,
    ) -> Result<(KeyRecord, IssuedKey), StoreError> {
        self.check(&new, now)?;
        let (index, random, prefix) =
            (self.index.clone(), self.random.clone(), self.index.prefix());
        let (stored, key) = self.write(|transaction, path| {
            let on = |error| schema::failed("write", path, error);
            let id = free_id(transaction, path, &random)?;
            let mut record = new.into_record(id, now)?;
            if record.name == id.as_str() {
                return Err(StoreError::NameTaken(record.name));
            }
            let key = IssuedKey::with_fresh_secret(id, prefix, record.environment, &random)
                .map_err(|ring::error::Unspecified| StoreError::Random)?;
            let (secret, mac) = own_secret(&key, prefix, 1, index.pepper(), now)?;
            record.secrets.push(secret);
            let stored = StoredKey { record, macs: vec![mac] };
            rows::insert(transaction, &stored).map_err(on)?;
            Ok((stored, key))
        })?;
        self.index.put(std::slice::from_ref(&stored));
        Ok((stored.record, key))
    }

    /// All keys, oldest first.
    pub fn list(&self) -> Result<Vec<KeyRecord>, StoreError> {
        let keys = rows::read(&self.connection, &self.path, None)?;
        Ok(keys.into_iter().map(|key| self.told(key.record)).collect())
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
        rows::revoke(&self.connection, id, &revocation).map_err(|source| {
            StoreError::RevokedInMemoryOnly { id, path: self.path.clone(), source }
        })?;
        self.record(id)
    }

    /// Writes down when and from where secrets were last used, [`KeyStore::USES_AT_ONCE`] at most;
    /// says how many. What could not be written is due again.
    pub fn flush_uses(&mut self) -> Result<usize, StoreError> {
        let uses = self.index.take_unwritten_uses(Self::USES_AT_ONCE);
        if uses.is_empty() {
            return Ok(0);
        }
        let written = self.write(|transaction, path| {
            uses.iter()
                .try_for_each(|unwritten| {
                    rows::note_use(transaction, unwritten.key, unwritten.number, &unwritten.last)
                })
                .map_err(|error| schema::failed("write", path, error))
        });
        if let Err(error) = written {
            self.index.put_back(&uses);
            return Err(error);
        }
        Ok(uses.len())
    }

    #[cfg(test)]
    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// One transaction: all that `change` writes, or nothing of it.
    pub(super) fn write<T>(
        &mut self,
        change: impl FnOnce(&Transaction<'_>, &Path) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let on = |error| schema::failed("write", &self.path, error);
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior).map_err(on)?;
        let done = change(&transaction, &self.path)?;
        transaction.commit().map_err(on)?;
        Ok(done)
    }

    /// An id that is in memory needs no disk, so that a key can be shut out when the disk is broken.
    pub(super) fn resolve(&self, id_or_name: &str) -> Result<KeyId, StoreError> {
        let text = id_or_name.strip_prefix("key:").unwrap_or(id_or_name);
        if let Ok(id) = text.parse()
            && self.index.contains(id)
        {
            return Ok(id);
        }
        let found = rows::id_of_name(&self.connection, id_or_name);
        let found = found.map_err(|error| schema::failed("read", &self.path, error))?;
        let id = found.and_then(|id| id.parse().ok());
        id.ok_or_else(|| StoreError::NoSuchKey(id_or_name.to_owned()))
    }

    /// As it is on disk.
    pub(super) fn stored(&self, id: KeyId) -> Result<StoredKey, StoreError> {
        let keys = rows::read(&self.connection, &self.path, Some(id))?;
        keys.into_iter().next().ok_or_else(|| StoreError::NoSuchKey(id.to_string()))
    }

    fn record(&self, id: KeyId) -> Result<KeyRecord, StoreError> {
        Ok(self.told(self.stored(id)?.record))
    }

    pub(super) fn told(&self, mut record: KeyRecord) -> KeyRecord {
        self.index.tell_uses(&mut record);
        record
    }
}

/// An id that no key has and that is nobody's name.
pub(super) fn free_id(
    connection: &Connection,
    path: &Path,
    random: &SystemRandom,
) -> Result<KeyId, StoreError> {
    loop {
        let id = random_id(random).map_err(|ring::error::Unspecified| StoreError::Random)?;
        let taken = rows::is_taken(connection, id.as_str());
        if !taken.map_err(|error| schema::failed("write", path, error))? {
            return Ok(id);
        }
    }
}

/// What is stored of the secret of `key`.
pub(super) fn own_secret(
    key: &IssuedKey,
    prefix: KeyPrefix,
    number: u32,
    pepper: &Pepper,
    now: Timestamp,
) -> Result<(SecretRecord, Mac), StoreError> {
    let version = pepper.current();
    let token = Token::parse_with(key.expose().as_bytes(), &[prefix]).ok();
    let mac = token.and_then(|token| pepper.mac(version, token.secret()));
    let secret = SecretRecord {
        number,
        form: SecretForm::Own,
        prefix,
        pepper: version.0,
        created: now,
        ends: None,
        used: None,
    };
    Ok((secret, mac.ok_or(StoreError::Random)?))
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

impl fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyStore").field("path", &self.path).finish_non_exhaustive()
    }
}
