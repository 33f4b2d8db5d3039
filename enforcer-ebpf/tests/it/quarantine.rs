//! Which block an address meets, and what that block remembers of it.

use enforcer_ebpf::events::EVENTS_PER_TICK;
use enforcer_ebpf::table::{MOMENT_NS, Meta, TICK_NS};
use enforcer_ebpf::{Direction, Mode, NEVER_NS, Reason, TableWord, Verdict};

use crate::frames::{Shape, Transport};
use crate::memory::{Memory, START_NS, empty_rows};
use crate::reference::{AnyNetwork, Block, World};
use crate::verdict::{SOURCE4, SOURCE6};
use crate::writer::{Counts, Entry};

const PASSED: (Verdict, Reason) = (Verdict::Pass, Reason::Clean);
const BLOCKED: (Verdict, Reason) = (Verdict::Drop, Reason::Blocked);
const SECOND_NS: u64 = 1_000_000_000;

fn frame4() -> Vec<u8> {
    Shape::v4(SOURCE4, Transport::Icmp(8, 0)).bytes()
}

fn frame6() -> Vec<u8> {
    Shape::v6(SOURCE6, Transport::Tcp(40_000, 443, 2)).bytes()
}

fn tables(homes: u32) -> Memory {
    let mut tables = World::default().tables();
    tables.make_tables(homes);
    tables
}

#[test]
fn a_block_ends_at_its_time_with_nobody_to_end_it() {
    let tables = tables(4);
    let expires_ns = START_NS / MOMENT_NS * MOMENT_NS + 7 * MOMENT_NS;
    tables.block(Entry { expires_ns, ..AnyNetwork::v4(SOURCE4, 32).entry(1) });
    tables.block(Entry { expires_ns, ..AnyNetwork::v6(SOURCE6, 64).entry(2) });

    tables.boot_ns.set(expires_ns - 1);
    assert_eq!([frame4(), frame6()].map(|it| tables.incoming(&it)), [BLOCKED; 2]);
    // The other clock stands still while the host sleeps.
    tables.monotonic_ns.add(100 * SECOND_NS);
    assert_eq!(tables.incoming(&frame4()), BLOCKED);
    tables.boot_ns.set(expires_ns);
    assert_eq!([frame4(), frame6()].map(|it| tables.incoming(&it)), [PASSED; 2]);
}

#[test]
fn a_clock_that_is_late_ends_a_block_late_by_as_much_and_never_early() {
    for late_ns in [0, 4_000_000, 10_000_000] {
        let tables = tables(4);
        let expires_ns = START_NS + 1_234_567_890;
        tables.block(Entry { expires_ns, ..AnyNetwork::v4(SOURCE4, 32).entry(1) });
        tables.late_ns.set(late_ns);

        tables.boot_ns.set(expires_ns - 1);
        assert_eq!(tables.incoming(&frame4()), BLOCKED);
        tables.boot_ns.set(expires_ns + late_ns + MOMENT_NS);
        assert_eq!(tables.incoming(&frame4()), PASSED, "after {late_ns}");
    }
}

#[test]
fn every_length_of_either_family_can_be_blocked_alone_and_its_neighbour_is_not() {
    for (v6, lengths) in [(false, 0..=32), (true, 0..=128u32)] {
        for length in lengths {
            let tables = tables(2);
            let around = |address4: [u8; 4], address6: [u8; 16]| match v6 {
                true => AnyNetwork::v6(address6, length),
                false => AnyNetwork::v4(address4, length),
            };
            let network = around(SOURCE4, SOURCE6);
            tables.block(network.entry(1));

            let frame = if v6 { frame6() } else { frame4() };
            assert_eq!(tables.incoming(&frame), BLOCKED, "/{length}");
            if length > 0 {
                // The same address with the last bit of the network turned.
                let bit = 1u128 << (network.width() - length);
                let beside = if v6 {
                    let address = u128::from_be_bytes(SOURCE6) ^ bit;
                    Shape::v6(address.to_be_bytes(), Transport::Icmp(128, 0))
                } else {
                    let address = u32::from_be_bytes(SOURCE4) ^ bit as u32;
                    Shape::v4(address.to_be_bytes(), Transport::Icmp(8, 0))
                };
                assert_eq!(tables.incoming(&beside.bytes()), PASSED, "beside /{length}");
            }
            tables.release(network);
            assert_eq!(tables.incoming(&frame), PASSED, "/{length} released");
        }
    }
}

