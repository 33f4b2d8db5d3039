//! `SQLite` as a log: WAL, and a sync for each transaction.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use rusqlite::Connection;

use super::{World, figure};

/// Writes `count` rows, `batch` in a transaction; rows a second.
pub(super) fn write(world: &World, folder: &Path, count: usize, batch: usize) -> Result<f64> {
    let mut database = Connection::open(folder.join("log.db"))?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.execute_batch("CREATE TABLE log (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")?;
    let lines: Vec<&str> = world.lines(count).collect();
    let begun = Instant::now();
    for lines in lines.chunks(batch) {
        let transaction = database.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO log (text) VALUES (?1)")?;
            for line in lines {
                insert.execute([line])?;
            }
        }
        transaction.commit()?;
    }
    Ok(figure(u64::try_from(count)?)? / begun.elapsed().as_secs_f64())
}
