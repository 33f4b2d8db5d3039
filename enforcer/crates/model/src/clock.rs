//! Time as an input: logic receives a [`Moment`], only the edges ask a [`Clock`].

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Wall-clock time in nanoseconds since the Unix epoch, printed as RFC 3339 in UTC.
///
/// Good until the year 2554; wall time is for people and records, never for measuring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// The text is not an RFC 3339 time after 1970.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time; write it as `2026-01-31T12:00:00Z`")]
pub struct TimestampError(String);

/// One instant, read once and passed along: monotonic for arithmetic, wall for records.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For differences; never goes backwards.
    pub monotonic: Instant,
    /// For people, records and expiry dates.
    pub wall: Timestamp,
}

/// Where the edges of the program read the time. Tests hand in their own.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Moment;
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Timestamp {
    /// From nanoseconds since the Unix epoch.
    pub const fn from_unix_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// From whole seconds since the Unix epoch, saturating.
    pub const fn from_unix_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn unix_ns(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    pub const fn unix_seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// This time plus `duration`, saturating.
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => write!(f, "{time:.6}"),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let refused = || TimestampError(text.to_owned());
        let Ok(time) = text.parse::<jiff::Timestamp>() else { return Err(refused()) };
        let Ok(ns) = u64::try_from(time.as_nanosecond()) else { return Err(refused()) };
        Ok(Self(ns))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
        Moment { monotonic: Instant::now(), wall: SystemTime::now().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_survives_printing_and_parsing_to_the_microsecond() {
        let time = Timestamp::from_unix_ns(1_795_000_000_123_456_000);

        assert_eq!(time.to_string().parse(), Ok(time));
        assert_eq!(Timestamp::from_unix_seconds(0).to_string(), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn a_time_before_1970_is_refused_with_the_correct_form() {
        let refused = "1969-12-31T23:59:59Z".parse::<Timestamp>().unwrap_err();

        assert!(refused.to_string().contains("write it as"));
    }
}
