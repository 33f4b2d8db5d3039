//! Incidents, findings, decisions, mutes and modes on disk: `incidents.db` in the state directory.
//!
//! `SQLite`, so that an operator can read the file while the agent runs or is broken; each row is
//! one JSON object. A thread of its own writes: what is decided never waits for a disk. Of each row
//! only the latest state waits to be written, so what waits is bounded by the tables of the court.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use enforcer_detect::court::{Decision, Incident, KeptFinding, Saved};
use enforcer_model::{DecisionId, FindingId, IncidentId};
use rusqlite::{Connection, params};
use tracing::{error, info, warn};

use crate::database::{OpenError, Tables};
use crate::privileges;

/// Batches of rows that may wait for the writer; those behind wait to become one.
const BATCHES_MAX: usize = 4;

const TABLES: Tables = Tables {
    version: 1,
    make: "\
CREATE TABLE IF NOT EXISTS incident (id TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS finding (id TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS decision (id TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS kept (id TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT;",
    changes: &[],
    without: "the audit log keeps every incident, and what they have in force ends by itself",
};

/// The file, and what is still to be written to it.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    writer: Option<Writer>,
    waiting: HashMap<Row, Option<String>>,
}

#[derive(Debug)]
struct Writer {
    batches: SyncSender<HashMap<Row, Option<String>>>,
    thread: std::thread::JoinHandle<()>,
}

/// One row of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Row {
    Incident(IncidentId),
    Finding(FindingId),
    Decision(DecisionId),
    /// Of one kind there is one.
    Kept(Kept),
}

/// What there is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kept {
    Modes,
    Mutes,
    NextIncident,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot start the thread that writes {}", path.display())]
    Thread {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Row {
    const fn table(self) -> &'static str {
        match self {
            Self::Incident(_) => "incident",
            Self::Finding(_) => "finding",
            Self::Decision(_) => "decision",
            Self::Kept(_) => "kept",
        }
    }

    fn id(self) -> String {
        match self {
            Self::Incident(id) => id.to_string(),
            Self::Finding(id) => id.to_string(),
            Self::Decision(id) => id.to_string(),
            Self::Kept(what) => what.as_str().to_owned(),
        }
    }
}

impl Kept {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Modes => "modes",
            Self::Mutes => "mutes",
            Self::NextIncident => "next-incident",
        }
    }
}

impl Store {
    /// Opens or creates the file, readable by its owner only; and what it holds.
    pub(crate) fn open(path: &Path) -> Result<(Self, Saved), StoreError> {
        let connection = TABLES.open(path)?;
        let saved = read(&connection).map_err(|error| TABLES.broken(path, error))?;
        let writer = Some(Writer::start(connection, path)?);
        Ok((Self { path: path.to_owned(), writer, waiting: HashMap::new() }, saved))
    }

    /// Everything is on disk, and nothing more is written until [`Self::take_back`].
    pub(crate) fn let_go(&mut self) {
        self.close();
    }

    /// Goes on as before [`Self::let_go`].
    pub(crate) fn take_back(&mut self) -> Result<(), StoreError> {
        if self.writer.is_none() {
            let connection = TABLES.open(&self.path)?;
            self.writer = Some(Writer::start(connection, &self.path)?);
        }
        Ok(())
    }

    /// Writes `json` with the next batch; none: the row is removed.
    pub(crate) fn put(&mut self, row: Row, json: Option<String>) {
        self.waiting.insert(row, json);
    }

    /// Hands what waits to the writer, if it is not behind.
    pub(crate) fn flush(&mut self) {
        let Some(writer) = self.writer.as_ref().filter(|_| !self.waiting.is_empty()) else {
            return;
        };
        match writer.batches.try_send(std::mem::take(&mut self.waiting)) {
            Ok(()) => {}
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                self.waiting = batch;
            }
        }
    }

    /// Waits until everything is on disk.
    fn close(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        let rest = std::mem::take(&mut self.waiting);
        // A writer that ended has told why.
        writer.batches.send(rest).unwrap_or_default();
        drop(writer.batches);
        writer.thread.join().unwrap_or_default();
    }
}

