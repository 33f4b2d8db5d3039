//! Numbers that carry their unit.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// A count of bytes; parses `64KiB`, `10MiB`, `512`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A rate that is never zero: "no traffic at all" is a block, not a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PerSecond(NonZeroU32);

/// `count` events in each `per`, as `100/s`, `6/m`, `50/h` or `1000/d`; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: NonZeroU32,
    per: Duration,
}

/// The text is not a number with the right unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}; write it as {form}")]
pub struct UnitError {
    text: String,
    what: &'static str,
    form: &'static str,
}

impl PerSecond {
    /// A rate of `count` per second.
    pub const fn new(count: NonZeroU32) -> Self {
        Self(count)
    }

    /// Events per second, at least one.
    pub const fn count(self) -> u32 {
        self.0.get()
    }
}

impl Rate {
    /// `count` events in each `per`; `None` when `per` is zero.
    pub const fn new(count: NonZeroU32, per: Duration) -> Option<Self> {
        if per.is_zero() { None } else { Some(Self { count, per }) }
    }

    /// The time that one event uses up: `per / count`, at least one nanosecond.
    pub fn interval(self) -> Duration {
        (self.per / self.count.get()).max(Duration::from_nanos(1))
    }

    /// Events in each [`Self::per`].
    pub const fn count(self) -> u32 {
        self.count.get()
    }

    /// The window of the rate.
    pub const fn per(self) -> Duration {
        self.per
    }
}

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refused = || UnitError {
            text: text.to_owned(),
            what: "size",
            form: "a number of bytes with `KiB`, `MiB` or `GiB`, such as `64KiB`",
        };
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let scale = match text.strip_prefix(digits).map(str::trim) {
            Some("" | "B") => 1,
            Some("KiB") => 1 << 10,
            Some("MiB") => 1 << 20,
            Some("GiB") => 1 << 30,
            Some(_) | None => return Err(refused()),
        };
        let count = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(scale));
        count.map(Self).ok_or_else(refused)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0B"),
            n if n % (1 << 30) == 0 => write!(f, "{}GiB", n >> 30),
            n if n % (1 << 20) == 0 => write!(f, "{}MiB", n >> 20),
            n if n % (1 << 10) == 0 => write!(f, "{}KiB", n >> 10),
            n => write!(f, "{n}B"),
        }
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refused = || UnitError {
            text: text.to_owned(),
            what: "rate",
            form: "`250/s`, `6/m`, `50/h` or `1000/d`, at least `1`",
        };
        let (count, unit) = text.split_once('/').ok_or_else(refused)?;
        let per = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(refused()),
        };
        let Ok(count) = count.trim().parse() else { return Err(refused()) };
        Self::new(count, Duration::from_secs(per)).ok_or_else(refused)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count;
        match self.per.as_secs() {
            1 => write!(f, "{count}/s"),
            60 => write!(f, "{count}/m"),
            3_600 => write!(f, "{count}/h"),
            86_400 => write!(f, "{count}/d"),
            _ => write!(f, "{count} per {:?}", self.per),
        }
    }
}

impl FromStr for PerSecond {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let count = text.strip_suffix("/s").and_then(|count| count.trim().parse().ok());
        count.map(Self).ok_or_else(|| UnitError {
            text: text.to_owned(),
            what: "rate",
            form: "`250/s`, at least `1/s`",
        })
    }
}

impl fmt::Display for PerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_of_nothing_is_refused_and_says_the_correct_form() {
        let refused = "0/s".parse::<PerSecond>().unwrap_err();

        assert_eq!(refused.to_string(), "`0/s` is not a rate; write it as `250/s`, at least `1/s`");
        assert!("0/m".parse::<Rate>().is_err());
        assert!("5/w".parse::<Rate>().is_err());
    }

    #[test]
    fn sizes_and_rates_print_as_they_are_written() {
        for text in ["64KiB", "10MiB", "1GiB", "513B"] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
        }
        for text in ["250/s", "6/m", "50/h", "1000/d"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert!("99999999999999GiB".parse::<Bytes>().is_err());
    }
}
