//! An attacker who changes the /64 with every packet: the networks around answer for their parts.

use enforcer_ebpf::{Reason, Verdict};
use proptest::prelude::*;

use crate::frames::{Shape, Transport};
use crate::memory::Memory;
use crate::reference::{Budget, World};

const AFTER: u64 = 8;
const WITHIN_NS: u64 = 10_000_000_000;
const FOR_NS: u64 = 600_000_000_000;
const OVER: (Verdict, Reason) = (Verdict::Drop, Reason::Budget);
const PASSED: (Verdict, Reason) = (Verdict::Pass, Reason::Clean);

/// A packet of a /64: the number of its /48, of its /56 in it, and of itself in that.
fn from(site: u16, network: u8, part: u8) -> Vec<u8> {
    let [high, low] = site.to_be_bytes();
    let source = [0x2a, 1, 0, 0, high, low, network, part, 0, 0, 0, 0, 0, 0, 0, 1];
    Shape::v6(source, Transport::Icmp(128, 0)).bytes()
}

fn tables() -> Memory {
    let mut tables = World::with_budget(Budget::packets(1, 2)).tables();
    tables.config.escalate_after.set(AFTER);
    tables.config.escalate_within_ns.set(WITHIN_NS);
    tables.config.escalate_for_ns.set(FOR_NS);
    tables.config.source6_mask.set(4_095);
    tables.v6.sources = crate::memory::many(4_096);
    tables
}

/// Exceeds the budget of whoever pays for it.
fn misbehave(tables: &Memory, site: u16, network: u8, part: u8) {
    (0..4).for_each(|_| _ = tables.passes(&from(site, network, part)));
}

/// Whether a /64 that was never heard of pays with others, who have nothing left.
fn answers(tables: &Memory, site: u16, network: u8, part: u8) -> bool {
    tables.incoming(&from(site, network, part)) == OVER
}

#[test]
fn a_56_answers_when_enough_of_its_64s_misbehave_and_no_neighbour_does() {
    let tables = tables();
    for part in 0..AFTER as u8 - 1 {
        misbehave(&tables, 7, 1, part);
        assert!(!answers(&tables, 7, 1, 100 + part), "after {part}");
    }
    // Two parts may look like one for once; a few more do not.
    let mut part = AFTER as u8 - 1;
    while !answers(&tables, 7, 1, 100 + part) {
        misbehave(&tables, 7, 1, part);
        part += 1;
    }
    assert!(part <= 2 * AFTER as u8, "{part}");

    for network in (0..=255).filter(|network| *network != 1) {
        assert_eq!(tables.incoming(&from(7, network, 0)), PASSED, "/56 number {network}");
    }
    for site in 8..100 {
        assert_eq!(tables.incoming(&from(site, 1, 0)), PASSED, "/48 number {site}");
    }
    let events = tables.events();
    assert!(events.iter().any(|event| event.length == 56));
}

#[test]
fn a_network_answers_for_as_long_as_it_was_told_to() {
    let tables = tables();
    (0..20).for_each(|part| misbehave(&tables, 7, 1, part));
    assert!(answers(&tables, 7, 1, 77));
    let start_ns = tables.now_ns();

    for part in 100..110 {
        tables.pass(FOR_NS / 10 - 1);
        // Whoever comes first in a while has the network's packets.
        (0..2).for_each(|_| assert_eq!(tables.incoming(&from(7, 1, part)), PASSED));
        assert!(answers(&tables, 7, 1, part + 100), "after {}", tables.now_ns() - start_ns);
    }
    tables.pass(20);
    for part in 30..60 {
        assert_eq!(tables.incoming(&from(7, 1, part)), PASSED);
    }
}

#[test]
fn a_48_answers_when_enough_of_its_56s_misbehave_although_they_answer() {
    let tables = tables();
    for network in 0..20 {
        (0..20).for_each(|part| misbehave(&tables, 7, network, part));
        // Each /56 has a budget of its own now, and exceeds it.
        tables.pass(1_100_000_000 / 20);
    }
    for network in 0..20 {
        (0..3).for_each(|part| misbehave(&tables, 7, network, part));
    }

    assert!((100..=255).all(|network| answers(&tables, 7, network, 0)), "all of the /48");
    assert!((8..100).all(|site| !answers(&tables, site, 0, 0)), "no other");
    assert!(tables.events().iter().any(|event| event.length == 48));
}

#[test]
fn parts_that_misbehave_at_different_times_do_not_make_their_network_answer() {
    let tables = tables();
    for part in 0..250 {
        tables.pass(WITHIN_NS / (AFTER - 1) + 1);
        misbehave(&tables, 7, 1, part);
    }
    assert!(!answers(&tables, 7, 1, 255));
}

#[test]
fn without_a_threshold_nobody_answers_for_others() {
    let tables = tables();
    tables.config.escalate_after.set(0);
    (0..=255).for_each(|part| misbehave(&tables, 7, 1, part));
    assert_eq!(tables.state.escalated_until_ns.get(), 0);
}

#[test]
fn ipv4_addresses_answer_for_themselves() {
    let tables = tables();
    for host in 0..=255 {
        let frame = Shape::v4([192, 0, 2, host], Transport::Icmp(8, 0)).bytes();
        (0..4).for_each(|_| _ = tables.passes(&frame));
    }
    assert_eq!(tables.state.escalated_until_ns.get(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn few_parts_never_make_their_network_answer_however_many_others_misbehave(seed: [u64; 2]) {
        let tables = tables();
        tables.reseed(seed);
        let few = AFTER as u8 - 1;

        // Thousands of bad parts take turns, few in any site: what is remembered by hash is crowded.
        for _ in 0..4 {
            for part in 0..few {
                (0..1_500).for_each(|site| misbehave(&tables, site, 1, part));
            }
            tables.pass(WITHIN_NS / 20);
        }

        for site in 0..1_500 {
            prop_assert!(!answers(&tables, site, 1, 200), "{}", site);
        }
    }
}
