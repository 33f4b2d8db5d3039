//! What the kernel and the agent have agreed on: names, numbers, and where every word is.
//!
//! A change here is a change of layout, and `ABI` counts those.

use std::collections::HashSet;
use std::mem::offset_of;

use enforcer_ebpf::escalation::{self, Escalation};
use enforcer_ebpf::flood::{self, State};
use enforcer_ebpf::table::{Hits, MAX_LENGTHS, PROBES, SLOTS};
use enforcer_ebpf::{
    ABI, COUNTERS, Class, Config, Counter, Direction, EVENT_BYTES, Event, LOST_EVENTS,
    MAX_NETWORKS, Mode, Reason, Row4, Row6, Set, Shared, V4, V6, Verdict, counter_index, events,
    flag, map, prefilter, program, source,
};
use proptest::prelude::*;

#[test]
fn the_layout_has_number_two() {
    assert_eq!(ABI, 2);
    assert_eq!((SLOTS, PROBES, MAX_LENGTHS), (4, 8, 32));
    assert_eq!((COUNTERS, LOST_EVENTS, EVENT_BYTES), (49, 48, 262_144));
    assert_eq!((source::WAYS, source::PEER_SETS, source::CLASSES), (4, 16_384, 64));
    assert_eq!((source::SPENT_NS, source::SYN_NS, source::KEEP_NS), (8, 4096, 10_000_000_000));
    assert_eq!((flood::ROWS, flood::COLUMNS, flood::HOLD_NS), (4, 4096, 2_000_000_000));
    assert_eq!((prefilter::WORDS4, prefilter::WORDS6), (1 << 19, 1 << 19));
    assert_eq!((escalation::PLACES, events::REPORTS, MAX_NETWORKS), (4096, 4096, 4096));
    assert_eq!((map::MMAPABLE, map::INNER), (1 << 10, 1 << 12));
    let flags = [flag::BUDGETS, flag::CLASSES, flag::SYNS, flag::CONTAIN, flag::PEERS];
    assert_eq!(flags, [1, 2, 4, 8, 16]);
}

#[test]
fn every_value_is_where_the_other_side_looks_for_it() {
    assert_eq!(size_of::<Config>(), 184);
    let words = [
        (offset_of!(Config, mode), 0),
        (offset_of!(Config, lease_ns), 1),
        (offset_of!(Config, seed), 2),
        (offset_of!(Config, table4), 4),
        (offset_of!(Config, table6), 5),
        (offset_of!(Config, lengths4), 6),
        (offset_of!(Config, lengths6), 9),
        (offset_of!(Config, source4_mask), 12),
        (offset_of!(Config, source6_mask), 13),
        (offset_of!(Config, flags), 14),
        (offset_of!(Config, ports), 15),
        (offset_of!(Config, class_generation), 17),
        (offset_of!(Config, flood_per_second), 18),
        (offset_of!(Config, escalate_after), 19),
        (offset_of!(Config, escalate_within_ns), 20),
        (offset_of!(Config, escalate_for_ns), 21),
        (offset_of!(Config, test_clock_ns), 22),
    ];
    for (offset, word) in words {
        assert_eq!(offset, 8 * word, "word {word}");
    }
    assert_eq!((size_of::<Row4>(), size_of::<Row6>()), (192, 224));
    assert_eq!(
        (offset_of!(Row4, meta), offset_of!(Row4, key), offset_of!(Row4, hits)),
        (0, 32, 64)
    );
    assert_eq!(
        (offset_of!(Row6, meta), offset_of!(Row6, key), offset_of!(Row6, hits)),
        (0, 32, 96)
    );
    let hits = [offset_of!(Hits, id), offset_of!(Hits, packets), offset_of!(Hits, bytes)];
    assert_eq!((hits, offset_of!(Hits, seen), size_of::<Hits>()), ([0, 8, 16], 24, 32));
    let set = [offset_of!(Set, key), offset_of!(Set, spent), offset_of!(Set, bytes)];
    assert_eq!((set, offset_of!(Set, tally), size_of::<Set>()), ([0, 32, 64], 96, 128));
    assert_eq!((size_of::<Class>(), offset_of!(Class, syn_cost)), (64, 32));
    assert_eq!((offset_of!(Class, penalty), offset_of!(Class, observe)), (48, 56));
    let state = [offset_of!(State, newcomers), offset_of!(State, flood_until_ns)];
    assert_eq!((state, offset_of!(State, escalated_until_ns)), ([8, 16], 24));
    assert_eq!((offset_of!(State, told), offset_of!(State, ahead)), (32, 40));
    let place = [offset_of!(Escalation, stretch), offset_of!(Escalation, parts)];
    assert_eq!((place, offset_of!(Escalation, until_ns)), ([8, 16], 24));
    assert_eq!((size_of::<State>(), size_of::<Escalation>()), (48, 32));
    assert_eq!((size_of::<Counter>(), offset_of!(Counter, bytes)), (16, 8));
    assert_eq!((size_of::<Shared>(), align_of::<Shared>()), (8, 8));
    let event = [
        offset_of!(Event, at_ns),
        offset_of!(Event, id),
        offset_of!(Event, reason),
        offset_of!(Event, verdict),
        offset_of!(Event, bits),
        offset_of!(Event, length),
        offset_of!(Event, peer),
        offset_of!(Event, direction),
        offset_of!(Event, protocol),
        offset_of!(Event, source_port),
        offset_of!(Event, port),
        offset_of!(Event, flags),
        offset_of!(Event, bytes),
    ];
    assert_eq!(event, [0, 8, 16, 20, 24, 28, 32, 48, 52, 54, 56, 58, 60]);
    assert_eq!(size_of::<Event>(), 64);
}

