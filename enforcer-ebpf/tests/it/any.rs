//! Any frame, any world: few enough sources that blocks and budgets meet them.

use enforcer_ebpf::Mode;
use proptest::prelude::*;

use crate::frames::{
    ACK, Extension, FRAGMENT_HEADER, MORE_FRAGMENTS, Network, RST, SYN, Shape, Transport, V4Shape,
    V6Shape,
};
use crate::reference::{AnyNetwork, Block, Budget, Lease, Rate, World};

pub fn any_shape() -> impl Strategy<Value = Shape> {
    let tag = prop::sample::select(vec![0x8100, 0x88A8, 0x9100]);
    let tags = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(tag, 0..4)];
    let kinds = prop::sample::select(vec![0x0806, 0x88CC, 46, 0x0842]);
    let network = prop_oneof![
        8 => any_v4().prop_map(Network::V4),
        8 => any_v6().prop_map(Network::V6),
        1 => (kinds, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(kind, bytes)| Network::Other(kind, bytes)),
    ];
    (tags, network).prop_map(|(tags, network)| Shape { tags, network })
}

/// An IPv4 address from a small world.
pub fn any_source4() -> impl Strategy<Value = [u8; 4]> {
    (0..2u8, 0..2u8, 0..4u8).prop_map(|(b, c, d)| [10, b, c, d])
}

/// An IPv6 address from a small world.
pub fn any_source6() -> impl Strategy<Value = [u8; 16]> {
    (0..2u8, 0..2u8, 0..4u8).prop_map(|(net, subnet, host)| {
        [0x20, 1, 0x0d, 0xb8, 0, net, 0, subnet, 0, 0, 0, 0, 0, 0, 0, host]
    })
}

fn any_v4() -> impl Strategy<Value = V4Shape> {
    let fragment = prop_oneof![
        4 => Just(0),
        1 => Just(0x4000),
        1 => Just(MORE_FRAGMENTS),
        1 => 1..0x2000u16,
        1 => 0x2001..0x4000u16,
    ];
    let parts = (any_source4(), any_source4(), 0..=10u8, fragment, any_transport(), any_kept());
    parts.prop_map(|(source, destination, options, fragment, transport, kept)| V4Shape {
        source,
        destination,
        options,
        fragment,
        transport,
        kept,
    })
}

fn any_v6() -> impl Strategy<Value = V6Shape> {
    let extension = prop_oneof![
        4 => (prop::sample::select(vec![0, 43, 60]), 0..4u8)
            .prop_map(|(kind, eights)| Extension::new(kind, eights)),
        1 => (0..3u16, any::<bool>(), any::<u8>()).prop_map(|(offset, more, noise)| Extension {
            kind: FRAGMENT_HEADER,
            eights: noise,
            fragment: offset << 3 | u16::from(more),
        }),
    ];
    let extensions = prop_oneof![
        2 => Just(Vec::new()),
        3 => prop::collection::vec(extension, 0..9),
    ];
    let hop_limit = prop_oneof![Just(255), Just(64), any::<u8>()];
    let ends = (any_source6(), any_source6());
    (ends, hop_limit, extensions, any_transport(), any_kept()).prop_map(
        |((source, destination), hop_limit, extensions, transport, kept)| V6Shape {
            source,
            destination,
            hop_limit,
            extensions,
            transport,
            kept,
        },
    )
}

fn any_kept() -> impl Strategy<Value = Option<u16>> {
    prop_oneof![4 => Just(None), 1 => (0..20u16).prop_map(Some)]
}

fn any_transport() -> impl Strategy<Value = Transport> {
    let port = || prop::sample::select(vec![53, 66, 67, 68, 69, 443, 545, 546, 547, 548, 4789]);
    let kind = prop::sample::select(vec![0, 1, 2, 3, 8, 128, 132, 133, 134, 135, 136, 137, 138]);
    let flags = prop::sample::select(vec![SYN, SYN | ACK, ACK, RST, RST | ACK, 0, 0xff]);
    let others = prop::sample::select(vec![4, 41, 47, 50, 51, 59, 132, 135, 253]);
    let inside = || prop::collection::vec(any::<u8>(), 0..30);
    prop_oneof![
        2 => (kind, prop::sample::select(vec![0, 3, 4]))
            .prop_map(|(kind, code)| Transport::Icmp(kind, code)),
        4 => (port(), port(), flags).prop_map(|(from, to, flags)| Transport::Tcp(from, to, flags)),
        2 => (port(), port(), inside()).prop_map(|(from, to, it)| Transport::Udp(from, to, it)),
        1 => (others, inside()).prop_map(|(protocol, it)| Transport::Other(protocol, it)),
    ]
}

