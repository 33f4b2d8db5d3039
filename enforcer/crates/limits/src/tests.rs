//! The promises of the crate, through its public interface alone.

use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use enforcer_model::{Clock, KeyId, Principal, Rate, Reason, Rejection, Source, SystemClock};
use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use crate::{By, Demand, Limit, Limits};

#[test]
fn a_refusal_names_the_limit_with_the_longest_wait_and_takes_nothing() {
    let (wide, narrow) = (limit("per_key", By::Key, 1, 10), limit("per_ip", By::Ip, 2, 2));
    let (limits, start) = limits(64);
    let (source, caller) = (source(1), caller(1));
    let demands = [wide.demand(source, Some(&caller)), narrow.demand(source, Some(&caller))];

    assert!(limits.take(&demands, start).is_ok());
    assert!(limits.take(&demands, start).is_ok());
    for _ in 0..20 {
        let refused = limits.take(&demands, start).unwrap_err();
        assert_eq!((&*refused.limit, refused.by), ("per_ip", By::Ip));
        assert_eq!(refused.retry_after, Duration::from_millis(500));
    }

    // Of the wide one exactly two are gone: the refusals took nothing.
    for _ in 0..8 {
        assert!(limits.take(&demands[..1], start).is_ok());
    }
    let refused = limits.take(&demands, start).unwrap_err();
    assert_eq!((&*refused.limit, refused.retry_after), ("per_key", Duration::from_secs(1)));
}

#[test]
fn one_limit_asked_twice_in_a_request_pays_twice_or_not_at_all() {
    let three = limit("three", By::Ip, 1, 3);
    let (limits, start) = limits(64);
    let demand = three.demand(source(1), None);

    assert!(limits.take(&[demand, demand], start).is_ok());
    assert!(limits.take(&[demand, demand], start).is_err());
    assert!(limits.take(&[demand], start).is_ok());
    assert!(limits.take(&[demand], start).is_err());
}

#[test]
fn a_request_without_demands_is_admitted() {
    let (limits, start) = limits(8);

    assert!(limits.take(&[], start).is_ok());
}

#[test]
fn a_limit_by_key_falls_back_to_the_source_when_there_is_no_caller() {
    let one = limit("per_key", By::Key, 1, 1);
    let (limits, start) = limits(64);

    assert!(limits.take(&[one.demand(source(1), None)], start).is_ok());
    let refused = limits.take(&[one.demand(source(1), None)], start).unwrap_err();

    assert_eq!(refused.by, By::Ip);
    assert!(limits.take(&[one.demand(source(2), None)], start).is_ok());
    assert!(limits.take(&[one.demand(source(1), Some(&caller(1)))], start).is_ok());
}

#[test]
fn refusals_become_429_by_whose_bucket_is_empty() {
    let (limits, start) = limits(64);
    let (by_key, by_ip) = (limit("k", By::Key, 1, 1), limit("i", By::Ip, 1, 1));
    let caller = caller(1);

    let reason = |limit: &Limit| {
        let demand = [limit.demand(source(1), Some(&caller))];
        assert!(limits.take(&demand, start).is_ok());
        Rejection::from(limits.take(&demand, start).unwrap_err()).reason
    };

    assert_eq!((reason(&by_key), reason(&by_ip)), (Reason::LimitKey, Reason::LimitSource));
}

#[test]
fn time_that_runs_backwards_admits_nothing_more() {
    let one = limit("one", By::Ip, 1, 1);
    let (limits, start) = limits(64);
    let demand = [one.demand(source(1), None)];
    let later = start + Duration::from_secs(100);

    assert!(limits.take(&demand, later).is_ok());

    assert!(limits.take(&demand, start).is_err());
    assert!(limits.take(&demand, later).is_err());
}

