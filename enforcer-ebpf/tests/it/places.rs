//! Slots: who has one keeps it, who finds none shares.

use enforcer_ebpf::source::{KEEP_NS, set_of};
use enforcer_ebpf::{Reason, Verdict};
use proptest::prelude::*;

use crate::frames::{Shape, Transport};
use crate::memory::Memory;
use crate::reference::{Budget, World};

const PASSED: (Verdict, Reason) = (Verdict::Pass, Reason::Clean);
const FLOODED: (Verdict, Reason) = (Verdict::Drop, Reason::Flood);

/// Addresses in /24s of their own, so that they share no budget unless they share all of a set.
fn from(number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    Shape::v4([10, high, low, 1], Transport::Icmp(8, 0)).bytes()
}

/// All sources in one set.
fn one_set(budget: Budget) -> Memory {
    let mut tables = World::with_budget(budget).tables();
    tables.config.source4_mask.set(0);
    tables.v4.sources.truncate(1);
    tables
}

fn has_a_slot(tables: &Memory, number: u16) -> bool {
    let [high, low] = number.to_be_bytes();
    let key = 1 << 32 | u64::from(u32::from_be_bytes([10, high, low, 1]));
    let set = set_of(key, tables.seed(), tables.config.source4_mask.get());
    tables.v4.sources[set as usize].key.iter().any(|slot| slot.get() == key)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn who_was_heard_of_in_the_last_ten_seconds_keeps_his_slot(
        steps in prop::collection::vec((0..12u16, 0..4_000_000_000u64, 0..=10_000_000u64), 1..200),
        burst in 1..4u64,
        penalty_ns in prop_oneof![Just(0), Just(3_000_000_000u64)],
    ) {
        let tables = one_set(Budget { penalty_ns, ..Budget::packets(1, burst) });
        let mut heard: Vec<(u16, u64)> = Vec::new();
        for (number, gap_ns, late_ns) in steps {
            let before_ns = tables.now_ns() - tables.late_ns.get();
            tables.pass(gap_ns);
            tables.late_ns.set(late_ns.min(tables.now_ns() - before_ns));
            let now_ns = tables.now_ns();

            tables.incoming(&from(number));

            heard.retain(|(known, _)| *known != number);
            if has_a_slot(&tables, number) {
                heard.push((number, now_ns));
            }
            for (known, at_ns) in &heard {
                let is_recent = now_ns - at_ns < KEEP_NS;
                prop_assert!(!is_recent || has_a_slot(&tables, *known), "{} lost his slot", known);
            }
            prop_assert!(heard.iter().filter(|(known, _)| has_a_slot(&tables, *known)).count() <= 4);
        }
    }
}

#[test]
fn the_fifth_of_a_set_shares_a_budget_with_his_neighbours_until_a_slot_is_free() {
    let tables = one_set(Budget::packets(1, 5));
    for number in 1..=4 {
        assert_eq!(tables.incoming(&from(number)), PASSED);
    }
    // He and his neighbour in the /24 have five packets together.
    let neighbour = Shape::v4([10, 0, 5, 77], Transport::Icmp(8, 0)).bytes();
    for _ in 0..2 {
        assert_eq!([&from(5), &neighbour].map(|it| tables.incoming(it)), [PASSED; 2]);
    }
    assert_eq!(tables.incoming(&from(5)), PASSED);
    assert_eq!([&from(5), &neighbour].map(|it| tables.incoming(it)), [FLOODED; 2]);
    assert_eq!(tables.incoming(&from(6)), PASSED, "of another /24");
    assert_eq!(tables.incoming(&from(1)), PASSED, "who has a slot has a budget");
    let events = tables.events();
    assert_eq!((events[0].length, events[0].bits), (24, 32));
    assert!(events[0].because(Reason::Flood));

    tables.pass(KEEP_NS - 1_000_000_000);
    (1..=3).for_each(|number| assert!(tables.passes(&from(number))));
    // The fourth owed one second's packet.
    tables.pass(2_500_000_000);
    for _ in 0..5 {
        assert_eq!(tables.incoming(&from(5)), PASSED, "in the slot of the fourth");
    }
    assert!(has_a_slot(&tables, 5) && !has_a_slot(&tables, 4));
    assert!((1..=3).all(|number| has_a_slot(&tables, number)));
}

#[test]
fn who_was_heard_of_longest_ago_makes_room() {
    let tables = one_set(Budget::packets(1, 5));
    for number in 1..=4 {
        tables.incoming(&from(number));
        tables.pass(1_000_000_000);
    }
    tables.pass(KEEP_NS);
    tables.incoming(&from(1));

    tables.incoming(&from(5));
    tables.incoming(&from(6));

    let left: Vec<u16> = (1..=6).filter(|number| has_a_slot(&tables, *number)).collect();
    assert_eq!(left, [1, 4, 5, 6]);
}

#[test]
fn who_owes_keeps_his_slot_until_he_has_paid_and_ten_seconds_more() {
    let tables = one_set(Budget { penalty_ns: 30_000_000_000, ..Budget::packets(1, 1) });
    for _ in 0..2 {
        (1..=4).for_each(|number| _ = tables.incoming(&from(number)));
    }
    tables.pass(39_000_000_000);
    tables.incoming(&from(5));
    assert!(!has_a_slot(&tables, 5));
    tables.pass(2_000_000_000);
    tables.incoming(&from(5));
    assert!(has_a_slot(&tables, 5));
}

#[test]
fn packets_are_counted_by_source_whatever_becomes_of_them() {
    let tables = one_set(Budget::packets(1, 2));
    (0..7).for_each(|_| _ = tables.incoming(&from(1)));

    let tally = enforcer_ebpf::source::Tally(tables.v4.sources[0].tally[0].get());
    assert_eq!(tally.packets(), 7);
}
