//! More new sources than anybody has clients.

use enforcer_ebpf::flood::HOLD_NS;
use enforcer_ebpf::table::TICK_NS;
use enforcer_ebpf::{Class, Reason, Verdict};
use proptest::prelude::*;

use crate::frames::{Shape, Transport};
use crate::memory::Memory;
use crate::reference::{AnyNetwork, Budget, World};

const PASSED: (Verdict, Reason) = (Verdict::Pass, Reason::Clean);
const FLOODED: (Verdict, Reason) = (Verdict::Drop, Reason::Flood);

fn from(address: u32) -> Vec<u8> {
    Shape::v4(address.to_be_bytes(), Transport::Icmp(8, 0)).bytes()
}

/// Room for 4 sources in each of `sets`, and a threshold.
fn tables(budget: Budget, sets: usize, threshold: u64) -> Memory {
    let world = World::with_budget(budget);
    let mut tables = world.tables();
    tables.config.flood_per_second.set(threshold);
    tables.config.source4_mask.set(sets as u64 - 1);
    tables.v4.sources = crate::memory::many(sets);
    tables
}

fn slots(tables: &Memory) -> usize {
    let keys = tables.v4.sources.iter().flat_map(|set| &set.key);
    keys.filter(|key| key.get() != 0).count()
}

/// Any address, and never one of 10.0.0.0/8.
fn forged(number: u32) -> u32 {
    let address = number.wrapping_mul(0x9e37_79b1).rotate_left(13).wrapping_mul(0x85eb_ca6b);
    if address >> 24 == 10 { address ^ 1 << 31 } else { address }
}

#[test]
fn two_million_forged_sources_cost_ten_thousand_known_ones_no_packet() {
    const KNOWN: u32 = 10_000;
    let tables = tables(Budget::packets(100, 100), 16_384, 50_000);
    let known: Vec<Vec<u8>> = (0..KNOWN).map(|number| from(10 << 24 | number << 6)).collect();
    for frame in &known {
        assert_eq!(tables.incoming(frame), PASSED);
        tables.pass(100_000);
    }
    tables.pass(2_000_000_000);
    // The few whose set was full have no slot to lose.
    let kept = slots(&tables);
    assert!(kept >= KNOWN as usize - 10, "{kept}");

    // Ten seconds at 200,000 a second; every known one sends once a second meanwhile.
    let mut frame = from(0);
    let mut lost = 0;
    for number in 0..2_000_000u32 {
        frame[26..30].copy_from_slice(&forged(number).to_be_bytes());
        tables.passes(&frame);
        tables.pass(5_000);
        if number % 20 == 0 {
            lost += usize::from(!tables.passes(&known[(number / 20 % KNOWN) as usize]));
        }
    }

    assert_eq!(lost, 0);
    // What came before the threshold was reached in the first tick, and no more.
    assert!(slots(&tables) <= kept + 50_000 + 50_000 / 13, "{}", slots(&tables));
}

#[test]
fn newcomers_past_the_threshold_get_no_slot_and_share_a_budget_by_24() {
    let tables = tables(Budget::packets(1, 3), 1_024, 100);
    (0..107).for_each(|number| assert_eq!(tables.incoming(&from(number << 8)), PASSED));
    assert_eq!(slots(&tables), 107, "a tick is longer than a second by so much");

    let [one, other, apart] = [0xc000_0201, 0xc000_0202, 0xc000_0301].map(from);
    assert_eq!([&one, &other, &one].map(|it| tables.incoming(it)), [PASSED; 3]);
    assert_eq!([&one, &other].map(|it| tables.incoming(it)), [FLOODED; 2]);
    assert_eq!(tables.incoming(&apart), PASSED);
    assert_eq!(slots(&tables), 107);
    assert_eq!(tables.incoming(&from(5 << 8)), PASSED, "who has a slot has a budget");
}

