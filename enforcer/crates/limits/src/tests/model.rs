//! Rates against a plain model, and against governor.

use std::collections::HashMap;
use std::time::Duration;

use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;

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
            let (rate, burst) = numbers(demand.limit);
            let key = (demand.limit.name().to_string(), demand.subject.to_string());
            let parts = u128::from(demand.factor.parts());
            let plain = rate.per().as_nanos() / u128::from(rate.count());
            let interval = (plain * 1_000).div_ceil(parts);
            let burst = (plain * u128::from(burst.get())).max(interval);
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

fn numbers(limit: &Limit) -> (Rate, NonZeroU32) {
    match limit.kind() {
        Kind::Rate { rate, burst } => (rate, burst),
        Kind::Concurrent(_) | Kind::Quota { .. } => panic!("{} is no rate", limit.name()),
    }
}

proptest! {
    #[test]
    fn decisions_and_waits_equal_those_of_a_plain_model(
        shapes in vec((0..10usize, 1..8u32, any::<bool>()), 3),
        steps in vec(
            (0..200_000_000u64, 0..4u32, 0..4u8, subsequence(vec![0usize, 1, 2], 1..=3), 0..4usize),
            1..150,
        ),
    ) {
        // Counts that divide a second: neither side has to round.
        let limit_of = |(n, (count, burst, by_key)): (usize, &(usize, u32, bool))| {
            let by = if *by_key { By::Key } else { By::Ip };
            rate(&format!("limit {n}"), by, [1, 2, 4, 5, 8, 10, 20, 25, 40, 50][*count], *burst)
        };
        let shapes: Vec<Limit> = shapes.iter().enumerate().map(limit_of).collect();
        let (limits, start) = limits(4_096);
        let mut model = Model::default();
        let mut now = 0;
        for (step, from, who, which, factor) in steps {
            now += step;
            let payer = Payer { key: Some(key(who)), ..super::from(from) };
            let factor = Factor::per_thousand([1_000, 1_000, 500, 200][factor]);
            let demands: Vec<_> = which.iter().map(|n| shapes[*n].demand(&payer, factor)).collect();

            let ours = take(&limits, &demands, later(start, Duration::from_nanos(now)));

            let ours = ours.map(drop).map_err(|e| (e.limit.to_string(), e.retry_after.as_nanos()));
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
        let ours = rate("governor", By::Ip, 100, burst);
        let (limits, start) = limits(64);
        let quota = Quota::with_period(interval).unwrap();
        let quota = quota.allow_burst(NonZeroU32::new(burst).unwrap());
        let clock = FakeRelativeClock::default();
        let theirs = RateLimiter::direct_with_clock(quota, clock.clone());
        let mut now = Duration::ZERO;
        for (intervals, requests) in steps {
            clock.advance(interval * intervals);
            now += interval * intervals;
            for _ in 0..requests {
                let ours = take(&limits, &[demand(&ours, &from(1))], later(start, now));

                prop_assert_eq!(ours.is_ok(), theirs.check().is_ok());
            }
        }
    }

    /// Weights: governor's `check_n` against a cost, on the grid.
    #[test]
    fn weights_equal_those_of_governor_on_a_grid_of_intervals(
        burst in 5..20u32, weight in 1..5u32, steps in vec((0..6u32, 1..12u32), 1..100),
    ) {
        let interval = Duration::from_millis(10);
        let weight = NonZeroU32::new(weight).unwrap();
        let ours = rate("governor", By::Ip, 100, burst).costing(crate::Cost::Weight(weight));
        let (limits, start) = limits(64);
        let quota = Quota::with_period(interval).unwrap();
        let quota = quota.allow_burst(NonZeroU32::new(burst).unwrap());
        let clock = FakeRelativeClock::default();
        let theirs = RateLimiter::direct_with_clock(quota, clock.clone());
        let mut now = Duration::ZERO;
        for (intervals, requests) in steps {
            clock.advance(interval * intervals);
            now += interval * intervals;
            for _ in 0..requests {
                let ours = take(&limits, &[demand(&ours, &from(1))], later(start, now));

                prop_assert_eq!(ours.is_ok(), matches!(theirs.check_n(weight), Ok(Ok(()))));
            }
        }
    }
}
