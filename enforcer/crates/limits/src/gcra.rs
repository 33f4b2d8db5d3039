//! The arithmetic of one bucket, without time, threads or memory.
//!
//! A bucket is one number: when it will be full again. Each request moves that time one interval
//! further away, and it may never lie more than `burst` intervals ahead. A time in the past means a
//! full bucket, the same as no bucket at all.

use std::time::Duration;

use crate::Limit;

/// Intervals in nanoseconds, both above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gcra {
    interval_ns: u64,
    burst_ns: u64,
}

/// Every time and interval stays below this, 146 years, so that no sum of two overflows.
pub(crate) const TIME_NS_MAX: u64 = 1 << 62;

impl Gcra {
    /// The interval is rounded up to whole nanoseconds: never more than the rate is admitted.
    pub(crate) fn of(limit: &Limit) -> Self {
        let count = u128::from(limit.rate.count());
        let interval_ns = limit.rate.per().as_nanos().div_ceil(count);
        let interval_ns = u64::try_from(interval_ns).unwrap_or(u64::MAX).min(TIME_NS_MAX);
        let burst_ns = interval_ns.saturating_mul(u64::from(limit.burst.get())).min(TIME_NS_MAX);
        Self { interval_ns, burst_ns }
    }

    /// When the bucket will be full again after one request at `now`, or how long to wait for one.
    pub(crate) fn admit(self, full_at_ns: u64, now_ns: u64) -> Result<u64, Duration> {
        let ahead_ns = full_at_ns.saturating_sub(now_ns).saturating_add(self.interval_ns);
        match ahead_ns.checked_sub(self.burst_ns) {
            None | Some(0) => Ok(now_ns.saturating_add(ahead_ns)),
            Some(wait_ns) => Err(Duration::from_nanos(wait_ns)),
        }
    }

    /// The time that one request uses up.
    pub(crate) const fn interval(self) -> Duration {
        Duration::from_nanos(self.interval_ns)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use enforcer_model::Rate;
    use proptest::prelude::*;

    use super::*;
    use crate::By;

    #[test]
    fn a_full_bucket_admits_its_burst_and_then_one_per_interval() {
        let gcra = Gcra::of(&limit("10/s".parse().unwrap(), 3));
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
        assert_eq!(Gcra::of(&limit("3/s".parse().unwrap(), 1)).interval_ns, 333_333_334);
        let fastest = Rate::new(NonZeroU32::MAX, Duration::from_secs(1)).unwrap();
        assert_eq!(Gcra::of(&limit(fastest, 1)).interval_ns, 1);
    }

    #[test]
    fn extreme_limits_admit_their_first_request_and_never_overflow() {
        let slowest = Rate::new(NonZeroU32::MIN, Duration::MAX).unwrap();
        let gcra = Gcra::of(&limit(slowest, u32::MAX));

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
            let gcra = Gcra::of(&limit(rate, burst));
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
            let gcra = Gcra::of(&limit(rate, burst));
            let now = 7_000_000_000;
            if let Err(wait) = gcra.admit(now + ahead, now) {
                let wait = u64::try_from(wait.as_nanos()).unwrap();

                prop_assert!(gcra.admit(now + ahead, now + wait).is_ok());
                prop_assert!(gcra.admit(now + ahead, now + wait - 1).is_err());
            }
        }
    }

    fn limit(rate: Rate, burst: u32) -> Limit {
        Limit { name: "test".into(), by: By::Ip, rate, burst: NonZeroU32::new(burst).unwrap() }
    }
}
