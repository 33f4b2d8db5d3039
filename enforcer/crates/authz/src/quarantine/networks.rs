//! Many networks, held compactly: sorted, no two of them share an address.
//!
//! A network inside another one says nothing new, so it is left out; what stays is disjoint, and one
//! binary search finds the only network that may hold an address, whatever its length: first among
//! every [`STEP`]th, which stay in the cache, then in a few lines of memory. Five bytes for an IPv4
//! network, seventeen for an IPv6 one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use enforcer_model::Prefix;

/// Networks between two that are looked at first.
const STEP: usize = 64;

/// A set of disjoint networks, IPv4 first, in the order of their addresses.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Family<u32>,
    v6: Family<u128>,
}

/// What [`Networks::collect`] left out because it says nothing new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Networks that were named more than once.
    pub duplicates: usize,
    /// Networks inside another one of the set.
    pub contained: usize,
}

#[derive(Clone, PartialEq, Eq)]
struct Family<B> {
    starts: Vec<B>,
    lengths: Vec<u8>,
    /// Every [`STEP`]th of `starts`.
    steps: Vec<B>,
}

trait Bits: Copy + Ord {
    fn last(self, length: u8) -> Self;
    fn prefix(self, length: u8) -> Prefix;
}

impl Networks {
    /// The smallest set that covers what `networks` cover together.
    pub fn collect(networks: impl IntoIterator<Item = Prefix>) -> (Self, LeftOut) {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network.address() {
                IpAddr::V4(address) => v4.push((u32::from(address), network.length())),
                IpAddr::V6(address) => v6.push((u128::from(address), network.length())),
            }
        }
        let mut left_out = LeftOut::default();
        let set = Self { v4: disjoint(v4, &mut left_out), v6: disjoint(v6, &mut left_out) };
        (set, left_out)
    }

    /// How many networks it holds.
    pub const fn len(&self) -> usize {
        self.v4.starts.len().saturating_add(self.v6.starts.len())
    }

    /// How many of them are IPv4.
    pub const fn len4(&self) -> usize {
        self.v4.starts.len()
    }

    /// How many of them are IPv6.
    pub const fn len6(&self) -> usize {
        self.v6.starts.len()
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the set takes.
    pub const fn bytes(&self) -> usize {
        self.len4().saturating_mul(5).saturating_add(self.len6().saturating_mul(17))
    }

    /// The network at `position` of the set.
    pub fn get(&self, position: usize) -> Option<Prefix> {
        match position.checked_sub(self.v4.starts.len()) {
            None => self.v4.get(position),
            Some(position) => self.v6.get(position),
        }
    }

    /// Every network, in order.
    pub fn iter(&self) -> impl Iterator<Item = Prefix> {
        self.v4.iter().chain(self.v6.iter())
    }

    /// Every network behind `after` in the order, all of them without one.
    pub fn behind(&self, after: Option<Prefix>) -> impl Iterator<Item = Prefix> {
        let from = after.map_or(0, |after| self.place_behind(after));
        (from..self.len()).filter_map(|position| self.get(position))
    }

    /// The network that `address` lies in.
    pub fn covering(&self, address: IpAddr) -> Option<Prefix> {
        let found = match address.to_canonical() {
            IpAddr::V4(address) => self.v4.before(u32::from(address)),
            IpAddr::V6(address) => self.v6.before(u128::from(address)),
        };
        found.filter(|network| network.contains(address))
    }

    /// Whether exactly `network` is in the set.
    pub fn contains(&self, network: Prefix) -> bool {
        let length = network.length();
        match network.address() {
            IpAddr::V4(address) => self.v4.contains(u32::from(address), length),
            IpAddr::V6(address) => self.v6.contains(u128::from(address), length),
        }
    }

    /// Every network that shares an address with `other`: the one around it, or those inside.
    pub fn touching(&self, other: Prefix) -> impl Iterator<Item = Prefix> {
        self.range(other).filter_map(|position| self.get(position))
    }

    /// How many networks share an address with `other`.
    pub fn count_touching(&self, other: Prefix) -> usize {
        self.range(other).len()
    }

    /// Every network that is exactly in both sets, in order.
    pub fn common<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Prefix> + 'a {
        let (few, many) = if self.len() <= other.len() { (self, other) } else { (other, self) };
        few.iter().filter(|network| many.contains(*network))
    }

    /// Where the networks behind `network` begin. Of one address the wider network comes first.
    fn place_behind(&self, network: Prefix) -> usize {
        let length = network.length();
        match network.address() {
            IpAddr::V4(address) => self.v4.place_behind(u32::from(address), length),
            IpAddr::V6(address) => {
                self.len4().saturating_add(self.v6.place_behind(u128::from(address), length))
            }
        }
    }

    fn range(&self, other: Prefix) -> Range<usize> {
        match other.address() {
            IpAddr::V4(address) => self.v4.range(u32::from(address), other.length()),
            IpAddr::V6(address) => {
                let range = self.v6.range(u128::from(address), other.length());
                let base = self.len4();
                range.start.saturating_add(base)..range.end.saturating_add(base)
            }
        }
    }
}

