//! What holds under threads that hammer, and under floods of names.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::clock::DefaultClock;
use governor::{Quota, RateLimiter};

use super::*;

const THREADS: usize = 8;

#[test]
fn threads_that_hammer_one_bucket_get_no_more_than_burst_and_rate() {
    let hot = rate("hot", By::Ip, 2_000, 50);
    let (limits, _) = limits(64);
    let took = hammer(|| take(&limits, &[demand(&hot, &from(1))], SystemClock.now()).is_ok());

    let most = 50 + took.time.as_nanos() * 2_000 / 1_000_000_000;
    assert!((50..=most).contains(&took.admitted), "{took:?} of at most {most}");
    assert_eq!(limits.lossy_evictions(), 0);
}

/// The same storm on governor: what this crate admits does not fall far behind it.
#[test]
fn under_a_storm_about_as_much_is_admitted_as_by_governor() {
    let hot = rate("hot", By::Ip, 2_000, 2_000);
    let (limits, _) = limits(64);
    let quota = Quota::per_second(NonZeroU32::new(2_000).unwrap());
    let quota = quota.allow_burst(NonZeroU32::new(2_000).unwrap());
    let theirs = RateLimiter::direct_with_clock(quota, DefaultClock::default());

    let ours = hammer(|| take(&limits, &[demand(&hot, &from(1))], SystemClock.now()).is_ok());
    let theirs = hammer(|| theirs.check().is_ok());

    // A second of burst: a machine that has other work loses none of what was refilled meanwhile.
    let share =
        |took: &Took| took.admitted * 1_000_000_000 / (took.time.as_nanos() + 1_000_000_000);
    assert!(share(&ours) * 10 >= share(&theirs) * 8, "{ours:?} against {theirs:?}");
}

#[test]
fn weights_under_a_storm_never_exceed_burst_and_rate() {
    let weight = crate::Cost::Weight(NonZeroU32::new(7).unwrap());
    let hot = rate("hot", By::Global, 3_000, 70).costing(weight);
    let (limits, _) = limits(64);
    let took = hammer(|| take(&limits, &[demand(&hot, &from(1))], SystemClock.now()).is_ok());

    let most = 70 + took.time.as_nanos() * 3_000 / 1_000_000_000;
    assert!((70..=most).contains(&(took.admitted * 7)), "{took:?} of at most {most}");
}

#[test]
fn a_burst_is_handed_out_exactly_once_while_time_stands_still() {
    for round in 0..200u32 {
        let hot = rate("hot", By::Ip, 1, 100);
        let (limits, now) = limits(8);
        let start = Barrier::new(THREADS);
        let admitted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..40 {
                        if take(&limits, &[demand(&hot, &from(round))], now).is_ok() {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(admitted.into_inner(), 100, "round {round}");
    }
}

#[test]
fn threads_with_two_limits_never_exceed_the_narrow_one_nor_drain_the_wide_one() {
    let (wide, narrow) = (rate("wide", By::Key, 1, 1_000_000), rate("narrow", By::Ip, 1, 100));
    let (limits, start) = limits(64);
    let payer = Payer { key: Some(key(1)), ..from(1) };
    let admitted = AtomicU64::new(0);

    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let demands = [&wide, &narrow].map(|limit| demand(limit, &payer));
                    if take(&limits, &demands, start).is_ok() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });

    assert_eq!(admitted.into_inner(), 100);
    // Each thread can lose one draw on the wide bucket per moment in which the narrow one runs out,
    // which happens once here: the time stands still.
    let left = (0..1_000_001).filter(|_| take(&limits, &[demand(&wide, &payer)], start).is_ok());
    let left = left.count();
    assert!((999_900 - THREADS..=999_900).contains(&left), "{left}");
}

#[test]
fn a_million_names_neither_grow_the_table_nor_refill_a_victim() {
    let per_ip = rate("per_ip", By::Ip, 1, 100);
    let (limits, start) = limits(4_096);
    let abuser = [demand(&per_ip, &from(u32::MAX))];
    for _ in 0..100 {
        assert!(take(&limits, &abuser, start).is_ok());
    }

    for n in 0..1_000_000 {
        assert!(take(&limits, &[demand(&per_ip, &from(n))], start).is_ok());
    }

    let occupancy = limits.occupancy(start.monotonic);
    assert_eq!((limits.capacity(), occupancy.buckets_max), (4_096, 4_096));
    assert!(occupancy.buckets <= 4_096);
    assert!(limits.lossy_evictions() >= 1_000_000 - 4_096);
    assert!(take(&limits, &abuser, start).is_err(), "the abuser's bucket was forgotten");
}

#[test]
fn names_that_are_drawn_down_less_never_displace_one_that_is_drawn_down_more() {
    let per_ip = rate("per_ip", By::Ip, 1, 100);
    let (limits, start) = limits(64);
    let abuser = [demand(&per_ip, &from(u32::MAX))];
    for _ in 0..100 {
        assert!(take(&limits, &abuser, start).is_ok());
    }

    for n in 0..2_000 {
        for _ in 0..99 {
            assert!(take(&limits, &[demand(&per_ip, &from(n))], start).is_ok());
        }
    }

    assert!(take(&limits, &abuser, start).is_err());
}

#[derive(Debug)]
struct Took {
    admitted: u128,
    time: Duration,
}

fn hammer(admits: impl Fn() -> bool + Sync) -> Took {
    let (start, admitted) = (Barrier::new(THREADS), AtomicU64::new(0));
    let began = SystemClock.now().monotonic;
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..25_000 {
                    if admits() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let time = SystemClock.now().monotonic - began;
    Took { admitted: admitted.into_inner().into(), time }
}
