//! When something is tried again: the table of Standard Webhooks, some jitter, and what the receiver
//! itself asks for.

use std::time::Duration;

use enforcer_model::Timestamp;

/// Pauses before each try, in seconds: three days and some hours in all.
const PAUSES: [u64; 10] = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// Longest pause that a receiver may ask for.
const ASKED_MAX: Duration = Duration::from_secs(86_400);

/// How long to wait before the next try after `tries` of them; none: no more.
///
/// `random` adds up to a tenth, so that what failed together is not tried together.
pub(crate) fn pause(tries: usize, random: u64) -> Option<Duration> {
    let seconds = *PAUSES.get(tries)?;
    let milliseconds = seconds.saturating_mul(1_000);
    let jitter = match milliseconds / 10 {
        0 => 0,
        tenth => random % tenth,
    };
    Some(Duration::from_millis(milliseconds.saturating_add(jitter)))
}

/// What `Retry-After` says: seconds, or a date; none for anything else.
pub(crate) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(ASKED_MAX));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    let then = u64::try_from(date.as_second()).ok()?;
    Some(Timestamp::from_unix_seconds(then).since(now).min(ASKED_MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_is_that_of_the_specification() {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let pauses: Vec<_> = (0..).map_while(|tries| pause(tries, 0)).collect();

        assert_eq!(
            pauses,
            [
                Duration::ZERO,
                Duration::from_secs(5),
                Duration::from_secs(300),
                Duration::from_secs(1_800),
                hours(2),
                hours(5),
                hours(10),
                hours(14),
                hours(20),
                hours(24),
            ]
        );
    }

    #[test]
    fn a_receiver_says_when_it_wants_to_be_asked_again() {
        let now = Timestamp::from_unix_seconds(784_111_777 - 90);
        let after = |text| retry_after(text, now);

        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after(" 0 "), Some(Duration::ZERO));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("99999999999999999999999"), Some(ASKED_MAX));
        assert_eq!((after(""), after("soon"), after("-1"), after("1.5")), (None, None, None, None));
    }

    proptest! {
        #[test]
        fn no_receiver_can_ask_for_more_than_a_day(text in ".{0,60}") {
            let now = Timestamp::from_unix_seconds(1_795_000_000);
            prop_assert!(retry_after(&text, now).is_none_or(|pause| pause <= ASKED_MAX));
        }

        #[test]
        fn jitter_adds_less_than_a_tenth(tries in 0_usize..10, random: u64) {
            let (least, most) = (pause(tries, 0).unwrap(), pause(tries, random).unwrap());
            prop_assert!(least <= most && most <= least + least / 10);
        }
    }
}
