//! Addresses that stand for all addresses.
//!
//! Networks are nested or apart, never crossed, so the address space falls into pieces: each
//! network without the networks inside it, and what is outside all of them. Two addresses of which
//! every named set of networks says the same are one to every rule; one address of each such class
//! is kept.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use enforcer_authz::Networks;
use enforcer_model::Prefix;

/// One address for each distinct answer to "in which of these sets does it lie", and the answers;
/// what lies in fewest sets first.
pub(crate) fn classes(sets: &[&Networks]) -> Vec<(IpAddr, Vec<bool>)> {
    let networks: BTreeSet<Prefix> = sets.iter().flat_map(|set| set.iter()).collect();
    let networks: Vec<Prefix> = networks.into_iter().collect();
    let everywhere = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
        .map(|address| Prefix::around(address, 0));
    let pieces = everywhere.iter().chain(&networks).filter_map(|piece| inside(*piece, &networks));

    let mut found: Vec<(IpAddr, Vec<bool>)> = Vec::new();
    let mut seen = BTreeSet::new();
    for address in USUAL.into_iter().chain(pieces) {
        let answers: Vec<bool> = sets.iter().map(|set| set.covering(address).is_some()).collect();
        if seen.insert(answers.clone()) {
            found.push((address, answers));
        }
    }
    found.sort_by_key(|(_, answers)| answers.iter().filter(|inside| **inside).count());
    found
}

/// The same for the beginning of sets that are too large to be looked through: classes are missing.
pub(crate) fn some(sets: &[&Networks]) -> Vec<(IpAddr, Vec<bool>)> {
    let first = |set: &&Networks| Networks::collect(set.iter().take(SOME)).0;
    let shorter: Vec<Networks> = sets.iter().map(first).collect();
    let found = classes(&shorter.iter().collect::<Vec<_>>()).into_iter().map(|(address, _)| {
        (address, sets.iter().map(|set| set.covering(address).is_some()).collect())
    });
    found.collect()
}

/// Networks of each set that are looked at when there are too many.
const SOME: usize = 64;

/// Addresses of documentation (RFC 5737, RFC 3849), which no operator's network should hold.
const USUAL: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 9)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9)),
];

/// An address of `piece` that lies in no smaller one of `networks`, which are sorted: those inside
/// a network follow it.
fn inside(piece: Prefix, networks: &[Prefix]) -> Option<IpAddr> {
    let begin = networks.partition_point(|network| *network <= piece);
    let smaller = networks.get(begin..).unwrap_or_default();
    let first = bits(piece.address());
    let (mut free, mut until) = (first, last(piece));
    for smaller in smaller.iter().take_while(|smaller| piece.covers(**smaller)) {
        if bits(smaller.address()) > free {
            until = bits(smaller.address()) - 1;
            break;
        }
        free = free.max(last(*smaller).checked_add(1)?);
    }
    // The first address of a network names it; the second looks more like a host.
    let free = if free == first && free < until { free + 1 } else { free };
    (free <= until).then(|| address(free, piece.address()))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn address(bits: u128, family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(bits).into(),
    }
}

/// The last address of a network.
fn last(network: Prefix) -> u128 {
    let width: u32 = if network.address().is_ipv4() { 32 } else { 128 };
    let host = width.saturating_sub(network.length().into());
    let span = if host >= 128 { u128::MAX } else { (1_u128 << host) - 1 };
    bits(network.address()) | span
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_piece_of_nested_networks_has_an_address_of_its_own() {
        let outer = networks(&["10.0.0.0/8"]);
        let inner = networks(&["10.1.0.0/16", "2001:db8::/32"]);

        let found = classes(&[&outer, &inner]);

        let shown: Vec<String> =
            found.iter().map(|(address, answers)| format!("{address} {answers:?}")).collect();
        assert_eq!(
            shown,
            [
                "203.0.113.9 [false, false]",
                "2001:db8::9 [false, true]",
                "10.0.0.1 [true, false]",
                "10.1.0.1 [true, true]",
            ]
        );
    }

    #[test]
    fn a_network_that_is_full_of_smaller_ones_has_no_piece_of_its_own() {
        let whole = networks(&["192.0.2.0/31"]);
        let halves = networks(&["192.0.2.0", "192.0.2.1"]);

        let found = classes(&[&whole, &halves]);

        assert!(found.iter().all(|(_, answers)| answers[0] == answers[1]), "{found:?}");
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn where_a_set_is_everything_nothing_lies_outside() {
        let all = networks(&["0.0.0.0/0", "::/0"]);

        assert_eq!(
            classes(&[&all]).iter().map(|(_, inside)| inside[0]).collect::<Vec<_>>(),
            [true]
        );
    }

    proptest! {
        /// In a world of few addresses every one of them answers as one of the list does.
        #[test]
        fn every_address_has_a_stand_in(
            sets in vec(vec((0..64u32, 26..=32u8), 0..5), 1..4),
            address in 0..64u32,
        ) {
            let sets: Vec<Networks> = sets
                .into_iter()
                .map(|set| set.into_iter().map(|(host, length)| around(host, length)))
                .map(|set| Networks::collect(set).0)
                .collect();
            let borrowed: Vec<&Networks> = sets.iter().collect();

            let found = classes(&borrowed);

            let asked = IpAddr::from(Ipv4Addr::from_bits(0x0A00_0000 | address));
            let answers = |address: IpAddr| -> Vec<bool> {
                sets.iter().map(|set| set.iter().any(|known| known.contains(address))).collect()
            };
            let wanted = answers(asked);
            prop_assert!(found.iter().any(|(_, known)| *known == wanted), "{asked} of {found:?}");
            for (address, known) in &found {
                prop_assert_eq!(&answers(*address), known);
            }
        }
    }

    fn around(host: u32, length: u8) -> Prefix {
        Prefix::around(Ipv4Addr::from_bits(0x0A00_0000 | host).into(), length)
    }

    fn networks(texts: &[&str]) -> Networks {
        Networks::collect(texts.iter().map(|text| text.parse().unwrap())).0
    }
}
