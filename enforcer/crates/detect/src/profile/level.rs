//! What is usual of a count: of one identity, drawn towards its peers as long as little is known of it.
//!
//! Counts are looked at as logarithms. The prediction is that of the normal model in two levels:
//! an identity's days vary about its own level, and the levels of a group vary about the group's.

use super::num::{Small, measure};

/// Days that the memory of an identity reaches back.
const MEMORY: f32 = 14.0;
/// Days that the long memory reaches back.
const LONG_MEMORY: f32 = 60.0;
/// Days that the group's spread is worth beside the identity's own.
const SPREAD_PRIOR: f32 = 4.0;
/// Days that all groups together are worth beside one group.
const GROUP_PRIOR: f32 = 30.0;
/// A day counts as no further from the usual than this, in deviations.
const CLIP: f32 = 2.5;

/// One identity's level and variance of a count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Level {
    pub(super) mean: Small,
    pub(super) variance: Small,
}

/// The same of a group: its level, how its members differ, and how their days do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Peers {
    pub(super) days: f32,
    pub(super) mean: f32,
    pub(super) between: f32,
    pub(super) within: f32,
}

/// What a day is expected to be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Expected {
    pub(super) mean: f32,
    pub(super) deviation: f32,
}

impl Level {
    /// What is expected of an identity with `days` days of its own.
    pub(super) fn expected(self, days: u16, peers: Peers, chance: impl Fn(f32) -> f32) -> Expected {
        let own = f32::from(days).min(MEMORY);
        let within =
            (own * self.variance.get() + SPREAD_PRIOR * peers.within) / (own + SPREAD_PRIOR);
        let precision = own / within + 1.0 / peers.between;
        let mean = (own * self.mean.get() / within + peers.mean / peers.between) / precision;
        let variance = within + 1.0 / precision + chance(mean);
        Expected { mean, deviation: variance.sqrt() }
    }

    /// Learns a day, no more of it than is usual and a little.
    pub(super) fn learn(&mut self, value: f32, days: u16, expected: Expected) {
        let known = f32::from(days);
        let pace = (1.0 / (known + 1.0)).max(1.0 / MEMORY);
        if days == 0 {
            *self = Self { mean: Small::new(value), variance: Small::default() };
            return;
        }
        let bound = CLIP * expected.deviation;
        let (mean, variance) = (self.mean.get(), self.variance.get());
        let off = (value - mean).clamp(-bound - 1.0 / known, bound + 1.0 / known);
        self.mean = Small::new(mean + pace * off);
        // The mean has moved towards the value, which is why the square looks too small.
        self.variance = Small::new(variance + pace * (off * off * (1.0 - pace) - variance));
    }
}

/// The pace of the long memory after `days` days.
pub(super) fn long_pace(days: u16) -> f32 {
    (1.0 / (f32::from(days) + 1.0)).max(1.0 / LONG_MEMORY)
}

impl Peers {
    /// Before anything is known: levels that differ by a factor of seven, days by one of 1.6.
    pub(super) const fn unknown() -> Self {
        Self { days: 0.0, mean: 0.0, between: 4.0, within: 0.25 }
    }

    /// Learns the day of a member whose own level was `level` after `days` days.
    pub(super) fn learn(&mut self, value: f32, level: Level, days: u16) {
        self.days += 1.0;
        let pace = (1.0 / self.days).max(1.0 / 4_000.0);
        // The spreads begin at the prior's.
        let slow = (1.0 / (self.days + 10.0)).max(1.0 / 4_000.0);
        self.mean += pace * (value - self.mean);
        if days == 0 {
            return;
        }
        let known = f32::from(days);
        let apart = level.mean.get() - self.mean;
        self.between += slow * ((apart * apart).min(25.0) - self.between);
        let off = (value - level.mean.get()) * (known / (known + 1.0)).sqrt();
        let bound = 9.0 * self.within + 0.25;
        self.within += slow * ((off * off).min(bound) - self.within);
    }

    /// This group, drawn towards `all` as long as little is known of it; never without spread.
    pub(super) fn or(self, all: Self) -> Self {
        let share = self.days / (self.days + GROUP_PRIOR);
        let mix = |own: f32, theirs: f32| share * own + (1.0 - share) * theirs;
        Self {
            days: self.days,
            mean: mix(self.mean, all.mean),
            between: mix(self.between, all.between).max(0.04),
            within: mix(self.within, all.within).max(0.01),
        }
    }
}

/// What a small count varies by of itself.
pub(super) fn chance_of_count(mean: f32) -> f32 {
    1.0 / (1.0 + mean.clamp(0.0, 20.0).exp())
}

/// What a share of `all` varies by of itself.
pub(super) fn chance_of_share(mean: f32, all: f32) -> f32 {
    1.0 / (0.5 + all * (mean - SHIFT).min(0.0).exp())
}

/// Shares are kept as logarithms, which are negative.
const SHIFT: f32 = 14.0;

/// The share of `part` in `all`, as it is compared.
pub(super) fn share(part: f32, all: f32) -> f32 {
    (((part + 0.5) / (all + 1.0)).ln() + SHIFT).max(0.0)
}

/// The share that compares as `log`.
pub(super) fn part(log: f32) -> f32 {
    (log - SHIFT).exp()
}

/// A count as it is compared.
pub(super) fn log(count: f32) -> f32 {
    (1.0 + count.max(0.0)).ln()
}

/// The count that compares as `log`.
pub(super) fn count(log: f32) -> f32 {
    log.clamp(0.0, 60.0).exp() - 1.0
}

/// The logarithm of a whole count.
pub(super) fn log_of(count: u64) -> f32 {
    log(measure(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> Peers {
        Peers { days: 1_000.0, mean: 5.0, between: 1.0, within: 0.1 }
    }

    #[test]
    fn a_stranger_is_expected_to_be_like_its_peers_and_a_friend_like_itself() {
        let stranger = Level::default().expected(0, peers(), chance_of_count);
        assert!((stranger.mean - 5.0).abs() < 0.01 && stranger.deviation > 1.0);

        let mut level = Level::default();
        for day in 0..20 {
            let expected = level.expected(day, peers(), chance_of_count);
            level.learn(if day % 2 == 0 { 8.1 } else { 7.9 }, day, expected);
        }
        let friend = level.expected(20, peers(), chance_of_count);
        assert!((friend.mean - 8.0).abs() < 0.2 && friend.deviation < 0.4, "{friend:?}");
    }

    #[test]
    fn one_wild_day_moves_the_level_by_no_more_than_its_clip() {
        let mut level = Level { mean: Small::new(5.0), variance: Small::new(0.04) };
        let expected = level.expected(14, peers(), chance_of_count);

        level.learn(15.0, 14, expected);

        assert!(level.mean.get() - 5.0 <= (CLIP * expected.deviation + 0.1) / MEMORY, "{level:?}");
    }
}
