//! Ends are kept as wall time and counted on the clock that goes on while the host sleeps.
//!
//! The kernel ends a block by `CLOCK_BOOTTIME`. The wall clock is compared with it; when somebody
//! sets the wall clock, every end moves along, so that nobody is let in early or kept out late. A
//! host that slept is no jump: both clocks went on.

use std::time::Duration;

use enforcer_model::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// A wall clock that is off by less than this has not been set.
const JUMP_MIN: Duration = Duration::from_secs(2);

/// A wall clock before this day (2020-01-01) was never right; ends were not meant by it.
const NEVER_SET: Timestamp = Timestamp::from_unix_seconds(1_577_836_800);

/// How far the wall clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Jump {
    Ahead(Duration),
    Back(Duration),
}

/// The two clocks as they stood to each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    wall: Timestamp,
    boot: Duration,
}

impl Clocks {
    pub(crate) fn read(wall: Timestamp) -> Self {
        let boot = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(boot.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(boot.tv_nsec).unwrap_or_default();
        Self { wall, boot: Duration::new(seconds, nanoseconds) }
    }

    /// How far the wall clock was set between `self` and `later`.
    pub(crate) fn jump(self, later: Self) -> Option<Jump> {
        let expected = self.wall.saturating_add(later.boot.saturating_sub(self.boot));
        let (ahead, back) = (later.wall.since(expected), expected.since(later.wall));
        if self.wall < NEVER_SET || ahead.max(back) < JUMP_MIN {
            return None;
        }
        Some(if ahead > back { Jump::Ahead(ahead) } else { Jump::Back(back) })
    }
}

impl Jump {
    /// `end` on the clock as it was set.
    pub(crate) fn apply(self, end: Timestamp) -> Timestamp {
        match self {
            Self::Ahead(by) => end.saturating_add(by),
            Self::Back(by) => {
                let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
                Timestamp::from_unix_ns(end.unix_ns().saturating_sub(by))
            }
        }
    }
}

impl std::fmt::Display for Jump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (by, way) = match self {
            Self::Ahead(by) => (by, "ahead"),
            Self::Back(by) => (by, "back"),
        };
        write!(f, "the wall clock was set {way} by {} s", by.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_moves_every_end_along_and_one_that_goes_on_moves_none() {
        let then = clocks(1_800_000_000, 100);

        assert_eq!(then.jump(clocks(1_800_000_060, 160)), None, "a minute later");
        assert_eq!(then.jump(clocks(1_800_028_800, 28_900)), None, "the host slept a night");
        assert_eq!(then.jump(clocks(1_800_000_061, 160)), None, "slewed by a second");

        let ahead = then.jump(clocks(1_800_003_660, 160)).unwrap();
        assert_eq!(ahead, Jump::Ahead(Duration::from_secs(3_600)));
        let back = then.jump(clocks(1_799_996_460, 160)).unwrap();
        assert_eq!(back, Jump::Back(Duration::from_secs(3_600)));
        let end = Timestamp::from_unix_seconds(1_800_000_500);
        assert_eq!(back.apply(ahead.apply(end)), end);
    }

    #[test]
    fn a_clock_that_was_never_set_before_is_no_measure() {
        assert_eq!(clocks(60, 60).jump(clocks(1_800_000_000, 61)), None);
    }

    fn clocks(wall: u64, boot: u64) -> Clocks {
        Clocks { wall: Timestamp::from_unix_seconds(wall), boot: Duration::from_secs(boot) }
    }
}