/// Sorts, and keeps what no earlier one covers: a wider network of the same start comes first.
fn disjoint<B: Bits>(mut networks: Vec<(B, u8)>, left_out: &mut LeftOut) -> Family<B> {
    networks.sort_unstable();
    let mut kept: Option<(B, u8)> = None;
    let mut before = None;
    networks.retain(|&(start, length)| {
        let repeated = before.replace((start, length)) == Some((start, length));
        if repeated {
            left_out.duplicates = left_out.duplicates.saturating_add(1);
            return false;
        }
        if kept.is_some_and(|(first, length)| start <= first.last(length)) {
            left_out.contained = left_out.contained.saturating_add(1);
            return false;
        }
        kept = Some((start, length));
        true
    });
    let (starts, lengths): (Vec<_>, Vec<_>) = networks.into_iter().unzip();
    let steps = starts.iter().step_by(STEP).copied().collect();
    Family { starts, lengths, steps }
}

impl<B: Bits> Family<B> {
    fn get(&self, position: usize) -> Option<Prefix> {
        Some(self.starts.get(position)?.prefix(*self.lengths.get(position)?))
    }

    fn iter(&self) -> impl Iterator<Item = Prefix> {
        self.starts.iter().zip(&self.lengths).map(|(start, length)| start.prefix(*length))
    }

    /// How many starts in a row, from the first, are as `is` says.
    fn count_while(&self, is: impl Fn(B) -> bool) -> usize {
        let step = self.steps.partition_point(|start| is(*start));
        let from = step.saturating_sub(1).saturating_mul(STEP);
        let to = step.saturating_mul(STEP).min(self.starts.len());
        let few = self.starts.get(from..to).unwrap_or_default();
        from.saturating_add(few.partition_point(|start| is(*start)))
    }

    /// The last network that starts at or before `bits`.
    fn before(&self, bits: B) -> Option<Prefix> {
        self.get(self.count_while(|start| start <= bits).checked_sub(1)?)
    }

    fn contains(&self, start: B, length: u8) -> bool {
        let place = self.count_while(|other| other < start);
        self.starts.get(place) == Some(&start) && self.lengths.get(place) == Some(&length)
    }

    fn place_behind(&self, start: B, length: u8) -> usize {
        let place = self.count_while(|other| other < start);
        let is_same = self.starts.get(place) == Some(&start);
        let is_behind = self.lengths.get(place).is_some_and(|other| *other > length);
        place.saturating_add(usize::from(is_same && !is_behind))
    }

    fn range(&self, first: B, length: u8) -> Range<usize> {
        let last = first.last(length);
        let end = self.count_while(|start| start <= last);
        let begin = self.count_while(|start| start < first);
        let around = begin.checked_sub(1).filter(|position| {
            let start = self.starts.get(*position).zip(self.lengths.get(*position));
            start.is_some_and(|(start, length)| start.last(*length) >= first)
        });
        around.unwrap_or(begin)..end
    }
}

impl<B> Default for Family<B> {
    fn default() -> Self {
        Self { starts: Vec::new(), lengths: Vec::new(), steps: Vec::new() }
    }
}

impl Bits for u32 {
    fn last(self, length: u8) -> Self {
        self | Self::MAX.checked_shr(Self::from(length)).unwrap_or(0)
    }

    fn prefix(self, length: u8) -> Prefix {
        Prefix::around(Ipv4Addr::from(self).into(), length)
    }
}

