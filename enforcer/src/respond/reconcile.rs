//! Three places know of a block: the decisions, the kernel map, layer 7. Here they are made to agree.

use std::collections::HashMap;
use std::time::Duration;

use enforcer_admin::Refusal;
use enforcer_admin::call::Verified;
use enforcer_audit::{BlockEvent, Layer};
use enforcer_kernel::Installed;
use enforcer_model::{Author, Block, Expiry, Target, Timestamp};
use tracing::{info, warn};

use super::enforce::outlasts;
use super::{Repair, Responder, failed};

/// Two clocks and the time between two look-ups: ends this close are the same.
const SAME_END: Duration = Duration::from_secs(3);

/// One way in which the places differ.
enum Difference {
    /// Decided, and the kernel does not hold it so.
    KernelLacks(Block),
    /// Decided, and layer 7 does not hold it.
    Layer7Lacks(Block),
    /// The kernel drops somebody and no decision says so, or not for as long.
    KernelOnly(Installed),
    /// Layer 7 refuses somebody and no decision says so.
    Layer7Only(Target),
    /// The file does not say what was decided.
    NotOnDisk(Target),
}

impl Responder {
    /// Puts back what a restart took away, and adopts what the kernel kept.
    ///
    /// Entries without a decision (written while the agent was away) are kept and recorded: letting
    /// somebody in must be an operator's act.
    pub(crate) fn restore(&mut self) -> Result<(), Refusal> {
        let verified = self.verify(Repair::Mend)?;
        for problem in verified.remaining.iter().chain(&self.release_protected()) {
            warn!(problem, "not as decided");
        }
        info!(
            decisions = verified.decisions,
            kernel = verified.kernel_entries,
            mended = verified.differences.len(),
            "blocks are in force"
        );
        Ok(())
    }

    /// Compares the places, mends what differs when asked to, and compares again.
    pub(crate) fn verify(&mut self, repair: Repair) -> Result<Verified, Refusal> {
        let now = self.parts.clock.now().wall;
        let (found, mut verified) = self.compare(now)?;
        match repair {
            Repair::Tell => verified.remaining.clone_from(&verified.differences),
            Repair::Mend => {
                let failures: Vec<_> =
                    found.into_iter().filter_map(|found| self.mend(found, now).err()).collect();
                let (_, after) = self.compare(now)?;
                verified.remaining = after.differences;
                verified.remaining.extend(failures);
            }
        }
        Ok(verified)
    }

    fn compare(&self, now: Timestamp) -> Result<(Vec<Difference>, Verified), Refusal> {
        let kernel = self.parts.kernel.entries().map_err(failed)?;
        let layer7 = self.parts.quarantine.entries();
        let found = self.differences(&kernel, &layer7, now);
        let current = layer7.iter().filter(|(_, _, until)| !until.is_over(now));
        let verified = Verified {
            decisions: count(self.parts.decisions.in_force(now).count()),
            kernel_entries: count(kernel.len()),
            layer7_entries: count(current.count()),
            differences: found.iter().map(told).collect(),
            remaining: Vec::new(),
            kernel_off: self.parts.kernel.off_because(),
            audit: None,
        };
        Ok((found, verified))
    }

    fn differences(
        &self,
        kernel: &[Installed],
        layer7: &[enforcer_authz::Entry],
        now: Timestamp,
    ) -> Vec<Difference> {
        let held: HashMap<_, _> = kernel.iter().map(|entry| (entry.prefix, *entry)).collect();
        let kernel_is_on = self.parts.kernel.off_because().is_none();
        let mut differences = Vec::new();
        for block in self.parts.decisions.in_force(now) {
            if let Target::Network(prefix) = block.target
                && kernel_is_on
            {
                differences.extend(in_kernel(block, held.get(&prefix), now));
            }
            if !self.holds_at_layer7(block) {
                differences.push(Difference::Layer7Lacks(block.clone()));
            }
        }
        // Decisions that are over and wait for the next tick are decisions still.
        let undecided = |target: Target| self.parts.decisions.by_target(target).is_none();
        let stray = kernel.iter().filter(|entry| undecided(Target::Network(entry.prefix)));
        differences.extend(stray.map(|entry| Difference::KernelOnly(*entry)));
        let stray = layer7.iter().filter(|(target, _, _)| undecided(*target));
        differences.extend(stray.map(|(target, _, _)| Difference::Layer7Only(*target)));
        let unwritten = self.parts.decisions.unwritten();
        differences.extend(unwritten.map(|target| Difference::NotOnDisk(*target)));
        differences
    }

