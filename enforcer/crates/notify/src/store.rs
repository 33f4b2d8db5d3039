//! What waits, on disk: `notifications.db` in the state directory.
//!
//! `SQLite`, so that an operator can read the file while the agent runs or is broken. What was taken
//! up is there after a crash; what was delivered is removed after the receiver said so, so that a
//! crash between the two sends it again under the same id.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use enforcer_model::Timestamp;
use ring::digest::{SHA256, digest};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::line::{Entry, KEEP, PARCELS_DEAD_MAX, Parcel, State};
use crate::{Bundle, Notice, Receiver};

/// Version of the tables below, in `SQLite`'s `user_version`.
const SCHEMA: i64 = 1;
/// Notices that are remembered, so that the same one is not told twice.
const SEEN_MAX: i64 = 20_000;

/// The file. One writer: the office.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be made.
    #[error("cannot create {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The answer of the system.
        #[source]
        source: std::io::Error,
    },
    /// A newer program wrote it.
    #[error("{} is of version {found}, this program knows {SCHEMA}; use the newer program", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// It is damaged, or nothing can be written.
    #[error("the notifications on disk cannot be used")]
    Sqlite(#[from] rusqlite::Error),
    /// A row of it is damaged.
    #[error("a row of the notifications cannot be read")]
    Row(#[from] serde_json::Error),
}

/// A notice that waits for one receiver from here on.
pub(crate) struct Taken {
    /// Its place among the receivers.
    pub(crate) receiver: usize,
    pub(crate) seq: i64,
    pub(crate) notice: Arc<Notice>,
}

impl Store {
    /// Opens or creates the file, readable by its owner only.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| StoreError::Create { path: path.to_owned(), source })?;
        let connection = Connection::open(path)?;
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found > SCHEMA {
            return Err(StoreError::Newer { path: path.to_owned(), found });
        }
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS notice (
                 seq INTEGER PRIMARY KEY AUTOINCREMENT, receiver TEXT NOT NULL,
                 at INTEGER NOT NULL, body TEXT NOT NULL
             ) STRICT;
             CREATE INDEX IF NOT EXISTS notice_receiver ON notice (receiver);
             CREATE TABLE IF NOT EXISTS parcel (
                 place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
                 receiver TEXT NOT NULL, body TEXT NOT NULL, tries INTEGER NOT NULL,
                 refusals INTEGER NOT NULL, next INTEGER NOT NULL, tried INTEGER,
                 at INTEGER NOT NULL, is_dead INTEGER NOT NULL
             ) STRICT;
             CREATE TABLE IF NOT EXISTS receiver (
                 name TEXT PRIMARY KEY, state TEXT NOT NULL
             ) STRICT;
             CREATE TABLE IF NOT EXISTS seen (
                 print BLOB PRIMARY KEY, at INTEGER NOT NULL
             ) STRICT, WITHOUT ROWID;",
        )?;
        connection.pragma_update(None, "user_version", SCHEMA)?;
        Ok(Self { connection })
    }

    /// Takes up those of `notices` that were not taken up before, for each of `receivers` that wants
    /// to know.
    pub(crate) fn take(
        &mut self,
        notices: &[Arc<Notice>],
        receivers: &[Arc<Receiver>],
        now: Timestamp,
    ) -> Result<Vec<Taken>, StoreError> {
        self.change(|change| {
            let mut taken = Vec::new();
            let mut see = change.prepare_cached(
                "INSERT INTO seen (print, at) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            )?;
            for notice in notices {
                if see.execute(params![print(notice), ns(now)])? == 0 {
                    continue;
                }
                let wanting = receivers.iter().enumerate().filter(|(_, one)| one.wants(notice));
                for (receiver, one) in wanting {
                    let seq = put(change, &one.name, now, notice)?;
                    taken.push(Taken { receiver, seq, notice: Arc::clone(notice) });
                }
            }
            Ok(taken)
        })
    }

    /// Removes notices that nobody will be told.
    pub(crate) fn drop_notices(
        &mut self,
        receiver: &str,
        seqs: &[i64],
        state: &State,
    ) -> Result<(), StoreError> {
        self.change_of(receiver, state, |change| remove(change, seqs))
    }

    /// Makes a message of notices.
    pub(crate) fn form(
        &mut self,
        receiver: &str,
        parcel: &Parcel,
        seqs: &[i64],
        state: &State,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.change_of(receiver, state, |change| {
            remove(change, seqs)?;
            put_parcel(change, receiver, parcel, now)
        })
    }

    /// A message was not taken, and is tried again.
    pub(crate) fn again(
        &mut self,
        receiver: &str,
        parcel: &Parcel,
        state: &State,
    ) -> Result<(), StoreError> {
        self.change_of(receiver, state, |change| {
            let mut update = change.prepare_cached(
                "UPDATE parcel SET tries = ?2, refusals = ?3, next = ?4, tried = ?5, is_dead = 0
                 WHERE id = ?1",
            )?;
            let Parcel { bundle, tries, refusals, next, tried } = parcel;
            let (tries, refusals) = (count(*tries), count(*refusals));
            update.execute(params![bundle.id, tries, refusals, ns(*next), tried.map(ns)])?;
            Ok(())
        })
    }

    /// A receiver has the message.
    pub(crate) fn delivered(
        &mut self,
        receiver: &str,
        id: &str,
        state: &State,
    ) -> Result<(), StoreError> {
        self.change_of(receiver, state, |change| {
            change.prepare_cached("DELETE FROM parcel WHERE id = ?1")?.execute([id])?;
            Ok(())
        })
    }

    /// A message is not tried again; kept in case an operator wants it to be.
    pub(crate) fn give_up(
        &mut self,
        receiver: &str,
        id: &str,
        state: &State,
    ) -> Result<(), StoreError> {
        self.change_of(receiver, state, |change| {
            change.prepare_cached("UPDATE parcel SET is_dead = 1 WHERE id = ?1")?.execute([id])?;
            let mut forget = change.prepare_cached(
                "DELETE FROM parcel WHERE is_dead = 1 AND receiver = ?1 AND place NOT IN
                 (SELECT place FROM parcel WHERE is_dead = 1 AND receiver = ?1
                  ORDER BY place DESC LIMIT ?2)",
            )?;
            forget.execute(params![receiver, count(PARCELS_DEAD_MAX)])?;
            Ok(())
        })
    }

    /// Writes all that waits for a receiver anew, after a time in which nothing could be written;
    /// gives back the numbers of `entries`.
    pub(crate) fn replace<'a>(
        &mut self,
        receiver: &str,
        state: &State,
        entries: impl Iterator<Item = &'a Entry>,
        parcels: impl Iterator<Item = &'a Parcel>,
        now: Timestamp,
    ) -> Result<Vec<i64>, StoreError> {
        self.change_of(receiver, state, |change| {
            change.execute("DELETE FROM notice WHERE receiver = ?1", [receiver])?;
            change.execute("DELETE FROM parcel WHERE receiver = ?1 AND is_dead = 0", [receiver])?;
            for parcel in parcels {
                put_parcel(change, receiver, parcel, now)?;
            }
            entries.map(|entry| put(change, receiver, entry.at, &entry.notice)).collect()
        })
    }

    /// The messages that were given up come back.
    pub(crate) fn revive(&mut self, receiver: &str) -> Result<Vec<Arc<Bundle>>, StoreError> {
        let bodies = self.change(|change| {
            let mut query = change.prepare_cached(
                "SELECT body FROM parcel WHERE receiver = ?1 AND is_dead = 1 ORDER BY place",
            )?;
            let rows = query.query_map([receiver], |row| row.get::<_, String>(0))?;
            let bodies = rows.collect::<Result<Vec<_>, _>>()?;
            change
                .prepare_cached(
                    "UPDATE parcel SET is_dead = 0, tries = 0, refusals = 0, tried = NULL
                     WHERE receiver = ?1 AND is_dead = 1",
                )?
                .execute([receiver])?;
            Ok(bodies)
        })?;
        bodies.iter().map(|body| Ok(Arc::new(serde_json::from_str(body)?))).collect()
    }

    /// Keeps what is known of a receiver.
    pub(crate) fn remember(&mut self, receiver: &str, state: &State) -> Result<(), StoreError> {
        self.change_of(receiver, state, |_change| Ok(()))
    }

    /// What is known of a receiver, and what waits for it.
    ///
    /// A row that cannot be read is left out: it must not keep the others from being told.
    pub(crate) fn load(
        &self,
        receiver: &str,
    ) -> Result<(State, Vec<Entry>, Vec<Parcel>), StoreError> {
        let state: Option<String> = self
            .connection
            .prepare_cached("SELECT state FROM receiver WHERE name = ?1")?
            .query_row([receiver], |row| row.get(0))
            .optional()?;
        let state = state.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let mut query = self
            .connection
            .prepare_cached("SELECT seq, at, body FROM notice WHERE receiver = ?1 ORDER BY seq")?;
        let rows = query.query_map([receiver], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
        })?;
        let mut entries = Vec::new();
        for row in rows {
            let (seq, at, body) = row?;
            if let Ok(notice) = serde_json::from_str(&body) {
                entries.push(Entry { seq, at: from_ns(at), notice: Arc::new(notice) });
            }
        }
        let mut query = self.connection.prepare_cached(
            "SELECT body, tries, refusals, next, tried FROM parcel
             WHERE receiver = ?1 AND is_dead = 0 ORDER BY place",
        )?;
        let rows = query.query_map([receiver], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, i64>(3)?,
                row.get::<_, Option<i64>>(4)?,
            ))
        })?;
        let mut parcels = Vec::new();
        for row in rows {
            let (body, tries, refusals, next, tried) = row?;
            let number = |number| usize::try_from(number).unwrap_or_default();
            if let Ok(bundle) = serde_json::from_str(&body) {
                parcels.push(Parcel {
                    bundle: Arc::new(bundle),
                    tries: number(tries),
                    refusals: number(refusals),
                    next: from_ns(next),
                    tried: tried.map(from_ns),
                });
            }
        }
        Ok((state, entries, parcels))
    }

    /// Removes what is too old to be of use to anybody, also of receivers that are gone.
    pub(crate) fn forget_old(&mut self, now: Timestamp) -> Result<(), StoreError> {
        // Twice as long: what waits is dropped, and counted, by whoever it waits for.
        let limit = ns(now).saturating_sub(ns(Timestamp::from_unix_ns(0).saturating_add(KEEP * 2)));
        self.change(|change| {
            change.execute("DELETE FROM notice WHERE at < ?1", [limit])?;
            change.execute("DELETE FROM parcel WHERE at < ?1", [limit])?;
            change.execute("DELETE FROM seen WHERE at < ?1", [limit])?;
            change.execute(
                "DELETE FROM seen WHERE print IN
                 (SELECT print FROM seen ORDER BY at DESC LIMIT -1 OFFSET ?1)",
                [SEEN_MAX],
            )?;
            Ok(())
        })
    }

    /// All of `work`, or nothing of it.
    fn change<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let change = self.connection.transaction()?;
        let done = work(&change)?;
        change.commit()?;
        Ok(done)
    }

    /// All of `work`, and what is known of `receiver` then.
    fn change_of<T>(
        &mut self,
        receiver: &str,
        state: &State,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.change(|change| {
            let done = work(change)?;
            remember(change, receiver, state)?;
            Ok(done)
        })
    }
}

