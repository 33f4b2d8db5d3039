//! Which packets pass, and why: the core against the reference.

use enforcer_ebpf::{Direction, Mode, Reason, Verdict};
use proptest::prelude::*;

use crate::any::{any_shape, any_world};
use crate::frames::{SYN, Shape, Transport, every_shape};
use crate::reference::{AnyNetwork, Block, Budget, Lease, Rate, World};

pub const SOURCE4: [u8; 4] = [203, 0, 113, 7];
pub const SOURCE6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];

/// The finest step that every clock of the core can tell.
const TICK_NS: u64 = 1 << 15;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_frame_in_every_world_is_judged_as_the_reference_says(
        world in any_world(),
        packets in prop::collection::vec(
            (any_shape(), any::<prop::sample::Index>(), prop::bool::weighted(0.3), any_gap()),
            1..30,
        ),
    ) {
        let tables = world.tables();
        let mut judge = world.judge();
        let before = tables.decisions();

        for (at, (shape, cut, is_cut, gap_ns)) in packets.iter().enumerate() {
            let frame = shape.bytes();
            let length = if *is_cut { cut.index(frame.len() + 1) } else { frame.len() };
            tables.pass(*gap_ns);
            judge.now_ns += gap_ns;

            let expected = judge.incoming(shape, length);
            prop_assert_eq!(tables.incoming(&frame[..length]), expected, "{}: {:?}", at, shape);
            let expected = judge.outgoing(shape, length);
            prop_assert_eq!(tables.outgoing(&frame[..length]), expected, "{}: {:?}", at, shape);
        }
        prop_assert_eq!(tables.counted_packets(), 2 * packets.len() as u64);
        prop_assert_eq!(tables.decisions(), before, "a packet has changed who is blocked");
    }

    #[test]
    fn no_bytes_make_it_panic_and_each_frame_is_counted_once_each_way(
        frame in prop::collection::vec(any::<u8>(), 0..200),
        start in prop::option::of(prop::sample::select(vec![0x0800u16, 0x86DD, 0x8100])),
        world in any_world(),
    ) {
        let mut frame = frame;
        if let (Some(kind), true) = (start, frame.len() >= 14) {
            frame[12..14].copy_from_slice(&kind.to_be_bytes());
        }
        let tables = world.tables();

        let (verdict, reason) = tables.incoming(&frame);
        prop_assert_eq!(tables.counted(Direction::In, verdict, reason), (1, frame.len() as u64));
        let (verdict, reason) = tables.outgoing(&frame);
        prop_assert_eq!(tables.counted(Direction::Out, verdict, reason), (1, frame.len() as u64));
        prop_assert_eq!(tables.counted_packets(), 2);
    }

    #[test]
    fn what_only_observes_drops_nothing_and_gives_the_same_reasons(
        world in any_world(),
        shapes in prop::collection::vec(any_shape(), 1..20),
        over: bool,
    ) {
        let enforcing = World { mode: Mode::Enforce, lease: Lease::None, ..world.clone() };
        let observing = match over {
            true => World { mode: Mode::Enforce, lease: Lease::Over, ..world },
            false => World { mode: Mode::Observe, lease: Lease::None, ..world },
        };
        let (enforcing, observing) = (enforcing.tables(), observing.tables());
        for shape in shapes {
            let frame = shape.bytes();
            let (verdict, reason) = observing.incoming(&frame);
            prop_assert_eq!(verdict, Verdict::Pass);
            prop_assert_eq!(enforcing.incoming(&frame).1, reason);
            let (verdict, reason) = observing.outgoing(&frame);
            prop_assert_eq!(verdict, Verdict::Pass);
            prop_assert_eq!(enforcing.outgoing(&frame).1, reason);
        }
    }
}

#[test]
fn every_shape_cut_at_every_byte_is_judged_as_the_reference_says() {
    for mode in [Mode::Off, Mode::Observe, Mode::Enforce] {
        for (blocked, allowed) in [(false, false), (true, false), (true, true)] {
            for ports in [vec![], vec![443, 68]] {
                let world = world_around_both(mode, blocked, allowed, ports);
                for (name, shape) in every_shape(SOURCE4, SOURCE6) {
                    // Spends all it has; what follows is over the budget.
                    let tables = world.tables();
                    let mut judge = world.judge();
                    let frame = shape.bytes();
                    for length in 0..=frame.len() {
                        let cut = &frame[..length];
                        let expected = judge.incoming(&shape, length);
                        assert_eq!(tables.incoming(cut), expected, "{name} cut at {length}");
                        let expected = judge.outgoing(&shape, length);
                        assert_eq!(tables.outgoing(cut), expected, "{name} cut at {length}, out");
                    }
                }
            }
        }
    }
}

