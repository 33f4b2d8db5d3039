//! The decisions in force: memory says what holds, the file says it again after a reboot.
//!
//! A disk that refuses does not undo a decision. What could not be written is tried again at every
//! tick and told in the answer, in `blocks --verify` and once in the log.

use std::collections::HashSet;
use std::ops::Deref;

use enforcer_model::{Block, Prefix, Target};
use tracing::{info, warn};

use super::clock::Jump;
use super::singles::Singles;
use super::store::{Store, StoreError};

/// Every decision about one target, in memory and on disk. One owner: the responder.
#[derive(Debug)]
pub(crate) struct Decisions {
    store: Store,
    held: Singles,
    /// Whose row in the file is not what memory says; no row at all when it left memory.
    unwritten: HashSet<Target>,
}

impl Deref for Decisions {
    type Target = Singles;

    fn deref(&self) -> &Singles {
        &self.held
    }
}

impl Decisions {
    /// What the file holds.
    pub(crate) fn load(store: Store) -> Result<Self, StoreError> {
        let mut held = Singles::default();
        for block in store.all()? {
            held.put(block);
        }
        Ok(Self { store, held, unwritten: HashSet::new() })
    }

    /// Puts `block` in the place of an earlier one about the same target; returns that one. On
    /// disk with the next [`Self::write`].
    pub(crate) fn hold(&mut self, block: Block) -> Option<Block> {
        self.held.put(block)
    }

    /// Forgets the decision about `target`. On disk with the next [`Self::write`].
    pub(crate) fn forget(&mut self, target: &Target) -> Option<Block> {
        self.held.remove(target)
    }

    /// The same as [`Self::hold`], and on disk; why it is not.
    pub(crate) fn put(&mut self, block: Block) -> Option<String> {
        let target = block.target.clone();
        self.held.put(block);
        self.write(&[target])
    }

    /// See [`Singles::answering`].
    pub(crate) fn answering(&mut self, prefix: Prefix) {
        self.held.answering(prefix);
    }

    /// See [`Singles::answered`].
    pub(crate) fn answered(&mut self, prefix: Prefix) -> bool {
        self.held.answered(prefix)
    }

    /// Moves every end along with a wall clock that was set.
    pub(crate) fn shift(&mut self, by: Jump) {
        self.held.shift(by);
        let targets: Vec<_> = self.held.all().map(|block| block.target.clone()).collect();
        // What cannot be written is told once and tried again.
        drop(self.write(&targets));
    }

    /// Tries again what could not be written.
    pub(crate) fn retry(&mut self) {
        if !self.unwritten.is_empty() {
            // Told when it began.
            drop(self.write(&[]));
        }
    }

    /// Targets whose decision is not what the file says.
    pub(crate) fn unwritten(&self) -> impl Iterator<Item = &Target> {
        self.unwritten.iter()
    }

    /// Writes what memory says of `targets`, and of those that are behind; all or none. Why not.
    pub(crate) fn write(&mut self, targets: &[Target]) -> Option<String> {
        let was_behind = !self.unwritten.is_empty();
        let due = targets.iter().chain(&self.unwritten);
        match self.store.write(due.map(|target| (target, self.held.by_target(target)))) {
            Ok(()) => {
                self.unwritten.clear();
                if was_behind {
                    info!("every decision is on disk again");
                }
                None
            }
            Err(error) => {
                let why = crate::cli::chain(&error);
                self.unwritten.extend(targets.iter().cloned());
                if !was_behind {
                    warn!(why, "decisions hold and cannot be written; tried again each second");
                }
                Some(why)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use enforcer_model::Expiry;

    use super::*;
    use crate::respond::testing::{at, block};

    #[test]
    fn ends_that_moved_with_the_clock_are_on_disk_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut decisions = Decisions::load(open(folder.path())).unwrap();
        decisions.put(block(1, "203.0.113.1", Expiry::At(at(100))));

        decisions.shift(Jump::Ahead(Duration::from_secs(50)));

        let again = Decisions::load(open(folder.path())).unwrap();
        assert_eq!(again.all().next().unwrap().until, Expiry::At(at(150)));
        assert!(again.over(at(149), 9).is_empty() && again.over(at(150), 9).len() == 1);
    }

    #[test]
    fn what_the_disk_refused_holds_and_is_written_when_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let mut decisions = Decisions::load(open(folder.path())).unwrap();
        decisions.put(block(1, "203.0.113.1", Expiry::Never));
        decisions.store.refuse_writes(true);

        assert!(decisions.put(block(2, "203.0.113.2", Expiry::Never)).is_some());
        let first = "203.0.113.1".parse().unwrap();
        decisions.forget(&first);
        assert!(decisions.write(&[first]).is_some());
        assert_eq!(decisions.all().count(), 1);
        assert_eq!(decisions.unwritten().count(), 2);

        decisions.store.refuse_writes(false);
        decisions.retry();
        assert_eq!(decisions.unwritten().count(), 0);
        let again = Decisions::load(open(folder.path())).unwrap();
        assert_eq!(again.all().map(|block| block.id.bits()).collect::<Vec<_>>(), [2]);
    }

    fn open(folder: &std::path::Path) -> Store {
        Store::open(&folder.join("blocks.db")).unwrap()
    }
}
