//! Three places know of a block: the decisions, the kernel map, layer 7. Here they are made to agree.
//!
//! All of them at once, at a start and when an operator asks; `rounds.rs` goes through them a part at
//! a time, for ever. Both judge a slot by [`judge`].

use std::collections::HashMap;
use std::time::Duration;

use enforcer_admin::Refusal;
use enforcer_admin::call::Verified;
use enforcer_audit::{BlockEvent, Layer, ListChange, ListEvent};
use enforcer_kernel::Installed;
use enforcer_model::{BlockId, Expiry, Prefix, Target, Timestamp};
use tracing::{info, warn};

use super::claims::{Change, Claim};
use super::crowd::end_of;
use super::enforce::outlasts;
use super::kernel_part::NoSlot;
use super::{Repair, Responder, count, failed};

/// Two clocks and the time between two look-ups: ends this close are the same.
const SAME_END: Duration = Duration::from_secs(3);

/// Single decisions whose mending is on record one by one; more are only counted.
const MENDED_ON_RECORD: usize = 1_000;

/// Differences that an answer names one by one.
const TOLD: usize = 1_000;

/// What is to be done about a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// Nothing.
    Same,
    /// It is not as decided.
    Put(Claim),
    /// It holds what is known not to be in force.
    Remove,
    /// It holds what nothing decided, or not for as long.
    Adopt,
}

/// Everything that differs.
#[derive(Debug, Default)]
struct Differences {
    put: Vec<(Prefix, Claim)>,
    remove: Vec<Installed>,
    adopt: Vec<Installed>,
    layer7_lacks: Vec<Target>,
    layer7_only: Vec<Target>,
    lists_at_layer7: bool,
    not_on_disk: Vec<String>,
}

impl Responder {
    /// Puts back what a restart took away, and adopts what the kernel kept.
    ///
    /// Entries without a decision (written while the agent was away) are kept and recorded: letting
    /// somebody in must be an operator's act.
    pub(super) fn restore(&mut self) -> Result<(), Refusal> {
        let verified = self.verify(Repair::Mend)?;
        for problem in verified.remaining.iter().chain(&self.release_protected()) {
            warn!(problem, "not as decided");
        }
        info!(
            decisions = verified.decisions,
            lists = self.parts.lists.len(),
            kernel = verified.kernel_entries,
            mended = verified.differences.len(),
            "blocks are in force"
        );
        Ok(())
    }

    /// Compares the places, mends what differs when asked to, and compares again.
    pub(super) fn verify(&mut self, repair: Repair) -> Result<Verified, Refusal> {
        let now = self.now().wall;
        let (found, mut verified) = self.compare()?;
        match repair {
            Repair::Tell => verified.remaining.clone_from(&verified.differences),
            Repair::Mend if verified.differences.is_empty() => {}
            Repair::Mend => {
                let failure = self.mend(found, now).err();
                let (_, after) = self.compare()?;
                verified.remaining = after.differences;
                verified.remaining.extend(failure);
            }
        }
        Ok(verified)
    }

    /// Puts everything that is decided into the kernel in one step, and takes out what is not.
    pub(super) fn load_all(&mut self, now: Timestamp) -> Result<(), String> {
        let read = self.parts.clock.now().wall;
        let kernel = self.parts.kernel.entries()?;
        let found = self.slots(&kernel, read);
        let remove = found.remove.iter().map(|entry| entry.prefix).collect();
        self.load(&Change { put: found.put, remove, ..Change::default() }, now)
    }

