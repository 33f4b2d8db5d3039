//! What a full kernel map holds: who stands for whom there, and whom only layer 7 refuses.
//!
//! When there is no room for another network, many single addresses of one neighbourhood (IPv4 /24,
//! IPv6 /64) get one entry together; where that saves nothing, whoever matters least and ends
//! soonest leaves the kernel, stays refused at layer 7 and is put back when there is room. Here is
//! which; the deeds are in `crowd.rs`.

use std::collections::{BTreeSet, HashMap};

use enforcer_kernel::Occupancy;
use enforcer_model::{Author, Block, Expiry, Prefix};
use enforcer_policy::WhenFull;

use super::claims::{Claim, by_end};

/// Slots that stay free, so that an aggregate is in force before its parts leave.
const SPARE: u32 = 1;

/// Single addresses that one network may stand for, at least.
const PARTS_MIN_V4: usize = 8;
const PARTS_MIN_V6: usize = 2;

/// The reason of an aggregate begins so; after a restart that tells it from other decisions.
const STANDS_FOR: &str = "the kernel map was full: stands for ";

/// Aggregates and victims found by one look at everything.
const FOUND_MAX: usize = 1_024;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Who is not in the kernel map, and what stands there instead.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room {
    evicted: BTreeSet<Prefix>,
    aggregates: BTreeSet<Prefix>,
    v4: Found,
    v6: Found,
}

/// What one look at everything found, the best last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) aggregates: Vec<Prefix>,
    pub(crate) victims: Vec<(Prefix, Claim)>,
}

/// Single addresses that one network would stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbourhood {
    pub(crate) network: Prefix,
    pub(crate) parts: usize,
    pub(crate) until: Expiry,
}

/// How many networks fit, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fit {
    pub(crate) aggregates: Vec<Neighbourhood>,
    pub(crate) evicted: Vec<Prefix>,
}

impl Family {
    pub(crate) const fn of(prefix: Prefix) -> Self {
        match prefix.address() {
            std::net::IpAddr::V4(_) => Self::V4,
            std::net::IpAddr::V6(_) => Self::V6,
        }
    }

    /// Slots of this family that are not taken.
    pub(crate) const fn free(self, occupancy: Occupancy) -> u32 {
        let taken = match self {
            Self::V4 => occupancy.v4,
            Self::V6 => occupancy.v6,
        };
        occupancy.capacity.saturating_sub(SPARE).saturating_sub(taken)
    }

    const fn parts_min(self) -> usize {
        match self {
            Self::V4 => PARTS_MIN_V4,
            Self::V6 => PARTS_MIN_V6,
        }
    }
}

/// The network that may stand for `prefix`.
pub(crate) fn neighbourhood(prefix: Prefix) -> Prefix {
    let length = match Family::of(prefix) {
        Family::V4 => 24,
        Family::V6 => 64,
    };
    Prefix::around(prefix.address(), length)
}

/// The reason of a decision that stands for `parts` others.
pub(crate) fn stands_for(parts: usize) -> String {
    format!("{STANDS_FOR}{parts} blocks")
}

/// Whether this decision stands for others.
pub(crate) fn is_aggregate(block: &Block) -> bool {
    block.author == Author::Agent && block.reason.starts_with(STANDS_FOR)
}

impl Room {
    /// Whether `prefix` is to have no slot although it is decided.
    pub(crate) fn is_out(&self, prefix: Prefix) -> bool {
        self.evicted.contains(&prefix) || self.stand_in(prefix).is_some()
    }

    /// The aggregate that stands for `prefix`.
    pub(crate) fn stand_in(&self, prefix: Prefix) -> Option<Prefix> {
        let network = neighbourhood(prefix);
        (prefix.is_single() && self.aggregates.contains(&network)).then_some(network)
    }

    pub(crate) fn is_evicted(&self, prefix: Prefix) -> bool {
        self.evicted.contains(&prefix)
    }

    pub(crate) fn evict(&mut self, prefix: Prefix) {
        self.evicted.insert(prefix);
    }

    /// `prefix` has a slot, or needs none; whether it had been evicted.
    pub(crate) fn readmit(&mut self, prefix: Prefix) -> bool {
        self.evicted.remove(&prefix)
    }

    /// Forgets every eviction of this family.
    pub(crate) fn readmit_all(&mut self, family: Family) {
        self.evicted.retain(|prefix| Family::of(*prefix) != family);
    }