impl Bits for u128 {
    fn last(self, length: u8) -> Self {
        self | Self::MAX.checked_shr(u32::from(length)).unwrap_or(0)
    }

    fn prefix(self, length: u8) -> Prefix {
        Prefix::around(Ipv6Addr::from(self).into(), length)
    }
}

impl fmt::Debug for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Networks").field("v4", &self.len4()).field("v6", &self.len6()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Few addresses and many lengths, so that networks meet.
    fn network() -> impl Strategy<Value = Prefix> {
        let v4 = (0..64u32, 24..=32u8).prop_map(|(bits, length)| {
            Prefix::around(Ipv4Addr::from(0xC633_6400 | bits << 2).into(), length)
        });
        let v6 = (0..64u128, 60..=128u8).prop_map(|(bits, length)| {
            Prefix::around(Ipv6Addr::from(0x2001_0DB8 << 96 | bits << 60).into(), length)
        });
        prop_oneof![v4, v6, Just("0.0.0.0/0".parse().unwrap()), Just("::/0".parse().unwrap())]
    }

    proptest! {
        #[test]
        fn the_set_covers_what_was_given_and_nothing_else(
            given in vec(network(), 0..24),
            asked in network(),
        ) {
            let (set, left_out) = Networks::collect(given.iter().copied());
            let all: Vec<_> = set.iter().collect();

            let address = asked.address();
            let is_given = given.iter().any(|network| network.contains(address));
            prop_assert_eq!(set.covering(address).is_some(), is_given);
            prop_assert_eq!(all.len() + left_out.duplicates + left_out.contained, given.len());
            for (at, one) in all.iter().enumerate() {
                prop_assert_eq!(set.get(at), Some(*one));
                prop_assert!(set.contains(*one));
                prop_assert!(all.iter().skip(at + 1).all(|other| !one.overlaps(*other)));
            }
            prop_assert_eq!(set.get(all.len()), None);
            let behind: Vec<_> = all.iter().copied().filter(|one| *one > asked).collect();
            prop_assert_eq!(set.behind(Some(asked)).collect::<Vec<_>>(), behind);
            prop_assert_eq!(set.len(), set.len4() + set.len6());
        }

        #[test]
        fn touching_is_sharing_an_address(given in vec(network(), 0..24), asked in network()) {
            let (set, _) = Networks::collect(given);

            let expected: Vec<_> = set.iter().filter(|one| one.overlaps(asked)).collect();

            prop_assert_eq!(set.count_touching(asked), expected.len());
            prop_assert_eq!(set.touching(asked).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn what_is_in_both_sets_is_common(
            one in vec(network(), 0..24),
            other in vec(network(), 0..24),
        ) {
            let ((one, _), (other, _)) = (Networks::collect(one), Networks::collect(other));

            let expected: Vec<_> = one.iter().filter(|network| other.contains(*network)).collect();

            let common = one.common(&other).collect::<Vec<_>>();
            prop_assert_eq!(&common, &other.common(&one).collect::<Vec<_>>());
            prop_assert_eq!(common, expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_large_set_answers_as_a_plain_list_does(
            hosts in proptest::collection::btree_set(0..20_000u32, 0..600),
            asked in vec(0..20_000u32, 40),
        ) {
            let single = |host: u32| Prefix::from(IpAddr::from(Ipv4Addr::from(0x0A00_0000 | host)));
            let (set, _) = Networks::collect(hosts.iter().map(|host| single(*host)));

            for host in asked {
                let address = single(host).address();
                prop_assert_eq!(set.covering(address).is_some(), hosts.contains(&host));
                let behind = hosts.range(host + 1..).next().map(|next| single(*next));
                prop_assert_eq!(set.behind(Some(single(host))).next(), behind);
                let near = Prefix::around(address, 24);
                let count = hosts.range(host & !255..=host | 255).count();
                prop_assert_eq!(set.count_touching(near), count);
            }
        }
    }

    #[test]
    fn duplicates_and_contained_networks_are_told_apart() {
        let given = ["192.0.2.0/24", "192.0.2.7", "192.0.2.7", "192.0.2.0/24", "198.51.100.1"];

        let (set, left_out) = Networks::collect(given.map(|text| text.parse().unwrap()));

        assert_eq!(left_out, LeftOut { duplicates: 2, contained: 1 });
        assert_eq!(set.len(), 2);
    }
}
