//! The database file: its making, its checks, its rows.
//!
//! `application_id` says whose file it is and `user_version` which schema it has. A new database is
//! built under another name and gets its own when it is complete, so that an empty `keys.db` is
//! always damage and never a beginning.

use std::fs;
use std::path::Path;

use enforcer_model::{KeyId, KeyIdError, Prefix, PrefixError, Role, Timestamp};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, params};

use super::store::{Damage, Mac, Pepper, StoreError};
use crate::private::{self, beside, io_error};
use crate::{Environment, EnvironmentError, KeyRecord, Revocation};

/// `enfk`: what `file keys.db` shows, and how another program's database is told apart.
const APPLICATION_ID: i64 = 0x656e_666b;
const VERSION: i64 = 1;
const SCHEMA: &str = "
    CREATE TABLE meta (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        pepper_check BLOB NOT NULL CHECK (length(pepper_check) = 32)
    ) STRICT;
    CREATE TABLE keys (
        id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 12),
        name TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
        environment TEXT NOT NULL CHECK (environment IN ('live', 'test')),
        secret_hmac BLOB NOT NULL CHECK (length(secret_hmac) = 32),
        created_ns INTEGER NOT NULL,
        not_before_ns INTEGER,
        expires_ns INTEGER,
        revoked_ns INTEGER,
        revoked_reason TEXT,
        CHECK ((revoked_ns IS NULL) = (revoked_reason IS NULL))
    ) STRICT;
    CREATE TABLE key_roles (
        key TEXT NOT NULL REFERENCES keys (id),
        role TEXT NOT NULL,
        PRIMARY KEY (key, role)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE key_networks (
        key TEXT NOT NULL REFERENCES keys (id),
        network TEXT NOT NULL,
        PRIMARY KEY (key, network)
    ) STRICT, WITHOUT ROWID;
";

/// Opens the database at `path`, after making it when there is none.
pub(crate) fn open(path: &Path, pepper: &Pepper) -> Result<Connection, StoreError> {
    match private::open(path)? {
        Some(file) => {
            let length = file.metadata().map_err(io_error("read", path))?.len();
            if length == 0 {
                return Err(damaged(path, Damage::Empty));
            }
        }
        None => create(path, pepper)?,
    }
    let on = |error| failed("open", path, error);
    let connection = connect(path).map_err(on)?;
    check(&connection, path)?;
    let journal: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(on)?;
    if journal != "wal" {
        return Err(StoreError::NoWal { path: path.to_owned(), journal });
    }
    let pepper_check: Option<Mac> = connection
        .query_row("SELECT pepper_check FROM meta", [], |row| row.get(0))
        .optional()
        .map_err(on)?;
    match pepper_check {
        None => Err(damaged(path, Damage::Empty)),
        Some(known) if pepper.is_the_one_of(&known) => Ok(connection),
        Some(_) => Err(StoreError::WrongPepper { path: path.to_owned() }),
    }
}

fn create(path: &Path, pepper: &Pepper) -> Result<(), StoreError> {
    // SQLite would replay a log that was left behind into the new database.
    for suffix in ["-wal", "-journal"] {
        if beside(path, suffix).exists() {
            return Err(damaged(path, Damage::Headless));
        }
    }
    let draft = beside(path, ".new");
    for leftover in [&draft, &beside(&draft, "-journal")] {
        match fs::remove_file(leftover) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_error("remove", leftover)(error).into());
            }
            Ok(()) | Err(_) => {}
        }
    }
    drop(private::create_new(&draft).map_err(io_error("create", &draft))?);

    let fill = || {
        let mut connection = connect(&draft)?;
        let transaction = connection.transaction()?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.execute_batch(SCHEMA)?;
        transaction
            .execute("INSERT INTO meta VALUES (1, ?1)", [pepper.mark().as_slice()])
            .map(drop)?;
        transaction.commit()?;
        connection.close().map_err(|(_, error)| error)
    };
    fill().map_err(|error| failed("create", path, error))?;
    fs::rename(&draft, path)
        .and_then(|()| private::sync_directory(path))
        .map_err(io_error("create", path))?;
    Ok(())
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // FULL: a revocation that was answered survives a loss of power. Schema text is not trusted,
    // and a page that lies about its content is an error instead of a guess.
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON; PRAGMA busy_timeout = 2000;",
    )?;
    Ok(connection)
}

fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let number = |pragma: &str| {
        let sql = format!("PRAGMA {pragma}");
        let read = connection.query_row(&sql, [], |row| row.get::<_, i64>(0));
        read.map_err(|error| failed("read", path, error))
    };
    let path_buf = || path.to_owned();
    if number("application_id")? != APPLICATION_ID {
        return Err(StoreError::Foreign { path: path_buf() });
    }
    match number("user_version")? {
        VERSION => {}
        found if found > VERSION => {
            return Err(StoreError::Newer { path: path_buf(), found, known: VERSION });
        }
        _ => return Err(StoreError::Foreign { path: path_buf() }),
    }
    let verdict: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| failed("read", path, error))?;
    if verdict == "ok" { Ok(()) } else { Err(damaged(path, Damage::Pages(verdict))) }
}