#[test]
fn threads_that_hammer_one_bucket_get_no_more_than_burst_and_rate() {
    const THREADS: usize = 4;
    let hot = limit("hot", By::Ip, 2_000, 50);
    let limits = Limits::new(NonZeroUsize::new(64).unwrap(), [1, 2], SystemClock.now().monotonic);
    let (start, admitted) = (Barrier::new(THREADS), AtomicU64::new(0));

    let began = SystemClock.now().monotonic;
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..50_000 {
                    let now = SystemClock.now().monotonic;
                    if limits.take(&[hot.demand(source(1), None)], now).is_ok() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let took = SystemClock.now().monotonic - began;

    let admitted = u128::from(admitted.into_inner());
    let most = 50 + took.as_nanos() * 2_000 / 1_000_000_000;
    assert!((50..=most).contains(&admitted), "{admitted} of at most {most}");
}

#[test]
fn threads_with_two_limits_never_exceed_the_narrow_one_nor_drain_the_wide_one() {
    const THREADS: u8 = 4;
    let (wide, narrow) = (limit("wide", By::Key, 1, 1_000_000), limit("narrow", By::Ip, 1, 100));
    let (limits, start) = limits(64);
    let admitted = AtomicU64::new(0);

    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let caller = caller(1);
                for _ in 0..5_000 {
                    let demands = [&wide, &narrow].map(|l| l.demand(source(1), Some(&caller)));
                    if limits.take(&demands, start).is_ok() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });

    assert_eq!(admitted.into_inner(), 100);
    // Each thread can lose one draw on the wide bucket per moment in which the narrow one runs out,
    // which happens once here: the time stands still.
    let caller = caller(1);
    let left = (0..1_000_001)
        .filter(|_| limits.take(&[wide.demand(source(1), Some(&caller))], start).is_ok());
    let left = u64::try_from(left.count()).unwrap();
    assert!((999_900 - u64::from(THREADS)..=999_900).contains(&left), "{left}");
}

#[test]
fn a_million_names_neither_grow_the_table_nor_refill_a_victim() {
    let per_ip = limit("per_ip", By::Ip, 1, 100);
    let (limits, start) = limits(4_096);
    let abuser = [per_ip.demand(source(u32::MAX), None)];
    for _ in 0..100 {
        assert!(limits.take(&abuser, start).is_ok());
    }

    for n in 0..1_000_000 {
        assert!(limits.take(&[per_ip.demand(source(n), None)], start).is_ok());
    }

    assert_eq!(limits.capacity(), 4_096);
    assert!(limits.used(start) <= 4_096);
    assert!(limits.lossy_evictions() >= 1_000_000 - 4_096);
    assert!(limits.take(&abuser, start).is_err(), "the abuser's bucket was forgotten");
}

#[test]
fn names_that_are_drawn_down_less_never_displace_one_that_is_drawn_down_more() {
    let per_ip = limit("per_ip", By::Ip, 1, 100);
    let (limits, start) = limits(64);
    let abuser = [per_ip.demand(source(u32::MAX), None)];
    for _ in 0..100 {
        assert!(limits.take(&abuser, start).is_ok());
    }

    for n in 0..2_000 {
        for _ in 0..99 {
            limits.take(&[per_ip.demand(source(n), None)], start).unwrap();
        }
    }

    assert!(limits.take(&abuser, start).is_err());
}

/// Buckets in a plain map, with the textbook's arithmetic, and a check of all before any is drawn.
#[derive(Default)]
struct Model {
    full_at: HashMap<(String, String), u128>,
}

