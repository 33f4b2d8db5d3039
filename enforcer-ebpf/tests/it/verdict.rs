//! Which packets are dropped, and why.

use enforcer_ebpf::{
    Address, Config, EVENT_WINDOW_NS, Key4, Key6, Lengths, Mode, NEVER_NS, Reason, V4, V6, Verdict,
};
use proptest::prelude::*;

use crate::frames::{Shape, Transport, any_shape, every_shape};
use crate::memory::{Memory, entry};
use crate::reference::{AnyNetwork, Block, World, any_world};

const V4_SOURCE: [u8; 4] = [203, 0, 113, 7];
const V6_SOURCE: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
const TCP: Transport = Transport::Tcp(40_000, 443);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_frame_is_judged_as_the_reference_says(shape in any_shape(), world in any_world()) {
        let frame = shape.bytes();

        let judged = world.tables().judge_with_reason(&frame);

        prop_assert_eq!(judged, world.verdict(&shape, frame.len()));
    }

    #[test]
    fn a_frame_cut_anywhere_is_judged_as_the_reference_says(
        shape in any_shape(),
        world in any_world(),
        cut: prop::sample::Index,
    ) {
        let frame = shape.bytes();
        let length = cut.index(frame.len() + 1);

        let judged = world.tables().judge_with_reason(&frame[..length]);

        prop_assert_eq!(judged, world.verdict(&shape, length));
    }

    #[test]
    fn no_bytes_make_it_panic_and_each_frame_is_counted_once(
        frame in prop::collection::vec(any::<u8>(), 0..200),
        start in prop::option::of(prop::sample::select(vec![0x0800u16, 0x86DD, 0x8100])),
        world in any_world(),
    ) {
        let mut frame = frame;
        if let (Some(kind), true) = (start, frame.len() >= 14) {
            frame[12..14].copy_from_slice(&kind.to_be_bytes());
        }
        let tables = world.tables();

        let verdict = tables.judge(&frame);

        let counts = tables.counts.borrow();
        prop_assert_eq!(counts.len(), 1);
        let ((counted, _), (packets, bytes)) = counts.iter().next().unwrap();
        prop_assert_eq!((*counted, *packets, *bytes), (verdict, 1, frame.len() as u64));
    }

    #[test]
    fn a_mode_that_only_observes_drops_nothing(shape in any_shape(), world in any_world()) {
        let observed = World { mode: Mode::Observe, ..world };

        prop_assert_eq!(observed.tables().judge(&shape.bytes()), Verdict::Pass);
    }

    #[test]
    fn cutting_host_bits_is_what_arithmetic_says(bits: u128, host_bits in 0..=128u32) {
        let cut = bits.checked_shr(host_bits).and_then(|b| b.checked_shl(host_bits)).unwrap_or(0);

        let (high, low) = ((bits >> 64) as u64, bits as u64);
        let network = Key6 { high: (cut >> 64) as u64, low: cut as u64, length: (128 - host_bits).into() };
        prop_assert_eq!(V6 { high, low }.network(host_bits), network);

        let (bits, host_bits) = (bits as u32, host_bits.min(32));
        let cut = bits.checked_shr(host_bits).and_then(|b| b.checked_shl(host_bits)).unwrap_or(0);
        prop_assert_eq!(V4(bits).network(host_bits), Key4 { address: cut, length: 32 - host_bits });
    }
}

#[test]
fn every_shape_cut_at_every_byte_is_judged_as_the_reference_says() {
    for mode in [Mode::Off, Mode::Observe, Mode::Enforce] {
        for (blocked, allowed) in [(false, false), (true, false), (true, true)] {
            let world = world_around_both_sources(mode, blocked, allowed);
            for (name, shape) in every_shape(V4_SOURCE, V6_SOURCE) {
                let frame = shape.bytes();
                for length in 0..=frame.len() {
                    let judged = world.tables().judge_with_reason(&frame[..length]);

                    assert_eq!(judged, world.verdict(&shape, length), "{name} cut at {length}");
                }
            }
        }
    }
}

#[test]
fn fragments_options_tags_and_extension_headers_do_not_hide_a_blocked_source() {
    let world = world_around_both_sources(Mode::Enforce, true, false);
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

    for (name, shape) in every_shape(V4_SOURCE, V6_SOURCE) {
        let (verdict, reason) = world.tables().judge_with_reason(&shape.bytes());

        let expected = match name {
            "three tags" => (Verdict::Drop, Reason::Unreadable),
            name if spared.contains(&name) => (Verdict::Pass, Reason::Essential),
            name if not_ip.contains(&name) => (Verdict::Pass, Reason::NotIp),
            _ => (Verdict::Drop, Reason::Blocked),
        };
        assert_eq!((verdict, reason), expected, "{name}");
    }
}

#[test]
fn a_header_that_lies_about_its_version_or_length_is_unreadable() {
    let tables = Memory::new(enforcing());
    let frame = Shape::v4(V4_SOURCE, TCP).bytes();
    for first in [0x00, 0x40, 0x44, 0x55, 0x65, 0xff] {
        let mut frame = frame.clone();
        frame[14] = first;

        assert_eq!(
            tables.judge_with_reason(&frame),
            (Verdict::Drop, Reason::Unreadable),
            "{first:#x}"
        );
    }
    let mut frame = Shape::v6(V6_SOURCE, TCP).bytes();
    frame[14] = 0x45;

    assert_eq!(tables.judge_with_reason(&frame), (Verdict::Drop, Reason::Unreadable));
}

