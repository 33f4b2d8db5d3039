//! Hours of the week in a time zone: `time.NAME` of a condition.
//!
//! A window is about clocks on a wall: `08:00-18:00` in Berlin is an hour earlier in UTC during summer
//! time. Hours that a change of the clock skips do not happen, hours that it repeats happen twice. The
//! first minute belongs to the window, the last one does not. Hours that pass midnight belong to the
//! day on which they begin. Changes of the clock are computed when the policy is read, so that a
//! decision is one binary search; outside those years the zone itself is asked.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use enforcer_model::Timestamp;
use jiff::tz::TimeZone;

/// A window of the week.
#[derive(Clone, PartialEq, Eq)]
pub struct Window {
    days: Days,
    hours: Hours,
    zone: TimeZone,
    changes: Box<[Change]>,
}

/// Days of the week: `mon-fri`, `sat-mon`, `mon,wed,fri`, or both forms joined by commas.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Days(u8);

/// Hours of a day, to the minute: `08:00-18:00`, `22:00-06:00`, `00:00-24:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hours {
    from_minute: u16,
    to_minute: u16,
}

/// Why there is no such window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Not days of the week.
    #[error("`{0}` names no days; write `mon-fri` or `mon,wed,fri`")]
    Days(String),
    /// A day is there twice.
    #[error("`{day}` is in `{days}` twice")]
    DayTwice {
        /// As written.
        days: String,
        /// Which one.
        day: &'static str,
    },
    /// Not hours of a day.
    #[error("`{0}` is not a span of hours; write `08:00-18:00`, or `22:00-06:00` over midnight")]
    Hours(String),
    /// It begins when it ends.
    #[error("`{0}` begins when it ends; write `00:00-24:00` for the whole day")]
    Empty(String),
    /// No such zone.
    #[error("`{0}` is not a time zone; write an IANA name such as `Europe/Berlin`, or `UTC`")]
    Zone(String),
}

/// From `at` on, clocks are `offset` seconds ahead of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    at_seconds: i64,
    offset_seconds: i64,
}

const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY_MINUTES: u16 = 24 * 60;
const DAY_SECONDS: i64 = 86_400;

/// 2020-01-01 and 2120-01-01, in seconds: changes of the clock between them are at hand.
const FIRST_SECONDS: i64 = 1_577_836_800;
const LAST_SECONDS: i64 = 4_733_510_400;

/// More changes than a century can have; a zone with more is asked itself behind them.
const CHANGES_MAX: usize = 1024;

impl Window {
    /// `hours` of `days`, as clocks in `zone` (an IANA name) show them.
    pub fn new(days: Days, hours: Hours, zone: &str) -> Result<Self, WindowError> {
        let Ok(zone) = TimeZone::get(zone) else { return Err(WindowError::Zone(zone.to_owned())) };
        let changes = changes(&zone);
        Ok(Self { days, hours, zone, changes })
    }

    /// Whether the window is open at `now`.
    #[inline]
    pub fn is_open(&self, now: Timestamp) -> bool {
        let Ok(utc) = i64::try_from(now.unix_seconds()) else { return false };
        let local = utc.saturating_add(self.offset(utc));
        let minute = local.rem_euclid(DAY_SECONDS) / 60;
        // 1970-01-01 was a Thursday.
        let weekday = local.div_euclid(DAY_SECONDS).saturating_add(3).rem_euclid(7);
        let Hours { from_minute, to_minute } = self.hours;
        let (from, to) = (i64::from(from_minute), i64::from(to_minute));
        if from < to {
            self.days.has(weekday) && (from..to).contains(&minute)
        } else {
            (self.days.has(weekday) && minute >= from)
                || (self.days.has((weekday + 6) % 7) && minute < to)
        }
    }

    /// The days on which its hours begin.
    pub const fn days(&self) -> Days {
        self.days
    }

    /// Its hours.
    pub const fn hours(&self) -> Hours {
        self.hours
    }

