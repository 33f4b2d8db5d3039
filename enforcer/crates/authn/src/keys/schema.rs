//! The database file: its making, its checks, its schema.
//!
//! `application_id` says whose file it is and `user_version` which schema it has. A new database is
//! built under another name and gets its own when it is complete, so that an empty `keys.db` is
//! always damage and never a beginning. It goes through the same steps as one that was made by an
//! earlier version, so both end with the same tables; each step is whole or did not happen.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params};

use super::error::{Damage, StoreError};
use super::pepper::{Mac, Pepper, PepperVersion};
use crate::private::{self, beside, io_error};

/// `enfk`: what `file keys.db` shows, and how another program's database is told apart.
const APPLICATION_ID: i64 = 0x656e_666b;

/// The schema that this version reads and writes.
pub(super) const VERSION: i64 = 2;

/// One secret each, and little else.
pub(super) const FIRST: &str = "
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

/// From one secret to two, peppers by version, and everything else that a record says. A key's two
/// secrets have an odd and an even number, which the index sees to.
const SECOND: &str = "
    CREATE TABLE peppers (
        version INTEGER NOT NULL PRIMARY KEY CHECK (version BETWEEN 1 AND 4),
        mark BLOB NOT NULL CHECK (length(mark) = 32)
    ) STRICT;
    INSERT INTO peppers SELECT 1, pepper_check FROM meta;
    DROP TABLE meta;
    CREATE TABLE key_secrets (
        key TEXT NOT NULL REFERENCES keys (id),
        number INTEGER NOT NULL CHECK (number BETWEEN 1 AND 4294967295),
        form TEXT NOT NULL CHECK (form IN ('own', 'imported')),
        prefix TEXT NOT NULL,
        hmac BLOB NOT NULL UNIQUE CHECK (length(hmac) = 32),
        pepper INTEGER NOT NULL REFERENCES peppers (version),
        created_ns INTEGER NOT NULL,
        ends_ns INTEGER,
        used_ns INTEGER,
        used_from TEXT,
        PRIMARY KEY (key, number),
        CHECK ((used_ns IS NULL) = (used_from IS NULL))
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX key_secrets_at_most_two ON key_secrets (key, number % 2);
    INSERT INTO key_secrets (key, number, form, prefix, hmac, pepper, created_ns)
        SELECT id, 1, 'own', 'enf', secret_hmac, 1, created_ns FROM keys;
    ALTER TABLE keys DROP COLUMN secret_hmac;
    ALTER TABLE keys ADD COLUMN owner TEXT;
    ALTER TABLE keys ADD COLUMN application TEXT;
    ALTER TABLE keys ADD COLUMN certificate BLOB CHECK (length(certificate) = 32);
    ALTER TABLE keys ADD COLUMN notes TEXT NOT NULL DEFAULT '';
    CREATE TABLE key_scopes (
        key TEXT NOT NULL REFERENCES keys (id),
        scope TEXT NOT NULL,
        PRIMARY KEY (key, scope)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE key_routes (
        key TEXT NOT NULL REFERENCES keys (id),
        route TEXT NOT NULL,
        PRIMARY KEY (key, route)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE key_limits (
        key TEXT NOT NULL REFERENCES keys (id),
        name TEXT NOT NULL,
        PRIMARY KEY (key, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE key_notices (
        key TEXT NOT NULL REFERENCES keys (id),
        kind TEXT NOT NULL CHECK (kind IN ('expiry', 'rotation')),
        due_ns INTEGER NOT NULL,
        ahead_ns INTEGER NOT NULL CHECK (ahead_ns >= 0),
        given_ns INTEGER NOT NULL,
        posted_ns INTEGER,
        PRIMARY KEY (key, kind, due_ns, ahead_ns)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX key_notices_not_posted ON key_notices (given_ns) WHERE posted_ns IS NULL;
";

/// Opens the database at `path`, after making it when there is none.
pub(super) fn open(path: &Path, pepper: &Pepper) -> Result<Connection, StoreError> {
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
    let mut connection = connect(path).map_err(on)?;
    let found = check(&connection, path)?;
    let journal: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(on)?;
    if journal != "wal" {
        return Err(StoreError::NoWal { path: path.to_owned(), journal });
    }
    // Nothing is brought up to date that could not be read afterwards.
    let known = marks(&connection, found).map_err(on)?;
    if known.is_empty() {
        return Err(damaged(path, Damage::Empty));
    }
    if known.iter().any(|(version, mark)| pepper.mark(*version).as_ref() != Some(mark)) {
        return Err(StoreError::WrongPepper { path: path.to_owned() });
    }
    bring_up_to_date(&mut connection, found, pepper)
        .map_err(|error| failed("bring up to date", path, error))?;
    Ok(connection)
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
        begin(&mut connection, pepper)?;
        bring_up_to_date(&mut connection, 1, pepper)?;
        connection.close().map_err(|(_, error)| error)
    };
    fill().map_err(|error| failed("create", path, error))?;
    fs::rename(&draft, path)
        .and_then(|()| private::sync_directory(path))
        .map_err(io_error("create", path))?;
    Ok(())
}

/// The database as the first version made it.
pub(super) fn begin(connection: &mut Connection, pepper: &Pepper) -> rusqlite::Result<()> {
    let mark = pepper.mark(PepperVersion(1)).unwrap_or_default();
    let transaction = connection.transaction()?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", 1)?;
    transaction.execute_batch(FIRST)?;
    transaction.execute("INSERT INTO meta VALUES (1, ?1)", [mark.as_slice()]).map(drop)?;
    transaction.commit()
}

fn bring_up_to_date(
    connection: &mut Connection,
    found: i64,
    pepper: &Pepper,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if found < VERSION {
        transaction.execute_batch(SECOND)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    for version in pepper.versions() {
        if let Some(mark) = pepper.mark(version) {
            let row = params![version.0, mark.as_slice()];
            transaction.execute("INSERT OR IGNORE INTO peppers VALUES (?1, ?2)", row).map(drop)?;
        }
    }
    transaction.commit()
}

/// What the peppers are recognised by, in a database of schema `found`.
fn marks(connection: &Connection, found: i64) -> rusqlite::Result<Vec<(PepperVersion, Mac)>> {
    let sql = match found {
        1 => "SELECT 1, pepper_check FROM meta",
        _ => "SELECT version, mark FROM peppers",
    };
    let mut statement = connection.prepare(sql)?;
    let mark = |row: &rusqlite::Row<'_>| Ok((PepperVersion(row.get(0)?), row.get(1)?));
    statement.query_map([], mark)?.collect()
}

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
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

/// The schema that it has.
fn check(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let number = |pragma: &str| {
        let sql = format!("PRAGMA {pragma}");
        let read = connection.query_row(&sql, [], |row| row.get::<_, i64>(0));
        read.map_err(|error| failed("read", path, error))
    };
    let path_buf = || path.to_owned();
    if number("application_id")? != APPLICATION_ID {
        return Err(StoreError::Foreign { path: path_buf() });
    }
    let found = number("user_version")?;
    match found {
        1..=VERSION => {}
        found if found > VERSION => {
            return Err(StoreError::Newer { path: path_buf(), found, known: VERSION });
        }
        _ => return Err(StoreError::Foreign { path: path_buf() }),
    }
    let verdict: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| failed("read", path, error))?;
    if verdict == "ok" { Ok(found) } else { Err(damaged(path, Damage::Pages(verdict))) }
}

pub(super) fn failed(doing: &'static str, path: &Path, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            damaged(path, Damage::Sqlite(error))
        }
        Some(ErrorCode::DiskFull) => StoreError::DiskFull { path: path.to_owned(), source: error },
        _ => StoreError::Sqlite { doing, path: path.to_owned(), source: error },
    }
}

pub(super) fn damaged(path: &Path, damage: Damage) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), damage }
}
