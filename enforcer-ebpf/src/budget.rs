//! Has this source sent more than its share?
//!
//! A token bucket kept as one time, "spent until" (the generic cell rate algorithm): every packet
//! moves it on by the interval of the rate, and a packet that would move it too far ahead of the
//! clock is over the budget and costs nothing. CPUs that race can let through one packet each, no
//! more. A source that falls out of the LRU map starts with a full bucket.

use crate::{Address, Bucket, Config, Lists, Shared};

/// Spends one packet of `source`'s budget; returns the bucket when there was nothing left.
#[inline(always)]
pub fn overspent<'t, A: Address, L: Lists<A>>(
    source: A,
    config: &Config<Shared>,
    lists: &'t L,
    clock: impl Fn() -> u64,
) -> Option<&'t Bucket<Shared>> {
    let interval_ns = config.interval_ns.get();
    if interval_ns == 0 {
        return None;
    }
    let payer = source.payer();
    let now_ns = clock();
    let Some(bucket) = lists.bucket(&payer) else {
        let spent_until_ns = now_ns.wrapping_add(interval_ns);
        lists.open_bucket(&payer, Bucket { spent_until_ns, reported_ns: 0 });
        return None;
    };
    let spent_until_ns = bucket.spent_until_ns.get();
    if spent_until_ns <= now_ns {
        bucket.spent_until_ns.set(now_ns.wrapping_add(interval_ns));
        return None;
    }
    let ahead_ns = spent_until_ns.wrapping_sub(now_ns);
    if ahead_ns > config.tolerance_ns.get() {
        return Some(bucket);
    }
    bucket.spent_until_ns.add(interval_ns);
    None
}

impl Config {
    /// Sets the budget of each source to `rate` packets per second, `burst` of them at once.
    ///
    /// An interval is whole nanoseconds, rounded down: never stricter than the rate says.
    pub const fn with_budget(self, rate: u32, burst: u32) -> Self {
        if rate == 0 || burst == 0 {
            return Self { interval_ns: 0, tolerance_ns: 0, ..self };
        }
        let whole = 1_000_000_000 / widen(rate);
        let interval_ns = if whole == 0 { 1 } else { whole };
        Self { interval_ns, tolerance_ns: interval_ns * (widen(burst) - 1), ..self }
    }
}

#[expect(clippy::as_conversions, reason = "`u64::from` is not const")]
const fn widen(number: u32) -> u64 {
    number as u64
}
