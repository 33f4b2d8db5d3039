//! The database file of revocations: its making, its checks, its rows.
//!
//! `application_id` says whose file it is and `user_version` which schema it has. A new database is
//! built under another name and gets its own when it is complete, so that an empty `revocations.db`
//! is always damage and never a beginning: nothing that was revoked comes back by a lost file.

use std::fs;
use std::path::Path;

use enforcer_model::{Author, Expiry, Timestamp};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, params};

use super::record::{RevocationId, TokenRevocation, TokenTarget, TokenTargetError};
use super::store::RevocationError;
use crate::private::{self, beside, io_error};

/// `enfr`: what `file revocations.db` shows, and how another program's database is told apart.
const APPLICATION_ID: i64 = 0x656e_6672;
const VERSION: i64 = 1;
/// AUTOINCREMENT: the number of one that ended is never given to another.
const SCHEMA: &str = "
    CREATE TABLE revocations (
        id INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 4294967295),
        target TEXT NOT NULL CHECK (length(target) BETWEEN 5 AND 1100),
        issuer TEXT CHECK (length(issuer) BETWEEN 1 AND 256),
        since_ns INTEGER NOT NULL,
        until_ns INTEGER,
        author TEXT NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;
";

/// Opens the database at `path`, after making it when there is none.
pub(super) fn open(path: &Path) -> Result<Connection, RevocationError> {
    match private::open(path)? {
        Some(file) => {
            if file.metadata().map_err(io_error("read", path))?.len() == 0 {
                return Err(damaged(path, "it is empty"));
            }
        }
        None => create(path)?,
    }
    let on = |error| failed("open", path, error);
    let connection = connect(path).map_err(on)?;
    check(&connection, path)?;
    let journal: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(on)?;
    if journal == "wal" {
        return Ok(connection);
    }
    let what = format!("it cannot use a write-ahead log (journal mode `{journal}`)");
    Err(damaged(path, &what))
}

fn create(path: &Path) -> Result<(), RevocationError> {
    // SQLite would replay a log that was left behind into the new database.
    if ["-wal", "-journal"].into_iter().any(|suffix| beside(path, suffix).exists()) {
        return Err(damaged(path, "its log exists without it"));
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
        "PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;
         PRAGMA busy_timeout = 2000;",
    )?;
    Ok(connection)
}

fn check(connection: &Connection, path: &Path) -> Result<(), RevocationError> {
    let on = |error| failed("read", path, error);
    let number = |pragma: &str| {
        let sql = format!("PRAGMA {pragma}");
        connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map_err(on)
    };
    if number("application_id")? != APPLICATION_ID {
        return Err(RevocationError::Foreign { path: path.to_owned() });
    }
    match number("user_version")? {
        VERSION => {}
        found if found > VERSION => {
            return Err(RevocationError::Newer { path: path.to_owned(), found, known: VERSION });
        }
        _ => return Err(RevocationError::Foreign { path: path.to_owned() }),
    }
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(on)?;
    if verdict == "ok" { Ok(()) } else { Err(damaged(path, &verdict)) }
}

/// All of them, oldest first.
pub(super) fn read(
    connection: &Connection,
    path: &Path,
) -> Result<Vec<TokenRevocation>, RevocationError> {
    let on = |error| failed("read", path, error);
    let mut statement = connection
        .prepare(
            "SELECT id, target, issuer, since_ns, until_ns, author, reason
             FROM revocations ORDER BY id",
        )
        .map_err(on)?;
    let mut rows = statement.query([]).map_err(on)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(on)? {
        // One that cannot be read may be the one that matters: it is not passed over.
        all.push(revocation(row).map_err(|fault| match fault {
            RowFault::Sqlite(error) => on(error),
            RowFault::Value(what) => damaged(path, &what),
        })?);
    }
    Ok(all)
}

enum RowFault {
    Sqlite(rusqlite::Error),
    Value(String),
}

fn revocation(row: &Row<'_>) -> Result<TokenRevocation, RowFault> {
    let number: i64 = row.get(0)?;
    let fault = |what: &str| RowFault::Value(format!("revocation {number}: {what}"));
    let time = |ns: i64, what: &str| {
        u64::try_from(ns).map(Timestamp::from_unix_ns).map_err(|_negative| fault(what))
    };
    let id = u32::try_from(number).map_err(|_out_of_range| fault("number"))?;
    let target: TokenTarget = row
        .get::<_, String>(1)?
        .parse()
        .map_err(|error: TokenTargetError| fault(&error.to_string()))?;
    let until = match row.get::<_, Option<i64>>(4)? {
        Some(ns) => Expiry::At(time(ns, "until is negative")?),
        None => Expiry::Never,
    };
    let author: Author = serde_json::from_str(&row.get::<_, String>(5)?)
        .map_err(|error| fault(&error.to_string()))?;
    Ok(TokenRevocation {
        id: RevocationId::new(id),
        target,
        issuer: row.get::<_, Option<String>>(2)?.map(Into::into),
        since: time(row.get(3)?, "since is negative")?,
        until,
        author,
        reason: row.get(6)?,
    })
}

/// The number that was never given to any.
pub(super) fn next(connection: &Connection, path: &Path) -> Result<u32, RevocationError> {
    let highest: i64 = connection
        .query_row(
            "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'revocations'), 0)",
            [],
            |row| row.get(0),
        )
        .map_err(|error| failed("read", path, error))?;
    u32::try_from(highest)
        .map(|highest| highest.saturating_add(1))
        .map_err(|_out_of_range| damaged(path, "its numbers are out of range"))
}

/// Writes one, and clears away those that are over.
pub(super) fn insert(
    connection: &Connection,
    one: &TokenRevocation,
    now: Timestamp,
) -> rusqlite::Result<()> {
    sweep(connection, now)?;
    let until = match one.until {
        Expiry::At(end) => Some(ns(end)),
        Expiry::Never => None,
    };
    let author = serde_json::to_string(&one.author)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    connection
        .execute(
            "INSERT INTO revocations (id, target, issuer, since_ns, until_ns, author, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                one.id.number(),
                one.target.to_string(),
                one.issuer.as_deref(),
                ns(one.since),
                until,
                author,
                one.reason,
            ],
        )
        .map(drop)
}

/// Removes one, and those that are over.
pub(super) fn delete(
    connection: &Connection,
    id: RevocationId,
    now: Timestamp,
) -> rusqlite::Result<()> {
    sweep(connection, now)?;
    connection.execute("DELETE FROM revocations WHERE id = ?1", [id.number()]).map(drop)
}

fn sweep(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM revocations WHERE until_ns <= ?1", [ns(now)]).map(drop)
}

fn ns(time: Timestamp) -> i64 {
    i64::try_from(time.unix_ns()).unwrap_or(i64::MAX)
}

pub(super) fn failed(doing: &'static str, path: &Path, error: rusqlite::Error) -> RevocationError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            damaged(path, &error.to_string())
        }
        _ => RevocationError::Sqlite { doing, path: path.to_owned(), source: error },
    }
}

fn damaged(path: &Path, what: &str) -> RevocationError {
    RevocationError::Damaged { path: path.to_owned(), what: what.to_owned() }
}

impl From<rusqlite::Error> for RowFault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}
