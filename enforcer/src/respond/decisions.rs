//! The decisions in force: memory says what holds, the file says it again after a reboot.
//!
//! A disk that refuses does not undo a decision. What could not be written is tried again at every
//! tick and told in the answer, in `blocks --verify` and once in the log.

use std::collections::{HashMap, HashSet};

use enforcer_model::{Block, BlockId, Target, Timestamp};
use tracing::{info, warn};

use super::store::{Store, StoreError};

/// Every decision, by target and by id. One owner: the responder.
#[derive(Debug)]
pub(crate) struct Decisions {
    store: Store,
    by_target: HashMap<Target, Block>,
    by_id: HashMap<BlockId, Target>,
    /// Whose row in the file is not what memory says; no row at all when it left memory.
    unwritten: HashSet<Target>,
}

impl Decisions {
    /// What the file holds.
    pub(crate) fn load(store: Store) -> Result<Self, StoreError> {
        let mut by_target = HashMap::new();
        let mut by_id = HashMap::new();
        for block in store.all()? {
            by_id.insert(block.id, block.target);
            by_target.insert(block.target, block);
        }
        Ok(Self { store, by_target, by_id, unwritten: HashSet::new() })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Block> {
        self.by_target.values()
    }

    pub(crate) fn in_force(&self, now: Timestamp) -> impl Iterator<Item = &Block> {
        self.all().filter(move |block| !block.until.is_over(now))
    }

    pub(crate) fn by_id(&self, id: BlockId) -> Option<&Block> {
        self.by_target.get(self.by_id.get(&id)?)
    }

    pub(crate) fn by_target(&self, target: Target) -> Option<&Block> {
        self.by_target.get(&target)
    }

    /// Puts `block` in the place of an earlier one about the same target; why it is not on disk.
    pub(crate) fn put(&mut self, block: Block) -> Option<String> {
        let target = block.target;
        if let Some(old) = self.by_target.get(&target) {
            self.by_id.remove(&old.id);
        }
        self.by_id.insert(block.id, target);
        self.by_target.insert(target, block);
        self.write(target)
    }

    /// Forgets the decision about `target`; why the file still has it.
    pub(crate) fn remove(&mut self, target: Target) -> Option<String> {
        if let Some(old) = self.by_target.remove(&target) {
            self.by_id.remove(&old.id);
        }
        self.write(target)
    }

    /// Tries again what could not be written.
    pub(crate) fn retry(&mut self) {
        for target in self.unwritten.clone() {
            if self.write(target).is_some() {
                return;
            }
        }
    }

    /// Targets whose decision is not what the file says.
    pub(crate) fn unwritten(&self) -> impl Iterator<Item = &Target> {
        self.unwritten.iter()
    }

    fn write(&mut self, target: Target) -> Option<String> {
        let written = match self.by_target.get(&target) {
            Some(block) => self.store.put(block),
            None => self.store.remove(target),
        };
        let was_behind = !self.unwritten.is_empty();
        match written {
            Ok(()) => {
                self.unwritten.remove(&target);
                if was_behind && self.unwritten.is_empty() {
                    info!("every decision is on disk again");
                }
                None
            }
            Err(error) => {
                let why = crate::cli::chain(&error);
                self.unwritten.insert(target);
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
    use enforcer_model::{Author, Expiry};

    use super::*;

    #[test]
    fn a_decision_is_found_by_id_and_target_until_another_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let mut decisions = Decisions::load(open(folder.path())).unwrap();

        assert_eq!(decisions.put(block(1, "203.0.113.7")), None);
        assert_eq!(decisions.put(block(2, "203.0.113.7")), None);

        assert_eq!(decisions.by_id(BlockId::from_bits(1)), None);
        let found = decisions.by_id(BlockId::from_bits(2)).unwrap();
        assert_eq!(found.target, "203.0.113.7".parse().unwrap());
        assert_eq!(decisions.all().count(), 1);
    }

    #[test]
    fn what_the_disk_refused_holds_and_is_written_when_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let mut decisions = Decisions::load(open(folder.path())).unwrap();
        decisions.put(block(1, "203.0.113.1"));
        decisions.store.refuse_writes(true);

        assert!(decisions.put(block(2, "203.0.113.2")).is_some());
        assert!(decisions.remove("203.0.113.1".parse().unwrap()).is_some());
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

    fn block(id: u64, target: &str) -> Block {
        Block {
            id: BlockId::from_bits(id),
            target: target.parse().unwrap(),
            reason: "guessing".into(),
            author: Author::Agent,
            since: Timestamp::from_unix_seconds(900_000),
            until: Expiry::Never,
        }
    }
}