impl Model {
    fn take(&mut self, demands: &[Demand<'_>], now: u128) -> Result<(), (String, u128)> {
        let mut next = self.full_at.clone();
        let mut longest: Option<(String, u128)> = None;
        for demand in demands {
            let key = (demand.limit.name.to_string(), format!("{:?}", demand.subject));
            let interval =
                demand.limit.rate.per().as_nanos() / u128::from(demand.limit.rate.count());
            let burst = interval * u128::from(demand.limit.burst.get());
            let known = next.get(&key).copied().unwrap_or(0);
            let full_at = known.max(now) + interval;
            if full_at > now + burst {
                let wait = full_at - now - burst;
                if longest.as_ref().is_none_or(|(_, longest)| *longest <= wait) {
                    longest = Some((key.0, wait));
                }
            } else {
                next.insert(key, full_at);
            }
        }
        match longest {
            Some(longest) => Err(longest),
            None => {
                self.full_at = next;
                Ok(())
            }
        }
    }
}

proptest! {
    #[test]
    fn decisions_and_waits_equal_those_of_a_plain_model(
        shapes in vec((1..100u32, 1..8u32, any::<bool>()), 3),
        steps in vec((0..200_000_000u64, 0..4u32, 0..4u8, subsequence(vec![0usize, 1, 2], 1..=3)), 1..150),
    ) {
        // Counts that divide a second: neither side has to round.
        let limit_of = |(n, (count, burst, by_key)): (usize, &(u32, u32, bool))| {
            let by = if *by_key { By::Key } else { By::Ip };
            let count = [1, 2, 4, 5, 8, 10, 20, 25, 40, 50][usize::try_from(count % 10).unwrap()];
            limit(&format!("limit {n}"), by, count, *burst)
        };
        let shapes: Vec<Limit> = shapes.iter().enumerate().map(limit_of).collect();
        let (limits, start) = limits(4_096);
        let mut model = Model::default();
        let mut now = 0;
        for (step, from, who, which) in steps {
            now += step;
            let caller = caller(who);
            let demands: Vec<_> =
                which.iter().map(|n| shapes[*n].demand(source(from), Some(&caller))).collect();

            let ours = limits.take(&demands, start + Duration::from_nanos(now));

            let ours = ours.map_err(|e| (e.limit.to_string(), e.retry_after.as_nanos()));
            prop_assert_eq!(ours, model.take(&demands, u128::from(now)));
        }
        prop_assert_eq!(limits.lossy_evictions(), 0);
    }

    /// On a grid of whole intervals both crates must agree on every request. Between grid points
    /// governor forgives up to one interval of earliness, which this crate does not.
    #[test]
    fn on_a_grid_of_intervals_decisions_equal_those_of_governor(
        burst in 1..20u32, steps in vec((0..6u32, 1..12u32), 1..100),
    ) {
        let interval = Duration::from_millis(10);
        let ours = limit("governor", By::Ip, 100, burst);
        let (limits, start) = limits(64);
        let quota = Quota::with_period(interval).unwrap().allow_burst(ours.burst);
        let clock = FakeRelativeClock::default();
        let theirs = RateLimiter::direct_with_clock(quota, clock.clone());
        let mut now = Duration::ZERO;
        for (intervals, requests) in steps {
            clock.advance(interval * intervals);
            now += interval * intervals;
            for _ in 0..requests {
                let ours = limits.take(&[ours.demand(source(1), None)], start + now);

                prop_assert_eq!(ours.is_ok(), theirs.check().is_ok());
            }
        }
    }
}

fn limit(name: &str, by: By, per_second: u32, burst: u32) -> Limit {
    let rate = Rate::new(NonZeroU32::new(per_second).unwrap(), Duration::from_secs(1)).unwrap();
    Limit { name: name.into(), by, rate, burst: NonZeroU32::new(burst).unwrap() }
}

fn limits(entries: usize) -> (Limits, Instant) {
    let start = SystemClock.now().monotonic;
    (Limits::new(NonZeroUsize::new(entries).unwrap(), [0x5eed, 0xcafe], start), start)
}

fn source(n: u32) -> Source {
    Source::new(std::net::Ipv4Addr::from(n).into())
}

fn caller(n: u8) -> Principal {
    Principal::from_key(KeyId::from_bytes([b'a' + n; 12]).unwrap())
}