    /// The IANA name of its zone.
    pub fn zone(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    fn offset(&self, utc: i64) -> i64 {
        let place = self.changes.partition_point(|change| change.at_seconds <= utc);
        let change = place.checked_sub(1).and_then(|place| self.changes.get(place));
        match change {
            Some(change) if utc < LAST_SECONDS => change.offset_seconds,
            Some(_) | None => ask(&self.zone, utc),
        }
    }
}

/// The offset at the first moment, then every change up to the last one.
fn changes(zone: &TimeZone) -> Box<[Change]> {
    let Ok(first) = jiff::Timestamp::from_second(FIRST_SECONDS) else { return Box::default() };
    let begin = Change { at_seconds: FIRST_SECONDS, offset_seconds: ask(zone, FIRST_SECONDS) };
    let later = zone.following(first).map(|transition| Change {
        at_seconds: transition.timestamp().as_second(),
        offset_seconds: i64::from(transition.offset().seconds()),
    });
    let until = later.take_while(|change| change.at_seconds < LAST_SECONDS);
    let mut changes: Vec<Change> =
        std::iter::once(begin).chain(until).take(CHANGES_MAX.saturating_add(1)).collect();
    // A change that does not move the clock (only its name) says nothing.
    changes.dedup_by_key(|change| change.offset_seconds);
    // An incomplete list would be believed to its end.
    if changes.len() > CHANGES_MAX { Box::default() } else { changes.into() }
}

fn ask(zone: &TimeZone, utc: i64) -> i64 {
    let moment = jiff::Timestamp::from_second(utc).unwrap_or(jiff::Timestamp::MAX);
    i64::from(zone.to_offset(moment).seconds())
}

impl Days {
    /// Every day of the week.
    pub const ALL: Self = Self(0x7F);

    /// Whether `weekday` is one of them; 0 is Monday.
    #[inline]
    pub fn has(self, weekday: i64) -> bool {
        (0..7).contains(&weekday) && self.0 >> weekday & 1 == 1
    }
}

impl FromStr for Days {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let wrong = || WindowError::Days(text.to_owned());
        let day = |name: &str| {
            let name = name.trim().to_ascii_lowercase();
            NAMES.iter().position(|known| *known == name).ok_or_else(wrong)
        };
        let mut days = 0_u8;
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (day(first)?, day(last)?),
                None => (day(part)?, day(part)?),
            };
            let length = (last + 7 - first) % 7;
            for n in (0..=length).map(|n| (first + n) % 7) {
                if days >> n & 1 == 1 {
                    let day = NAMES.get(n).copied().unwrap_or_default();
                    return Err(WindowError::DayTwice { days: text.to_owned(), day });
                }
                days |= 1 << n;
            }
        }
        Ok(Self(days))
    }
}

impl Hours {
    /// The whole day.
    pub const ALL: Self = Self { from_minute: 0, to_minute: DAY_MINUTES };

    /// The first minute of the day that belongs to it.
    pub const fn from_minute(self) -> u16 {
        self.from_minute
    }

    /// The first minute that does not; not after [`Self::from_minute`] when midnight lies between.
    pub const fn to_minute(self) -> u16 {
        self.to_minute
    }
}

impl FromStr for Hours {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let wrong = || WindowError::Hours(text.to_owned());
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let from_minute = minute(from.trim()).ok_or_else(wrong)?;
        let to_minute = minute(to.trim()).ok_or_else(wrong)?;
        if from_minute == DAY_MINUTES {
            return Err(wrong());
        }
        if from_minute == to_minute {
            return Err(WindowError::Empty(text.to_owned()));
        }
        Ok(Self { from_minute, to_minute })
    }
}

/// `HH:MM`, up to `24:00`.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |digits: &str| -> Option<u16> {
        let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| plain)
    };
    let (hour, minute) = (two(hour)?, two(minute)?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= DAY_MINUTES).then_some(total)
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = (0..).zip(NAMES).filter(|(n, _)| self.has(*n)).enumerate();
        for (n, (_, name)) in named {
            write!(f, "{}{name}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Days({self})")
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from_minute: from, to_minute: to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.days, self.hours, self.zone())
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window({self})")
    }
}
