//! One slot at a time made what it is to be; and what happens when there is no free one.
//!
//! Every change of a single network ends in [`Responder::settle`]: it asks who is to hold the slot,
//! writes that, and says what was read back. When the map is full, `room.rs` says who makes room;
//! each step is on record, stands in `status`, and is no difference to be mended.

use enforcer_audit::{BlockEvent, Layer};
use enforcer_kernel::Installed;
use enforcer_model::{Author, Block, Expiry, Prefix, Target, Timestamp};
use enforcer_policy::WhenFull;
use tracing::{error, warn};

use super::claims::{Claim, by_end};
use super::kernel_part::NoSlot;
use super::room::{self, Family, Neighbourhood, is_aggregate, stands_for};
use super::{Responder, guards::ClientShare};

/// Evicted networks that one tick looks at.
const PUT_BACK_AT_ONCE: usize = 1_024;

/// What the kernel holds of a network.
#[derive(Debug)]
pub(super) enum Slot {
    /// Nobody claims it, or there is no kernel part.
    Empty,
    /// Its own entry.
    Own(Installed),
    /// The entry that stands for it and others.
    Shared(Installed),
    /// Nothing, for want of room.
    Out(String),
}

impl Responder {
    /// Makes the kernel's slot of exactly `prefix` what is decided.
    ///
    /// Nothing is to be done while the kernel part is off: what attaches it puts everything there.
    pub(super) fn settle(&mut self, prefix: Prefix, now: Timestamp) -> Result<Slot, String> {
        if self.parts.kernel.off_because().is_some() {
            return Ok(Slot::Empty);
        }
        let Some(claim) = self.claims(now).desired(prefix) else {
            self.parts.kernel.release(prefix)?;
            self.room.readmit(prefix);
            return Ok(Slot::Empty);
        };
        if let Some(network) = self.room.stand_in(prefix) {
            let shared = self.share(network, claim, now)?;
            self.parts.kernel.release(prefix)?;
            return Ok(Slot::Shared(shared));
        }
        let has_slot = self.parts.kernel.find(prefix)?.is_some();
        if !has_slot && !self.has_free(Family::of(prefix)) && !self.make_room(prefix, claim, now) {
            return Ok(self.leave_out(prefix, claim));
        }
        if let Some(network) = self.room.stand_in(prefix) {
            // The room was made by one entry for it and its neighbours.
            return self.share(network, claim, now).map(Slot::Shared);
        }
        match self.parts.kernel.put(prefix, claim.entry(now)) {
            Ok(installed) => {
                self.room.readmit(prefix);
                Ok(Slot::Own(installed))
            }
            Err(NoSlot::Full(_)) => Ok(self.leave_out(prefix, claim)),
            Err(NoSlot::Failed(why)) => Err(why),
        }
    }

    fn has_free(&self, family: Family) -> bool {
        self.parts.kernel.occupancy().is_none_or(|occupancy| family.free(occupancy) > 0)
    }

    fn leave_out(&mut self, prefix: Prefix, claim: Claim) -> Slot {
        let is_news = !self.room.is_evicted(prefix);
        self.room.evict(prefix);
        let why = "the kernel map is full; layer 7 refuses it; raise `blocks` in [kernel]";
        if is_news && let Some(block) = self.decided(prefix, claim) {
            let detail = Some("found no room in the kernel map".to_owned());
            drop(self.note(BlockEvent::Evicted, &block, vec![Layer::Proxy], None, detail));
        }
        Slot::Out(why.to_owned())
    }

    /// The entry that stands for a network with this claim, lasting long enough.
    fn share(
        &mut self,
        network: Prefix,
        claim: Claim,
        now: Timestamp,
    ) -> Result<Installed, String> {
        let standing = self.parts.decisions.by_target(&Target::Network(network)).cloned();
        if let Some(mut block) = standing
            && by_end(block.until, claim.until).is_lt()
        {
            block.until = claim.until;
            self.hold_aggregate(block);
        }
        let held = self.claims(now).desired(network).map(|claim| claim.entry(now));
        let entry = held.ok_or_else(|| format!("{network} stands for nobody"))?;
        self.parts.kernel.put(network, entry).map_err(NoSlot::why)
    }

    /// Frees a slot for `prefix`; whether there is one.
    fn make_room(&mut self, prefix: Prefix, claim: Claim, now: Timestamp) -> bool {
        let family = Family::of(prefix);
        let first_time = self.swept != Some(self.ticks);
        if first_time {
            self.swept = Some(self.ticks);
            self.parts.kernel.sweep();
            if self.has_free(family) {
                return true;
            }
        }
        if self.parts.when_full == WhenFull::Refuse {
            return false;
        }
        if self.use_found(family, claim, now) {
            return true;
        }
        // One look at everything costs too much for every newcomer of a flood.
        if !first_time {
            return false;
        }
        let held: Vec<_> = self
            .claims(now)
            .all()
            .filter(|(other, _)| Family::of(*other) == family && !self.room.is_out(*other))
            .collect();
        let may = |network| self.may_stand(network, now);
        let found = room::look(&held, self.parts.when_full, &may);
        *self.room.found(family) = found;
        self.use_found(family, claim, now)
    }

