//! What a log on disk proves about its own past.

use crate::evidence::Hashes;
use crate::merkle::{Hash, range_root, sha256};
use crate::read::{Log, ReadError};

use super::consistency::consistency_path;

impl Log {
    /// The proof that this checkpoint continues the one of `old` records, for a witness.
    pub fn consistency(&self, old: u64) -> Result<Vec<Hash>, ReadError> {
        consistency_path(&mut Hashes::of(self), old, self.size())
    }

    /// The root over the first `size` records, from the tiles; [`crate::verify()`] says whether these
    /// are right.
    pub fn root_at(&self, size: u64) -> Result<Hash, ReadError> {
        match size {
            0 => Ok(sha256(&[])),
            size if size > self.size() => {
                Err(ReadError::NoRecord { index: size - 1, size: self.size() })
            }
            size => range_root(&mut Hashes::of(self), 0, size),
        }
    }
}
