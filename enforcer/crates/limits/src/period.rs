//! Hours, days and months of the calendar in UTC, which has no summer time to get wrong.

use std::fmt;
use std::time::Duration;

use enforcer_model::Timestamp;

/// When a quota begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// With each full hour.
    Hour,
    /// At midnight.
    Day,
    /// At midnight of the first.
    Month,
}

/// One hour, day or month, by where it ends, in seconds since the epoch; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Span {
    pub(crate) ends: u64,
}

const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

impl Period {
    /// The one that `now` lies in.
    pub(crate) fn at(self, now: Timestamp) -> Span {
        let seconds = now.unix_seconds();
        let next = |length: u64| (seconds / length).saturating_add(1).saturating_mul(length);
        let ends = match self {
            Self::Hour => next(HOUR),
            Self::Day => next(DAY),
            Self::Month => first_of_next_month(seconds / DAY).saturating_mul(DAY),
        };
        Span { ends }
    }

    /// As a policy writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The period of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Hour, Self::Day, Self::Month].into_iter().find(|period| period.as_str() == name)
    }

    /// Its length; of months, the longest.
    pub const fn length(self) -> Duration {
        match self {
            Self::Hour => Duration::from_secs(HOUR),
            Self::Day => Duration::from_secs(DAY),
            Self::Month => Duration::from_secs(31 * DAY),
        }
    }
}

impl Span {
    /// How long it lasts from `now` on.
    pub(crate) fn left(self, now: Timestamp) -> Duration {
        self.end().since(now)
    }

    pub(crate) const fn end(self) -> Timestamp {
        Timestamp::from_unix_seconds(self.ends)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Days since the epoch of the first day of the month after the one that `day` lies in.
///
/// Counted in eras of 400 years from 1 March 0000 (Howard Hinnant, `chrono`-compatible low-level
/// date algorithms), where the leap day is the last of its year.
fn first_of_next_month(day: u64) -> u64 {
    const TO_ERA: u64 = 719_468;
    const ERA: u64 = 146_097;
    let shifted = day.saturating_add(TO_ERA);
    let (era, of_era) = (shifted / ERA, shifted % ERA);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Months from March on: 0 to 11.
    let month = (5 * of_year + 2) / 153 + 1;
    let start_of_year = era.saturating_mul(ERA) + 365 * year + year / 4 - year / 100;
    let start = if month == 12 {
        // From February to the first of March of the next year.
        let next = year + 1;
        era.saturating_mul(ERA) + 365 * next + next / 4 - next / 100 + next / 400
    } else {
        start_of_year + (153 * month + 2) / 5
    };
    start.saturating_sub(TO_ERA)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn periods_end_at_the_full_hour_at_midnight_and_on_the_first() {
        for (now, period, end) in [
            ("2026-11-22T10:00:00Z", Period::Hour, "2026-11-22T11:00:00.000000Z"),
            ("2026-11-22T10:59:59.999Z", Period::Hour, "2026-11-22T11:00:00.000000Z"),
            ("2026-11-22T00:00:00Z", Period::Day, "2026-11-23T00:00:00.000000Z"),
            ("2026-12-31T23:59:59Z", Period::Day, "2027-01-01T00:00:00.000000Z"),
            ("2026-12-31T23:59:59Z", Period::Month, "2027-01-01T00:00:00.000000Z"),
            ("2028-02-29T12:00:00Z", Period::Month, "2028-03-01T00:00:00.000000Z"),
            ("2100-02-28T12:00:00Z", Period::Month, "2100-03-01T00:00:00.000000Z"),
            ("2000-02-29T12:00:00Z", Period::Month, "2000-03-01T00:00:00.000000Z"),
            ("1970-01-01T00:00:00Z", Period::Month, "1970-02-01T00:00:00.000000Z"),
        ] {
            let now: Timestamp = now.parse().unwrap();
            assert_eq!(period.at(now).end().to_string(), end, "{now} {period}");
        }
    }

    /// In central Europe the clocks go back on 25 October 2026; a day in UTC has 24 hours.
    #[test]
    fn summer_time_neither_lengthens_nor_shortens_a_day() {
        let before: Timestamp = "2026-10-25T00:00:00Z".parse().unwrap();

        assert_eq!(Period::Day.at(before).left(before), Duration::from_secs(86_400));
    }

    proptest! {
        #[test]
        fn a_month_ends_where_the_calendar_says(seconds in 0..17_000_000_000u64) {
            let now = Timestamp::from_unix_seconds(seconds);
            let date = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap()).unwrap();
            let first = date.to_zoned(jiff::tz::TimeZone::UTC).date().first_of_month();
            let next = first.checked_add(jiff::Span::new().months(1)).unwrap();
            let next = next.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();

            prop_assert_eq!(Period::Month.at(now).ends, u64::try_from(next.as_second()).unwrap());
        }
    }
}