#[test]
fn a_block_ends_at_its_time_with_nobody_to_end_it() {
    let mut tables = Memory::new(enforcing());
    let end = tables.now_ns.get() + 1_000;
    block_v4(&mut tables, 32, end, 1, false);
    let frame = Shape::v4(V4_SOURCE, TCP).bytes();

    tables.now_ns.set(end - 1);
    assert_eq!(tables.judge(&frame), Verdict::Drop);
    tables.now_ns.set(end);
    assert_eq!(tables.judge(&frame), Verdict::Pass);
}

#[test]
fn a_narrow_block_that_has_expired_or_only_observes_does_not_hide_a_wide_one() {
    for (expires_ns, observe) in [(0, false), (NEVER_NS, true)] {
        let mut tables = Memory::new(enforcing());
        block_v4(&mut tables, 32, expires_ns, 1, observe);
        block_v4(&mut tables, 24, NEVER_NS, 2, false);

        assert_eq!(tables.judge(&Shape::v4(V4_SOURCE, TCP).bytes()), Verdict::Drop);
        assert_eq!(tables.v4.blocks[&network_v4(24)].packets.get(), 1);
        assert_eq!(tables.v4.blocks[&network_v4(32)].packets.get(), 0);
    }
}

#[test]
fn a_block_counts_what_met_it_and_when() {
    let mut tables = Memory::new(enforcing());
    block_v4(&mut tables, 24, NEVER_NS, 1, false);
    let frame = Shape::v4(V4_SOURCE, TCP).bytes();

    tables.judge(&frame);
    tables.now_ns.set(tables.now_ns.get() + 5);
    tables.judge(&frame);

    let block = &tables.v4.blocks[&network_v4(24)];
    assert_eq!(block.packets.get(), 2);
    assert_eq!(block.bytes.get(), 2 * frame.len() as u64);
    assert_eq!(block.last_hit_ns.get(), tables.now_ns.get());
}

#[test]
fn a_block_is_reported_once_in_each_window() {
    let mut tables = Memory::new(enforcing());
    block_v4(&mut tables, 24, NEVER_NS, 77, false);
    let frame = Shape::v4(V4_SOURCE, TCP).bytes();
    let start = tables.now_ns.get();

    for after in [0, 1, EVENT_WINDOW_NS - 1, EVENT_WINDOW_NS, EVENT_WINDOW_NS + 1] {
        tables.now_ns.set(start + after);
        tables.judge(&frame);
    }

    let events = tables.events.borrow();
    let times: Vec<_> = events.iter().map(|event| event.at_ns - start).collect();
    assert_eq!(times, [0, EVENT_WINDOW_NS]);
    let event = events[0];
    assert_eq!((event.id, event.bits, event.length), (77, 32, 24));
    assert_eq!(event.source[..4], V4_SOURCE);
    assert_eq!(event.source[4..], [0; 12]);
    assert!(event.is(Verdict::Drop) && event.because(Reason::Blocked));
}

#[test]
fn the_allow_list_wins_silently() {
    let mut tables = Memory::new(enforcing());
    block_v4(&mut tables, 32, NEVER_NS, 1, false);
    tables.v4.allow.push(network_v4(8));

    let judged = tables.judge_with_reason(&Shape::v4(V4_SOURCE, TCP).bytes());

    assert_eq!(judged, (Verdict::Pass, Reason::Allowed));
    assert!(tables.events.borrow().is_empty());
    assert_eq!(tables.v4.blocks[&network_v4(32)].packets.get(), 0);
}

#[test]
fn a_map_of_zeros_passes_everything() {
    let mut tables = Memory::new(Config::default());
    block_v4(&mut tables, 32, NEVER_NS, 1, false);

    let judged = tables.judge_with_reason(&Shape::v4(V4_SOURCE, TCP).bytes());

    assert_eq!(judged, (Verdict::Pass, Reason::Off));
}

fn enforcing() -> Config {
    let lengths4 = Lengths::of(0).union(Lengths::of(8));
    Config { mode: Mode::Enforce.word(), lengths4, ..Config::default() }
}

fn network_v4(length: u32) -> Key4 {
    V4(u32::from_be_bytes(V4_SOURCE)).network(32 - length)
}

fn block_v4(tables: &mut Memory, length: u32, expires_ns: u64, id: u64, observe: bool) {
    tables.v4.blocks.insert(network_v4(length), entry(expires_ns, id, observe));
}

fn world_around_both_sources(mode: Mode, blocked: bool, allowed: bool) -> World {
    let networks = [
        AnyNetwork { v6: false, bits: u32::from_be_bytes(V4_SOURCE).into(), length: 32 },
        AnyNetwork { v6: true, bits: u128::from_be_bytes(V6_SOURCE) >> 64 << 64, length: 64 },
    ];
    let block = |network| Block { expired: !blocked, ..Block::around(network) };
    World {
        mode,
        blocks: networks.map(block).to_vec(),
        allow: if allowed { networks.to_vec() } else { Vec::new() },
    }
}
