//! Whether an upstream is asked at all: one number that every request reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Zero while it is closed; else when it lets one request through (milliseconds, shifted by one),
/// and in the lowest bit whether that request is under way.
#[derive(Debug, Default)]
pub(crate) struct Breaker(AtomicU64);

/// Whether a request may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// Like any other.
    Yes,
    /// It is the one that finds out.
    Probe,
    /// Not for so many milliseconds.
    No(u64),
}

impl Breaker {
    /// `open_ms` is how long the next look is away when the request that finds out is never heard
    /// of again.
    pub(crate) fn admit(&self, open_ms: u64, now_ms: u64) -> Admitted {
        let seen = self.0.load(Relaxed);
        if seen == 0 {
            return Admitted::Yes;
        }
        let until = seen >> 1;
        if now_ms < until {
            return Admitted::No(until - now_ms);
        }
        let probing = now_ms.saturating_add(open_ms) << 1 | 1;
        match self.0.compare_exchange(seen, probing, Relaxed, Relaxed) {
            Ok(_) => Admitted::Probe,
            Err(0) => Admitted::Yes,
            Err(other) => Admitted::No((other >> 1).saturating_sub(now_ms)),
        }
    }

    pub(crate) fn open_until(&self, until_ms: u64) {
        self.0.store(until_ms.max(1) << 1, Relaxed);
    }

    pub(crate) fn close(&self) {
        self.0.store(0, Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.load(Relaxed) == 0
    }

    /// How long it stays open; none when it is closed.
    pub(crate) fn left_ms(&self, now_ms: u64) -> Option<u64> {
        match self.0.load(Relaxed) {
            0 => None,
            probing if probing & 1 == 1 => Some(0),
            open => Some((open >> 1).saturating_sub(now_ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_breaker_lets_one_request_through_when_its_time_has_come() {
        let breaker = Breaker::default();
        assert_eq!(breaker.admit(50, 0), Admitted::Yes);

        breaker.open_until(100);
        assert_eq!(breaker.admit(50, 40), Admitted::No(60));
        assert_eq!(breaker.admit(50, 100), Admitted::Probe);
        assert_eq!(breaker.admit(50, 100), Admitted::No(50));
        assert_eq!(breaker.left_ms(100), Some(0));
        assert_eq!(breaker.admit(50, 150), Admitted::Probe, "the first was never heard of again");

        breaker.close();
        assert_eq!(breaker.admit(50, 150), Admitted::Yes);
        assert_eq!(breaker.left_ms(150), None);
    }
}
