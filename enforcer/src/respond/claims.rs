//! One slot of the kernel map for each network, and many who want it: which of them holds it.
//!
//! A decision and several lists can name the same network. The slot holds the strongest claim: the
//! one that ends last, a single decision before a list when they end together. When it goes, the
//! next strongest takes its place. Pure: what holds follows from the decisions, the lists and the
//! time, and from nothing that happened before.

use std::cmp::Ordering;

use enforcer_authz::Networks;
use enforcer_kernel::Entry;
use enforcer_model::{Author, Block, BlockId, Expiry, Prefix, Timestamp};

use super::lists::{List, Lists};
use super::singles::Singles;

/// What one decision wants of the slot of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) id: BlockId,
    pub(crate) until: Expiry,
    pub(crate) severity: Severity,
    /// Nothing is sent there either.
    pub(crate) contain: bool,
}

/// How much it would matter if only layer 7 refused it; the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    List,
    Rule,
    Operator,
}

/// Everything that is decided at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claims<'a> {
    pub(crate) singles: &'a Singles,
    pub(crate) lists: &'a Lists,
    pub(crate) now: Timestamp,
}

/// What has to change in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) put: Vec<(Prefix, Claim)>,
    pub(crate) remove: Vec<Prefix>,
    /// How many networks had no slot before, IPv4 and IPv6.
    pub(crate) fresh: [usize; 2],
    /// Networks of the list (of the one before, when it goes) that somebody else claims as well.
    pub(crate) shared: usize,
}

impl Claim {
    /// What the decision `block` about a network wants.
    pub(crate) fn of(block: &Block, contain: bool) -> Self {
        let severity = match block.author {
            Author::Rule(_) => Severity::Rule,
            // Adopted blocks have lost their author; letting somebody in must be an operator's act.
            Author::Operator { .. } | Author::Agent => Severity::Operator,
        };
        Self { id: block.id, until: block.until, severity, contain }
    }

    /// What a list of this name and end wants of each of its networks.
    pub(crate) const fn of_list(id: BlockId, until: Expiry) -> Self {
        Self { id, until, severity: Severity::List, contain: true }
    }

    /// The same as an entry of the kernel map.
    pub(crate) fn entry(&self, now: Timestamp) -> Entry {
        let expires = match self.until {
            Expiry::At(end) => Some(end.since(now)),
            Expiry::Never => None,
        };
        Entry { id: self.id, expires, observe: false, contain: self.contain }
    }

    /// The weaker first.
    pub(crate) fn strength(&self, other: &Self) -> Ordering {
        let single = |claim: &Self| claim.severity != Severity::List;
        by_end(self.until, other.until)
            .then(single(self).cmp(&single(other)))
            .then(self.id.cmp(&other.id))
    }

    /// The first to give up its slot to somebody else first: the least severe, the soonest to end.
    pub(crate) fn tenacity(&self, other: &Self) -> Ordering {
        self.severity.cmp(&other.severity).then(by_end(self.until, other.until))
    }
}

/// The earlier end first.
pub(crate) fn by_end(one: Expiry, other: Expiry) -> Ordering {
    match (one, other) {
        (Expiry::Never, Expiry::Never) => Ordering::Equal,
        (Expiry::Never, Expiry::At(_)) => Ordering::Greater,
        (Expiry::At(_), Expiry::Never) => Ordering::Less,
        (Expiry::At(one), Expiry::At(other)) => one.cmp(&other),
    }
}