    /// Frees a slot by what was found earlier, where it still is so.
    fn use_found(&mut self, family: Family, newcomer: Claim, now: Timestamp) -> bool {
        while let Some(network) = self.room.found(family).aggregates.pop() {
            if self.stand_for(network, now) {
                return true;
            }
        }
        while let Some((prefix, claim)) = self.room.found(family).victims.pop() {
            let is_so =
                self.claims(now).desired(prefix) == Some(claim) && !self.room.is_out(prefix);
            if !is_so {
                continue;
            }
            if newcomer.tenacity(&claim).is_le() {
                // Whoever is next matters more still.
                self.room.found(family).victims.push((prefix, claim));
                return false;
            }
            return self.evict(prefix, claim);
        }
        false
    }

    fn evict(&mut self, prefix: Prefix, claim: Claim) -> bool {
        if let Err(why) = self.parts.kernel.release(prefix) {
            warn!(%prefix, why, "no room can be made in the kernel map");
            return false;
        }
        self.room.evict(prefix);
        if let Some(block) = self.decided(prefix, claim) {
            let detail = Some("gave up its slot: the kernel map is full".to_owned());
            drop(self.note(BlockEvent::Evicted, &block, vec![Layer::Proxy], None, detail));
        }
        true
    }

    /// One entry for every blocked address of `network`, before theirs go; whether that freed any.
    fn stand_for(&mut self, network: Prefix, now: Timestamp) -> bool {
        let parts = self.parts_of(network, now);
        let found = room::neighbourhoods(parts.iter().copied(), &|one| self.may_stand(one, now));
        let Some(found) = found.into_iter().find(|one| one.network == network) else {
            return false;
        };
        if !self.aggregate(found, now) {
            return false;
        }
        let entry = self.claims(now).desired(network).map(|claim| claim.entry(now));
        let put = entry.map(|entry| self.parts.kernel.put(network, entry).map_err(NoSlot::why));
        if let Some(Err(why)) = put {
            warn!(%network, why, "one entry cannot stand for many");
            self.forget_aggregate(network);
            return false;
        }
        for (part, _) in parts {
            if let Err(why) = self.parts.kernel.release(part) {
                warn!(%part, why, "an entry stays beside the one that stands for it");
            }
        }
        true
    }

    /// Decides that `found` stands for its parts; whether it does.
    fn aggregate(&mut self, found: Neighbourhood, now: Timestamp) -> bool {
        let Neighbourhood { network, parts, until } = found;
        let Ok(id) = self.fresh_id() else { return false };
        let block = Block {
            id,
            target: Target::Network(network),
            reason: stands_for(parts),
            author: Author::Agent,
            since: now,
            until,
            through: None,
        };
        self.room.aggregate(network);
        for (part, _) in self.parts_of(network, now) {
            self.room.readmit(part);
        }
        error!(%network, parts, "the kernel map is full: one entry stands for many");
        let layers = self.layers(Some(&self.parts.kernel.layers()), Some(Layer::Proxy));
        drop(self.note(BlockEvent::Aggregated, &block, layers, None, None));
        self.hold_aggregate(block);
        true
    }

    fn hold_aggregate(&mut self, block: Block) {
        if let Err(full) = self.parts.quarantine.insert(&block) {
            warn!(id = %block.id, error = %full, "layer 7 does not take the block");
        }
        // What cannot be written is told once and tried again.
        drop(self.parts.decisions.put(block));
    }

    fn forget_aggregate(&mut self, network: Prefix) {
        let target = Target::Network(network);
        self.room.dissolve(network);
        self.parts.quarantine.remove(&target);
        self.parts.decisions.forget(&target);
        drop(self.parts.decisions.write(&[target]));
    }

    /// Gives the parts of an aggregate their own slots, as far as there is room, and ends it.
    pub(super) fn dissolve(&mut self, network: Prefix, now: Timestamp) {
        let target = Target::Network(network);
        let Some(block) = self.parts.decisions.by_target(&target).cloned() else {
            self.room.dissolve(network);
            return;
        };
        self.room.dissolve(network);
        self.settle_parts(network, now);
        self.forget_aggregate(network);
        if let Err(why) = self.settle(network, now) {
            warn!(%network, why, "an entry stays that stands for nobody");
        }
        let detail = Some("a part of it is released".to_owned());
        drop(self.note(BlockEvent::Released, &block, Vec::new(), None, detail));
    }