#[test]
fn thirty_two_lengths_are_walked_to_the_last() {
    let tables = tables(64);
    let far = |length: u32| {
        let mut address = SOURCE6;
        address[(length as usize - 1) / 8] ^= 0x80 >> ((length - 1) % 8);
        AnyNetwork::v6(address, length)
    };
    let lengths: Vec<u32> = (1..=31).map(|step| step * 4).chain([128]).collect();
    lengths.iter().for_each(|length| tables.block(far(*length).entry(1)));
    assert_eq!(tables.incoming(&frame6()), PASSED);

    for length in lengths {
        let network = AnyNetwork::v6(SOURCE6, length);
        tables.block(network.entry(2));
        assert_eq!(tables.incoming(&frame6()), BLOCKED, "/{length}");
        tables.release(network);
    }
}

#[test]
fn a_block_that_expired_or_observes_does_not_hide_a_wide_one() {
    for (expires_ns, flags) in [(START_NS - SECOND_NS, 0), (NEVER_NS, Meta::OBSERVE)] {
        let tables = tables(4);
        let (narrow, wide) = (AnyNetwork::v4(SOURCE4, 32), AnyNetwork::v4(SOURCE4, 24));
        tables.block(Entry { expires_ns, flags, ..narrow.entry(1) });
        tables.block(wide.entry(2));

        assert_eq!(tables.incoming(&frame4()), BLOCKED);
        assert_eq!((tables.counts(wide).packets, tables.counts(narrow).packets), (1, 0));
        assert_eq!(tables.events()[0].id, 2);

        tables.release(wide);
        let (verdict, reason) = tables.incoming(&frame4());
        let observed = flags != 0;
        let expected = if observed { Reason::Blocked } else { Reason::Clean };
        assert_eq!((verdict, reason), (Verdict::Pass, expected));
        assert_eq!(tables.counts(narrow).packets, u64::from(observed));
    }
}

#[test]
fn a_row_that_is_full_sends_the_rest_behind_it() {
    for homes in [1, 2, 3] {
        let tables = tables(homes);
        let host = |host: u8| AnyNetwork::v4([203, 0, 113, host], 32);
        let frame = |host: u8| Shape::v4([203, 0, 113, host], Transport::Icmp(8, 0)).bytes();
        (0..30).for_each(|it| tables.block(host(it).entry(it.into())));
        assert!((0..30).all(|it| tables.incoming(&frame(it)) == BLOCKED));
        assert!((30..=255).all(|it| tables.incoming(&frame(it)) == PASSED));

        // What is taken out in front leaves what is behind where it can be found.
        (0..30).step_by(2).for_each(|it| tables.release(host(it)));
        for it in 0..30 {
            let expected = if it % 2 == 0 { PASSED } else { BLOCKED };
            assert_eq!(tables.incoming(&frame(it)), expected, "{it} of {homes}");
        }
        (0..30).step_by(2).for_each(|it| tables.block(host(it).entry(it.into())));
        assert!((0..30).all(|it| tables.incoming(&frame(it)) == BLOCKED));
    }
}

