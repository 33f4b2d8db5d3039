//! Decisions about one network, or one name of another kind, each, in the orders in which they are asked for.
//!
//! By network, so that what lies inside another one is found without a search; by age, for pages of
//! a listing; by end, so that a tick looks at what is over and at nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use enforcer_model::{Block, BlockId, Expiry, Prefix, Target, Timestamp};

use super::claims::Claim;

/// Every single decision. A target has at most one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Singles {
    networks: BTreeMap<Prefix, Block>,
    /// Those that only layer 7 knows.
    named: HashMap<Target, Block>,
    by_id: HashMap<BlockId, Target>,
    by_age: BTreeSet<(Timestamp, BlockId)>,
    by_end: BTreeSet<(Timestamp, BlockId)>,
    /// Networks that still get the answer to the request that made a rule act.
    answering: HashSet<Prefix>,
}

impl Singles {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Block> {
        self.networks.values().chain(self.named.values())
    }

    pub(crate) fn in_force(&self, now: Timestamp) -> impl Iterator<Item = &Block> {
        self.all().filter(move |block| !block.until.is_over(now))
    }

    pub(crate) fn by_id(&self, id: BlockId) -> Option<&Block> {
        self.by_target(self.by_id.get(&id)?)
    }

    pub(crate) fn by_target(&self, target: &Target) -> Option<&Block> {
        match target.network() {
            None => self.named.get(target),
            Some(prefix) => self.networks.get(&prefix),
        }
    }

    /// Puts `block` in the place of an earlier one about the same target; returns that one.
    pub(crate) fn put(&mut self, block: Block) -> Option<Block> {
        let old = self.remove(&block.target);
        self.by_id.insert(block.id, block.target.clone());
        self.by_age.insert((block.since, block.id));
        if let Expiry::At(end) = block.until {
            self.by_end.insert((end, block.id));
        }
        match block.target.network() {
            None => drop(self.named.insert(block.target.clone(), block)),
            Some(prefix) => drop(self.networks.insert(prefix, block)),
        }
        old
    }

    pub(crate) fn remove(&mut self, target: &Target) -> Option<Block> {
        let old = match target.network() {
            None => self.named.remove(target),
            Some(prefix) => {
                self.answering.remove(&prefix);
                self.networks.remove(&prefix)
            }
        }?;
        self.by_id.remove(&old.id);
        self.by_age.remove(&(old.since, old.id));
        if let Expiry::At(end) = old.until {
            self.by_end.remove(&(end, old.id));
        }
        Some(old)
    }

    /// What is over, the longest first, at most `most` of them.
    pub(crate) fn over(&self, now: Timestamp, most: usize) -> Vec<Block> {
        let over = self.by_end.iter().take_while(|(end, _)| Expiry::At(*end).is_over(now));
        over.take(most).filter_map(|(_, id)| self.by_id(*id).cloned()).collect()
    }

