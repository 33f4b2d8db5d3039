//! Dates in the three forms of RFC 9110, 5.6.7, and in no other.
//!
//! What is almost a date is none: an answer whose `Expires` cannot be read has expired (RFC 9111,
//! 5.3). Only case is forgiven.

use http::HeaderValue;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const LONG_DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds since 1970; what lies before is 0. `now` tells the century of a year with two digits.
pub(crate) fn parse(value: &HeaderValue, now: u64) -> Option<u64> {
    let text = value.to_str().ok()?.trim_matches([' ', '\t']);
    imf(text).or_else(|| rfc850(text, now)).or_else(|| asctime(text))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn imf(text: &str) -> Option<u64> {
    let (day_name, rest) = text.split_once(", ")?;
    one_of(&DAYS, day_name)?;
    let mut parts = rest.split(' ');
    let day = number(parts.next()?, 2)?;
    let month = one_of(&MONTHS, parts.next()?)?;
    let year = number(parts.next()?, 4)?;
    let time = time_of_day(parts.next()?)?;
    ends_in_gmt(parts)?;
    seconds(year, month, day, time)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`.
fn rfc850(text: &str, now: u64) -> Option<u64> {
    let (day_name, rest) = text.split_once(", ")?;
    one_of(&LONG_DAYS, day_name)?;
    let mut parts = rest.split(' ');
    let mut date = parts.next()?.split('-');
    let day = number(date.next()?, 2)?;
    let month = one_of(&MONTHS, date.next()?)?;
    let short = number(date.next()?, 2)?;
    let time = time_of_day(parts.next()?)?;
    ends_in_gmt(parts)?;
    if date.next().is_some() {
        return None;
    }
    // More than fifty years ahead is the century before (RFC 9110, 5.6.7).
    let this_year = 1970 + now / 31_556_952;
    let year = this_year - this_year % 100 + short;
    let year = if year > this_year + 50 { year - 100 } else { year };
    seconds(year, month, day, time)
}

/// `Sun Nov  6 08:49:37 1994`.
fn asctime(text: &str) -> Option<u64> {
    let (day_name, rest) = text.split_at_checked(3)?;
    one_of(&DAYS, day_name)?;
    let (month, rest) = rest.strip_prefix(' ')?.split_at_checked(3)?;
    let month = one_of(&MONTHS, month)?;
    let (day, rest) = rest.strip_prefix(' ')?.split_at_checked(2)?;
    let day = match day.strip_prefix(' ') {
        Some(digit) => number(digit, 1)?,
        None => number(day, 2)?,
    };
    let (time, year) = rest.strip_prefix(' ')?.split_once(' ')?;
    seconds(number(year, 4)?, month, day, time_of_day(time)?)
}

fn ends_in_gmt<'a>(mut parts: impl Iterator<Item = &'a str>) -> Option<()> {
    let is_gmt = parts.next()?.eq_ignore_ascii_case("GMT");
    (is_gmt && parts.next().is_none()).then_some(())
}

/// The place of `word`, from 1.
fn one_of(words: &[&str], word: &str) -> Option<u64> {
    let place = words.iter().position(|known| known.eq_ignore_ascii_case(word))?;
    u64::try_from(place + 1).ok()
}

/// Exactly so many digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    let is_plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { text.parse().ok() } else { None }
}

fn time_of_day(text: &str) -> Option<u64> {
    let mut parts = text.split(':');
    let mut next = |most| number(parts.next()?, 2).filter(|part| *part <= most);
    // Second 60 is a leap second.
    let (hour, minute, second) = (next(23)?, next(59)?, next(60)?);
    parts.next().is_none().then_some(hour * 3_600 + minute * 60 + second)
}

fn seconds(year: u64, month: u64, day: u64, time: u64) -> Option<u64> {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    Some((days(year, month, day) * 86_400 + time).saturating_sub(days(1970, 1, 1) * 86_400))
}

/// Days since the first of March of the year 0, in the Gregorian calendar.
const fn days(year: u64, month: u64, day: u64) -> u64 {
    // The year of this count ends with February, so that leap days come last.
    let (year, month) =
        if month > 2 { (year, month - 3) } else { (year.saturating_sub(1), month + 9) };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1
}

/// `seconds` since 1970 as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn format(seconds: u64) -> Option<HeaderValue> {
    let day_count = seconds / 86_400 + days(1970, 1, 1);
    let mut year = day_count / 366;
    while days(year + 1, 1, 1) <= day_count {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days(year, month + 1, 1) <= day_count {
        month += 1;
    }
    let day = day_count - days(year, month, 1) + 1;
    // 1970 began on a Thursday.
    let name = |names: &[&'static str], at: u64| names.get(usize::try_from(at).ok()?).copied();
    let day_name = name(&DAYS, (seconds / 86_400 + 3) % 7)?;
    let month_name = name(&MONTHS, month - 1)?;
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let text = format!(
        "{day_name}, {day:02} {month_name} {year:04} {hour:02}:{minute:02}:{second:02} GMT"
    );
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_795_000_000;

    fn read(text: &str) -> Option<u64> {
        parse(&HeaderValue::from_str(text).unwrap(), NOW)
    }

    #[test]
    fn one_moment_has_three_forms_and_any_case() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "SUN, 06 NOV 1994 08:49:37 gmt",
        ] {
            assert_eq!(read(text), Some(784_111_777), "{text}");
        }
        assert_eq!(read("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(read("Tue, 29 Feb 2000 23:59:60 GMT"), Some(951_868_800));
        assert_eq!(read("Sun, 21 Nov 2286 04:46:39 GMT"), Some(10_000_039_599));
    }

    #[test]
    fn what_is_almost_a_date_is_none() {
        for text in [
            "",
            "0",
            "-1",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 2050 02:01:18 +0000",
            "Thu, 18 Aug 2050 02:01:18",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 GMT GMT",
            "Thu, 31 Jun 2050 02:01:18 GMT",
            "Tue, 29 Feb 2100 00:00:00 GMT",
            "Thu, 18 Aug 2050 24:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
            "Thursday, 18-Aug-50 02:01:18",
            "Thu Aug 8 02:01:18 2050",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_year_of_two_digits_is_at_most_fifty_years_ahead() {
        assert_eq!(read("Thursday, 18-Aug-50 02:01:18 GMT"), read("Thu, 18 Aug 2050 02:01:18 GMT"));
        assert_eq!(read("Friday, 18-Aug-99 02:01:18 GMT"), read("Wed, 18 Aug 1999 02:01:18 GMT"));
    }

    proptest! {
        #[test]
        fn every_second_survives_printing_and_reading(seconds in 0..253_402_300_799_u64) {
            prop_assert_eq!(parse(&format(seconds).unwrap(), NOW), Some(seconds));
        }
    }
}
