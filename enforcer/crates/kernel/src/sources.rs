//! Who sends, where to, and whether it is a flood: read from the tables that the program fills.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use enforcer_ebpf::escalation::{Escalation, network_of};
use enforcer_ebpf::flood::State;
use enforcer_ebpf::source::{CLASSES, SPENT_NS, SYN_LATE, SYN_NS, Spent, Tally, V4_MARK, WAYS};
use enforcer_ebpf::table::TICK_NS;
use enforcer_ebpf::{Class, Set, Shared, map};
use enforcer_model::Prefix;

use crate::budgets::Classes;
use crate::error::MapError;
use crate::lease::monotonic_ns;
use crate::mapped::Mapped;
use crate::maps::open_mapped;
use crate::pins::Pins;

/// A source that the program remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Talker {
    /// An IPv4 address, an IPv6 /64, or a wider network that answers for its parts.
    pub source: Prefix,
    /// Packets since it is remembered.
    pub packets: u64,
    /// Since when nothing has been heard of it.
    pub idle: Duration,
    /// Its budget would not cover another packet now.
    pub over: bool,
}

/// What goes to one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerTraffic {
    /// An IPv4 address or an IPv6 /64.
    pub destination: Prefix,
    /// Packets since it is remembered.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Since when nothing has gone there.
    pub idle: Duration,
}

/// Whether more new sources come than anybody has clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flood {
    /// Newcomers share a budget now.
    pub active: bool,
    /// Newcomers in the last second, about.
    pub newcomers: u64,
    /// Networks that answer for their parts now.
    pub escalated: Vec<Prefix>,
}

/// What the program remembers of others.
pub(crate) struct Sources {
    pub(crate) v4: Mapped<Set<Shared>>,
    pub(crate) v6: Mapped<Set<Shared>>,
    pub(crate) peers4: Mapped<Set<Shared>>,
    pub(crate) peers6: Mapped<Set<Shared>>,
    pub(crate) state: Mapped<State<Shared>>,
    pub(crate) escalated: Mapped<Escalation<Shared>>,
    pub(crate) common: Mapped<Shared>,
}

/// What is left of a class's budgets, of one who has spent so much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) packets: Option<u64>,
    pub(crate) bytes: Option<u64>,
    pub(crate) syns: Option<u64>,
}

/// What the slot of a source says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spending {
    pub(crate) spent: Spent,
    pub(crate) bytes_until_ns: u64,
    pub(crate) tally: Tally,
}

/// The sets of `SOURCE4` for so many sources: a power of two.
pub(crate) fn sets(sources: u32) -> u32 {
    let ways = u32::try_from(WAYS).unwrap_or(1);
    sources.div_ceil(ways).clamp(1, 1 << 24).next_power_of_two()
}

/// The sets of `SOURCE6` beside so many of `SOURCE4`. A source of IPv6 is a whole /64, of which
/// there are far fewer.
pub(crate) const fn sets6(sets: u32) -> u32 {
    sets.div_ceil(4)
}

impl Sources {
    pub(crate) fn open(pins: &Pins) -> Result<Self, MapError> {
        Ok(Self {
            v4: open_mapped(pins, map::SOURCE4)?,
            v6: open_mapped(pins, map::SOURCE6)?,
            peers4: open_mapped(pins, map::PEER4)?,
            peers6: open_mapped(pins, map::PEER6)?,
            state: open_mapped(pins, map::STATE)?,
            escalated: open_mapped(pins, map::ESCALATED)?,
            common: open_mapped(pins, map::FLOOD)?,
        })
    }

    /// Those with most packets first.
    pub(crate) fn talkers(&self, most: usize, classes: &Classes) -> Vec<Talker> {
        let now_ns = monotonic_ns();
        let mut slots = Largest::new(most);
        for (set, way) in [&self.v4, &self.v6].into_iter().flat_map(|sets| ways(sets)) {
            let key = of(&set.key, way);
            if key != 0 {
                slots.offer(Tally(of(&set.tally, way)).packets(), (key, Spending::of(set, way)));
            }
        }
        let talker = |(packets, (key, spending)): (u64, (u64, Spending))| {
            let number = u32::try_from(spending.spent.class()).unwrap_or(0) & (CLASSES - 1);
            let class = classes.get(number).or_else(|| classes.get(0))?;
            let heard_ns = spending.spent.until().saturating_mul(SPENT_NS);
            Some(Talker {
                source: owner(key),
                packets,
                idle: Duration::from_nanos(now_ns.saturating_sub(heard_ns)),
                over: spending.is_over(class, now_ns),
            })
        };
        slots.into_sorted().filter_map(talker).collect()
    }