impl Claims<'_> {
    /// Who is to hold the slot of exactly `prefix`.
    pub(crate) fn desired(&self, prefix: Prefix) -> Option<Claim> {
        let listed = self.lists.claims(prefix, self.now);
        self.singles.claim(prefix, self.now).into_iter().chain(listed).max_by(Claim::strength)
    }

    /// Every slot that is to be held, each once: single decisions first, then list by list.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Prefix, Claim)> + '_ {
        let singles = self.singles.networks(self.now).map(|block| block.0);
        let listed = self.lists.in_force(self.now).flat_map(move |list| {
            // A network that stands in two places is told in the first of them.
            let earlier = move |network: Prefix| {
                self.singles.claim(network, self.now).is_some()
                    || self
                        .lists
                        .in_force(self.now)
                        .take_while(|other| other.id != list.id)
                        .any(|other| other.networks.contains(network))
            };
            list.networks.iter().filter(move |network| !earlier(*network))
        });
        let desired = move |prefix| Some((prefix, self.desired(prefix)?));
        singles.chain(listed).filter_map(desired)
    }

    /// How many slots are to be held.
    pub(crate) fn count(&self) -> usize {
        let singles = self.singles.networks(self.now).count();
        let lists: Vec<_> = self.lists.in_force(self.now).collect();
        let mut count = singles;
        for (at, list) in lists.iter().enumerate() {
            let shared = self.shared_with(&list.networks, lists.get(..at).unwrap_or_default());
            count = count.saturating_add(list.networks.len().saturating_sub(shared.len()));
        }
        count
    }

    /// The networks of `networks` that a single decision or one of `lists` names as well, in order.
    fn shared_with(&self, networks: &Networks, lists: &[&List]) -> Vec<Prefix> {
        let single = self.singles.networks(self.now).map(|block| block.0);
        let mut shared: Vec<_> = single.filter(|prefix| networks.contains(*prefix)).collect();
        for list in lists {
            shared.extend(networks.common(&list.networks));
        }
        shared.sort_unstable();
        shared.dedup();
        shared
    }
}

impl Change {
    fn count_fresh(&mut self, prefix: Prefix) {
        let [v4, v6] = &mut self.fresh;
        let count = if prefix.address().is_ipv4() { v4 } else { v6 };
        *count = count.saturating_add(1);
    }
}

