//! The arithmetic of one bucket, without time, threads or memory.
//!
//! A bucket is one number: when it will be full again. Each request moves that time further away by
//! what it costs, and it may never lie more than the burst ahead. A time in the past means a full
//! bucket, the same as no bucket at all. A factor stretches what a request costs and leaves the
//! bucket's time alone, so that an incident takes effect at once and leaves no trace when it ends.

use std::num::NonZeroU32;
use std::time::Duration;

use enforcer_model::Rate;

use crate::Factor;

/// Spans in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gcra {
    /// What `count` units cost.
    per_ns: u64,
    count: u32,
    /// What one unit costs, rounded up.
    interval_ns: u64,
    burst_ns: u64,
}

/// What one request does to one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Draw {
    /// How much further away it moves the time when the bucket is full.
    pub(crate) cost_ns: u64,
    /// How far away that may be.
    pub(crate) burst_ns: u64,
}

/// Every time and span stays below this, 146 years, so that no sum of two overflows.
pub(crate) const TIME_NS_MAX: u64 = 1 << 62;

/// A cost that is settled afterwards may use up a bucket for so long beyond its burst: what one huge
/// answer cost is felt, but shuts nobody out for days.
const DEBT_NS_MAX: u64 = 3_600_000_000_000;

/// So long a limit says to wait whose rate an incident has set to nothing.
const STANDSTILL: Duration = Duration::from_secs(60);

impl Gcra {
    pub(crate) const NOTHING: Self = Self { per_ns: 1, count: 1, interval_ns: 1, burst_ns: 1 };

    /// The interval is rounded up to whole nanoseconds: never more than the rate is admitted.
    pub(crate) fn of(rate: Rate, burst: NonZeroU32) -> Self {
        let per_ns = narrow(rate.per().as_nanos());
        let interval_ns = per_ns.div_ceil(u64::from(rate.count()));
        let burst_ns = interval_ns.saturating_mul(u64::from(burst.get())).min(TIME_NS_MAX);
        Self { per_ns, count: rate.count(), interval_ns, burst_ns }
    }

    /// What a request of `cost` smallest units does, `scale` of which are one unit, or how long to
    /// wait when the incident's factor is zero.
    ///
    /// A weight fits into a full bucket whatever the factor: a caller is slowed down, never shut out.
    pub(crate) fn draw(self, cost: u64, scale: u64, factor: Factor) -> Result<Draw, Duration> {
        if cost == 1 && scale == 1 && factor == Factor::WHOLE {
            return Ok(Draw { cost_ns: self.interval_ns, burst_ns: self.burst_ns });
        }
        if factor.parts() == 0 {
            return Err(STANDSTILL);
        }
        let parts = u128::from(factor.parts());
        let cost_ns = if scale == 1 {
            let whole = u128::from(self.interval_ns) * u128::from(cost);
            narrow(whole.saturating_mul(1_000).div_ceil(parts))
        } else {
            let whole = u128::from(self.per_ns) * u128::from(cost);
            let units = u128::from(self.count) * u128::from(scale);
            // Two roundings up instead of one product that might not fit.
            narrow(whole.div_ceil(units).saturating_mul(1_000).div_ceil(parts))
        };
        let slowed = scale == 1 && parts < 1_000;
        let burst_ns = if slowed { self.burst_ns.max(cost_ns) } else { self.burst_ns };
        Ok(Draw { cost_ns, burst_ns })
    }

    /// How far ahead of now the bucket's time may lie.
    pub(crate) const fn burst_ns(self) -> u64 {
        self.burst_ns
    }

    /// What one unit costs.
    pub(crate) const fn interval_ns(self) -> u64 {
        self.interval_ns
    }
}

impl Draw {
    /// When the bucket will be full again after this draw at `now`, or how long to wait for it.
    pub(crate) fn admit(self, full_at_ns: u64, now_ns: u64) -> Result<u64, Duration> {
        let ahead_ns = full_at_ns.saturating_sub(now_ns).saturating_add(self.cost_ns);
        match ahead_ns.checked_sub(self.burst_ns) {
            None | Some(0) => Ok(now_ns.saturating_add(ahead_ns)),
            Some(wait_ns) => Err(Duration::from_nanos(wait_ns)),
        }
    }

    /// Whether anything at all is left, for a request whose cost is not known yet.
    pub(crate) fn admit_unpriced(self, full_at_ns: u64, now_ns: u64) -> Result<(), Duration> {
        Self { cost_ns: 1, ..self }.admit(full_at_ns, now_ns).map(|_| ())
    }

    /// When the bucket will be full again after this cost, which is no longer a question.
    pub(crate) fn owe(self, full_at_ns: u64, now_ns: u64) -> u64 {
        let ceiling = now_ns.saturating_add(self.burst_ns).saturating_add(DEBT_NS_MAX);
        let owed = full_at_ns.max(now_ns).saturating_add(self.cost_ns);
        owed.min(ceiling).max(full_at_ns).min(TIME_NS_MAX << 1)
    }

    /// What a request is told that was overtaken too often.
    pub(crate) const fn breath(self) -> Duration {
        Duration::from_nanos(self.cost_ns)
    }
}