    /// The decisions behind `after`, the oldest first.
    pub(crate) fn aged(&self, after: Option<(Timestamp, BlockId)>) -> impl Iterator<Item = &Block> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.by_age.range((from, Unbounded)).filter_map(|(_, id)| self.by_id(*id))
    }

    // === networks ===

    /// Every network that is to be held in the kernel, in order: decided about, not over, and known by
    /// packets of its own.
    pub(crate) fn networks(&self, now: Timestamp) -> impl Iterator<Item = (Prefix, &Block)> {
        self.networks_after(None, now)
    }

    /// The same, only behind `after`.
    pub(crate) fn networks_after(
        &self,
        after: Option<Prefix>,
        now: Timestamp,
    ) -> impl Iterator<Item = (Prefix, &Block)> {
        self.decided_after(after, now).filter(|(_, block)| block.through.is_none())
    }

    /// The same, with those that only layer 7 holds.
    fn decided_after(
        &self,
        after: Option<Prefix>,
        now: Timestamp,
    ) -> impl Iterator<Item = (Prefix, &Block)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let networks = self.networks.range((from, Unbounded));
        networks.map(|(prefix, block)| (*prefix, block)).filter(move |(_, b)| !b.until.is_over(now))
    }

    /// The networks inside `outer`, itself aside, wherever they are held.
    pub(crate) fn inside(
        &self,
        outer: Prefix,
        now: Timestamp,
    ) -> impl Iterator<Item = (Prefix, &Block)> {
        self.decided_after(Some(outer), now).take_while(move |(prefix, _)| outer.covers(*prefix))
    }

    /// The networks around `inner`, itself aside, the narrowest first, wherever they are held.
    pub(crate) fn around(&self, inner: Prefix, now: Timestamp) -> impl Iterator<Item = &Block> {
        let lengths = (0..inner.length()).rev();
        let wider = lengths.map(move |length| Prefix::around(inner.address(), length));
        wider
            .filter_map(|prefix| self.networks.get(&prefix))
            .filter(move |block| !block.until.is_over(now))
    }

    /// What the decision about exactly `prefix` wants of its slot in the kernel; nothing for one that came
    /// through a proxy, whose packets bear another address.
    pub(crate) fn claim(&self, prefix: Prefix, now: Timestamp) -> Option<Claim> {
        let block = self.networks.get(&prefix).filter(|block| !block.until.is_over(now))?;
        let block = Some(block).filter(|block| block.through.is_none())?;
        Some(Claim::of(block, !self.answering.contains(&prefix)))
    }

    /// Packets still go to `prefix` until [`Self::answered`].
    pub(crate) fn answering(&mut self, prefix: Prefix) {
        self.answering.insert(prefix);
    }

    /// The last answer is out; whether anybody waited for that.
    pub(crate) fn answered(&mut self, prefix: Prefix) -> bool {
        self.answering.remove(&prefix)
    }

    /// Moves every end along with a wall clock that was set.
    pub(crate) fn shift(&mut self, by: super::clock::Jump) {
        let blocks = self.networks.values_mut().chain(self.named.values_mut());
        self.by_end.clear();
        for block in blocks {
            if let Expiry::At(end) = &mut block.until {
                *end = by.apply(*end);
                self.by_end.insert((*end, block.id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::testing::{at, block, prefix};

    #[test]
    fn a_decision_is_found_by_id_and_target_until_another_takes_its_place() {
        let mut singles = Singles::default();

        assert_eq!(singles.put(block(1, "203.0.113.7", Expiry::Never)), None);
        let old = singles.put(block(2, "203.0.113.7", Expiry::At(at(9)))).unwrap();

        assert_eq!(old.id.bits(), 1);
        assert_eq!(singles.by_id(BlockId::from_bits(1)), None);
        let found = singles.by_id(BlockId::from_bits(2)).unwrap();
        assert_eq!(found.target, "203.0.113.7".parse().unwrap());
        assert_eq!(singles.all().count(), 1);
        assert_eq!(singles.aged(None).count(), 1);
    }

    #[test]
    fn what_is_over_is_found_the_longest_over_first() {
        let mut singles = Singles::default();
        for (id, target, end) in
            [(1, "192.0.2.1", 30), (2, "key:k7Qx2mP9aB3c", 10), (3, "192.0.2.3", 20)]
        {
            singles.put(block(id, target, Expiry::At(at(end))));
        }
        singles.put(block(4, "192.0.2.4", Expiry::Never));

        let over = |now, most| -> Vec<_> {
            singles.over(at(now), most).iter().map(|block| block.id.bits()).collect()
        };
        assert_eq!(over(25, 9), [2, 3]);
        assert_eq!(over(25, 1), [2]);
        assert!(over(9, 9).is_empty());
    }

    #[test]
    fn networks_inside_and_around_are_found_and_those_that_are_over_are_not() {
        let mut singles = Singles::default();
        for (id, target, end) in [
            (1, "10.0.0.0/8", 99),
            (2, "10.1.0.0/16", 99),
            (3, "10.1.2.3", 99),
            (4, "10.1.2.4", 5),
            (5, "10.2.0.0/16", 99),
        ] {
            singles.put(block(id, target, Expiry::At(at(end))));
        }

        let ids = |found: Vec<&Block>| found.iter().map(|b| b.id.bits()).collect::<Vec<_>>();
        let inside = |text| ids(singles.inside(prefix(text), at(9)).map(|(_, b)| b).collect());
        assert_eq!(inside("10.1.0.0/16"), [3]);
        assert_eq!(inside("10.0.0.0/8"), [2, 3, 5]);
        assert_eq!(ids(singles.around(prefix("10.1.2.3"), at(9)).collect()), [2, 1]);
    }

    #[test]
    fn pages_by_age_come_to_every_decision_once() {
        let mut singles = Singles::default();
        for id in 1..=7 {
            singles.put(block(id, &format!("192.0.2.{id}"), Expiry::Never));
        }

        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page: Vec<_> = singles.aged(after).take(3).collect();
            let Some(last) = page.last() else { break };
            after = Some((last.since, last.id));
            seen.extend(page.iter().map(|block| block.id.bits()));
        }

        assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7]);
    }
}
