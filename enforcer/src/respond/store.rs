//! The decisions in force, on disk: `blocks.db` in the state directory.
//!
//! `SQLite`, so that an operator can read the file while the agent runs or is broken. One row for
//! each block; a target has at most one. The kernel maps survive the agent, this file survives the
//! machine: after a reboot the blocks are put back from here.

use std::path::Path;

use enforcer_model::{Author, Block, Source, Target};
use rusqlite::{Connection, Row, Transaction, params};

use crate::database::{OpenError, Tables};

const TABLES: Tables = Tables {
    version: 2,
    make: "CREATE TABLE IF NOT EXISTS block (
        id TEXT PRIMARY KEY, target TEXT NOT NULL UNIQUE, reason TEXT NOT NULL,
        author TEXT NOT NULL, since TEXT NOT NULL, until TEXT NOT NULL, through TEXT
    ) STRICT;",
    changes: &[(1, "ALTER TABLE block ADD COLUMN through TEXT;")],
    without: "blocks that the kernel holds are adopted",
};

/// Open decisions. One writer: the responder.
#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot read the decisions")]
    Read(#[source] rusqlite::Error),
    #[error("cannot write the decision to blocks.db")]
    Write(#[source] rusqlite::Error),
    #[error("row {id} of the decisions cannot be read: {what}")]
    Row { id: String, what: String },
}

impl Store {
    /// Opens or creates the file, readable by its owner only.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { connection: TABLES.open(path)? })
    }

    /// Every decision, the oldest first, whether its time is over or not.
    pub(crate) fn all(&self) -> Result<Vec<Block>, StoreError> {
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT id, target, reason, author, since, until, through FROM block ORDER BY since",
            )
            .map_err(StoreError::Read)?;
        let rows = query.query_map([], |row| Ok(read(row))).map_err(StoreError::Read)?;
        rows.map(|row| row.map_err(StoreError::Read)?).collect()
    }

    /// Makes the file say of each target what is given: this decision, or none. All or nothing.
    pub(crate) fn write<'a>(
        &mut self,
        targets: impl Iterator<Item = (&'a Target, Option<&'a Block>)>,
    ) -> Result<(), StoreError> {
        let change = self.connection.transaction().map_err(StoreError::Write)?;
        for (target, block) in targets {
            match block {
                Some(block) => put(&change, block),
                None => remove(&change, target),
            }
            .map_err(StoreError::Write)?;
        }
        change.commit().map_err(StoreError::Write)
    }

    /// Makes every write fail, as a full disk does.
    #[cfg(test)]
    pub(crate) fn refuse_writes(&self, refuse: bool) {
        self.connection.pragma_update(None, "query_only", refuse).unwrap();
    }
}

/// Puts `block` in the place of an earlier one about the same target.
fn put(change: &Transaction<'_>, block: &Block) -> rusqlite::Result<()> {
    let author = serde_json::to_string(&block.author).unwrap_or_default();
    let mut insert = change.prepare_cached(
        "INSERT INTO block (id, target, reason, author, since, until, through)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (target) DO UPDATE SET id = excluded.id, reason = excluded.reason,
             author = excluded.author, since = excluded.since, until = excluded.until,
             through = excluded.through",
    )?;
    insert.execute(params![
        block.id.to_string(),
        block.target.to_string(),
        block.reason,
        author,
        block.since.to_string(),
        block.until.to_string(),
        block.through.map(|through| through.to_string()),
    ])?;
    Ok(())
}

fn remove(change: &Transaction<'_>, target: &Target) -> rusqlite::Result<()> {
    change
        .prepare_cached("DELETE FROM block WHERE target = ?1")?
        .execute(params![target.to_string()])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Block, StoreError> {
    let text = |column: usize| row.get::<_, String>(column).map_err(StoreError::Read);
    let id = text(0)?;
    let wrong =
        |what: &dyn std::fmt::Display| StoreError::Row { id: id.clone(), what: what.to_string() };
    Ok(Block {
        id: id.parse().map_err(|error| wrong(&error))?,
        target: text(1)?.parse().map_err(|error| wrong(&error))?,
        reason: text(2)?,
        author: serde_json::from_str::<Author>(&text(3)?).map_err(|error| wrong(&error))?,
        since: text(4)?.parse().map_err(|error| wrong(&error))?,
        until: text(5)?.parse().map_err(|error| wrong(&error))?,
        through: match row.get::<_, Option<String>>(6).map_err(StoreError::Read)? {
            Some(proxy) => Some(Source::new(proxy.parse().map_err(|error| wrong(&error))?)),
            None => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use enforcer_model::{BlockId, Expiry, Timestamp};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_decision_survives_closing_and_opening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blocks.db");
        let block = block(1, "203.0.113.7", Expiry::Never);

        write(&mut Store::open(&path).unwrap(), &block);

        let store = Store::open(&path).unwrap();
        assert_eq!(store.all().unwrap(), [block]);
    }

    #[test]
    fn a_target_has_one_decision_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("blocks.db")).unwrap();

        write(&mut store, &block(1, "203.0.113.7", Expiry::Never));
        write(&mut store, &block(2, "203.0.113.7", Expiry::Never));

        assert_eq!(store.all().unwrap(), [block(2, "203.0.113.7", Expiry::Never)]);
    }

    #[test]
    fn the_file_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blocks.db");

        let _store = Store::open(&path).unwrap();

        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_broken_file_is_refused_with_what_to_do_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blocks.db");
        std::fs::write(&path, [7; 4096]).unwrap();

        let refused = Store::open(&path).unwrap_err();

        assert!(refused.to_string().contains("move it aside"));
        assert_eq!(std::fs::read(&path).unwrap(), [7; 4096]);
    }

    #[test]
    fn a_file_from_before_there_were_proxies_is_read_and_takes_what_came_through_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blocks.db");
        let before = block(1, "203.0.113.7", Expiry::Never);
        let through = Some(Source::new([10, 0, 0, 5].into()));
        let after = Block { through, ..block(2, "203.0.113.8", Expiry::Never) };
        let mut store = Store::open(&path).unwrap();
        write(&mut store, &before);
        let old = "ALTER TABLE block DROP COLUMN through; PRAGMA user_version = 1;";
        store.connection.execute_batch(old).unwrap();
        drop(store);

        write(&mut Store::open(&path).unwrap(), &after);

        assert_eq!(Store::open(&path).unwrap().all().unwrap(), [before, after]);
    }

    #[test]
    fn a_file_of_a_newer_program_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blocks.db");
        let store = Store::open(&path).unwrap();
        store.connection.execute_batch("PRAGMA user_version = 99").unwrap();
        drop(store);

        assert!(matches!(
            Store::open(&path),
            Err(StoreError::Open(OpenError::Newer { found: 99, .. }))
        ));
    }

    fn write(store: &mut Store, block: &Block) {
        store.write([(&block.target, Some(block))].into_iter()).unwrap();
    }

    fn block(id: u64, target: &str, until: Expiry) -> Block {
        Block {
            id: BlockId::from_bits(id),
            target: target.parse().unwrap(),
            reason: "guessing".into(),
            author: Author::Rule("key-guessing".into()),
            since: Timestamp::from_unix_seconds(900_000),
            until,
            through: None,
        }
    }
}
