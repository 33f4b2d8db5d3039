//! Dates as tokens write them (`NumericDate`, RFC 7519 section 2): seconds since 1970, as any JSON
//! number.
//!
//! The decimal text is read exactly, without floating point. What lies between two nanoseconds is
//! rounded to the side that makes a token live shorter. Negative dates and dates beyond the year
//! 2554 are refused.

use enforcer_model::Timestamp;

/// Where a date between two nanoseconds goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// For ends.
    Down,
    /// For beginnings.
    Up,
}

/// Digits in front of the point of any date that fits.
const SECONDS_DIGITS_MAX: i32 = 20;

const NANOSECOND_DIGITS: i32 = 9;

/// The date that the JSON number `text` is; none when it is negative or does not fit.
pub(crate) fn date(text: &str, round: Round) -> Option<Timestamp> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if digits().all(|digit| digit == b'0') {
        return Some(Timestamp::from_unix_ns(0));
    }
    // A minus is no digit, so a negative number ends here.
    if !digits().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let leading = i32::try_from(digits().take_while(|&digit| digit == b'0').count()).ok()?;
    if point.checked_sub(leading)? > SECONDS_DIGITS_MAX {
        return None;
    }
    let kept = usize::try_from(point.checked_add(NANOSECOND_DIGITS)?).unwrap_or(0);

    let append = |ns: u64, digit: u8| ns.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    let padded = digits().chain(std::iter::repeat(b'0')).take(kept);
    let ns = padded.into_iter().try_fold(0, append)?;
    let inexact = digits().skip(kept).any(|digit| digit != b'0');
    let up = u64::from(inexact && round == Round::Up);
    ns.checked_add(up).map(Timestamp::from_unix_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(text: &str, round: Round) -> Option<u64> {
        date(text, round).map(Timestamp::unix_ns)
    }

    #[test]
    fn whole_and_fractional_seconds_are_exact() {
        for (text, expected) in [
            ("0", 0),
            ("0.0e5", 0),
            ("1", 1_000_000_000),
            ("1795000000", 1_795_000_000_000_000_000),
            ("1795000000.5", 1_795_000_000_500_000_000),
            ("1795000000.123456789", 1_795_000_000_123_456_789),
            ("1.795e9", 1_795_000_000_000_000_000),
            ("17950000000E-1", 1_795_000_000_000_000_000),
            ("0.00000000001795e+20", 1_795_000_000_000_000_000),
            ("18446744073.709551615", u64::MAX),
        ] {
            assert_eq!(ns(text, Round::Down), Some(expected), "{text}");
            assert_eq!(ns(text, Round::Up), Some(expected), "{text}");
        }
    }

    #[test]
    fn between_two_nanoseconds_a_token_lives_shorter() {
        assert_eq!(ns("1.0000000009", Round::Down), Some(1_000_000_000));
        assert_eq!(ns("1.0000000009", Round::Up), Some(1_000_000_001));
        assert_eq!(ns("1e-12", Round::Down), Some(0));
        assert_eq!(ns("1e-12", Round::Up), Some(1));
        assert_eq!(ns("1e-2000000000", Round::Up), Some(1));
    }

    #[test]
    fn what_is_negative_or_does_not_fit_is_no_date() {
        for text in [
            "-1",
            "-0",
            "-0.5",
            "18446744073.709551616",
            "18446744074",
            "99999999999999999999",
            "1e11",
            "1e400",
            "1e2147483647",
            "1e99999999999",
            "1e-99999999999",
            "123456789012345678901234567890",
        ] {
            assert_eq!(ns(text, Round::Down), None, "{text}");
        }
        assert_eq!(ns("18446744073.7095516159", Round::Down), Some(u64::MAX));
        assert_eq!(ns("18446744073.7095516159", Round::Up), None);
    }
}