    /// The first evicted networks behind `after`, in order.
    pub(crate) fn evicted_after(&self, after: Option<Prefix>, most: usize) -> Vec<Prefix> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.evicted.range((from, Unbounded)).take(most).copied().collect()
    }

    pub(crate) fn aggregate(&mut self, network: Prefix) {
        self.aggregates.insert(network);
    }

    /// `network` stands for nobody any more; whether it did.
    pub(crate) fn dissolve(&mut self, network: Prefix) -> bool {
        self.aggregates.remove(&network)
    }

    pub(crate) fn aggregates(&self) -> impl Iterator<Item = Prefix> {
        self.aggregates.iter().copied()
    }

    pub(crate) const fn found(&mut self, family: Family) -> &mut Found {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// What an operator has to know; nothing while everything is in its own slot.
    pub(crate) fn described(&self) -> Option<String> {
        let (evicted, aggregates) = (self.evicted.len(), self.aggregates.len());
        (evicted > 0 || aggregates > 0).then(|| {
            format!(
                "the kernel map is full (at layer 7 only: {evicted}; entries that stand for \
                 several: {aggregates}); raise `blocks` in [kernel]"
            )
        })
    }
}

/// The neighbourhoods in which one entry would save most, the best last. `may` says what no guard
/// stands against.
pub(crate) fn neighbourhoods(
    slots: impl Iterator<Item = (Prefix, Claim)>,
    may: &dyn Fn(Prefix) -> bool,
) -> Vec<Neighbourhood> {
    let mut counted: HashMap<Prefix, (usize, Expiry)> = HashMap::new();
    for (prefix, claim) in slots.filter(|(prefix, _)| prefix.is_single()) {
        let (parts, until) = counted.entry(neighbourhood(prefix)).or_insert((0, claim.until));
        *parts = parts.saturating_add(1);
        if by_end(*until, claim.until).is_lt() {
            *until = claim.until;
        }
    }
    let mut found: Vec<_> = counted
        .into_iter()
        .map(|(network, (parts, until))| Neighbourhood { network, parts, until })
        .filter(|one| one.parts >= Family::of(one.network).parts_min() && may(one.network))
        .collect();
    found.sort_unstable_by_key(|one| (one.parts, one.network));
    found
}

/// The networks that give up their slots first, the first last; at most `most`.
pub(crate) fn victims(
    slots: impl Iterator<Item = (Prefix, Claim)>,
    most: usize,
) -> Vec<(Prefix, Claim)> {
    let mut victims: Vec<_> = slots.collect();
    let order = |one: &(Prefix, Claim), other: &(Prefix, Claim)| {
        one.1.tenacity(&other.1).then(one.0.cmp(&other.0))
    };
    if most < victims.len() {
        victims.select_nth_unstable_by(most, order);
        victims.truncate(most);
    }
    victims.sort_unstable_by(|one, other| order(other, one));
    victims
}

/// Looks at everything once, for many decisions to come.
pub(crate) fn look(
    slots: &[(Prefix, Claim)],
    how: WhenFull,
    may: &dyn Fn(Prefix) -> bool,
) -> Found {
    let aggregates = match how {
        WhenFull::Aggregate => neighbourhoods(slots.iter().copied(), may),
        WhenFull::Evict | WhenFull::Refuse => Vec::new(),
    };
    let best = aggregates.len().saturating_sub(FOUND_MAX);
    Found {
        aggregates: aggregates.into_iter().skip(best).map(|one| one.network).collect(),
        victims: victims(slots.iter().copied(), FOUND_MAX),
    }
}

/// Makes `slots` of one family fit into `most`.
pub(crate) fn fit(
    mut slots: Vec<(Prefix, Claim)>,
    most: usize,
    how: WhenFull,
    may: &dyn Fn(Prefix) -> bool,
) -> Fit {
    let mut fit = Fit::default();
    let mut need = slots.len().saturating_sub(most);
    if need > 0 && how == WhenFull::Aggregate {
        let mut found = neighbourhoods(slots.iter().copied(), may);
        let mut taken = BTreeSet::new();
        while need > 0
            && let Some(best) = found.pop()
        {
            need = need.saturating_sub(best.parts.saturating_sub(1));
            taken.insert(best.network);
            fit.aggregates.push(best);
        }
        slots.retain(|(prefix, _)| !prefix.is_single() || !taken.contains(&neighbourhood(*prefix)));
    }
    let room = most.saturating_sub(fit.aggregates.len());
    let need = slots.len().saturating_sub(room);
    fit.evicted = victims(slots.into_iter(), need).into_iter().map(|(prefix, _)| prefix).collect();
    fit
}

#[cfg(test)]
mod tests {
    use enforcer_model::BlockId;
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;
    use crate::respond::claims::Severity;
    use crate::respond::testing::{at, block, prefix};

    fn claim(severity: Severity, end: u64) -> Claim {
        Claim {
            id: BlockId::from_bits(end),
            until: if end == 0 { Expiry::Never } else { Expiry::At(at(end)) },
            severity,
            contain: true,
        }
    }

    fn severity() -> impl Strategy<Value = Severity> {
        prop_oneof![Just(Severity::List), Just(Severity::Rule), Just(Severity::Operator)]
    }