impl Writer {
    fn start(connection: Connection, path: &Path) -> Result<Self, StoreError> {
        let (batches, waiting) = sync_channel(BATCHES_MAX);
        let thread = std::thread::Builder::new()
            .name("incidents".to_owned())
            .spawn(move || match privileges::reduce_to(privileges::Thread::Other) {
                Ok(_kept) => write_on(connection, &waiting),
                Err(error) => error!(%error, "incidents are not written: privileges stay"),
            })
            .map_err(|source| StoreError::Thread { path: path.to_owned(), source })?;
        Ok(Self { batches, thread })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// Writes batches until there will be no more; what a disk refuses is tried again with the next.
fn write_on(mut connection: Connection, batches: &Receiver<HashMap<Row, Option<String>>>) {
    let mut unwritten: HashMap<Row, Option<String>> = HashMap::new();
    while let Ok(batch) = batches.recv() {
        let was_behind = !unwritten.is_empty();
        unwritten.extend(batch);
        match write(&mut connection, &unwritten) {
            Ok(()) => {
                unwritten.clear();
                if was_behind {
                    info!("every incident is on disk again");
                }
            }
            Err(error) if !was_behind => {
                warn!(%error, "incidents cannot be written; tried again with the next change");
            }
            Err(_) => {}
        }
    }
}

fn write(connection: &mut Connection, rows: &HashMap<Row, Option<String>>) -> rusqlite::Result<()> {
    let change = connection.transaction()?;
    for (row, json) in rows {
        let table = row.table();
        match json {
            Some(json) => change
                .prepare_cached(&format!("REPLACE INTO {table} (id, json) VALUES (?1, ?2)"))?
                .execute(params![row.id(), json])?,
            None => change
                .prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?
                .execute(params![row.id()])?,
        };
    }
    change.commit()
}

fn read(connection: &Connection) -> rusqlite::Result<Saved> {
    let mut incidents: Vec<Incident> = rows(connection, "incident")?;
    let mut findings: Vec<KeptFinding> = rows(connection, "finding")?;
    let mut decisions: Vec<Decision> = rows(connection, "decision")?;
    incidents.sort_by_key(|incident| incident.id);
    findings.sort_by_key(|kept| (kept.finding.at, kept.id));
    decisions.sort_by_key(|decision| (decision.decided, decision.id));
    let next = kept::<u32>(connection, Kept::NextIncident)?.unwrap_or_default();
    let used = incidents.last().map_or(0, |incident| incident.id.number().saturating_add(1));
    Ok(Saved {
        incidents,
        findings,
        decisions,
        mutes: kept(connection, Kept::Mutes)?.unwrap_or_default(),
        modes: kept(connection, Kept::Modes)?.unwrap_or_default(),
        next_incident: next.max(used),
    })
}

/// Every row of `table` that can be understood; one of another program is left alone and told.
fn rows<T: serde::de::DeserializeOwned>(
    connection: &Connection,
    table: &str,
) -> rusqlite::Result<Vec<T>> {
    let mut query = connection.prepare(&format!("SELECT id, json FROM {table}"))?;
    let read =
        query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut rows = Vec::new();
    for row in read {
        let (id, json) = row?;
        match serde_json::from_str(&json) {
            Ok(row) => rows.push(row),
            Err(error) => warn!(table, id, %error, "a row of incidents.db cannot be read"),
        }
    }
    Ok(rows)
}

fn kept<T: serde::de::DeserializeOwned>(
    connection: &Connection,
    what: Kept,
) -> rusqlite::Result<Option<T>> {
    let mut query = connection.prepare("SELECT json FROM kept WHERE id = ?1")?;
    let mut read = query.query_map([what.as_str()], |row| row.get::<_, String>(0))?;
    let Some(json) = read.next().transpose()? else { return Ok(None) };
    Ok(serde_json::from_str(&json)
        .inspect_err(|error| warn!(what = what.as_str(), %error, "incidents.db: not understood"))
        .ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_put_is_there_when_the_file_is_opened_again_and_what_was_removed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("incidents.db");
        let (mut store, saved) = Store::open(&path).unwrap();
        assert_eq!(saved, Saved::default());

        store.put(Row::Kept(Kept::NextIncident), Some("43".to_owned()));
        store.put(Row::Kept(Kept::Modes), Some(r#"{"scan":"auto"}"#.to_owned()));
        store.flush();
        store.put(Row::Kept(Kept::Modes), None);
        drop(store);

        let (_store, saved) = Store::open(&path).unwrap();
        assert_eq!(saved.next_incident, 43);
        assert!(saved.modes.is_empty());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_row_that_is_not_understood_is_left_alone_and_the_others_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("incidents.db");
        let (mut store, _) = Store::open(&path).unwrap();
        store.put(Row::Incident(IncidentId::from_number(7)), Some("{}".to_owned()));
        store.put(Row::Kept(Kept::NextIncident), Some("8".to_owned()));
        drop(store);

        let (_store, saved) = Store::open(&path).unwrap();

        assert!(saved.incidents.is_empty());
        assert_eq!(saved.next_incident, 8);
        let connection = Connection::open(&path).unwrap();
        let rows: i64 =
            connection.query_row("SELECT count(*) FROM incident", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
    }

    #[test]
    fn a_broken_file_is_refused_with_what_to_do_and_one_of_a_newer_program_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("incidents.db");
        std::fs::write(&path, [7; 4096]).unwrap();
        assert!(Store::open(&path).unwrap_err().to_string().contains("move it aside"));

        let newer = folder.path().join("newer.db");
        let connection = Connection::open(&newer).unwrap();
        connection.execute_batch("PRAGMA user_version = 99").unwrap();
        drop(connection);
        assert!(matches!(
            Store::open(&newer),
            Err(StoreError::Open(OpenError::Newer { found: 99, .. }))
        ));
    }
}