    pub(super) fn settle_parts(&mut self, network: Prefix, now: Timestamp) {
        for (part, _) in self.parts_of(network, now) {
            if let Err(why) = self.settle(part, now) {
                warn!(%part, why, "a block is not back in the kernel");
            }
        }
    }

    /// Every blocked single address inside `network`.
    fn parts_of(&self, network: Prefix, now: Timestamp) -> Vec<(Prefix, Claim)> {
        let claims = self.claims(now);
        let singles = claims.singles.inside(network, now).map(|(prefix, _)| prefix);
        let listed = claims.lists.in_force(now).flat_map(|list| list.networks.touching(network));
        let inside = |prefix: &Prefix| prefix.is_single() && network.covers(*prefix);
        let mut parts: Vec<_> = singles.chain(listed).filter(inside).collect();
        parts.sort_unstable();
        parts.dedup();
        parts.into_iter().filter_map(|prefix| Some((prefix, claims.desired(prefix)?))).collect()
    }

    /// Whether `network` may stand for its parts: nobody claims it, no guard protects any of it.
    fn may_stand(&self, network: Prefix, now: Timestamp) -> bool {
        let moment = self.parts.clock.now().monotonic;
        self.claims(now).desired(network).is_none() && {
            let (hit, all) = self.parts.clients.lock().share(network, moment);
            let share = ClientShare { hit, all };
            self.parts.guards.objections(network, &self.around, share).is_empty()
        }
    }

    /// The aggregates of the last run.
    pub(super) fn know_aggregates(&mut self) {
        for block in self.parts.decisions.all().filter(|block| is_aggregate(block)) {
            if let Target::Network(network) = block.target {
                self.room.aggregate(network);
            }
        }
    }

    /// Decides anew for whom there is room, looking at everything.
    pub(super) fn make_fit(&mut self, now: Timestamp) {
        let Some(capacity) = self.parts.kernel.room() else { return };
        for family in [Family::V4, Family::V6] {
            let wanted: Vec<_> = self
                .claims(now)
                .all()
                .filter(|(prefix, _)| Family::of(*prefix) == family)
                .filter(|(prefix, _)| self.room.stand_in(*prefix).is_none())
                .collect();
            // One slot stays free, so that an aggregate is in force before its parts leave.
            if wanted.len() < capacity {
                self.room.readmit_all(family);
                continue;
            }
            let may = |network| self.may_stand(network, now);
            let fit = room::fit(wanted, capacity.saturating_sub(1), self.parts.when_full, &may);
            self.room.readmit_all(family);
            for found in fit.aggregates {
                self.aggregate(found, now);
            }
            let evicted = fit.evicted.len();
            for prefix in fit.evicted {
                self.room.evict(prefix);
            }
            if evicted > 0 {
                error!(evicted, "the kernel map is full: these are refused at layer 7 only");
            }
        }
    }

    /// Gives what was evicted its slot again while there are free ones, a part at each tick.
    pub(super) fn put_back(&mut self, now: Timestamp) {
        if self.parts.kernel.off_because().is_some() {
            return;
        }
        let evicted = self.room.evicted_after(self.putting_back.take(), PUT_BACK_AT_ONCE);
        self.putting_back = evicted.get(PUT_BACK_AT_ONCE.saturating_sub(1)).copied();
        for prefix in evicted {
            let Some(claim) = self.claims(now).desired(prefix) else {
                self.room.readmit(prefix);
                continue;
            };
            if !self.has_free(Family::of(prefix)) {
                continue;
            }
            if let Ok(Slot::Own(_)) = self.settle(prefix, now)
                && let Some(block) = self.decided(prefix, claim)
            {
                let layers = self.layers(Some(&self.parts.kernel.layers()), Some(Layer::Proxy));
                drop(self.note(BlockEvent::Restored, &block, layers, None, None));
            }
        }
    }

    /// The decision behind a claim, as a block of one network.
    pub(super) fn decided(&self, prefix: Prefix, claim: Claim) -> Option<Block> {
        if let Some(block) = self.parts.decisions.by_id(claim.id) {
            return Some(block.clone());
        }
        let list = self.parts.lists.by_id(claim.id)?;
        Some(Block {
            id: list.id,
            target: Target::Network(prefix),
            reason: format!("list {}: {}", list.name, list.reason),
            author: list.author.clone(),
            since: list.since,
            until: list.until,
            through: None,
        })
    }
}

/// When an entry ends.
pub(super) fn end_of(entry: &Installed, now: Timestamp) -> Expiry {
    entry.remaining.map_or(Expiry::Never, |left| Expiry::At(now.saturating_add(left)))
}