    fn slots() -> impl Strategy<Value = Vec<(Prefix, Claim)>> {
        let slot = (severity(), 0..9u64).prop_map(|(severity, end)| claim(severity, end));
        btree_map((0..3u8, 0..20u8, 30..=32u8), slot, 0..50).prop_map(|slots| {
            let network = |(third, host, length): (u8, u8, u8)| {
                Prefix::around(std::net::Ipv4Addr::new(192, 0, third, host).into(), length)
            };
            let slots: HashMap<_, _> =
                slots.into_iter().map(|(at, claim)| (network(at), claim)).collect();
            slots.into_iter().collect()
        })
    }

    fn how() -> impl Strategy<Value = WhenFull> {
        prop_oneof![Just(WhenFull::Aggregate), Just(WhenFull::Evict)]
    }

    proptest! {
        #[test]
        fn what_is_made_to_fit_fits_and_nobody_is_left_out_for_somebody_who_matters_less(
            slots in slots(),
            most in 0..50usize,
            how in how(),
            guarded in 0..3u8,
        ) {
            let guarded = Prefix::around(std::net::Ipv4Addr::new(192, 0, guarded, 0).into(), 24);
            let fit = fit(slots.clone(), most, how, &|network| network != guarded);

            let stands = |prefix: Prefix| {
                let covers = |one: &Neighbourhood| one.network == neighbourhood(prefix);
                prefix.is_single() && fit.aggregates.iter().any(covers)
            };
            let (gone, stay): (Vec<_>, Vec<_>) = slots
                .iter()
                .filter(|(prefix, _)| !stands(*prefix))
                .partition(|(prefix, _)| fit.evicted.contains(prefix));
            prop_assert!(stay.len() + fit.aggregates.len() <= most.max(fit.aggregates.len()));
            if slots.len() <= most {
                prop_assert_eq!(&fit, &Fit::default());
            } else {
                prop_assert_eq!(gone.len(), fit.evicted.len());
                for (_, gone) in &gone {
                    prop_assert!(stay.iter().all(|(_, stay)| gone.tenacity(stay).is_le()));
                }
            }
            for one in &fit.aggregates {
                prop_assert_ne!(one.network, guarded);
                let parts: Vec<_> = slots
                    .iter()
                    .filter(|(prefix, _)| prefix.is_single() && one.network.covers(*prefix))
                    .collect();
                prop_assert_eq!(parts.len(), one.parts);
                prop_assert!(one.parts >= PARTS_MIN_V4);
                prop_assert!(parts.iter().all(|(_, part)| by_end(part.until, one.until).is_le()));
                prop_assert!(parts.iter().any(|(_, part)| part.until == one.until));
            }
        }
    }

    #[test]
    fn the_least_severe_goes_first_and_of_these_the_soonest_to_end() {
        let slots = [
            ("192.0.2.1", claim(Severity::Operator, 1)),
            ("192.0.2.2", claim(Severity::List, 0)),
            ("192.0.2.3", claim(Severity::List, 7)),
            ("192.0.2.4", claim(Severity::Rule, 3)),
        ];

        let victims = victims(slots.iter().map(|(text, claim)| (prefix(text), *claim)), 3);

        let mut order: Vec<_> = victims.iter().map(|(prefix, _)| prefix.to_string()).collect();
        order.reverse();
        assert_eq!(order, ["192.0.2.3", "192.0.2.2", "192.0.2.4"]);
    }

    #[test]
    fn two_addresses_of_a_64_are_enough_and_seven_of_a_24_are_not() {
        let addresses = (1..=7).map(|host| format!("192.0.2.{host}"));
        let addresses = addresses.chain((1..=2).map(|host| format!("2001:db8::{host}")));
        let slots: Vec<_> =
            addresses.map(|text| (prefix(&text), claim(Severity::Rule, 5))).collect();

        let found = neighbourhoods(slots.into_iter(), &|_| true);

        assert_eq!(found.len(), 1);
        assert_eq!(found[0].network, prefix("2001:db8::/64"));
    }

    #[test]
    fn an_aggregate_is_known_again_after_a_restart() {
        let mut aggregate = block(1, "192.0.2.0/24", Expiry::Never);
        aggregate.reason = stands_for(9);
        assert!(!is_aggregate(&aggregate), "a rule says anything");
        aggregate.author = Author::Agent;
        assert!(is_aggregate(&aggregate));
    }

    #[test]
    fn only_single_addresses_are_stood_for() {
        let mut room = Room::default();
        room.aggregate(prefix("192.0.2.0/24"));
        room.evict(prefix("198.51.100.1"));

        assert!(room.is_out(prefix("192.0.2.7")) && room.is_out(prefix("198.51.100.1")));
        assert!(!room.is_out(prefix("192.0.2.0/24")) && !room.is_out(prefix("192.0.2.0/28")));
        assert_eq!(
            room.described().unwrap(),
            "the kernel map is full (at layer 7 only: 1; entries that stand for several: 1); raise \
             `blocks` in [kernel]"
        );
        assert!(room.readmit(prefix("198.51.100.1")) && room.dissolve(prefix("192.0.2.0/24")));
        assert_eq!(room.described(), None);
    }
}
