//! The prefilter may cost a look-up too many; it never hides a block.

use enforcer_ebpf::prefilter::Level;
use enforcer_ebpf::{Address, V4, V6};
use proptest::prelude::*;

use crate::any::any_network;
use crate::memory::Memory;
use crate::reference::{AnyNetwork, Block, World};

/// Whether a packet of this address is looked up at all.
fn is_looked_up(tables: &Memory, v6: bool, address: u128) -> bool {
    let config = &tables.config;
    if v6 {
        let source = V6 { high: (address >> 64) as u64, low: address as u64 };
        let levels = source.levels(config, &tables.v6);
        !V6::span(levels).misses(V6::lengths(config), 128)
    } else {
        let source = V4(address as u32);
        !V4::span(source.levels(config, &tables.v4)).misses(V4::lengths(config), 32)
    }
}

fn any_address() -> impl Strategy<Value = (bool, u128)> {
    prop_oneof![
        any::<u32>().prop_map(|bits| (false, bits.into())),
        any::<u128>().prop_map(|bits| (true, bits)),
        (any_network(), any::<u128>()).prop_map(|(network, noise)| inside(network, noise)),
    ]
}

/// An address of the network.
fn inside(network: AnyNetwork, noise: u128) -> (bool, u128) {
    let host_bits = network.width() - network.length;
    let hosts = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
    (network.v6, network.bits | noise & hosts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_address_of_every_block_is_looked_up(
        networks in prop::collection::vec((any_network(), any::<u128>()), 1..30),
        seed: [u64; 2],
    ) {
        let blocks = networks.iter().map(|(network, _)| Block::around(*network)).collect();
        let tables = World { blocks, seed, ..World::default() }.tables();

        for (network, noise) in &networks {
            for noise in [0, u128::MAX, *noise, !*noise] {
                let (v6, address) = inside(*network, noise);
                prop_assert!(is_looked_up(&tables, v6, address), "{:x} of {:?}", address, network);
            }
        }
    }

    #[test]
    fn an_ipv4_address_is_looked_up_when_a_block_touches_its_24_and_only_then(
        networks in prop::collection::vec(any_network(), 0..12),
        addresses in prop::collection::vec(any_address(), 1..50),
    ) {
        let v4 = || networks.iter().filter(|network| !network.v6);
        let blocks = v4().map(|network| Block::around(*network)).collect();
        let tables = World { blocks, ..World::default() }.tables();

        for (_, address) in addresses.iter().filter(|(v6, _)| !v6) {
            let around = AnyNetwork::v4((*address as u32).to_be_bytes(), 24);
            let touches = |network: &AnyNetwork| {
                network.contains(false, *address) || around.contains(false, network.bits)
            };
            prop_assert_eq!(is_looked_up(&tables, false, *address), v4().any(touches));
        }
    }

    #[test]
    fn an_ipv6_address_far_from_all_narrow_blocks_is_hardly_ever_looked_up(
        networks in prop::collection::vec((any::<u128>(), 32..=128u32), 1..30),
        seed: [u64; 2],
    ) {
        let network = |(bits, length): &(u128, u32)| AnyNetwork::v6(bits.to_be_bytes(), *length);
        let blocks = networks.iter().map(|it| Block::around(network(it))).collect();
        let tables = World { blocks, seed, ..World::default() }.tables();

        let looked_up = (0..1_000u128)
            .filter(|number| is_looked_up(&tables, true, 0x2001_0db8 << 96 | number << 80));

        // One in a million by accident.
        prop_assert!(looked_up.count() <= 2);
    }

    #[test]
    fn the_bit_of_a_block_is_that_of_each_of_its_addresses(
        network in any_network(), noise: u128, seed: [u64; 2],
    ) {
        prop_assume!(network.v6);
        let (_, address) = inside(network, noise);
        let high = |bits: u128| (bits >> 64) as u64;
        match Level::of(network.length as u8) {
            Some(level) => {
                let (word, shift) = level.place(high(network.bits), seed);
                prop_assert_eq!(level.place(high(address), seed), (word, shift));
                prop_assert!(word < 1 << 19 && shift < 64);
            }
            None => prop_assert!(network.length < 32),
        }
    }
}

#[test]
fn without_tables_nothing_is_looked_up_though_bits_are_left() {
    let network = AnyNetwork::v4([203, 0, 113, 0], 24);
    let tables = World { blocks: vec![Block::around(network)], ..World::default() }.tables();
    tables.config.table4.set(0);
    let frame =
        crate::frames::Shape::v4(crate::verdict::SOURCE4, crate::frames::Transport::Icmp(8, 0));

    assert!(is_looked_up(&tables, false, network.bits));
    assert!(tables.passes(&frame.bytes()));
}