fn put(
    change: &Transaction<'_>,
    receiver: &str,
    at: Timestamp,
    notice: &Notice,
) -> Result<i64, StoreError> {
    let body = serde_json::to_string(notice)?;
    change
        .prepare_cached("INSERT INTO notice (receiver, at, body) VALUES (?1, ?2, ?3)")?
        .execute(params![receiver, ns(at), body])?;
    Ok(change.last_insert_rowid())
}

fn put_parcel(
    change: &Transaction<'_>,
    receiver: &str,
    parcel: &Parcel,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Parcel { bundle, tries, refusals, next, tried } = parcel;
    let body = serde_json::to_string(&**bundle)?;
    let (tries, refusals) = (count(*tries), count(*refusals));
    change
        .prepare_cached(
            "INSERT INTO parcel (id, receiver, body, tries, refusals, next, tried, at, is_dead)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0)",
        )?
        .execute(params![
            bundle.id,
            receiver,
            body,
            tries,
            refusals,
            ns(*next),
            tried.map(ns),
            ns(now)
        ])?;
    Ok(())
}

fn remove(change: &Transaction<'_>, seqs: &[i64]) -> Result<(), StoreError> {
    let mut delete = change.prepare_cached("DELETE FROM notice WHERE seq = ?1")?;
    for seq in seqs {
        delete.execute([seq])?;
    }
    Ok(())
}

