//! Rates and bursts over simulated time, against bounds that anybody can check with a list.
//!
//! Never stricter: who is refused has sent more, in some stretch of time that ends now, than the
//! burst and the rate allow. Not looser: in no stretch has anybody got through more than the burst,
//! what the rate says for it and the ten milliseconds that the coarse clock may be late, and what
//! the units round off.

use enforcer_ebpf::{Reason, Verdict};
use proptest::prelude::*;

use crate::frames::{SYN, Shape, Transport};
use crate::memory::Memory;
use crate::reference::{Budget, Rate, World};
use crate::verdict::SOURCE4;

/// As late as the coarse clock may be.
const LATE_NS: u64 = 10_000_000;

/// A packet that came: when, what it weighs, and whether it got through.
#[derive(Clone, Copy, Debug)]
struct Came {
    at_ns: u64,
    weight: u64,
    passed: bool,
}

/// What a rate is in the units of the core: so many ns for each of these.
#[derive(Clone, Copy, Debug)]
struct Unit {
    /// Of time, in ns.
    tick_ns: u64,
    /// What one packet, byte or connection costs at least, in ns times 65,536.
    cost: u128,
}

fn exact(rate: u64) -> u128 {
    (1_000_000_000u128 << 16) / u128::from(rate)
}

/// Runs packets through the core; `gaps` and `lates` are in microseconds.
fn run(
    tables: &Memory,
    frames: &[Vec<u8>],
    packets: &[(u64, u64, usize)],
    by: Reason,
) -> Vec<Came> {
    packets
        .iter()
        .map(|(gap, late, frame)| {
            tables.pass(gap * 1_000);
            // A coarse clock never runs backwards.
            let coarse_ns = tables.now_ns() - late * 1_000;
            let before_ns = tables.now_ns() - gap * 1_000 - tables.late_ns.get().min(LATE_NS);
            tables.late_ns.set(tables.now_ns() - coarse_ns.max(before_ns));
            let frame = &frames[frame % frames.len()];
            let (verdict, reason) = tables.incoming(frame);
            assert!(verdict == Verdict::Pass || reason == by, "{reason}");
            let passed = verdict == Verdict::Pass;
            Came { at_ns: tables.now_ns(), weight: frame.len() as u64, passed }
        })
        .collect()
}

/// Weight that got through since `from`, up to and without the packet at `to`.
fn through(came: &[Came], from: usize, to: usize, weigh: impl Fn(&Came) -> u64) -> u128 {
    came[from..to].iter().filter(|it| it.passed).map(|it| u128::from(weigh(it))).sum()
}

/// Whoever was refused had sent too much: `more` is what the refused packet itself would add.
fn is_never_stricter(
    came: &[Came],
    rate: Rate,
    weigh: impl Fn(&Came) -> u64 + Copy,
    more: impl Fn(&Came) -> u64,
) -> bool {
    (0..came.len()).filter(|at| !came[*at].passed).all(|at| {
        (0..at).any(|from| {
            let sent = through(came, from, at, weigh) + u128::from(more(&came[at]));
            let ns = u128::from(came[at].at_ns - came[from].at_ns);
            sent * 1_000_000_000
                > u128::from(rate.burst) * 1_000_000_000 + u128::from(rate.rate) * ns
        })
    })
}

/// Nobody got through more, in any stretch: `over` is what may come on top of the burst.
fn is_not_looser(
    came: &[Came],
    rate: Rate,
    unit: Unit,
    weigh: impl Fn(&Came) -> u64 + Copy,
    over: u128,
) -> bool {
    (0..came.len()).all(|from| {
        (from + 1..=came.len()).all(|to| {
            let ns = u128::from(came[to - 1].at_ns - came[from].at_ns + LATE_NS + unit.tick_ns);
            let packets = (to - from) as u128;
            let sent = through(came, from, to, weigh);
            // In ns times 65,536; each packet may have its fraction of a ns rounded off.
            let most = (u128::from(rate.burst) + over) * unit.cost + ((ns + packets) << 16);
            sent * unit.cost <= most
        })
    })
}