/// A small world: few networks, of many lengths, around few sources.
pub fn any_world() -> impl Strategy<Value = World> {
    let mode = prop_oneof![
        1 => Just(Mode::Off),
        2 => Just(Mode::Observe),
        6 => Just(Mode::Enforce),
    ];
    let lease =
        prop_oneof![4 => Just(Lease::None), 1 => Just(Lease::Running), 1 => Just(Lease::Over)];
    let ports = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(prop::sample::select(vec![53, 67, 443, 546, 4789]), 1..9),
    ];
    let budgets = prop::collection::vec(any_budget(), 1..4);
    let classes = prop::collection::vec((any_network(), 0..3usize), 0..4);
    let egress = (any::<bool>(), any::<bool>());
    let homes = prop::sample::select(vec![1, 2, 5, 64]);
    (
        (mode, lease, any_blocks(), prop::collection::vec(any_network(), 0..3)),
        (budgets, classes, ports, egress, homes, any::<[u64; 2]>()),
    )
        .prop_map(
            |((mode, lease, blocks, allow), (budgets, classes, ports, egress, homes, seed))| {
                let count = budgets.len();
                let classes = classes.into_iter().filter(|(_, class)| *class < count);
                World {
                    mode,
                    lease,
                    blocks,
                    allow,
                    budgets,
                    classes: once_each(classes.collect(), |(network, _)| *network),
                    ports,
                    contain: egress.0,
                    peers: egress.1,
                    homes,
                    seed,
                }
            },
        )
}

fn any_blocks() -> impl Strategy<Value = Vec<Block>> {
    let block = || {
        (any_network(), any::<[bool; 2]>(), prop::bool::weighted(0.3)).prop_map(
            |(network, [expired, contain], observe)| Block { network, expired, observe, contain },
        )
    };
    // A table has one entry for a network.
    prop_oneof![3 => prop::collection::vec(block(), 0..12), 1 => prop::collection::vec(block(), 24..30)]
        .prop_map(|blocks| once_each(blocks, |block| block.network))
}

fn once_each<T>(items: Vec<T>, network: impl Fn(&T) -> AnyNetwork) -> Vec<T> {
    let mut seen = Vec::new();
    let mut items = items;
    items.retain(|item| {
        let is_new = !seen.contains(&network(item));
        seen.push(network(item));
        is_new
    });
    items
}

/// A budget whose rates divide the units of time, so that exact arithmetic is exact.
fn any_budget() -> impl Strategy<Value = Budget> {
    let few = || prop::sample::select(vec![1, 2, 5, 50, 1_000]);
    let packets = prop::option::weighted(0.6, (few(), 1..5u64));
    let bytes = prop::option::weighted(
        0.4,
        (prop::sample::select(vec![1_000_000, 100_000_000]), 65_536..70_000u64),
    );
    let syns = prop::option::weighted(0.4, (few(), 1..4u64));
    let penalty_ns = prop_oneof![2 => Just(0), 1 => Just(1 << 30)];
    let rate = |it: Option<(u64, u64)>| it.map(|(rate, burst)| Rate { rate, burst });
    (packets, bytes, syns, penalty_ns, prop::bool::weighted(0.2)).prop_map(
        move |(packets, bytes, syns, penalty_ns, observe)| Budget {
            packets: rate(packets),
            bytes: rate(bytes),
            syns: rate(syns),
            penalty_ns,
            observe,
        },
    )
}

pub fn any_network() -> impl Strategy<Value = AnyNetwork> {
    let v4 = (any_source4(), 0..=32u32).prop_map(|(source, length)| AnyNetwork::v4(source, length));
    let v6 =
        (any_source6(), 0..=128u32).prop_map(|(source, length)| AnyNetwork::v6(source, length));
    prop_oneof![v4, v6]
}
