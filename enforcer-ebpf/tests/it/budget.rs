//! How much one source may send.

use enforcer_ebpf::{Config, EVENT_WINDOW_NS, Mode, Reason, Verdict};
use proptest::prelude::*;

use crate::frames::{Shape, Transport};
use crate::memory::Memory;

const TCP: Transport = Transport::Tcp(40_000, 443);

/// A bucket that holds `burst` tokens of time and loses one interval with each packet.
struct Reference {
    level_ns: u128,
    full_ns: u128,
    interval_ns: u128,
    seen_ns: u64,
}

impl Reference {
    fn new(rate: u32, burst: u32) -> Self {
        let interval_ns = u128::from((1_000_000_000 / rate).max(1));
        let full_ns = interval_ns * u128::from(burst);
        Self { level_ns: full_ns, full_ns, interval_ns, seen_ns: 0 }
    }

    fn passes(&mut self, now_ns: u64) -> bool {
        let refilled = self.level_ns + u128::from(now_ns - self.seen_ns);
        self.level_ns = refilled.min(self.full_ns);
        self.seen_ns = now_ns;
        let passes = self.level_ns >= self.interval_ns;
        if passes {
            self.level_ns -= self.interval_ns;
        }
        passes
    }
}

proptest! {
    #[test]
    fn a_source_passes_as_a_token_bucket_says(
        rate in prop_oneof![1..10u32, 1_000..100_000u32, Just(u32::MAX)],
        burst in prop_oneof![1..5u32, Just(u32::MAX)],
        gaps in prop::collection::vec(prop_oneof![Just(0), 0..2_000_000u64, 0..3_000_000_000u64], 1..80),
    ) {
        let tables = metered(rate, burst);
        let mut reference = Reference::new(rate, burst);
        let frame = Shape::v4([192, 0, 2, 1], TCP).bytes();

        for gap in gaps {
            tables.now_ns.set(tables.now_ns.get() + gap);
            let expected = match reference.passes(tables.now_ns.get()) {
                true => (Verdict::Pass, Reason::Clean),
                false => (Verdict::Drop, Reason::Budget),
            };

            prop_assert_eq!(tables.judge_with_reason(&frame), expected);
        }
    }
}

#[test]
fn ipv4_pays_by_address_and_ipv6_by_64() {
    let tables = metered(1, 1);
    let v6 = |subnet: u8, host: u8| {
        Shape::v6([0x20, 1, 0x0d, 0xb8, 0, 0, 0, subnet, 0, 0, 0, 0, 0, 0, 0, host], TCP).bytes()
    };
    let v4 = |host: u8| Shape::v4([192, 0, 2, host], TCP).bytes();

    assert_eq!(tables.judge(&v4(1)), Verdict::Pass);
    assert_eq!(tables.judge(&v4(1)), Verdict::Drop);
    assert_eq!(tables.judge(&v4(2)), Verdict::Pass);
    assert_eq!(tables.judge(&v6(1, 1)), Verdict::Pass);
    assert_eq!(tables.judge(&v6(1, 2)), Verdict::Drop);
    assert_eq!(tables.judge(&v6(2, 1)), Verdict::Pass);
}

#[test]
fn no_budget_meters_nobody() {
    for config in [Config::default().with_budget(0, 7), Config::default().with_budget(7, 0)] {
        let tables = Memory::new(Config { mode: Mode::Enforce.word(), ..config });
        let frame = Shape::v4([192, 0, 2, 1], TCP).bytes();

        let passed = (0..1_000).all(|_| tables.judge(&frame) == Verdict::Pass);

        assert!(passed);
    }
}

#[test]
fn an_overspent_budget_is_reported_once_in_each_window() {
    let tables = metered(1, 1);
    let frame = Shape::v6([0x20; 16], TCP).bytes();
    for _ in 0..5 {
        tables.judge(&frame);
    }
    // Half way to the next token, and past the next window.
    tables.now_ns.set(tables.now_ns.get() + EVENT_WINDOW_NS - 1);
    tables.judge(&frame);

    let events = tables.events.borrow();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].id, events[0].bits, events[0].length), (0, 128, 64));
    assert!(events[0].is(Verdict::Drop) && events[0].because(Reason::Budget));
}

#[test]
fn what_a_network_needs_passes_an_empty_budget() {
    let tables = metered(1, 1);
    let source = [192, 0, 2, 1];
    tables.judge(&Shape::v4(source, TCP).bytes());

    let judged = tables.judge_with_reason(&Shape::v4(source, Transport::Icmp(3, 4)).bytes());

    assert_eq!(judged, (Verdict::Pass, Reason::Essential));
}

fn metered(rate: u32, burst: u32) -> Memory {
    let config = Config { mode: Mode::Enforce.word(), ..Config::default() };
    Memory::new(config.with_budget(rate, burst))
}
