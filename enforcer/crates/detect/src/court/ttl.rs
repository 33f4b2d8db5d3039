//! How long a decision lasts: longer each time, shorter after quiet, never for ever.

use std::collections::HashMap;
use std::time::Duration;

use enforcer_model::Timestamp;

use crate::{Action, Entity};

/// Whoever was decided about lately; when full, the sixteenth that was quiet longest is forgotten.
pub const REPEATERS_MAX: usize = 16_384;

/// After this much quiet a decision counts as one repetition less.
pub const DECAY: Duration = Duration::from_secs(6 * 3_600);

/// The time is doubled so often at most.
pub const DOUBLINGS_MAX: u32 = 6;

/// How often there was the same decision about the same target before.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    past: HashMap<(Entity, Action), Past>,
}

#[derive(Clone, Copy, Debug)]
struct Past {
    times: u32,
    ended: Timestamp,
}

impl Repeats {
    /// How often it counts, `now`.
    pub(super) fn times(&self, target: &Entity, action: Action, now: Timestamp) -> u32 {
        let Some(past) = self.past.get(&(target.clone(), action)) else { return 0 };
        past.times.saturating_sub(decayed(now.since(past.ended)))
    }

    /// A decision that counted `times` before it ended.
    pub(super) fn ended(&mut self, target: &Entity, action: Action, times: u32, at: Timestamp) {
        let key = (target.clone(), action);
        if self.past.len() >= REPEATERS_MAX && !self.past.contains_key(&key) {
            let mut ends: Vec<Timestamp> = self.past.values().map(|past| past.ended).collect();
            let place = ends.len() / 16;
            let (_, oldest, _) = ends.select_nth_unstable(place);
            let oldest = *oldest;
            self.past.retain(|_, past| past.ended > oldest);
        }
        self.past.insert(key, Past { times: times.saturating_add(1), ended: at });
    }
}

fn decayed(quiet: Duration) -> u32 {
    u32::try_from(quiet.as_secs() / DECAY.as_secs()).unwrap_or(u32::MAX)
}

/// `base` × 2^min(`times`, cap) ± 10 %, at most `longest`, at least a second.
///
/// The jitter keeps what was decided together from ending together.
pub(super) fn lasting(base: Duration, times: u32, bits: u64, longest: Duration) -> Duration {
    let doubled = base.saturating_mul(1 << times.min(DOUBLINGS_MAX));
    // 900 to 1100 of a thousand.
    let parts = 900 + u32::try_from(bits % 201).unwrap_or_default();
    let jittered = doubled.min(longest).saturating_mul(parts) / 1_000;
    jittered.clamp(Duration::from_secs(1).min(longest), longest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const LONGEST: Duration = Duration::from_secs(86_400);
    /// Jitter of nothing.
    const EVEN: u64 = 100;

    #[test]
    fn the_time_doubles_with_each_repetition_up_to_a_cap() {
        let minutes = |times| lasting(MINUTE, times, EVEN, LONGEST).as_secs() / 60;

        assert_eq!([0, 1, 2, 6, 7, 4_000].map(minutes), [1, 2, 4, 64, 64, 64]);
    }

    #[test]
    fn quiet_makes_repetitions_count_less_until_none_does() {
        let mut repeats = Repeats::default();
        let target: Entity = "source:203.0.113.7".parse().unwrap();
        let end = Timestamp::from_unix_seconds(1_000_000);
        repeats.ended(&target, Action::Drop, 2, end);
        let after = |quiet| repeats.times(&target, Action::Drop, end.saturating_add(quiet));

        assert_eq!(after(Duration::ZERO), 3);
        assert_eq!(after(DECAY), 2);
        assert_eq!(after(DECAY * 3), 0);
        assert_eq!(after(DECAY * 300), 0);
        assert_eq!(repeats.times(&target, Action::DenyIdentity, end), 0);
    }

    #[test]
    fn the_table_of_repeaters_stays_bounded_and_keeps_the_latest() {
        let mut repeats = Repeats::default();
        for number in 0..REPEATERS_MAX + 10 {
            let target = Entity::Route(number.to_string().into());
            let at = Timestamp::from_unix_seconds(u64::try_from(number).unwrap());
            repeats.ended(&target, Action::DisableRoute, 0, at);
        }

        assert!(repeats.past.len() <= REPEATERS_MAX);
        let last = Entity::Route((REPEATERS_MAX + 9).to_string().into());
        let now = Timestamp::from_unix_seconds(20_000);
        assert_eq!(repeats.times(&last, Action::DisableRoute, now), 1);
    }

    proptest! {
        #[test]
        fn nothing_lasts_longer_than_the_longest(base in 0u64..10_000_000, times: u32, bits: u64, longest in 1u64..1_000_000) {
            let longest = Duration::from_secs(longest);
            let lasts = lasting(Duration::from_secs(base), times, bits, longest);
            prop_assert!(lasts <= longest);
            prop_assert!(lasts > Duration::ZERO);
        }

        #[test]
        fn the_jitter_is_a_tenth_at_most(bits: u64) {
            let lasts = lasting(Duration::from_secs(1_000), 0, bits, LONGEST).as_secs();
            prop_assert!((900..=1_100).contains(&lasts));
        }
    }
}