#[test]
fn fragments_options_tags_extension_headers_and_tunnels_do_not_hide_a_blocked_source() {
    let world = world_around_both(Mode::Enforce, true, false, Vec::new());
    let spared = [
        "path mtu over ipv4",
        "dhcp offer",
        "dhcp request",
        "dhcp behind options",
        "packet too big",
        "neighbour solicitation",
        "redirect",
        "router solicitation",
        "dhcpv6",
        "discovery behind six extensions",
    ];
    let not_ip = ["arp", "lldp", "802.3 length", "arp in a tag"];

    for (name, shape) in every_shape(SOURCE4, SOURCE6) {
        let expected = match name {
            "three tags" => (Verdict::Drop, Reason::Unreadable),
            name if spared.contains(&name) => (Verdict::Pass, Reason::Essential),
            name if not_ip.contains(&name) => (Verdict::Pass, Reason::NotIp),
            _ => (Verdict::Drop, Reason::Blocked),
        };
        assert_eq!(world.tables().incoming(&shape.bytes()), expected, "{name}");
    }
}

#[test]
fn a_blocked_source_inside_a_tunnel_is_not_the_source_of_the_packet() {
    let world = world_around_both(Mode::Enforce, true, false, Vec::new());
    let tables = world.tables();
    let inside = Shape::v4(SOURCE4, Transport::Tcp(1, 2, SYN)).bytes();
    let vxlan = [&[8, 0, 0, 0, 0, 0, 7, 0], &inside[..]].concat();
    for transport in [
        Transport::Other(4, inside[14..].to_vec()),
        Transport::Other(47, [&[0, 0, 8, 0], &inside[14..]].concat()),
        Transport::Udp(50_000, 4789, vxlan),
    ] {
        let frame = Shape::v4([192, 0, 2, 1], transport).bytes();

        assert_eq!(tables.incoming(&frame), (Verdict::Pass, Reason::Clean));
    }
}

#[test]
fn a_header_that_lies_about_its_version_or_length_is_unreadable() {
    let tables = World::default().tables();
    let frame = Shape::v4(SOURCE4, Transport::Tcp(1, 2, SYN)).bytes();
    for first in [0x00, 0x40, 0x44, 0x55, 0x65, 0xff] {
        let mut frame = frame.clone();
        frame[14] = first;

        assert_eq!(tables.incoming(&frame), (Verdict::Drop, Reason::Unreadable), "{first:#x}");
        assert_eq!(tables.outgoing(&frame), (Verdict::Pass, Reason::Unreadable), "{first:#x}");
    }
    let mut frame = Shape::v6(SOURCE6, Transport::Tcp(1, 2, SYN)).bytes();
    frame[14] = 0x45;

    assert_eq!(tables.incoming(&frame), (Verdict::Drop, Reason::Unreadable));
}

#[test]
fn a_map_of_zeros_passes_everything() {
    let world = world_around_both(Mode::Enforce, true, false, Vec::new());
    let tables = world.tables();
    tables.config.mode.set(0);
    for (name, shape) in every_shape(SOURCE4, SOURCE6) {
        let frame = shape.bytes();
        assert_eq!(tables.incoming(&frame), (Verdict::Pass, Reason::Off), "{name}");
        assert_eq!(tables.outgoing(&frame), (Verdict::Pass, Reason::Off), "{name}");
    }
}

#[test]
fn a_lease_ends_by_the_clock_that_stands_still_while_the_host_sleeps() {
    let world = world_around_both(Mode::Enforce, true, false, Vec::new());
    let tables = world.tables();
    let frame = Shape::v4(SOURCE4, Transport::Tcp(1, 2, SYN)).bytes();
    tables.config.lease_ns.set(tables.monotonic_ns.get() + 1_000);

    // Asleep for a year.
    tables.boot_ns.add(365 * 86_400 * 1_000_000_000);
    assert_eq!(tables.incoming(&frame), (Verdict::Drop, Reason::Blocked));
    tables.monotonic_ns.add(999);
    assert_eq!(tables.incoming(&frame), (Verdict::Drop, Reason::Blocked));
    tables.monotonic_ns.add(1);
    assert_eq!(tables.incoming(&frame), (Verdict::Pass, Reason::Blocked));
    tables.config.lease_ns.add(1);
    assert_eq!(tables.incoming(&frame), (Verdict::Drop, Reason::Blocked), "the agent is back");
}

fn any_gap() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => Just(0),
        2 => (0..1_000u64).prop_map(|ticks| ticks * TICK_NS),
        2 => (0..100_000u64).prop_map(|ticks| ticks * TICK_NS),
    ]
}

/// Both sources, in the small network that they are in.
pub fn world_around_both(mode: Mode, blocked: bool, allowed: bool, ports: Vec<u16>) -> World {
    let networks = [
        AnyNetwork::v4(SOURCE4, 32),
        AnyNetwork::v6(SOURCE6, 64),
        AnyNetwork::v4(crate::frames::HERE4, 31),
        AnyNetwork::v6(crate::frames::HERE6, 128),
    ];
    let block = |network| Block { expired: !blocked, ..Block::around(network) };
    let packets = Some(Rate { rate: 1, burst: 60 });
    let syns = Some(Rate { rate: 1, burst: 2 });
    World {
        mode,
        blocks: networks.map(block).to_vec(),
        allow: if allowed { networks.to_vec() } else { Vec::new() },
        budgets: vec![Budget { packets, syns, ..Budget::default() }],
        ports,
        ..World::default()
    }
}
