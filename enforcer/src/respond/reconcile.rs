//! Three places know of a block: the store, the kernel map, layer 7. Here they are made to agree.

use std::collections::HashMap;
use std::time::Duration;

use enforcer_admin::Refusal;
use enforcer_admin::call::Verified;
use enforcer_audit::BlockEvent;
use enforcer_kernel::Installed;
use enforcer_model::{Author, Block, Expiry, Target, Timestamp};
use tracing::{info, warn};

use super::{Responder, failed, failed_text};

/// One way in which the places differ.
enum Difference {
    /// Decided, and the kernel does not hold it so.
    KernelLacks(Block),
    /// Decided, and layer 7 does not hold it.
    Layer7Lacks(Block),
    /// The kernel drops somebody and no decision says so.
    KernelOnly(Installed),
    /// Layer 7 refuses somebody and no decision says so.
    Layer7Only(Target),
}

impl Responder {
    /// Puts back what a restart took away, and adopts what the kernel kept; the store's word counts.
    ///
    /// Entries without a decision (written while the agent was away) are kept and recorded: letting
    /// somebody in must be an operator's act.
    pub(crate) fn restore(&mut self) -> Result<(), Refusal> {
        let verified = self.verify(true)?;
        self.release_protected();
        info!(
            decisions = verified.decisions,
            kernel = verified.kernel_entries,
            mended = verified.differences.len(),
            "blocks are in force"
        );
        Ok(())
    }

    /// Compares the three places, and mends what differs when asked to.
    pub(crate) fn verify(&mut self, repair: bool) -> Result<Verified, Refusal> {
        let now = self.clock.now().wall;
        let decisions: Vec<Block> = self
            .store
            .all()
            .map_err(failed)?
            .into_iter()
            .filter(|block| !block.until.is_over(now))
            .collect();
        let kernel = self.kernel.entries().map_err(failed_text)?;
        let layer7: Vec<_> = self
            .quarantine
            .entries()
            .into_iter()
            .filter(|(_, _, until)| !until.is_over(now))
            .collect();

        let differences = self.differences(&decisions, &kernel, &layer7, now);
        let told = differences.iter().map(told).collect();
        let verified = Verified {
            decisions: count(decisions.len()),
            kernel_entries: count(kernel.len()),
            layer7_entries: count(layer7.len()),
            differences: told,
            repaired: repair,
            kernel_off: self.kernel.off_because(),
        };
        if repair {
            for difference in differences {
                self.mend(difference, now);
            }
        }
        Ok(verified)
    }

    fn differences(
        &self,
        decisions: &[Block],
        kernel: &[Installed],
        layer7: &[enforcer_authz::Entry],
        now: Timestamp,
    ) -> Vec<Difference> {
        let held: HashMap<_, _> = kernel.iter().map(|entry| (entry.prefix, entry)).collect();
        let decided: HashMap<_, _> =
            decisions.iter().map(|block| (block.target, block.id)).collect();
        let mut differences = Vec::new();
        for block in decisions {
            // The kernel ends a block by its own clock: near the end the two may differ.
            let ending = block.until.is_over(now.saturating_add(Duration::from_secs(2)));
            if let Target::Network(prefix) = block.target
                && self.kernel.off_because().is_none()
                && !ending
                && !held.get(&prefix).is_some_and(|entry| entry.id == block.id && !entry.observe)
            {
                differences.push(Difference::KernelLacks(block.clone()));
            }
            if !self.holds_at_layer7(block) {
                differences.push(Difference::Layer7Lacks(block.clone()));
            }
        }
        let stray = kernel.iter().filter(|e| !decided.contains_key(&Target::Network(e.prefix)));
        differences.extend(stray.map(|entry| Difference::KernelOnly(*entry)));
        let stray = layer7.iter().filter(|(target, _, _)| !decided.contains_key(target));
        differences.extend(stray.map(|(target, _, _)| Difference::Layer7Only(*target)));
        differences
    }

    fn mend(&mut self, difference: Difference, now: Timestamp) {
        match difference {
            Difference::KernelLacks(block) => {
                let Target::Network(prefix) = block.target else { return };
                if let Err(error) = self.kernel.block(prefix, &block, now) {
                    warn!(id = %block.id, error, "the kernel does not take the block");
                } else {
                    self.record(&block, "put back into the kernel");
                }
            }
            Difference::Layer7Lacks(block) => {
                if let Err(error) = self.quarantine.insert(&block) {
                    warn!(id = %block.id, %error, "layer 7 does not take the block");
                }
            }
            Difference::KernelOnly(entry) => {
                let until = match entry.remaining {
                    Some(left) => Expiry::At(now.saturating_add(left)),
                    None => Expiry::Never,
                };
                let block = Block {
                    id: entry.id,
                    target: Target::Network(entry.prefix),
                    reason: "found in the kernel without a decision".to_owned(),
                    author: Author::Agent,
                    since: now,
                    until,
                };
                if let Err(error) = self.store.put(&block) {
                    warn!(id = %block.id, %error, "the store does not take the block");
                }
                if let Err(error) = self.quarantine.insert(&block) {
                    warn!(id = %block.id, %error, "layer 7 does not take the block");
                }
                self.record(&block, "adopted from the kernel");
            }
            Difference::Layer7Only(target) => {
                self.quarantine.remove(target);
            }
        }
    }

    fn record(&self, block: &Block, what: &str) {
        let layers = self.layers(true, self.holds_at_layer7(block));
        drop(self.note(BlockEvent::Reconciled, block, layers, None, Some(what.to_owned())));
    }
}

fn told(difference: &Difference) -> String {
    match difference {
        Difference::KernelLacks(block) => {
            format!("{} {}: decided, not in the kernel", block.id, block.target)
        }
        Difference::Layer7Lacks(block) => {
            format!("{} {}: decided, not at layer 7", block.id, block.target)
        }
        Difference::KernelOnly(entry) => {
            format!("{} {}: in the kernel, not decided", entry.id, entry.prefix)
        }
        Difference::Layer7Only(target) => format!("{target}: at layer 7, not decided"),
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
