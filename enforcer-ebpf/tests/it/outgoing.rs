//! Packets that this host sends: kept from blocked peers, counted by destination.

use enforcer_ebpf::source::{PEER_SETS, set_of};
use enforcer_ebpf::table::{Meta, TICK_NS};
use enforcer_ebpf::{Direction, Reason, Set, Shared, Verdict, flag};

use crate::frames::{ACK, HERE4, RST, Shape, Transport, V4Shape, V6Shape};
use crate::memory::{Memory, START_NS, many};
use crate::reference::{AnyNetwork, World};
use crate::verdict::{SOURCE4, SOURCE6};
use crate::writer::{Counts, Entry};

const PASSED: (Verdict, Reason) = (Verdict::Pass, Reason::Clean);
const CONTAINED: (Verdict, Reason) = (Verdict::Drop, Reason::Contained);

/// From this host to the peers that others call sources.
fn to4(transport: Transport) -> Vec<u8> {
    let shape = V4Shape::new(HERE4, transport);
    Shape::of4(V4Shape { destination: SOURCE4, ..shape }).bytes()
}

fn to6(transport: Transport) -> Vec<u8> {
    let shape = V6Shape::new([0x26; 16], transport);
    Shape::of6(V6Shape { destination: SOURCE6, hop_limit: 255, ..shape }).bytes()
}

fn tcp(flags: u8) -> Transport {
    Transport::Tcp(443, 40_000, flags)
}

fn tables() -> Memory {
    let mut tables = World::default().tables();
    tables.make_tables(4);
    tables
}

#[test]
fn nothing_goes_to_a_contained_peer_but_the_end_of_connections_and_what_a_network_needs() {
    let tables = tables();
    tables.block(AnyNetwork::v4(SOURCE4, 24).entry(1));
    tables.block(AnyNetwork::v6(SOURCE6, 64).entry(2));

    for frame in [to4(tcp(ACK)), to6(tcp(ACK)), to4(Transport::Udp(53, 53, vec![0; 9]))] {
        assert_eq!(tables.outgoing(&frame), CONTAINED);
    }
    let spared = [
        to4(tcp(RST)),
        to6(tcp(RST | ACK)),
        to4(Transport::Icmp(3, 4)),
        to6(Transport::Icmp(135, 0)),
        to4(Transport::Udp(67, 68, Vec::new())),
    ];
    for frame in spared {
        assert_eq!(tables.outgoing(&frame), (Verdict::Pass, Reason::Essential));
    }
    assert_eq!(tables.incoming(&to4(tcp(ACK))), PASSED, "its own address is not blocked");
}

#[test]
fn only_a_block_that_contains_does_and_no_other_hides_it() {
    let (narrow, wide) = (AnyNetwork::v4(SOURCE4, 32), AnyNetwork::v4(SOURCE4, 16));
    let tables = tables();
    tables.block(Entry { flags: 0, ..narrow.entry(1) });
    assert_eq!(tables.outgoing(&to4(tcp(ACK))), PASSED);

    tables.block(Entry { flags: Meta::CONTAIN | Meta::OBSERVE, ..wide.entry(2) });
    assert_eq!(tables.outgoing(&to4(tcp(ACK))), (Verdict::Pass, Reason::Contained));
    tables.release(wide);
    tables.block(wide.entry(3));
    assert_eq!(tables.outgoing(&to4(tcp(ACK))), CONTAINED);
    tables.config.flags.set(0);
    assert_eq!(tables.outgoing(&to4(tcp(ACK))), PASSED, "where the policy does not ask for it");
}

#[test]
fn who_is_allowed_is_sent_to_and_what_is_sent_counts_against_no_block() {
    let mut tables = tables();
    let network = AnyNetwork::v4(SOURCE4, 24);
    tables.block(network.entry(1));
    assert_eq!(tables.outgoing(&to4(tcp(ACK))), CONTAINED);
    assert_eq!(tables.counts(network), Counts { packets: 0, bytes: 0 });

    tables.v4.allow = vec![AnyNetwork::v4(SOURCE4, 30)];
    assert_eq!(tables.outgoing(&to4(tcp(ACK))), (Verdict::Pass, Reason::Allowed));
}

