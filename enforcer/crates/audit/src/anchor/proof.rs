//! Consistency proofs from a log on disk.

use crate::evidence::Hashes;
use crate::merkle::Hash;
use crate::read::{Log, ReadError};

use super::consistency::consistency_path;

impl Log {
    /// The proof that this checkpoint continues the one of `old` records, for a witness.
    pub fn consistency(&self, old: u64) -> Result<Vec<Hash>, ReadError> {
        consistency_path(&mut Hashes::of(self), old, self.size())
    }
}
