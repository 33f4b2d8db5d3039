//! New TCP connections, whose clock goes round in less than five hours.

use enforcer_ebpf::{Reason, Verdict};

use crate::frames::{ACK, SYN, Shape, Transport};
use crate::memory::{Memory, START_NS};
use crate::reference::{Budget, Rate, World};
use crate::verdict::{SOURCE4, SOURCE6};

/// Once round.
const CIRCLE_NS: u64 = 1 << 44;
const HOUR_NS: u64 = 3_600_000_000_000;
const DROPPED: (Verdict, Reason) = (Verdict::Drop, Reason::SynBudget);
const PASSED: (Verdict, Reason) = (Verdict::Pass, Reason::Clean);

fn tables(rate: u64, burst: u64) -> Memory {
    let syns = Some(Rate { rate, burst });
    World::with_budget(Budget { syns, ..Budget::default() }).tables()
}

fn opening() -> Vec<u8> {
    Shape::v4(SOURCE4, Transport::Tcp(40_000, 443, SYN)).bytes()
}

fn going_on() -> Vec<u8> {
    Shape::v4(SOURCE4, Transport::Tcp(40_000, 443, ACK)).bytes()
}

#[test]
fn a_newcomer_may_open_his_burst_whatever_time_it_is() {
    for part in 0..=64 {
        for before_ns in [0, 1_000_000, 2_000_000_000] {
            let tables = tables(200, 400);
            tables.pass(part * (CIRCLE_NS / 64) - if part > 0 { before_ns } else { 0 });

            for number in 0..400 {
                assert_eq!(tables.incoming(&opening()), PASSED, "{number} at {part}/64");
            }
            assert_eq!(tables.incoming(&opening()), DROPPED, "at {part}/64");
        }
    }
}

#[test]
fn who_opened_one_hours_ago_and_was_silent_since_may_open_his_burst() {
    for minutes in (1..40 * 60).step_by(7) {
        let tables = tables(2, 5);
        while tables.incoming(&opening()) == PASSED {}
        tables.pass(minutes * HOUR_NS / 60);

        for number in 0..5 {
            assert_eq!(tables.incoming(&opening()), PASSED, "{number} after {minutes} minutes");
        }
        assert_eq!(tables.incoming(&opening()), DROPPED, "after {minutes} minutes");
    }
}

#[test]
fn who_opened_one_hours_ago_and_sends_ever_since_may_open_his_burst() {
    for step_ns in [HOUR_NS / 4, HOUR_NS * 5 / 4] {
        let tables = tables(2, 5);
        while tables.incoming(&opening()) == PASSED {}
        for step in 1..=40 {
            tables.pass(step_ns);
            assert_eq!(tables.incoming(&going_on()), PASSED);
            if step % 3 == 0 {
                for number in 0..5 {
                    assert_eq!(tables.incoming(&opening()), PASSED, "{number} at step {step}");
                }
                assert_eq!(tables.incoming(&opening()), DROPPED, "at step {step}");
            }
        }
    }
}

#[test]
fn the_rate_is_kept_where_the_clock_begins_its_next_round() {
    let tables = tables(10, 3);
    let start_ns = 3 * CIRCLE_NS - 5_000_000_000;
    tables.pass(start_ns - START_NS % CIRCLE_NS);

    let passed = (0..10_000).filter(|_| {
        tables.pass(1_000_000);
        tables.incoming(&opening()) == PASSED
    });

    // Ten seconds, five on each side.
    assert!((102..=104).contains(&passed.count()));
}

#[test]
fn a_clock_that_is_late_forgives_no_connection() {
    let tables = tables(1, 2);
    let mut passed = 0;
    for step in 0..1_000 {
        tables.pass(10_000_000);
        tables.late_ns.set(if step % 2 == 0 { 10_000_000 } else { 0 });
        passed += u64::from(tables.incoming(&opening()) == PASSED);
    }
    assert!((11..=12).contains(&passed), "{passed} in ten seconds");
}

#[test]
fn only_what_opens_a_connection_is_paid_for() {
    let tables = tables(1, 1);
    for flags in [SYN | ACK, ACK, 0x04, 0x11] {
        for _ in 0..3 {
            let frame = Shape::v6(SOURCE6, Transport::Tcp(1, 443, flags)).bytes();
            assert_eq!(tables.incoming(&frame), PASSED, "{flags:#x}");
        }
    }
    let udp = Shape::v6(SOURCE6, Transport::Udp(1, 443, vec![SYN; 40])).bytes();
    let frame = Shape::v6(SOURCE6, Transport::Tcp(1, 443, SYN)).bytes();
    assert_eq!([&udp, &udp, &frame].map(|frame| tables.incoming(frame)), [PASSED; 3]);
    assert_eq!(tables.incoming(&frame), DROPPED);
    assert_eq!(tables.incoming(&udp), PASSED, "what is refused costs the others nothing");
}
