//! Databases of `SQLite` in the state directory: opened alike, so that an operator can read a file
//! while the agent runs or is broken, and that no program writes into what a newer one has made.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

/// The tables of a file.
pub(crate) struct Tables {
    /// Their version, in `SQLite`'s `user_version`.
    pub(crate) version: i64,
    /// Makes those that are not there.
    pub(crate) make: &'static str,
    /// What a file of this older version needs to be of the next one; the oldest first.
    pub(crate) changes: &'static [(i64, &'static str)],
    /// What becomes of things when the file is moved aside.
    pub(crate) without: &'static str,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("cannot create {}", path.display())]
    Create {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "{} is of version {found}, this program knows {known}; use the newer program",
        path.display()
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("{} is not usable; move it aside and start again: {without}", path.display())]
    Broken {
        path: PathBuf,
        without: &'static str,
        #[source]
        source: rusqlite::Error,
    },
}

impl Tables {
    /// Opens or creates the file, readable by its owner only.
    pub(crate) fn open(&self, path: &Path) -> Result<Connection, OpenError> {
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| OpenError::Create { path: path.to_owned(), source })?;
        let connection = Connection::open(path).map_err(|error| self.broken(path, error))?;
        match self.prepare(&connection) {
            Ok(found) if found > self.version => {
                Err(OpenError::Newer { path: path.to_owned(), found, known: self.version })
            }
            Ok(_) => Ok(connection),
            Err(error) => Err(self.broken(path, error)),
        }
    }

    /// What cannot be read or changed at the start.
    pub(crate) fn broken(&self, path: &Path, source: rusqlite::Error) -> OpenError {
        OpenError::Broken { path: path.to_owned(), without: self.without, source }
    }

    /// Brings the file to this version, unless it is of a newer one; gives the version that it had.
    fn prepare(&self, connection: &Connection) -> rusqlite::Result<i64> {
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found > self.version {
            return Ok(found);
        }
        connection.execute_batch(self.make)?;
        // A new file has the tables of this version.
        for (_, change) in self.changes.iter().filter(|(of, _)| found > 0 && found <= *of) {
            connection.execute_batch(change)?;
        }
        connection.pragma_update(None, "user_version", self.version)?;
        Ok(found)
    }
}