fn narrow(ns: u128) -> u64 {
    u64::try_from(ns).unwrap_or(u64::MAX).clamp(1, TIME_NS_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_bucket_admits_its_burst_and_then_one_per_interval() {
        let gcra = one("10/s".parse().unwrap(), 3);
        let second = 1_000_000_000;

        let mut full_at = 0;
        for _ in 0..3 {
            full_at = gcra.admit(full_at, second).unwrap();
        }
        let wait = gcra.admit(full_at, second).unwrap_err();

        assert_eq!(wait, Duration::from_millis(100));
        assert_eq!(gcra.admit(full_at, second + 99_999_999).unwrap_err(), Duration::from_nanos(1));
        full_at = gcra.admit(full_at, second + 100_000_000).unwrap();
        assert!(gcra.admit(full_at, second + 100_000_000).is_err());
    }

    #[test]
    fn an_interval_that_is_no_whole_number_is_rounded_to_the_slower_side() {
        assert_eq!(one("3/s".parse().unwrap(), 1).cost_ns, 333_333_334);
        let fastest = Rate::new(NonZeroU32::MAX, Duration::from_secs(1)).unwrap();
        assert_eq!(one(fastest, 1).cost_ns, 1);
    }

    #[test]
    fn extreme_limits_admit_their_first_request_and_never_overflow() {
        let slowest = Rate::new(NonZeroU32::MIN, Duration::MAX).unwrap();
        let gcra = one(slowest, u32::MAX);

        let full_at = gcra.admit(0, TIME_NS_MAX - 1).unwrap();

        assert!(full_at < 1 << 63);
        assert!(gcra.admit(full_at, TIME_NS_MAX - 1).is_err());
    }

    proptest! {
        #[test]
        fn between_any_two_requests_no_more_than_burst_and_rate_are_admitted(
            count in 1..1000u32, burst in 1..20u32, steps in proptest::collection::vec(0..20_000_000u64, 1..200),
        ) {
            let rate = Rate::new(NonZeroU32::new(count).unwrap(), Duration::from_secs(1)).unwrap();
            let gcra = one(rate, burst);
            let (mut now, mut full_at, mut admitted) = (0, 0, Vec::new());
            for step in steps {
                now += step;
                if let Ok(next) = gcra.admit(full_at, now) {
                    full_at = next;
                    admitted.push(now);
                }
            }

            for (n, first) in admitted.iter().enumerate() {
                for (m, last) in admitted.iter().enumerate().skip(n) {
                    // admitted ≤ burst + rate × t, in whole numbers.
                    let seen = u64::try_from(m - n + 1).unwrap();
                    let refilled = (last - first) * u64::from(count) / 1_000_000_000;
                    prop_assert!(seen <= u64::from(burst) + refilled);
                }
            }
        }

        #[test]
        fn whoever_waits_as_told_is_admitted_and_not_earlier(
            count in 1..1000u32, burst in 1..20u32, ahead in 0..40_000_000_000u64,
        ) {
            let rate = Rate::new(NonZeroU32::new(count).unwrap(), Duration::from_secs(1)).unwrap();
            let gcra = one(rate, burst);
            let now = 7_000_000_000;
            if let Err(wait) = gcra.admit(now + ahead, now) {
                let wait = u64::try_from(wait.as_nanos()).unwrap();

                prop_assert!(gcra.admit(now + ahead, now + wait).is_ok());
                prop_assert!(gcra.admit(now + ahead, now + wait - 1).is_err());
            }
        }
    }

    #[test]
    fn an_incident_slows_a_bucket_down_and_leaves_its_time_alone() {
        let gcra = bucket("20/s".parse().unwrap(), 40);
        let second = 1_000_000_000;
        let fifth = gcra.draw(1, 1, Factor::per_thousand(200)).unwrap();

        let mut full_at = 0;
        let mut admitted = 0;
        while let Ok(next) = fifth.admit(full_at, second) {
            (full_at, admitted) = (next, admitted + 1);
        }

        // A fifth of the burst, then a fifth of the rate.
        assert_eq!(admitted, 8);
        assert_eq!(fifth.admit(full_at, second), Err(Duration::from_millis(250)));
        // The incident ends: the bucket is where twenty a second would have it.
        let whole = gcra.draw(1, 1, Factor::WHOLE).unwrap();
        assert_eq!(whole.admit(full_at, second), Err(Duration::from_millis(50)));
    }

    #[test]
    fn a_factor_never_makes_a_weight_too_heavy_and_zero_is_a_standstill() {
        let gcra = bucket("1/s".parse().unwrap(), 2);

        let slow = gcra.draw(2, 1, Factor::per_thousand(1)).unwrap();

        assert!(slow.admit(0, 5).is_ok());
        assert_eq!(gcra.draw(1, 1, Factor::per_thousand(0)), Err(STANDSTILL));
        let heavy = gcra.draw(3, 1, Factor::WHOLE).unwrap();
        assert!(heavy.admit(0, 5).is_err());
    }

    #[test]
    fn bytes_are_charged_exactly_and_a_debt_has_a_ceiling() {
        // 1 MiB a second, in units of 1 KiB.
        let gcra = bucket("1024/s".parse().unwrap(), 1024);
        let half = gcra.draw(512 << 10, 1 << 10, Factor::WHOLE).unwrap();
        assert_eq!(half.owe(0, 7), 7 + 500_000_000);

        let huge = gcra.draw(u64::MAX, 1 << 10, Factor::WHOLE).unwrap();
        let ceiling = 7 + gcra.burst_ns() + DEBT_NS_MAX;
        assert_eq!(huge.owe(0, 7), ceiling);
        // Never less than what is owed already.
        assert_eq!(half.owe(ceiling + 5, 7), ceiling + 5);
        assert!(half.admit_unpriced(7 + gcra.burst_ns(), 7).is_err());
        assert!(half.admit_unpriced(6 + gcra.burst_ns(), 7).is_ok());
    }

    fn bucket(rate: Rate, burst: u32) -> Gcra {
        Gcra::of(rate, NonZeroU32::new(burst).unwrap())
    }

    fn one(rate: Rate, burst: u32) -> Draw {
        bucket(rate, burst).draw(1, 1, Factor::WHOLE).unwrap()
    }
}