    fn mend(&mut self, difference: Difference, now: Timestamp) -> Result<(), String> {
        match difference {
            Difference::KernelLacks(block) => {
                let Target::Network(prefix) = block.target else { return Ok(()) };
                self.parts.kernel.block(prefix, &block, now)?;
                let at_layer7 = self.holds_at_layer7(&block).then_some(Layer::Proxy);
                let layers = self.layers(Some(&self.parts.kernel.layers()), at_layer7);
                let detail = Some("put back into the kernel".to_owned());
                drop(self.note(BlockEvent::Reconciled, &block, layers, None, detail));
                Ok(())
            }
            Difference::Layer7Lacks(block) => {
                self.parts.quarantine.insert(&block).map_err(|full| full.to_string())
            }
            Difference::KernelOnly(entry) => {
                self.adopt(&adopted(&entry, now), "adopted from the kernel");
                Ok(())
            }
            Difference::Layer7Only(target) => {
                self.parts.quarantine.remove(target);
                Ok(())
            }
            Difference::NotOnDisk(_) => {
                self.parts.decisions.retry();
                Ok(())
            }
        }
    }
}

/// How the kernel's entry differs from what was decided.
fn in_kernel(block: &Block, held: Option<&Installed>, now: Timestamp) -> Option<Difference> {
    let lacks = || Some(Difference::KernelLacks(block.clone()));
    let Some(entry) = held else {
        // The kernel ends a block by its own clock: near the end it may be gone already.
        return if block.until.is_over(now.saturating_add(SAME_END)) { None } else { lacks() };
    };
    let end = end_of(entry, now);
    if entry.id != block.id {
        let is_longer = outlasts(end, block.until) && !entry.observe;
        return if is_longer { Some(Difference::KernelOnly(*entry)) } else { lacks() };
    }
    if entry.observe || !is_same(end, block.until) { lacks() } else { None }
}

fn end_of(entry: &Installed, now: Timestamp) -> Expiry {
    entry.remaining.map_or(Expiry::Never, |left| Expiry::At(now.saturating_add(left)))
}

fn is_same(one: Expiry, other: Expiry) -> bool {
    match (one, other) {
        (Expiry::Never, Expiry::Never) => true,
        (Expiry::At(one), Expiry::At(other)) => one.since(other).max(other.since(one)) <= SAME_END,
        (Expiry::Never, Expiry::At(_)) | (Expiry::At(_), Expiry::Never) => false,
    }
}

fn adopted(entry: &Installed, now: Timestamp) -> Block {
    Block {
        id: entry.id,
        target: Target::Network(entry.prefix),
        reason: "found in the kernel without a decision".to_owned(),
        author: Author::Agent,
        since: now,
        until: end_of(entry, now),
    }
}

fn told(difference: &Difference) -> String {
    match difference {
        Difference::KernelLacks(block) => {
            format!("{} {}: decided, not in the kernel as decided", block.id, block.target)
        }
        Difference::Layer7Lacks(block) => {
            format!("{} {}: decided, not at layer 7", block.id, block.target)
        }
        Difference::KernelOnly(entry) => {
            format!("{} {}: in the kernel, not decided so", entry.id, entry.prefix)
        }
        Difference::Layer7Only(target) => format!("{target}: at layer 7, not decided"),
        Difference::NotOnDisk(target) => format!("{target}: decided, not on disk"),
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_ends_when_decided_is_no_difference_and_one_that_does_not_is() {
        let now = Timestamp::from_unix_seconds(1_000);
        let decided = |seconds| block(1, Expiry::At(Timestamp::from_unix_seconds(seconds)));

        assert!(in_kernel(&decided(1_060), Some(&entry(1, Some(59))), now).is_none());
        for held in [None, Some(entry(1, Some(10))), Some(entry(1, None)), Some(entry(2, Some(5)))]
        {
            let found = in_kernel(&decided(1_060), held.as_ref(), now);
            assert!(matches!(found, Some(Difference::KernelLacks(_))), "{held:?}");
        }
        assert!(in_kernel(&decided(1_002), None, now).is_none(), "it is about to end");
    }

    #[test]
    fn what_the_kernel_holds_for_longer_than_decided_is_adopted() {
        let now = Timestamp::from_unix_seconds(1_000);
        let decided = block(1, Expiry::At(Timestamp::from_unix_seconds(1_060)));

        let found = in_kernel(&decided, Some(&entry(2, None)), now);

        assert!(matches!(found, Some(Difference::KernelOnly(entry)) if entry.id.bits() == 2));
    }

    fn block(id: u64, until: Expiry) -> Block {
        let since = Timestamp::from_unix_seconds(900);
        let target = "203.0.113.7".parse().unwrap();
        let id = enforcer_model::BlockId::from_bits(id);
        Block { id, target, reason: "test".into(), author: Author::Agent, since, until }
    }

    fn entry(id: u64, seconds: Option<u64>) -> Installed {
        Installed {
            prefix: "203.0.113.7".parse().unwrap(),
            id: enforcer_model::BlockId::from_bits(id),
            remaining: seconds.map(Duration::from_secs),
            observe: false,
            packets: 0,
            bytes: 0,
            last_hit: None,
        }
    }
}