#[test]
fn one_word_puts_another_table_in_force() {
    let mut tables = tables(4);
    let (old, new) = (AnyNetwork::v4(SOURCE4, 32), AnyNetwork::v4(SOURCE4, 24));
    tables.block(old.entry(1));
    tables.v4.tables[1] = empty_rows(100 + 7);
    let next = TableWord { index: 1, rows: 100 };
    tables.write(next, new.entry(2));
    assert_eq!(tables.incoming(&frame4()), BLOCKED);
    assert_eq!(tables.counts(old).packets, 1);

    // Bits and lengths come first, so that nothing is hidden when the word changes.
    let first = TableWord::from_word(tables.config.table4.get());
    tables.block(new.entry(3));
    tables.release(new);
    tables.config.table4.set(next.word());

    assert_eq!(tables.incoming(&frame4()), BLOCKED);
    let counted = |table, network| tables.counts_in(table, network).packets;
    assert_eq!((counted(first, old), counted(next, new)), (1, 1));
}

#[test]
fn a_block_counts_what_met_it_and_when() {
    let tables = tables(4);
    let network = AnyNetwork::v6(SOURCE6, 48);
    tables.block(network.entry(1));

    for _ in 0..3 {
        tables.incoming(&frame6());
    }

    let bytes = 3 * frame6().len() as u64;
    assert_eq!(tables.counts(network), Counts { packets: 3, bytes });
    assert_eq!(tables.counted(Direction::In, Verdict::Drop, Reason::Blocked), (3, bytes));
}

#[test]
fn a_block_is_reported_once_in_a_second_with_what_the_packet_was() {
    let tables = tables(4);
    tables.block(AnyNetwork::v6(SOURCE6, 48).entry(77));
    let start_ns = START_NS / TICK_NS * TICK_NS;
    for after_ns in [0, 1, TICK_NS - 1, TICK_NS, TICK_NS + 1] {
        tables.boot_ns.set(start_ns + after_ns);
        tables.incoming(&frame6());
    }

    let events = tables.events();
    let times: Vec<u64> = events.iter().map(|event| event.at_ns - start_ns).collect();
    assert_eq!(times, [0, TICK_NS]);
    let event = events[0];
    assert_eq!((event.id, event.bits, event.length, event.octets()), (77, 128, 48, SOURCE6));
    assert_eq!((event.protocol, event.source_port, event.port, event.flags), (6, 40_000, 443, 2));
    assert_eq!(event.bytes as usize, frame6().len());
    assert!(event.is(Verdict::Drop) && event.because(Reason::Blocked) && event.went(Direction::In));
}

#[test]
fn what_is_spared_is_neither_counted_against_a_block_nor_reported() {
    let network = AnyNetwork::v4(SOURCE4, 32);
    let world =
        World { blocks: vec![Block::around(network)], mode: Mode::Enforce, ..World::default() };
    let mut tables = world.tables();
    let path_mtu = Shape::v4(SOURCE4, Transport::Icmp(3, 4)).bytes();
    assert_eq!(tables.incoming(&path_mtu), (Verdict::Pass, Reason::Essential));
    tables.v4.allow = vec![AnyNetwork::v4(SOURCE4, 8)];
    assert_eq!(tables.incoming(&frame4()), (Verdict::Pass, Reason::Allowed));

    assert_eq!(tables.counts(network), Counts { packets: 0, bytes: 0 });
    assert!(tables.events().is_empty());
}

#[test]
fn no_more_events_are_told_in_a_second_than_anybody_reads() {
    let from = |source| Shape::v4(source, Transport::Icmp(8, 0)).bytes();
    let tables = tables(4_096);
    for host in 0..EVENTS_PER_TICK as u32 + 100 {
        tables.block(AnyNetwork::v4((0x0a00_0000 | host).to_be_bytes(), 32).entry(2));
        assert_eq!(tables.incoming(&from((0x0a00_0000 | host).to_be_bytes())), BLOCKED);
    }

    assert_eq!(tables.events().len() as u64, EVENTS_PER_TICK);
    assert_eq!(tables.lost.get(), 100);
    tables.boot_ns.add(TICK_NS);
    assert_eq!(tables.incoming(&from([10, 0, 0, 1])), BLOCKED);
    assert_eq!(tables.events().len() as u64, EVENTS_PER_TICK + 1);
}
