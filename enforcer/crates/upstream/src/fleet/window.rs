//! Counting over a time, without work for requests that go well.
//!
//! A window begins with the first failure and remembers how many requests there had been; what
//! happened in it is a subtraction when the next failure comes.

/// Failures, and requests, since a failure not longer ago than a given time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    begun_ms: u64,
    requests_before: u64,
    failures: u64,
}

/// What a window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) failures: u64,
    pub(crate) requests: u64,
}

impl Window {
    /// One more failure, at which there have been `requests` in all, itself among them.
    pub(crate) fn fail(&mut self, requests: u64, length_ms: u64, now_ms: u64) -> Counted {
        if self.failures == 0 || now_ms.saturating_sub(self.begun_ms) > length_ms {
            *self =
                Self { begun_ms: now_ms, requests_before: requests.saturating_sub(1), failures: 0 };
        }
        self.failures = self.failures.saturating_add(1);
        let requests = requests.saturating_sub(self.requests_before);
        Counted { failures: self.failures, requests: requests.max(self.failures) }
    }

    /// Begins anew with the next failure.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Counted {
    /// Whether there are enough requests, and so many of them failed.
    pub(crate) fn reaches(self, percent: u8, requests_min: u64) -> bool {
        self.requests >= requests_min
            && self.failures.saturating_mul(100) >= self.requests.saturating_mul(percent.into())
    }
}

/// How many requests may be sent again: a share of all requests, and one a second, saved up to
/// [`Budget::MAX`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// In hundredths of a retry.
    saved: u64,
    requests_before: u64,
    at_ms: u64,
}

impl Budget {
    /// The most that is saved up.
    pub(crate) const MAX: u64 = 100;
    /// What is there at the beginning.
    const FIRST: u64 = 10;

    pub(crate) const fn new() -> Self {
        Self { saved: Self::FIRST * 100, requests_before: 0, at_ms: 0 }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, percent: u8, requests: u64, now_ms: u64) -> bool {
        let earned = requests.saturating_sub(self.requests_before).saturating_mul(percent.into());
        let waited = now_ms.saturating_sub(self.at_ms) / 10;
        (self.requests_before, self.at_ms) = (requests, now_ms);
        self.saved = self.saved.saturating_add(earned).saturating_add(waited).min(Self::MAX * 100);
        let enough = self.saved >= 100;
        if enough {
            self.saved -= 100;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_from_its_first_failure_on_and_ends_after_its_length() {
        let mut window = Window::default();

        assert_eq!(window.fail(1_000, 10_000, 5), Counted { failures: 1, requests: 1 });
        assert_eq!(window.fail(1_009, 10_000, 6), Counted { failures: 2, requests: 10 });
        assert_eq!(window.fail(1_010, 10_000, 10_005), Counted { failures: 3, requests: 11 });
        assert_eq!(window.fail(1_011, 10_000, 10_006), Counted { failures: 1, requests: 1 });
    }

    #[test]
    fn few_requests_are_no_rate() {
        assert!(!Counted { failures: 9, requests: 9 }.reaches(50, 10));
        assert!(Counted { failures: 5, requests: 10 }.reaches(50, 10));
        assert!(!Counted { failures: 4, requests: 10 }.reaches(50, 10));
    }

    #[test]
    fn retries_are_a_share_of_the_requests_with_a_small_floor() {
        let mut budget = Budget::new();
        let mut taken = |requests, now_ms| budget.take(20, requests, now_ms);

        assert_eq!((0..50).filter(|_| taken(0, 0)).count(), 10);
        assert_eq!((0..50).filter(|_| taken(100, 0)).count(), 20, "a fifth of a hundred");
        assert_eq!((0..50).filter(|_| taken(100, 3_000)).count(), 3, "one a second");
        assert_eq!((0..500).filter(|_| taken(1_000_000, 3_000)).count(), 100, "no more is saved");
    }
}