#[test]
fn every_map_and_every_program_has_a_name_of_its_own_that_the_kernel_takes() {
    let names: HashSet<_> = map::ALL.into_iter().chain(program::ALL).collect();

    assert_eq!(names.len(), map::ALL.len() + program::ALL.len());
    assert!(names.iter().all(|name| name.len() <= 15), "the kernel cuts longer names");
}

#[test]
fn every_number_has_kept_its_meaning() {
    let reasons = Reason::ALL
        .map(|reason| (counter_index(Direction::In, Verdict::Pass, reason), reason.name()));
    let names = [
        "clean",
        "off",
        "not-ip",
        "blocked",
        "budget",
        "unreadable",
        "allowed",
        "essential",
        "byte-budget",
        "syn-budget",
        "flood",
        "contained",
    ];
    for (number, (name, (index, found))) in names.into_iter().zip(reasons).enumerate() {
        assert_eq!((index as usize, found), (number, name));
    }
    assert_eq!(counter_index(Direction::In, Verdict::Drop, Reason::Clean), 12);
    assert_eq!(counter_index(Direction::Out, Verdict::Pass, Reason::Clean), 24);
    let drops: Vec<_> = Reason::ALL.into_iter().filter(|it| it.drops()).map(Reason::name).collect();
    let expected =
        ["blocked", "budget", "unreadable", "byte-budget", "syn-budget", "flood", "contained"];
    assert_eq!(drops, expected);
}

#[test]
fn every_direction_verdict_and_reason_has_a_counter_of_its_own() {
    let mut seen = HashSet::from([LOST_EVENTS]);
    for direction in Direction::ALL {
        for verdict in Verdict::ALL {
            for reason in Reason::ALL {
                let index = counter_index(direction, verdict, reason);
                assert!(seen.insert(index), "{direction} {verdict} {reason}");
            }
        }
    }
    assert_eq!(seen, (0..COUNTERS).collect());
}

#[test]
fn an_unknown_mode_drops_rather_than_passes() {
    for mode in [Mode::Off, Mode::Observe, Mode::Enforce] {
        assert_eq!(Mode::from_word(mode.word()), mode);
    }
    assert_eq!(Mode::from_word(3), Mode::Enforce);
    assert_eq!(Mode::from_word(u64::MAX), Mode::Enforce);
}

#[test]
fn an_event_spells_addresses_in_network_order() {
    let what = (Direction::Out, Verdict::Drop, Reason::Contained);
    let transport = enforcer_ebpf::Transport(0x0006_1200_1f90_01bb | 1 << 48);
    let event = Event::new(V4(0x0102_0304), what, (9, 24), transport, 1500, 5);
    assert_eq!(event.octets(), [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((event.bits, event.length, event.id, event.bytes), (32, 24, 9, 1500));
    assert!(event.is(Verdict::Drop) && event.because(Reason::Contained));
    assert!(event.went(Direction::Out) && !event.went(Direction::In));
    assert_eq!((event.source_port, event.port), (0x1f90, 443));

    let source = V6 { high: 0x2001_0db8_0000_0001, low: 7 };
    let event = Event::new(source, what, (9, 24), transport, 1500, 5);
    let expected = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
    assert_eq!((event.octets(), event.bits), (expected, 128));
}

proptest! {
    #[test]
    fn every_value_survives_the_map(config: [u64; 23], class: [u64; 8]) {
        prop_assert_eq!(Config::from_words(config).to_words(), config);
        prop_assert_eq!(Class::from_words(class).to_words(), class);
    }

    #[test]
    fn an_event_survives_the_ring_buffer_and_another_length_is_not_read(
        words: [u64; 2], numbers: [u32; 4], peer: [u64; 2], direction: u32, ports: [u16; 4], size: u32,
    ) {
        let [at_ns, id] = words;
        let [reason, verdict, bits, length] = numbers;
        let [protocol, source_port, port, flags] = ports;
        let event = Event {
            at_ns, id, reason, verdict, bits, length, peer, direction, protocol, source_port, port,
            flags, bytes: size,
        };
        let mut bytes: Vec<u8> = words.iter().flat_map(|it| it.to_ne_bytes()).collect();
        bytes.extend(numbers.iter().flat_map(|it| it.to_ne_bytes()));
        bytes.extend(peer.iter().flat_map(|it| it.to_ne_bytes()));
        bytes.extend(direction.to_ne_bytes());
        bytes.extend(ports.iter().flat_map(|it| it.to_ne_bytes()));
        bytes.extend(size.to_ne_bytes());

        prop_assert_eq!(Event::from_bytes(&bytes), Some(event));
        prop_assert_eq!(Event::from_bytes(&bytes[1..]), None);
        bytes.push(0);
        prop_assert_eq!(Event::from_bytes(&bytes), None);
    }
}