fn any_packets() -> impl Strategy<Value = Vec<(u64, u64, usize)>> {
    let gap =
        prop_oneof![4 => Just(0u64), 4 => 0..2_000u64, 2 => 0..200_000u64, 1 => 0..3_000_000u64];
    let late = prop_oneof![1 => Just(0), 1 => Just(LATE_NS / 1_000), 2 => 0..=LATE_NS / 1_000];
    prop::collection::vec((gap, late, 0..4usize), 1..120)
}

fn any_rate() -> impl Strategy<Value = u64> {
    prop_oneof![1..10u64, 10..1_000u64, 1_000..100_000u64]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn packets_are_kept_to_their_rate_and_burst(
        rate in any_rate(), burst in 1..60u64, packets in any_packets(),
    ) {
        let tables = World::with_budget(Budget::packets(rate, burst)).tables();
        let rate = Rate { rate, burst };
        let frame = Shape::v4(SOURCE4, Transport::Icmp(8, 0)).bytes();

        let came = run(&tables, &[frame], &packets, Reason::Budget);

        prop_assert!(is_never_stricter(&came, rate, |_| 1, |_| 1), "{:?}", came);
        let cost = u128::from((1_000_000_000 / 8 / rate.rate).max(1) * 8) << 16;
        prop_assert!(is_not_looser(&came, rate, Unit { tick_ns: 8, cost }, |_| 1, 0), "{:?}", came);
    }

    #[test]
    fn bytes_are_kept_to_their_rate_and_burst_and_one_frame(
        rate in prop_oneof![65_536..1_000_000u64, 1_000_000..1_000_000_000u64],
        burst in prop_oneof![Just(65_536u64), 65_536..200_000u64],
        packets in any_packets(),
    ) {
        let rate = Rate { rate, burst };
        let budget = Budget { bytes: Some(rate), ..Budget::default() };
        let tables = World::with_budget(budget).tables();
        let frames = [0, 500, 1_400, 60_000]
            .map(|inside| Shape::v4(SOURCE4, Transport::Udp(1, 2, vec![0; inside])).bytes());

        let came = run(&tables, &frames, &packets, Reason::ByteBudget);

        // Who is within the burst may exceed it by the frame that he sends.
        prop_assert!(is_never_stricter(&came, rate, |it| it.weight, |_| 0), "{:?}", came);
        let unit = Unit { tick_ns: 1, cost: exact(rate.rate) };
        let frame = u128::from(frames[3].len() as u64);
        prop_assert!(is_not_looser(&came, rate, unit, |it| it.weight, frame), "{:?}", came);
    }

    #[test]
    fn connections_are_kept_to_their_rate_and_burst(
        rate in prop_oneof![1..10u64, 10..1_000u64], burst in 1..60u64, packets in any_packets(),
        start in 0..1u64 << 33,
    ) {
        let rate = Rate { rate, burst };
        let budget = Budget { syns: Some(rate), ..Budget::default() };
        let tables = World::with_budget(budget).tables();
        // Anywhere in the circle of the clock.
        tables.pass(start * 4_096);
        let frame = Shape::v4(SOURCE4, Transport::Tcp(1, 2, SYN)).bytes();

        let came = run(&tables, &[frame], &packets, Reason::SynBudget);

        prop_assert!(is_never_stricter(&came, rate, |_| 1, |_| 1), "{:?}", came);
        let cost = u128::from((1_000_000_000 / 4_096 / rate.rate).max(1) * 4_096) << 16;
        prop_assert!(is_not_looser(&came, rate, Unit { tick_ns: 4_096, cost }, |_| 1, 0), "{:?}", came);
    }
}

#[test]
fn of_a_flood_that_lasts_gets_through_what_the_rate_says() {
    for (rate, burst) in [(50_000, 100_000), (1_000, 500), (7, 3)] {
        let tables = World::with_budget(Budget::packets(rate, burst)).tables();
        let frame = Shape::v4(SOURCE4, Transport::Icmp(8, 0)).bytes();
        let passing = |count| (0..count).filter(|_| tables.passes(&frame)).count() as u64;

        let mut passed = passing(burst + 10);
        assert_eq!(passed, burst);
        for _ in 0..200 {
            tables.pass(50_000_000);
            passed += passing(rate / 10 + 2);
        }

        let most = burst + 10 * rate;
        // The units are exact to a tenth of a per cent at such rates.
        assert!((most..=most + most / 1_000 + 1).contains(&passed), "{passed} of {most}");
    }
}