#[test]
fn a_flood_is_over_when_it_was_quiet_for_two_seconds() {
    let tables = tables(Budget::packets(1, 3), 1_024, 100);
    (0..200).for_each(|number| _ = tables.incoming(&from(number << 8)));
    let taken = slots(&tables);

    // Not before the next tick: in this one there were too many already.
    for (step, gap_ns) in [TICK_NS, 500_000_000, HOLD_NS - TICK_NS - 500_000_001].iter().enumerate()
    {
        tables.pass(*gap_ns);
        tables.incoming(&from(0xc000_0200 + ((step as u32) << 8)));
        assert_eq!(slots(&tables), taken, "after step {step}");
    }
    tables.pass(1);
    tables.incoming(&from(0xc000_0200));
    assert_eq!(slots(&tables), taken + 1);
}

#[test]
fn fewer_newcomers_than_the_threshold_are_no_flood_however_long_they_come() {
    let tables = tables(Budget::packets(1, 1), 4_096, 1_000);
    for number in 0..10_000u32 {
        tables.pass(1_000_000);
        assert_eq!(tables.incoming(&from(forged(number))), PASSED, "{number}");
    }
    assert_eq!(tables.state.flood_until_ns.get(), 0);
    assert!(slots(&tables) > 9_000);
}

#[test]
fn without_a_threshold_there_is_no_flood() {
    let tables = tables(Budget::packets(1, 1), 4_096, 0);
    (0..5_000).for_each(|number| assert!(tables.passes(&from(forged(number)))));
    assert!(slots(&tables) > 4_900);
}

#[test]
fn a_class_of_its_own_holds_in_a_flood_too() {
    let world = World {
        budgets: vec![Budget::packets(1, 1), Budget::default(), Budget::packets(1, 4)],
        classes: vec![
            (AnyNetwork::v4([192, 0, 2, 0], 24), 1),
            (AnyNetwork::v4([192, 0, 3, 0], 24), 2),
        ],
        ..World::default()
    };
    let tables = world.tables();
    // As the agent writes an unlimited class.
    tables.set_class(1, Class { packet_tolerance: u64::MAX, ..Class::NONE });
    tables.config.flood_per_second.set(10);
    (0..50).for_each(|number| _ = tables.incoming(&from(number << 8)));

    let passing = |address: u32| (0..100).filter(|_| tables.passes(&from(address))).count();
    assert_eq!([0xc000_0201, 0xc000_0301, 0xc000_0401].map(passing), [100, 4, 1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn those_without_a_slot_never_have_less_than_one_budget_nor_more_than_four(
        rate in 1..50u64,
        burst in 1..20u64,
        packets in prop::collection::vec((0..6_000u32, 0..40_000_000u64), 1..400),
        seed: [u64; 2],
    ) {
        let tables = tables(Budget::packets(rate, burst), 1, 1);
        tables.reseed(seed);
        (0..50).for_each(|number| _ = tables.incoming(&from(number << 8)));
        // Nobody spent in vain: it was another /24, and long ago.
        tables.pass(1_000_000_000);
        let interval_ns = 1_000_000_000 / 8 / rate * 8;
        let (start_ns, mut spent_until_ns, mut passed) = (tables.now_ns(), 0, 0u64);
        let mut others = 0;

        for (other, gap_ns) in packets {
            tables.pass(gap_ns);
            // Attackers from everywhere fill what they can.
            for number in 0..3 {
                others += 1;
                tables.incoming(&from(forged(other * 3 + number)));
            }
            let now_ns = tables.now_ns();
            let judged = tables.incoming(&from(0xc000_0201));
            let owes_ns = u64::saturating_sub(spent_until_ns, now_ns);
            let has_left = owes_ns <= interval_ns * (burst - 1);
            if judged == PASSED {
                passed += 1;
                spent_until_ns = spent_until_ns.max(now_ns) + interval_ns;
            } else {
                prop_assert_eq!(judged, FLOODED);
                // Who was alone in one of four counters has all of his budget.
                prop_assert!(!has_left || others > 100, "too strict");
            }
        }
        let seconds_ns = tables.now_ns() - start_ns + 10_000_000;
        prop_assert!(passed <= 4 * (burst + seconds_ns / interval_ns + 1), "{}", passed);
    }
}
