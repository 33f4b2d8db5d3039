//! A sliding count in constant memory.

use std::time::Duration;

/// Parts of a window, and the one that has begun.
const SLOTS: usize = 16;

/// How wide one part of a window is: so that all parts hold everything inside the window, and at most
/// a fifteenth of it more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Width(u64);

/// What was counted in a window, by its parts.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Slots {
    /// The part that was written last.
    newest: u64,
    total: u64,
    slots: [u64; SLOTS],
}

impl Width {
    pub(super) fn of(within: Duration) -> Self {
        let ns = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        Self(ns.div_ceil(15).max(1))
    }
}

impl Slots {
    /// Counts `amount` more at `ns`, and returns the sum of the window that ends there.
    #[inline]
    pub(super) fn add(&mut self, ns: u64, amount: u64, width: Width) -> u64 {
        self.advance(ns, width);
        let slot = ns / width.0;
        // What comes later than the window is long is no news.
        if self.newest.saturating_sub(slot) < 16
            && let Some(count) = self.slots.get_mut(place(slot))
        {
            *count = count.saturating_add(amount);
            self.total = self.total.saturating_add(amount);
        }
        self.total
    }

    /// The sum of the window that ends at `ns`.
    pub(super) fn advance(&mut self, ns: u64, width: Width) -> u64 {
        let slot = ns / width.0;
        if slot > self.newest {
            if slot - self.newest >= 16 {
                self.slots = [0; SLOTS];
                self.total = 0;
            } else {
                for over in self.newest + 1..=slot {
                    if let Some(count) = self.slots.get_mut(place(over)) {
                        self.total = self.total.saturating_sub(*count);
                        *count = 0;
                    }
                }
            }
            self.newest = slot;
        }
        self.total
    }

    pub(super) const fn total(&self) -> u64 {
        self.total
    }
}

/// Where a part stands.
fn place(slot: u64) -> usize {
    usize::try_from(slot % 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn what_is_older_than_the_window_is_not_counted() {
        let width = Width::of(Duration::from_secs(10));
        let mut slots = Slots::default();

        assert_eq!(slots.add(100 * SECOND, 1, width), 1);
        assert_eq!(slots.add(109 * SECOND, 1, width), 2);
        assert_eq!(slots.add(112 * SECOND, 1, width), 2);
        assert_eq!(slots.add(500 * SECOND, 1, width), 1);
    }

    proptest! {
        #[test]
        fn everything_inside_the_window_is_counted_and_little_more(
            steps in proptest::collection::vec((0_u64..4 * SECOND, 1_u64..5), 1..80),
        ) {
            let width = Width::of(Duration::from_secs(10));
            let mut slots = Slots::default();
            let (mut now, mut all) = (1_000 * SECOND, Vec::new());
            for (step, amount) in steps {
                now += step;
                all.push((now, amount));
                let counted = slots.add(now, amount, width);

                let inside = |span: u64| -> u64 {
                    all.iter().filter(|(at, _)| now - at < span).map(|(_, amount)| amount).sum()
                };
                prop_assert!(counted >= inside(10 * SECOND));
                prop_assert!(counted <= inside(10 * SECOND + 10 * SECOND / 14));
            }
        }
    }
}