    /// Those with most bytes first.
    pub(crate) fn peers(&self, most: usize) -> Vec<PeerTraffic> {
        let now_ns = monotonic_ns();
        let mut slots = Largest::new(most);
        for (set, way) in [&self.peers4, &self.peers6].into_iter().flat_map(|sets| ways(sets)) {
            let key = of(&set.key, way);
            if key != 0 {
                slots.offer(of(&set.tally, way), (key, of(&set.bytes, way), of(&set.spent, way)));
            }
        }
        let traffic = |(bytes, (key, packets, sent_ns)): (u64, (u64, u64, u64))| PeerTraffic {
            destination: neighbour(key),
            packets,
            bytes,
            idle: Duration::from_nanos(now_ns.saturating_sub(sent_ns)),
        };
        slots.into_sorted().map(traffic).collect()
    }

    pub(crate) fn flood(&self) -> Flood {
        let now_ns = monotonic_ns();
        let (active, newcomers) = self.state.first().map_or((false, 0), |state| {
            // The second that is counted is this one or the last; an older one says nothing.
            let age = (now_ns / TICK_NS).saturating_sub(state.second.get());
            let newcomers = if age <= 1 { state.newcomers.get() } else { 0 };
            (now_ns < state.flood_until_ns.get(), newcomers)
        });
        let mut escalated: Vec<Prefix> = self
            .escalated
            .iter()
            .filter(|place| now_ns < place.until_ns.get())
            .filter_map(|place| network_of(place.network.get()))
            .map(|(high, length)| subnet(high, length))
            .collect();
        escalated.sort_unstable();
        Flood { active, newcomers, escalated }
    }
}

impl Spending {
    pub(crate) fn of(set: &Set<Shared>, way: usize) -> Self {
        Self {
            spent: Spent(of(&set.spent, way)),
            bytes_until_ns: of(&set.bytes, way),
            tally: Tally(of(&set.tally, way)),
        }
    }

    /// What would pass at once.
    pub(crate) fn left(&self, class: &Class<Shared>, now_ns: u64) -> Left {
        let ahead = self.spent.until().saturating_sub(now_ns / SPENT_NS);
        let packets = events_left(ahead, class.packet_tolerance.get(), class.packet_cost.get());
        let ahead_ns = self.bytes_until_ns.saturating_sub(now_ns);
        let rest_ns = class.byte_tolerance.get().checked_sub(ahead_ns);
        let bytes = match class.byte_cost.get() {
            0 => None,
            cost => Some(rest_ns.map_or(0, |rest_ns| {
                u64::try_from((u128::from(rest_ns) << 16) / u128::from(cost)).unwrap_or(u64::MAX)
            })),
        };
        let (tolerance, cost) = (class.syn_tolerance.get(), class.syn_cost.get());
        let ahead = self.tally.syn_until().wrapping_sub(now_ns / SYN_NS) % (1 << 32);
        // The clock goes round: further ahead than any payment leads to is behind.
        let most = tolerance.saturating_add(cost).saturating_add(SYN_LATE);
        let ahead = if ahead > most { 0 } else { ahead };
        let syns = events_left(ahead, tolerance, cost);
        Left { packets, bytes, syns }
    }

    /// Whether the next packet would not pass: of anybody who has no penalty it would.
    fn is_over(&self, class: &Class<Shared>, now_ns: u64) -> bool {
        let ahead = self.spent.until().saturating_sub(now_ns / SPENT_NS);
        let left = self.left(class, now_ns);
        ahead > class.packet_tolerance.get() || left.packets == Some(0) || left.bytes == Some(0)
    }
}

/// So many events, of which each costs as much, until more is spent than is tolerated.
fn events_left(ahead: u64, tolerance: u64, cost: u64) -> Option<u64> {
    let rest = tolerance.checked_sub(ahead);
    (cost != 0).then(|| rest.map_or(0, |rest| rest / cost + 1))
}

/// The network that a source's key names.
pub(crate) fn owner(key: u64) -> Prefix {
    match network_of(key) {
        Some((high, length)) => subnet(high, length),
        None => neighbour(key),
    }
}

/// The address or /64 that a key names.
fn neighbour(key: u64) -> Prefix {
    match u32::try_from(key ^ V4_MARK) {
        Ok(address) => IpAddr::from(Ipv4Addr::from(address)).into(),
        Err(_) => subnet(key, 64),
    }
}

pub(crate) fn subnet(high: u64, length: u8) -> Prefix {
    Prefix::around(Ipv6Addr::from(u128::from(high) << 64).into(), length)
}

fn ways(sets: &[Set<Shared>]) -> impl Iterator<Item = (&Set<Shared>, usize)> {
    sets.iter().flat_map(|set| (0..WAYS).map(move |way| (set, way)))
}

fn of(four: &[Shared; WAYS], way: usize) -> u64 {
    four.get(way).map_or(0, Shared::get)
}