    fn compare(&self) -> Result<(Differences, Verified), Refusal> {
        // What is left of an entry's time is as of now, and a million take a while.
        let now = self.parts.clock.now().wall;
        let kernel = self.parts.kernel.entries().map_err(failed)?;
        let layer7 = self.parts.quarantine.entries();
        let found = self.differences(&kernel, &layer7, now);
        let current = layer7.iter().filter(|(_, _, until)| !until.is_over(now)).count();
        let held = self.parts.quarantine.lists();
        let listed = held.iter().filter(|list| !list.until.is_over(now));
        let listed: usize = listed.map(|list| list.networks.len()).sum();
        let decided = self.parts.lists.in_force(now).map(|list| list.networks.len());
        let decided = decided.sum::<usize>() + self.parts.decisions.in_force(now).count();
        let verified = Verified {
            decisions: count(decided),
            kernel_entries: count(kernel.len()),
            layer7_entries: count(current.saturating_add(listed)),
            differences: self.told(&found, now),
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
    ) -> Differences {
        let mut found = if self.parts.kernel.off_because().is_none() {
            self.slots(kernel, now)
        } else {
            Differences::default()
        };
        let lacking =
            self.parts.decisions.in_force(now).filter(|block| !self.holds_at_layer7(block));
        found.layer7_lacks = lacking.map(|block| block.target.clone()).collect();
        // Decisions that are over and wait for the next tick are decisions still.
        let undecided = |target: &Target| self.parts.decisions.by_target(target).is_none();
        let stray = layer7.iter().map(|(target, _, _)| target.clone()).filter(undecided);
        found.layer7_only = stray.collect();
        let held = self.parts.quarantine.lists();
        found.lists_at_layer7 = held.len() != self.parts.lists.len()
            || self.parts.lists.all().any(|list| !self.lists_at_layer7(list.id));
        let unwritten = self.parts.decisions.unwritten().map(ToString::to_string);
        let lists = self.parts.files.unwritten().map(|name| format!("list {name}"));
        found.not_on_disk = unwritten.chain(lists).collect();
        found
    }

    /// What differs between the decisions and the kernel.
    fn slots(&self, kernel: &[Installed], now: Timestamp) -> Differences {
        let mut found = Differences::default();
        let claims = self.claims(now);
        for (prefix, claim) in claims.all() {
            // What it holds is judged below, with what nobody wants.
            if !matches!(self.parts.kernel.find(prefix), Ok(Some(_))) {
                self.sort_in(prefix, Some(claim), None, now, &mut found);
            }
        }
        for entry in kernel {
            let desired = claims.desired(entry.prefix);
            self.sort_in(entry.prefix, desired, Some(entry), now, &mut found);
        }
        found
    }

    fn sort_in(
        &self,
        prefix: Prefix,
        desired: Option<Claim>,
        held: Option<&Installed>,
        now: Timestamp,
        found: &mut Differences,
    ) {
        match (self.judge(prefix, desired, held, now), held) {
            (Judged::Put(claim), _) => found.put.push((prefix, claim)),
            (Judged::Remove, Some(entry)) => found.remove.push(*entry),
            (Judged::Adopt, Some(entry)) => found.adopt.push(*entry),
            (Judged::Same | Judged::Remove | Judged::Adopt, _) => {}
        }
    }

    /// What is to be done about the slot of `prefix`.
    pub(super) fn judge(
        &self,
        prefix: Prefix,
        desired: Option<Claim>,
        held: Option<&Installed>,
        now: Timestamp,
    ) -> Judged {
        let is_known =
            |id| self.parts.decisions.by_id(id).is_some() || self.parts.lists.by_id(id).is_some();
        if self.room.is_out(prefix) {
            // An entry beside the one that stands for it takes room and nothing else.
            return match held {
                Some(_) if self.room.stand_in(prefix).is_some() => Judged::Remove,
                Some(_) | None => Judged::Same,
            };
        }
        let Some(claim) = desired else {
            let Some(entry) = held else { return Judged::Same };
            // Decisions that are over and wait for the next tick are decisions still.
            let decided = self.parts.decisions.by_target(&Target::Network(prefix));
            let waits = decided.is_some_and(|block| block.through.is_none())
                || self.parts.lists.all().any(|list| list.networks.contains(prefix));
            if waits || is_soon_over(end_of(entry, now), now) {
                return Judged::Same;
            }
            // A list that changed while nobody could write to the kernel.
            return if is_known(entry.id) { Judged::Remove } else { Judged::Adopt };
        };
        judge(claim, held, &is_known, now)
    }

    fn told(&self, found: &Differences, now: Timestamp) -> Vec<String> {
        let named = |prefix: Prefix, claim: Claim| match self.parts.lists.by_id(claim.id) {
            Some(list) => format!("{} {prefix} (list {})", claim.id, list.name),
            None => format!("{} {prefix}", claim.id),
        };
        let put = found.put.iter().map(|(prefix, claim)| {
            format!("{}: decided, not in the kernel as decided", named(*prefix, *claim))
        });
        let remove = found.remove.iter().map(|entry| {
            format!("{} {}: in the kernel, and no longer in force", entry.id, entry.prefix)
        });
        let adopt = found
            .adopt
            .iter()
            .map(|entry| format!("{} {}: in the kernel, not decided so", entry.id, entry.prefix));
        let lacks = found.layer7_lacks.iter().filter_map(|target| {
            let id = self.parts.decisions.by_target(target)?.id;
            Some(format!("{id} {target}: decided, not at layer 7"))
        });
        let only = found.layer7_only.iter().map(|t| format!("{t}: at layer 7, not decided"));
        let lists = found.lists_at_layer7.then(|| {
            let names = self.parts.lists.in_force(now).map(|list| list.name.as_str());
            format!("lists {}: not at layer 7 as decided", names.collect::<Vec<_>>().join(", "))
        });
        let disk = found.not_on_disk.iter().map(|what| format!("{what}: decided, not on disk"));
        let all = put.chain(remove).chain(adopt).chain(lacks).chain(only).chain(lists).chain(disk);
        let mut told: Vec<_> = all.collect();
        if told.len() > TOLD {
            let more = told.len().saturating_sub(TOLD);
            told.truncate(TOLD);
            told.push(format!("and {more} more"));
        }
        told
    }

    fn mend(&mut self, found: Differences, now: Timestamp) -> Result<(), String> {
        self.adopt_all(&found.adopt, now);
        // What was adopted may be what a slot is to hold.
        let put: Vec<_> = found
            .put
            .into_iter()
            .filter_map(|(prefix, _)| Some((prefix, self.claims(now).desired(prefix)?)))
            .collect();
        let remove = found.remove.iter().map(|entry| entry.prefix).collect();
        let change = Change { put, remove, ..Change::default() };
        let loaded = self.load(&change, now);
        if loaded.is_ok() {
            self.record_mended(&change.put);
        }
        for target in found.layer7_lacks {
            let Some(block) = self.parts.decisions.by_target(&target) else { continue };
            self.parts.quarantine.insert(block).map_err(|full| full.to_string())?;
        }
        for target in found.layer7_only {
            self.parts.quarantine.remove(&target);
        }
        if found.lists_at_layer7 {
            self.parts.quarantine.set_lists(self.parts.lists.listed());
        }
        self.parts.decisions.retry();
        self.parts.files.retry(&self.parts.lists);
        loaded
    }

    /// Few slots one by one, many in one step.
    fn load(&mut self, change: &Change, now: Timestamp) -> Result<(), String> {
        if change.put.is_empty() && change.remove.is_empty() {
            return Ok(());
        }
        let few = change.put.len().saturating_add(change.remove.len()) <= 64;
        if few {
            let prefixes = change.put.iter().map(|(prefix, _)| prefix).chain(&change.remove);
            for prefix in prefixes {
                self.settle(*prefix, now)?;
            }
            return Ok(());
        }
        let read = self.parts.clock.now().wall;
        let add: Vec<_> =
            change.put.iter().map(|(prefix, claim)| (*prefix, claim.entry(read))).collect();
        self.parts.kernel.load(&add, &change.remove).map_err(NoSlot::why)?;
        Ok(())
    }

    /// One record for each single decision, one for each list.
    pub(super) fn record_mended(&mut self, mended: &[(Prefix, Claim)]) {
        self.rounds.mended = self.rounds.mended.saturating_add(count(mended.len()));
        let mut of_lists: HashMap<BlockId, usize> = HashMap::new();
        let in_kernel = self.parts.kernel.layers();
        let mut on_record = 0;
        for (prefix, claim) in mended {
            let Some(block) = self.parts.decisions.by_id(claim.id).cloned() else {
                let networks = of_lists.entry(claim.id).or_default();
                *networks = networks.saturating_add(1);
                continue;
            };
            if on_record < MENDED_ON_RECORD {
                on_record += 1;
                let at_layer7 = self.holds_at_layer7(&block).then_some(Layer::Proxy);
                let layers = self.layers(Some(&in_kernel), at_layer7);
                let detail = Some("put back into the kernel".to_owned());
                drop(self.note(BlockEvent::Reconciled, &block, layers, None, detail));
                warn!(id = %claim.id, %prefix, "a block was not in the kernel as decided; mended");
            }
        }
        for (id, networks) in of_lists {
            let Some(list) = self.parts.lists.by_id(id) else { continue };
            warn!(list = %list.name, networks, "a list was not in the kernel as decided; mended");
            drop(self.note_list(ListChange {
                layers: self.layers(Some(&in_kernel), None),
                detail: Some(format!("{networks} networks were put back into the kernel")),
                ..list.record(ListEvent::Reconciled)
            }));
        }
    }
}

/// What is to be done about a slot that `claim` is to hold.
fn judge(
    claim: Claim,
    held: Option<&Installed>,
    is_known: &dyn Fn(BlockId) -> bool,
    now: Timestamp,
) -> Judged {
    let Some(entry) = held else {
        // The kernel ends a block by its own clock: near the end it may be gone already.
        return if is_soon_over(claim.until, now) { Judged::Same } else { Judged::Put(claim) };
    };
    let end = end_of(entry, now);
    if entry.id != claim.id {
        let is_stronger = outlasts(end, claim.until) && !entry.observe && !is_known(entry.id);
        return if is_stronger { Judged::Adopt } else { Judged::Put(claim) };
    }
    let is_same = !entry.observe && entry.contain == claim.contain && is_same(end, claim.until);
    if is_same { Judged::Same } else { Judged::Put(claim) }
}

fn is_soon_over(end: Expiry, now: Timestamp) -> bool {
    end.is_over(now.saturating_add(SAME_END))
}

fn is_same(one: Expiry, other: Expiry) -> bool {
    match (one, other) {
        (Expiry::Never, Expiry::Never) => true,
        (Expiry::At(one), Expiry::At(other)) => one.since(other).max(other.since(one)) <= SAME_END,
        (Expiry::Never, Expiry::At(_)) | (Expiry::At(_), Expiry::Never) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::testing::{at, block, prefix};

    const NOW: u64 = 1_000;

    #[test]
    fn an_entry_that_ends_when_decided_is_no_difference_and_one_that_does_not_is() {
        let decided = claim(1, 1_060);

        assert_eq!(judged(decided, Some(entry(1, Some(59)))), Judged::Same);
        for held in [None, Some(entry(1, Some(10))), Some(entry(1, None)), Some(entry(2, Some(5)))]
        {
            assert_eq!(judged(decided, held), Judged::Put(decided), "{held:?}");
        }
        assert_eq!(judged(claim(1, 1_002), None), Judged::Same, "it is about to end");
    }

    #[test]
    fn an_entry_that_only_observes_or_lets_answers_out_is_not_as_decided() {
        let decided = claim(1, 1_060);
        let whole = entry(1, Some(60));

        for held in [
            Installed { observe: true, ..whole },
            Installed { contain: false, ..whole },
            Installed { observe: true, ..entry(2, None) },
        ] {
            assert_eq!(judged(decided, Some(held)), Judged::Put(decided), "{held:?}");
        }
    }

    #[test]
    fn what_the_kernel_holds_for_longer_than_decided_is_adopted_unless_it_is_known() {
        let decided = claim(1, 1_060);

        assert_eq!(judged(decided, Some(entry(2, None))), Judged::Adopt);
        assert_eq!(judged(decided, Some(entry(7, None))), Judged::Put(decided));
    }

    /// Id 7 is that of another decision.
    fn judged(claim: Claim, held: Option<Installed>) -> Judged {
        judge(claim, held.as_ref(), &|id| id.bits() == 7, at(NOW))
    }

    fn claim(id: u64, end: u64) -> Claim {
        Claim::of(&block(id, "203.0.113.7", Expiry::At(at(end))), true)
    }

    fn entry(id: u64, seconds: Option<u64>) -> Installed {
        Installed {
            prefix: prefix("203.0.113.7"),
            id: BlockId::from_bits(id),
            remaining: seconds.map(Duration::from_secs),
            observe: false,
            contain: true,
            packets: 0,
            bytes: 0,
            last_hit: None,
        }
    }
}