#[test]
fn a_contained_peer_is_reported_once_in_a_second_beside_what_it_sends() {
    let tables = tables();
    tables.block(AnyNetwork::v4(SOURCE4, 24).entry(77));
    tables.boot_ns.set(START_NS / TICK_NS * TICK_NS);
    for _ in 0..2 {
        for _ in 0..5 {
            tables.outgoing(&to4(tcp(ACK)));
            tables.incoming(&Shape::v4(SOURCE4, tcp(ACK)).bytes());
        }
        tables.boot_ns.add(TICK_NS);
    }

    let events = tables.events();
    let out: Vec<_> = events.iter().filter(|event| event.went(Direction::Out)).collect();
    assert_eq!((events.len(), out.len()), (4, 2));
    assert!(out[0].because(Reason::Contained) && out[0].is(Verdict::Drop));
    assert_eq!((out[0].id, out[0].length, out[0].octets()[..4].to_vec()), (77, 24, SOURCE4.into()));
    assert_eq!((out[0].source_port, out[0].port, out[0].protocol), (443, 40_000, 6));
}

/// Packets and bytes that went to whoever has this key.
fn sent(sets: &[Set<Shared>], seed: [u64; 2], key: u64) -> Option<(u64, u64)> {
    let set = &sets[set_of(key, seed, u64::from(PEER_SETS) - 1) as usize];
    let way = set.key.iter().position(|slot| slot.get() == key)?;
    Some((set.bytes[way].get(), set.tally[way].get()))
}

#[test]
fn packets_are_counted_by_destination_also_those_that_are_kept_back() {
    let mut tables = tables();
    tables.config.flags.add(flag::PEERS);
    tables.v4.peers = many(PEER_SETS as usize);
    tables.v6.peers = many(PEER_SETS as usize);
    tables.block(AnyNetwork::v4(SOURCE4, 32).entry(1));

    for _ in 0..5 {
        tables.outgoing(&to4(tcp(ACK)));
        tables.outgoing(&to6(tcp(ACK)));
        tables.outgoing(&to6(tcp(RST)));
    }

    let key4 = 1 << 32 | u64::from(u32::from_be_bytes(SOURCE4));
    let high6 = (u128::from_be_bytes(SOURCE6) >> 64) as u64;
    let (bytes4, bytes6) = (to4(tcp(ACK)).len() as u64, to6(tcp(ACK)).len() as u64);
    assert_eq!(sent(&tables.v4.peers, tables.seed(), key4), Some((5, 5 * bytes4)));
    assert_eq!(sent(&tables.v6.peers, tables.seed(), high6), Some((10, 10 * bytes6)));
}

#[test]
fn the_destination_heard_of_longest_ago_makes_room() {
    let mut tables = tables();
    tables.config.flags.set(flag::PEERS);
    tables.v4.peers = many(PEER_SETS as usize);
    let seed = tables.seed();
    let key = |address: u32| 1 << 32 | u64::from(address);
    let set = |address: u32| set_of(key(address), seed, u64::from(PEER_SETS) - 1);
    let neighbours: Vec<u32> = (1..).filter(|address| set(*address) == set(1)).take(5).collect();

    for (at, address) in neighbours.iter().enumerate() {
        tables.pass(1_000);
        let shape = V4Shape::new(HERE4, tcp(ACK));
        let shape = V4Shape { destination: address.to_be_bytes(), ..shape };
        let packets = at as u64 + 1;
        (0..packets).for_each(|_| _ = tables.outgoing(&Shape::of4(shape.clone()).bytes()));
    }

    let left = neighbours.iter().map(|it| sent(&tables.v4.peers, seed, key(*it)).map(|it| it.0));
    assert_eq!(left.collect::<Vec<_>>(), [None, Some(2), Some(3), Some(4), Some(5)]);
}