/// The keys, oldest first; with `id` that one only.
pub(crate) fn read(
    connection: &Connection,
    path: &Path,
    id: Option<KeyId>,
) -> Result<Vec<(KeyRecord, Mac)>, StoreError> {
    let on = |error| failed("read", path, error);
    let mut statement = connection
        .prepare_cached(
            "SELECT id, name, environment, secret_hmac, created_ns, not_before_ns, expires_ns,
                    revoked_ns, revoked_reason
             FROM keys WHERE ?1 IS NULL OR id = ?1 ORDER BY created_ns, id",
        )
        .map_err(on)?;
    let mut rows = statement.query([id.as_ref().map(KeyId::as_str)]).map_err(on)?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next().map_err(on)? {
        keys.push(key(connection, row).map_err(|fault| match fault {
            RowFault::Sqlite(error) => on(error),
            RowFault::Value(what) => damaged(path, Damage::Row(what)),
        })?);
    }
    Ok(keys)
}

enum RowFault {
    Sqlite(rusqlite::Error),
    Value(String),
}

fn key(connection: &Connection, row: &Row<'_>) -> Result<(KeyRecord, Mac), RowFault> {
    let id: String = row.get(0)?;
    let name: String = row.get(1)?;
    let fault = |what: &str| RowFault::Value(format!("key `{}`: {what}", id.escape_debug()));
    let time = |at: usize, what: &str| match row.get::<_, Option<i64>>(at)?.map(u64::try_from) {
        None => Ok(None),
        Some(Ok(ns)) => Ok(Some(Timestamp::from_unix_ns(ns))),
        Some(Err(_)) => Err(fault(what)),
    };
    let key_id: KeyId = id.parse().map_err(|error: KeyIdError| fault(&error.to_string()))?;
    let environment: Environment = row
        .get::<_, String>(2)?
        .parse()
        .map_err(|error: EnvironmentError| fault(&error.to_string()))?;
    let mac: Mac = row.get(3)?;
    let created = time(4, "created")?.ok_or_else(|| fault("created is missing"))?;
    let not_before = time(5, "not_before is negative")?;
    let expires = time(6, "expires is negative")?;
    let revoked = match (time(7, "revoked is negative")?, row.get::<_, Option<String>>(8)?) {
        (Some(at), Some(reason)) => Some(Revocation { at, reason }),
        (None, None) => None,
        _ => return Err(fault("half a revocation")),
    };
    let roles = list(connection, "SELECT role FROM key_roles WHERE key = ?1 ORDER BY role", &id)?;
    let networks = list(connection, "SELECT network FROM key_networks WHERE key = ?1", &id)?;
    let mut networks: Vec<Prefix> = networks
        .iter()
        .map(|network| network.parse())
        .collect::<Result<_, _>>()
        .map_err(|error: PrefixError| fault(&error.to_string()))?;
    networks.sort_unstable();
    let roles = roles.iter().map(|role| Role::new(role)).collect();
    let record = KeyRecord {
        id: key_id,
        name,
        environment,
        roles,
        networks,
        created,
        not_before,
        expires,
        revoked,
    };
    Ok((record, mac))
}

fn list(connection: &Connection, sql: &str, id: &str) -> rusqlite::Result<Vec<String>> {
    connection.prepare_cached(sql)?.query_map([id], |row| row.get(0))?.collect()
}

/// Whether `text` is the id or the name of a key.
pub(crate) fn is_taken(connection: &Connection, text: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM keys WHERE id = ?1 OR name = ?1)")?
        .query_row([text], |row| row.get(0))
}

/// The id of the key called `name`.
pub(crate) fn id_of_name(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT id FROM keys WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

pub(crate) fn insert(
    transaction: &Transaction<'_>,
    record: &KeyRecord,
    mac: &Mac,
) -> rusqlite::Result<()> {
    let id = record.id.as_str();
    let ns = |time: Timestamp| i64::try_from(time.unix_ns()).unwrap_or(i64::MAX);
    transaction
        .execute(
            "INSERT INTO keys (id, name, environment, secret_hmac, created_ns, not_before_ns,
                               expires_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                id,
                record.name,
                record.environment.as_str(),
                mac.as_slice(),
                ns(record.created),
                record.not_before.map(ns),
                record.expires.map(ns),
            ],
        )
        .map(drop)?;
    for role in &record.roles {
        let row = params![id, role.as_str()];
        transaction.execute("INSERT INTO key_roles VALUES (?1, ?2)", row).map(drop)?;
    }
    for network in &record.networks {
        let row = params![id, network.to_string()];
        transaction.execute("INSERT INTO key_networks VALUES (?1, ?2)", row).map(drop)?;
    }
    Ok(())
}

/// The first revocation stays: a second one changes neither its time nor its reason.
pub(crate) fn revoke(
    connection: &Connection,
    id: KeyId,
    revocation: &Revocation,
) -> rusqlite::Result<()> {
    let at = i64::try_from(revocation.at.unix_ns()).unwrap_or(i64::MAX);
    connection
        .execute(
            "UPDATE keys SET revoked_ns = ?2, revoked_reason = ?3
             WHERE id = ?1 AND revoked_ns IS NULL",
            params![id.as_str(), at, revocation.reason],
        )
        .map(drop)
}

pub(crate) fn failed(doing: &'static str, path: &Path, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            damaged(path, Damage::Sqlite(error))
        }
        Some(ErrorCode::DiskFull) => StoreError::DiskFull { path: path.to_owned(), source: error },
        _ => StoreError::Sqlite { doing, path: path.to_owned(), source: error },
    }
}

fn damaged(path: &Path, damage: Damage) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), damage }
}

impl From<rusqlite::Error> for RowFault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}