/// The most by a number, of many that pass by.
struct Largest<T> {
    most: usize,
    kept: BinaryHeap<Reverse<(u64, usize)>>,
    values: Vec<T>,
}

impl<T: Copy> Largest<T> {
    fn new(most: usize) -> Self {
        Self { most, kept: BinaryHeap::new(), values: Vec::new() }
    }

    fn offer(&mut self, number: u64, value: T) {
        if self.values.len() < self.most {
            self.kept.push(Reverse((number, self.values.len())));
            self.values.push(value);
            return;
        }
        let Some(mut least) = self.kept.peek_mut() else { return };
        let Reverse((kept, at)) = *least;
        if kept < number
            && let Some(place) = self.values.get_mut(at)
        {
            *place = value;
            *least = Reverse((number, at));
        }
    }

    fn into_sorted(self) -> impl Iterator<Item = (u64, T)> {
        let Self { kept, values, .. } = self;
        let sorted = kept.into_sorted_vec().into_iter();
        sorted.filter_map(move |Reverse((number, at))| Some((number, *values.get(at)?)))
    }
}

#[cfg(test)]
mod tests {
    use std::array;

    use enforcer_ebpf::escalation::network_key;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_told_as_the_network_that_it_stands_for() {
        let told = |key| owner(key).to_string();

        assert_eq!(told(V4_MARK | 0xc000_0207), "192.0.2.7");
        assert_eq!(told(V4_MARK), "0.0.0.0");
        assert_eq!(told(0x2001_0db8_0000_0001), "2001:db8:0:1::/64");
        let high = 0x2001_0db8_1234_5678;
        assert_eq!(told(network_key(high, 56)), "2001:db8:1234:5600::/56");
        assert_eq!(told(network_key(high, 48)), "2001:db8:1234::/48");
    }

    #[test]
    fn sets_have_room_for_every_source_and_a_mask() {
        assert_eq!([1, 4, 5, 65_536, 1_000_000].map(sets), [1, 1, 2, 16_384, 262_144]);
        assert_eq!(sets(u32::MAX), 1 << 24);
        assert_eq!([1, 2, 16_384].map(sets6), [1, 1, 4_096]);
    }

    #[test]
    fn what_is_left_of_a_budget_is_what_passes_before_it_is_spent() {
        let words = Class::NONE.packets(1_000, 50).bytes(1 << 20, 1 << 18).syns(10, 4).to_words();
        let [a, b, c, d, e, f, g, h] = words.map(Shared::new);
        let class = Class {
            packet_cost: a,
            packet_tolerance: b,
            byte_cost: c,
            byte_tolerance: d,
            syn_cost: e,
            syn_tolerance: f,
            penalty: g,
            observe: h,
        };
        let now_ns = 77_000_000_000;

        let fresh = Spending::default().left(&class, now_ns);
        let spent = Spending {
            spent: Spent::new(now_ns / SPENT_NS + 20 * class.packet_cost.get(), 0),
            bytes_until_ns: now_ns + class.byte_tolerance.get() / 2,
            tally: Tally::new(0, now_ns / SYN_NS + 4 * class.syn_cost.get()),
        };

        assert_eq!(fresh, Left { packets: Some(50), bytes: Some(1 << 18), syns: Some(4) });
        let left = spent.left(&class, now_ns);
        assert_eq!(left, Left { packets: Some(30), bytes: Some(1 << 17), syns: Some(0) });
        assert!(!spent.is_over(&class, now_ns), "a connection is not a packet");
        let punished = Spending { spent: Spent::new(now_ns, 0), ..Spending::default() };
        assert!(punished.is_over(&class, now_ns));
    }

    proptest! {
        #[test]
        fn the_largest_of_many_are_found_in_order(
            numbers in prop::collection::vec(0..50u64, 0..200),
            most in 0..20usize,
        ) {
            let mut largest = Largest::new(most);
            for &number in &numbers {
                largest.offer(number, number);
            }
            let found: Vec<(u64, u64)> = largest.into_sorted().collect();

            let mut sorted = numbers;
            sorted.sort_unstable_by_key(|number| Reverse(*number));
            sorted.truncate(most);
            prop_assert_eq!(found, sorted.into_iter().map(|it| (it, it)).collect::<Vec<_>>());
        }

        #[test]
        fn a_slot_is_read_as_it_was_written(words: [u64; 4], way in 0..WAYS) {
            let set = Set::<Shared> {
                key: array::from_fn(|_| Shared::new(0)),
                spent: words.map(Shared::new),
                bytes: words.map(Shared::new),
                tally: words.map(Shared::new),
            };

            let read = Spending::of(&set, way);

            prop_assert_eq!(read.spent, Spent(words[way]));
            prop_assert_eq!((read.bytes_until_ns, read.tally), (words[way], Tally(words[way])));
        }
    }
}
