//! The agent's sign of life: without one for long enough, the program observes instead of dropping.
//!
//! The time is on `CLOCK_MONOTONIC`, which stands still while the host sleeps, and the program
//! judges it by itself: an agent that is gone cannot be asked.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::OnAgentLoss;
use crate::error::MapError;
use crate::maps::ConfigMap;

/// How the program stands towards its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It enforces with or without one.
    Unlimited,
    /// It enforces for this long, unless the agent renews.
    Left(Duration),
    /// It has only observed since this long ago.
    Over(Duration),
}

impl Lease {
    /// As it is `now_ns`.
    pub(crate) fn at(now_ns: u64, lease_ns: u64) -> Self {
        let span = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from));
        match lease_ns {
            0 => Self::Unlimited,
            _ if now_ns < lease_ns => Self::Left(span(now_ns, lease_ns)),
            _ => Self::Over(span(lease_ns, now_ns)),
        }
    }
}

/// The lease begins anew, or there is none.
pub(crate) fn renew(config: &ConfigMap, loss: OnAgentLoss) -> Result<(), MapError> {
    let lease_ns = match loss {
        OnAgentLoss::Keep => 0,
        OnAgentLoss::Observe { lease } => {
            let lease = u64::try_from(lease.as_nanos()).unwrap_or(u64::MAX);
            // 0 would mean that there is none.
            monotonic_ns().saturating_add(lease).max(1)
        }
    };
    config.set(|config| &config.lease_ns, lease_ns)
}

/// `CLOCK_MONOTONIC`, by which the kernel half judges leases and budgets.
pub(crate) fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let ns = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_over_from_its_last_nanosecond_on() {
        assert_eq!(Lease::at(7, 0), Lease::Unlimited);
        assert_eq!(Lease::at(7, 9), Lease::Left(Duration::from_nanos(2)));
        assert_eq!(Lease::at(9, 9), Lease::Over(Duration::ZERO));
        assert_eq!(Lease::at(12, 9), Lease::Over(Duration::from_nanos(3)));
    }
}
