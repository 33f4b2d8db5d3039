//! The writer's side of personal data: the segment that grows, and keys that wait for room.
//!
//! Begun when the log is in order after a start: what a killed writer left is ended from the records
//! that it wrote. When a segment ends, its table is written before anything else happens; on a full
//! disk it waits in memory, and the seed stays, from which it can be made again.

use super::conceal::{Concealer, Subjects};
use super::seal::Seed;
use super::table::Table;
use super::vault::{Vault, VaultError};
use crate::files::FileError;

/// Conceals what is written, and keeps the keys in the vault.
#[derive(Debug)]
pub(crate) struct Names {
    vault: Vault,
    concealer: Concealer,
    /// Whether the seed of the segment is on disk.
    is_kept: bool,
    /// Tables of ended segments that are not on disk yet.
    ending: Vec<Table>,
}

impl Names {
    /// Takes up the segment that begins at `first`. `read` gives the `subject` records of a segment
    /// with their places in it; none when it cannot be read, or is gone.
    pub(crate) fn open(
        vault: Vault,
        first: u64,
        mut read: impl FnMut(u64) -> Option<Vec<(u32, Box<str>)>>,
    ) -> Result<Self, VaultError> {
        vault.prepare()?;
        for ended in vault.unfinished()?.into_iter().filter(|ended| *ended != first) {
            // Without the records the seed stays: what they say can still be read with it.
            if let Some(records) = read(ended) {
                vault.recover(ended, records)?;
            }
        }
        let resumed = if vault.is_open(first) {
            vault.resume(first, read(first).unwrap_or_default())?
        } else {
            None
        };
        let is_kept = resumed.is_some();
        let concealer = match resumed {
            Some(resumed) => resumed,
            None => Concealer::new(first, Seed::random()?)?,
        };
        Ok(Self { vault, concealer, is_kept, ending: Vec::new() })
    }

    /// Goes on with the segment that begins at `first`.
    pub(crate) fn begin_segment(&mut self, first: u64) -> Result<(), VaultError> {
        let next = Concealer::new(first, Seed::random()?)?;
        self.ending.push(std::mem::replace(&mut self.concealer, next).end());
        self.is_kept = false;
        Ok(())
    }

    /// Puts on disk what must be there before any record of the segment is, and the keys of those
    /// that ended.
    pub(crate) fn settle(&mut self) -> Result<(), FileError> {
        if !self.is_kept {
            self.vault.keep(self.concealer.first(), self.concealer.seed())?;
            self.is_kept = true;
        }
        while let Some(table) = self.ending.first() {
            self.vault.close(table)?;
            self.ending.remove(0);
        }
        Ok(())
    }

    /// Whether the segment should end for the number of its values.
    pub(crate) fn wants_roll(&self) -> bool {
        self.concealer.wants_roll()
    }

    /// What was staged from the record `size` on was given up.
    pub(crate) fn forget_from(&mut self, size: u64) {
        self.concealer.forget_from(size);
    }

    /// Puts handles into `json`; gives what is to be staged before it, from the record `index` on.
    pub(crate) fn conceal(&mut self, json: &mut Vec<u8>, index: u64) -> Vec<Subjects> {
        self.concealer.conceal(json, index)
    }
}

/// The text of a `subject` record that is written with the record `json`, and at its time.
pub(crate) fn beside(json: &[u8], subjects: &Subjects) -> Vec<u8> {
    const CLASS: &[u8] = br#","class":""#;
    let envelope = memchr::memmem::find(json, CLASS).and_then(|at| json.get(..at));
    let mut text = envelope.unwrap_or_default().to_vec();
    text.extend_from_slice(br#","class":"subject","body":"#);
    // Strings in a vector: nothing that could fail.
    text.extend_from_slice(&serde_json::to_vec(subjects).unwrap_or_default());
    text.push(b'}');
    text
}