/// What the kernel must do when a list named `name` changes between two states of which only that
/// list differs.
pub(crate) fn change(name: &str, before: Claims<'_>, after: Claims<'_>) -> Change {
    let none = Networks::default();
    let held = |claims: Claims<'_>| {
        claims.lists.get(name).filter(|list| list.is_in_force(claims.now)).cloned()
    };
    let (old, new) = (held(before), held(after));
    let from = old.as_ref().map_or(&none, |list| &list.networks);
    let to = new.as_ref().map_or(&none, |list| &list.networks);

    // Few networks are claimed by others as well; only those need to be asked about.
    let others: Vec<_> =
        after.lists.in_force(after.now).filter(|list| list.name.as_str() != name).collect();
    let mut shared = after.shared_with(from, &others);
    shared.extend(after.shared_with(to, &others));
    shared.sort_unstable();
    shared.dedup();

    let told = if new.is_some() { to } else { from };
    let mut change = Change::default();
    change.put.reserve(to.len());
    for &prefix in &shared {
        if told.contains(prefix) {
            change.shared = change.shared.saturating_add(1);
        }
        match (before.desired(prefix), after.desired(prefix)) {
            (before, Some(after)) if before != Some(after) => {
                change.put.push((prefix, after));
                if before.is_none() {
                    change.count_fresh(prefix);
                }
            }
            (Some(_), None) => change.remove.push(prefix),
            (_, Some(_)) | (None, None) => {}
        }
    }
    let alone = |prefix: &Prefix| shared.binary_search(prefix).is_err();
    if let Some(new) = &new {
        let claim = new.claim();
        let stays = old.as_ref().is_some_and(|old| old.claim() == claim);
        for prefix in to.iter().filter(alone) {
            let was_held = from.contains(prefix);
            if !was_held {
                change.count_fresh(prefix);
            }
            if !(was_held && stays) {
                change.put.push((prefix, claim));
            }
        }
    }
    change.remove.extend(from.iter().filter(|prefix| !to.contains(*prefix)).filter(alone));
    change
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::respond::testing::{at, block, list, prefix};

    /// Few networks, some inside others, so that claims meet.
    const NETWORKS: [&str; 6] =
        ["192.0.2.1", "192.0.2.2", "192.0.2.0/24", "10.0.0.0/8", "2001:db8::1", "2001:db8::/64"];

    #[derive(Clone, Debug)]
    struct World {
        singles: Singles,
        lists: Lists,
    }

    impl World {
        fn claims(&self) -> Claims<'_> {
            Claims { singles: &self.singles, lists: &self.lists, now: at(10) }
        }

        /// Every slot, the slow way.
        fn slots(&self) -> BTreeMap<Prefix, Claim> {
            let claims = self.claims();
            let slot = |text: &str| Some((prefix(text), claims.desired(prefix(text))?));
            NETWORKS.into_iter().filter_map(slot).collect()
        }
    }

    fn expiry() -> impl Strategy<Value = Expiry> {
        prop_oneof![Just(Expiry::Never), (5..15u64).prop_map(|end| Expiry::At(at(end)))]
    }

    fn some_list(name: &'static str, id: u64) -> impl Strategy<Value = List> {
        (vec(0..NETWORKS.len(), 0..6), expiry()).prop_map(move |(networks, until)| {
            let networks: Vec<_> = networks.into_iter().map(|at| NETWORKS[at]).collect();
            List { until, ..list(name, id, &networks) }
        })
    }

    fn world() -> impl Strategy<Value = World> {
        let singles = vec((0..NETWORKS.len(), expiry(), any::<bool>()), 0..6);
        let lists = (some_list("a", 100), some_list("b", 101), some_list("c", 102));
        (singles, lists).prop_map(|(decided, lists)| {
            let mut world = World { singles: Singles::default(), lists: Lists::default() };
            for (id, (network, until, answering)) in (1..).zip(decided) {
                world.singles.put(block(id, NETWORKS[network], until));
                if answering {
                    world.singles.answering(prefix(NETWORKS[network]));
                }
            }
            for list in [lists.0, lists.1, lists.2] {
                world.lists.put(list);
            }
            world
        })
    }

    proptest! {
        #[test]
        fn a_slot_is_held_by_the_claim_that_ends_last(world in world(), network in 0..6usize) {
            let network = prefix(NETWORKS[network]);
            let claims = world.claims();
            let wanted: Vec<_> = claims
                .singles
                .claim(network, claims.now)
                .into_iter()
                .chain(claims.lists.claims(network, claims.now))
                .collect();

            match claims.desired(network) {
                None => prop_assert!(wanted.is_empty()),
                Some(held) => {
                    prop_assert!(!held.until.is_over(claims.now));
                    for other in wanted {
                        let order = by_end(other.until, held.until);
                        prop_assert_ne!(order, Ordering::Greater);
                        if order == Ordering::Equal && other.severity != Severity::List {
                            prop_assert_ne!(held.severity, Severity::List);
                        }
                    }
                }
            }
        }

        #[test]
        fn all_slots_are_told_once_and_counted(world in world()) {
            let claims = world.claims();
            let told: Vec<_> = claims.all().collect();

            prop_assert_eq!(told.len(), claims.count());
            prop_assert_eq!(told.into_iter().collect::<BTreeMap<_, _>>(), world.slots());
        }

        #[test]
        fn what_changes_with_a_list_is_the_difference_of_all_slots(
            before in world(),
            next in proptest::option::of(some_list("b", 101)),
        ) {
            let mut after = before.clone();
            match next {
                Some(list) => drop(after.lists.put(list)),
                None => drop(after.lists.remove("b")),
            }

            let change = change("b", before.claims(), after.claims());

            let mut slots = before.slots();
            let came = change.fresh.iter().sum::<usize>();
            prop_assert_eq!(slots.len() + came - change.remove.len(), after.slots().len());
            for network in &change.remove {
                prop_assert!(slots.remove(network).is_some(), "{} was not held", network);
            }
            for (network, claim) in &change.put {
                prop_assert_ne!(slots.insert(*network, *claim), Some(*claim), "{}", network);
            }
            prop_assert_eq!(slots, after.slots());
        }
    }

    #[test]
    fn a_decision_comes_before_a_list_that_ends_with_it_and_gives_way_to_one_that_ends_later() {
        let mut world = World { singles: Singles::default(), lists: Lists::default() };
        world.singles.put(block(1, "192.0.2.1", Expiry::At(at(20))));
        world.lists.put(List { until: Expiry::At(at(20)), ..list("a", 2, &["192.0.2.1"]) });
        let holder =
            |world: &World| world.claims().desired(prefix("192.0.2.1")).map(|c| c.id.bits());

        assert_eq!(holder(&world), Some(1));
        world.lists.put(list("b", 3, &["192.0.2.1"]));
        assert_eq!(holder(&world), Some(3));
        world.lists.remove("b");
        assert_eq!(holder(&world), Some(1));
        world.singles.remove(&"192.0.2.1".parse().unwrap());
        assert_eq!(holder(&world), Some(2));
    }

    #[test]
    fn an_entry_lasts_as_long_as_its_claim_is_left() {
        let claim = Claim::of(&block(1, "192.0.2.1", Expiry::At(at(70))), true);

        assert_eq!(claim.entry(at(10)).expires, Some(std::time::Duration::from_secs(60)));
        assert_eq!(Claim::of_list(claim.id, Expiry::Never).entry(at(10)).expires, None);
    }
}