fn remember(change: &Transaction<'_>, receiver: &str, state: &State) -> Result<(), StoreError> {
    let state = serde_json::to_string(state)?;
    change
        .prepare_cached(
            "INSERT INTO receiver (name, state) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET state = excluded.state",
        )?
        .execute(params![receiver, state])?;
    Ok(())
}

/// The same for the same thing that happened, told again.
fn print(notice: &Notice) -> Vec<u8> {
    let parts = [
        notice.kind().as_str(),
        notice.severity().as_str(),
        &notice.at().to_string(),
        notice.incident().unwrap_or_default(),
        notice.decision().unwrap_or_default(),
        notice.rule().unwrap_or_default(),
        notice.about().unwrap_or_default(),
        notice.title(),
    ];
    let text = parts.join("\0");
    digest(&SHA256, text.as_bytes()).as_ref().iter().take(16).copied().collect()
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn ns(time: Timestamp) -> i64 {
    i64::try_from(time.unix_ns()).unwrap_or(i64::MAX)
}

fn from_ns(ns: i64) -> Timestamp {
    Timestamp::from_unix_ns(u64::try_from(ns).unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::Store;

    /// How much the file may grow: what a full disk does, without one.
    #[derive(Clone, Copy)]
    pub(crate) enum Pages {
        NoMore,
        Any,
    }

    impl Store {
        pub(crate) fn allow_pages(&self, pages: Pages) {
            let most: i64 = match pages {
                // `SQLite` takes as many as there are.
                Pages::NoMore => 1,
                Pages::Any => 1 << 30,
            };
            let query = format!("PRAGMA max_page_count = {most}");
            self.connection.query_row(&query, [], |row| row.get::<_, i64>(0)).unwrap();
        }
    }
}
