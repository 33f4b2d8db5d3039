//! The one thing that a witness must never forget: the last tree head of each log that it cosigned.
//!
//! Looking and writing are one transaction, and the transaction is on disk before anybody hears of
//! it. Whatever kills the process or the machine, no two trees of one size are ever cosigned, and no
//! log goes back.

use std::path::Path;

use enforcer_audit::Checkpoint;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

/// By origin: size, root, and the note with our cosignature.
const LOGS: TableDefinition<'_, &str, (u64, [u8; 32], &str)> = TableDefinition::new("logs");

/// The store.
#[derive(Debug)]
pub(crate) struct Memory(Database);

/// What was cosigned last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) size: u64,
    pub(crate) root: [u8; 32],
}

/// The memory cannot be read or written; nothing is cosigned then.
#[derive(Debug, thiserror::Error)]
#[error("the memory of the witness")]
pub struct MemoryError(#[source] Box<redb::Error>);

impl Memory {
    /// The memory in `file`, which is made. Nobody else can use it meanwhile.
    pub(crate) fn open(file: &Path) -> Result<Self, MemoryError> {
        let database = Database::create(file)?;
        let writing = database.begin_write()?;
        // So that reading finds it.
        writing.open_table(LOGS)?;
        writing.commit()?;
        Ok(Self(database))
    }

    /// Lets `judge` see what is known of the log, and writes the tree head and note that it makes of
    /// it. When this returns, they are on disk.
    pub(crate) fn advance<T, E: From<MemoryError>>(
        &self,
        origin: &str,
        judge: impl FnOnce(Option<Known>) -> Result<(Option<(Checkpoint, String)>, T), E>,
    ) -> Result<T, E> {
        let begin = || -> Result<_, MemoryError> {
            let mut writing = self.0.begin_write()?;
            writing.set_durability(Durability::Immediate)?;
            Ok(writing)
        };
        let writing = begin()?;
        let read = || -> Result<_, MemoryError> {
            let table = writing.open_table(LOGS)?;
            let known = table.get(origin)?;
            Ok(known.map(|value| {
                let (size, root, _note) = value.value();
                Known { size, root }
            }))
        };
        let known = read()?;
        let (next, outcome) = judge(known)?;
        if let Some((head, note)) = next {
            let write = || -> Result<_, MemoryError> {
                let mut table = writing.open_table(LOGS)?;
                table.insert(origin, (head.size, head.root, note.as_str()))?;
                Ok(())
            };
            write()?;
            writing.commit().map_err(MemoryError::from)?;
        }
        Ok(outcome)
    }

    /// The last cosigned note of the log.
    pub(crate) fn note(&self, origin: &str) -> Result<Option<String>, MemoryError> {
        let reading = self.0.begin_read()?;
        let table = reading.open_table(LOGS)?;
        let found = table.get(origin)?;
        Ok(found.map(|value| value.value().2.to_owned()))
    }
}

impl<E: Into<redb::Error>> From<E> for MemoryError {
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}
