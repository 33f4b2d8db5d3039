//! One address family as the maps spell it: names, keys, and its words in `CONFIG`.
//!
//! Everything that is done with blocks and lists is written once, over [`Family`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::Pod;
use enforcer_ebpf::config::{Config, Lengths};
use enforcer_ebpf::prefilter::{AROUND, INSIDE, Level, WORDS4, place4};
use enforcer_ebpf::table::Slots;
use enforcer_ebpf::{Address, Shared, V4, V6, map};
use enforcer_model::Prefix;

use crate::mapped::Words;
use crate::table::Cells;

/// A key of a table of blocks.
pub(crate) type Key<F> = <<F as Address>::Row as Slots>::Key;

/// What differs between the two families, on this side.
pub(crate) trait Family: Address<Row: Cells + Words, Octets: Pod + Ord> {
    /// The two tables of blocks.
    const BLOCK: &'static str;
    /// The pin of the table in force.
    const TABLE: &'static str;
    /// The pin of a table that is about to be in force.
    const TABLE_NEXT: &'static str;
    const ALLOW: &'static str;
    const PREFILTER: &'static str;
    const SOURCE: &'static str;

    fn from_ip(address: IpAddr) -> Option<Self>;
    fn from_octets(octets: Self::Octets) -> IpAddr;
    fn first_address(key: &Key<Self>) -> IpAddr;

    /// The word that says which table is in force.
    fn table_word(config: &Config<Shared>) -> &Shared;
    fn mask_word(config: &Config<Shared>) -> &Shared;

    /// Tells every bit that the prefilter must have for a block: the number of a word, and bits.
    fn mark(key: &Key<Self>, length: u8, seed: [u64; 2], set: impl FnMut(u32, u64));

    /// What the table calls `prefix`; `None` when it is of the other family.
    fn key(prefix: Prefix) -> Option<Key<Self>> {
        let address = Self::from_ip(prefix.address())?;
        Some(address.network(host_bits::<Self>(prefix.length())))
    }

    /// The network that the table calls so.
    fn prefix(key: &Key<Self>, length: u8) -> Prefix {
        Prefix::around(Self::first_address(key), length)
    }
}

/// Bits behind a prefix of this length.
pub(crate) fn host_bits<F: Address>(length: u8) -> u32 {
    F::BITS.saturating_sub(u32::from(length))
}

/// The set of this one length.
pub(crate) fn length<F: Address>(length: u8) -> Lengths {
    Lengths::of(host_bits::<F>(length))
}

impl Family for V4 {
    const BLOCK: &'static str = map::BLOCK4;
    const TABLE: &'static str = "TABLE4";
    const TABLE_NEXT: &'static str = "TABLE4-next";
    const ALLOW: &'static str = map::ALLOW4;
    const PREFILTER: &'static str = map::PREFILTER4;
    const SOURCE: &'static str = map::SOURCE4;

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(Self(u32::from(address))),
            IpAddr::V6(_) => None,
        }
    }

    fn from_octets(octets: [u8; 4]) -> IpAddr {
        octets.into()
    }

    fn first_address([word]: &[u64; 1]) -> IpAddr {
        let [_, _, _, _, a, b, c, d] = word.to_be_bytes();
        Ipv4Addr::new(a, b, c, d).into()
    }

    fn table_word(config: &Config<Shared>) -> &Shared {
        &config.table4
    }

    fn mask_word(config: &Config<Shared>) -> &Shared {
        &config.source4_mask
    }

    fn mark(key: &[u64; 1], length: u8, _: [u64; 2], mut set: impl FnMut(u32, u64)) {
        let [word] = key;
        let Ok(address) = u32::try_from(*word) else { return };
        let (place, shift) = place4(address);
        if length > 24 {
            return set(place, INSIDE << shift);
        }
        // Of all 32 /24s in a word: a /19 fills one.
        const ALL: u64 = AROUND * 0x5555_5555_5555_5555;
        if length > 19 {
            let cells = 1u64 << (24 - length);
            return set(place, (ALL & ((1 << (2 * cells)) - 1)) << shift);
        }
        let words = WORDS4 >> length;
        (place..place.saturating_add(words)).for_each(|word| set(word, ALL));
    }
}

impl Family for V6 {
    const BLOCK: &'static str = map::BLOCK6;
    const TABLE: &'static str = "TABLE6";
    const TABLE_NEXT: &'static str = "TABLE6-next";
    const ALLOW: &'static str = map::ALLOW6;
    const PREFILTER: &'static str = map::PREFILTER6;
    const SOURCE: &'static str = map::SOURCE6;

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => {
                let bits = u128::from(address);
                let half = |shift: u32| u64::try_from(bits >> shift & u128::from(u64::MAX)).ok();
                Some(Self { high: half(64)?, low: half(0)? })
            }
        }
    }

    fn from_octets(octets: [u8; 16]) -> IpAddr {
        octets.into()
    }

    fn first_address([high, low]: &[u64; 2]) -> IpAddr {
        Ipv6Addr::from(u128::from(*high) << 64 | u128::from(*low)).into()
    }

    fn table_word(config: &Config<Shared>) -> &Shared {
        &config.table6
    }

    fn mask_word(config: &Config<Shared>) -> &Shared {
        &config.source6_mask
    }

    fn mark(key: &[u64; 2], length: u8, seed: [u64; 2], mut set: impl FnMut(u32, u64)) {
        let [high, _] = key;
        if let Some(level) = Level::of(length) {
            let (word, shift) = level.place(*high, seed);
            set(word, 1 << shift);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_ipv4_network_survives_the_table(bits: u32, length in 0..=32u8) {
            let prefix = Prefix::around(Ipv4Addr::from(bits).into(), length);

            let key = V4::key(prefix).unwrap();

            prop_assert_eq!(V4::prefix(&key, length), prefix);
            prop_assert_eq!(V6::key(prefix), None);
        }

        #[test]
        fn every_ipv6_network_survives_the_table(bits: u128, length in 0..=128u8) {
            // Networks of mapped addresses are IPv4 to every part of the house.
            let prefix = Prefix::around(Ipv6Addr::from(bits | 1 << 127).into(), length);

            let key = V6::key(prefix).unwrap();

            prop_assert_eq!(V6::prefix(&key, length), prefix);
            prop_assert_eq!(V4::key(prefix), None);
        }

        #[test]
        fn the_prefilter_has_a_bit_for_every_address_of_an_ipv4_block(
            bits: u32,
            length in 6..=32u8,
            inside: u32,
        ) {
            let prefix = Prefix::around(Ipv4Addr::from(bits).into(), length);
            let mut words = BTreeMap::new();
            V4::mark(&V4::key(prefix).unwrap(), length, [0, 0], |word, bits| {
                *words.entry(word).or_insert(0) |= bits;
            });
            let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            let wanted = if length > 24 { INSIDE } else { AROUND };

            for address in [bits & !host, bits | host, bits & !host | inside & host] {
                let (word, shift) = place4(address);
                prop_assert_eq!(words.get(&word).map_or(0, |bits| bits >> shift & 3), wanted);
            }
            let marked: u32 = words.values().map(|bits: &u64| bits.count_ones()).sum();
            prop_assert_eq!(marked, 1 << (24 - length.min(24)), "and no other /24 has one");
        }
    }
}
