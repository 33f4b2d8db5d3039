//! `quotas.db`: what is spent, as `SQLite` keeps it. One row for each subject of each quota.
//!
//! An operator can open the file while the agent runs or is broken. A transaction is on disk when
//! it returns (`synchronous = FULL`), so a row never says less than what a strict quota has spent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use enforcer_model::Timestamp;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::{Key, QUOTAS_MAX, QuotaLevel};
use crate::Period;

/// The open database.
#[derive(Debug)]
pub struct QuotaStore {
    connection: Connection,
    path: PathBuf,
}

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QuotaStoreError {
    /// `SQLite` refused.
    #[error("cannot {what} {}", path.display())]
    Sqlite {
        /// Opening, reading or writing.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What `SQLite` says.
        #[source]
        source: rusqlite::Error,
    },
    /// Another program's file, or that of a newer version.
    #[error("{} is not a database of quotas that this version knows", .0.display())]
    Foreign(PathBuf),
    /// More counters than the agent holds.
    #[error("{} has more than {QUOTAS_MAX} counters in force", .0.display())]
    TooMany(PathBuf),
}

/// One counter on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: Key,
    /// When its period ends, in seconds since the epoch.
    pub(crate) ends: u64,
    pub(crate) spent: u64,
}

/// `PRAGMA application_id`: "enfq".
const APPLICATION: i64 = 0x656e_6671;

/// `PRAGMA user_version`.
const VERSION: i64 = 1;

pub(super) const SCHEMA: &str = "
    CREATE TABLE quota (
        limit_name TEXT NOT NULL,
        subject TEXT NOT NULL,
        period TEXT NOT NULL CHECK (period IN ('hour', 'day', 'month')),
        ends INTEGER NOT NULL,
        spent INTEGER NOT NULL CHECK (spent >= 0),
        PRIMARY KEY (limit_name, subject, period)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX quota_ends ON quota (ends);";

const PUT: &str = "
    INSERT INTO quota (limit_name, subject, period, ends, spent) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT DO UPDATE SET ends = excluded.ends, spent = excluded.spent";

impl QuotaStore {
    /// Opens or makes the database at `path`, for this user alone.
    pub fn open(path: &Path) -> Result<Self, QuotaStoreError> {
        let failed =
            |what| move |source| QuotaStoreError::Sqlite { what, path: path.to_owned(), source };
        make_private(path).map_err(|source| {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
            failed("open")(rusqlite::Error::SqliteFailure(code, Some(source.to_string())))
        })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(path, flags).map_err(failed("open"))?;
        let mut store = Self { connection, path: path.to_owned() };
        if !store.prepare().map_err(failed("prepare"))? {
            return Err(QuotaStoreError::Foreign(path.to_owned()));
        }
        Ok(store)
    }

    fn prepare(&mut self) -> Result<bool, rusqlite::Error> {
        self.connection.busy_timeout(std::time::Duration::from_secs(2))?;
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let number = |name| change.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (application, version) = (number("application_id")?, number("user_version")?);
        let tables: i64 =
            change.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if (application, version, tables) == (0, 0, 0) {
            change.execute_batch(SCHEMA)?;
            change.pragma_update(None, "application_id", APPLICATION)?;
            change.pragma_update(None, "user_version", VERSION)?;
        } else if (application, version) != (APPLICATION, VERSION) {
            return Ok(false);
        }
        change.commit()?;
        Ok(true)
    }

    /// Every counter whose period is not over at `now`.
    pub(super) fn load(&self, now: Timestamp) -> Result<Vec<Row>, QuotaStoreError> {
        let rows = self.rows(now).map_err(|source| self.failed("read", source))?;
        if rows.len() > QUOTAS_MAX {
            Err(QuotaStoreError::TooMany(self.path.clone()))
        } else {
            Ok(rows)
        }
    }

    fn rows(&self, now: Timestamp) -> Result<Vec<Row>, rusqlite::Error> {
        let most = i64::try_from(QUOTAS_MAX).unwrap_or(i64::MAX).saturating_add(1);
        let mut select = self.connection.prepare(
            "SELECT limit_name, subject, period, ends, spent FROM quota WHERE ends > ?1 LIMIT ?2",
        )?;
        let rows = select.query_map(params![whole(now.unix_seconds()), most], |row| {
            let period: String = row.get(2)?;
            let limit: String = row.get(0)?;
            let subject: String = row.get(1)?;
            Ok(Row {
                key: Key {
                    limit: Arc::from(limit),
                    subject: subject.into(),
                    period: Period::from_name(&period).unwrap_or(Period::Month).as_str(),
                },
                ends: row.get::<_, i64>(3)?.unsigned_abs(),
                spent: row.get::<_, i64>(4)?.unsigned_abs(),
            })
        })?;
        rows.collect()
    }

    /// Writes `rows`, all or none; on disk when it returns.
    pub(super) fn put(&mut self, rows: &[Row]) -> Result<(), QuotaStoreError> {
        self.put_all(rows).map_err(|source| self.failed("write", source))
    }

    fn put_all(&mut self, rows: &[Row]) -> Result<(), rusqlite::Error> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut put = change.prepare_cached(PUT)?;
            for Row { key, ends, spent } in rows {
                put.execute(params![
                    key.limit,
                    key.subject,
                    key.period,
                    whole(*ends),
                    whole(*spent)
                ])?;
            }
        }
        change.commit()
    }

    /// Forgets what was over at `then`.
    pub(super) fn forget_before(&mut self, then: Timestamp) -> Result<(), QuotaStoreError> {
        let forgotten = self
            .connection
            .execute("DELETE FROM quota WHERE ends <= ?1", [whole(then.unix_seconds())]);
        forgotten.map(|_| ()).map_err(|source| self.failed("write", source))
    }

    fn failed(&self, what: &'static str, source: rusqlite::Error) -> QuotaStoreError {
        QuotaStoreError::Sqlite { what, path: self.path.clone(), source }
    }
}

impl QuotaStoreError {
    /// What to do.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => {
                "look at the disk and the file's owner; moved away, a new one begins and quotas with it"
            }
            Self::Foreign(_) => "move the file away; a new one begins, and quotas with it",
            Self::TooMany(_) => {
                "count quotas by something that has fewer values, such as principal"
            }
        }
    }
}

impl Row {
    pub(super) fn level(&self, now: Timestamp) -> Option<QuotaLevel> {
        let ends = Timestamp::from_unix_seconds(self.ends);
        let subject = self.key.subject.to_string();
        (ends > now).then_some(QuotaLevel { subject, used: self.spent, ends })
    }
}

/// For its owner alone from the first moment; `SQLite` makes its other files like it.
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
