//! What one request costs: a weight that is known before, or bytes that are counted.
//!
//! Bytes are charged exactly: `response.kib / 1024` makes 1 MiB one unit, and half a MiB half of one.
//! What is known when the request arrives is charged then; the rest is settled when it is over.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;

use crate::Period;

/// What one request costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Its body, or the body of its answer.
    Bytes {
        /// Whose body.
        side: Side,
        /// Bytes that make one unit.
        per: NonZeroU64,
    },
    /// Always as much.
    Weight(NonZeroU32),
}

/// Whose body is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What the client sends.
    Request,
    /// What the client gets.
    Response,
}

/// The text is not a cost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a cost; write a whole number from 1 on, or `response.kib`, `request.bytes / 4096`, \
     with bytes, kib or mib"
)]
pub struct CostError(String);

/// An amount in a period, as a policy writes a quota: `50/day`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allotment {
    /// Units.
    pub amount: NonZeroU64,
    /// In each of these.
    pub period: Period,
}

/// The text is not an amount in a period.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a quota; write it as `50/hour`, `50/day` or `1000/month`, at least `1`")]
pub struct AllotmentError(String);

/// What a request costs in the smallest unit of its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Price {
    /// Known when it arrives.
    Known(u64),
    /// Known when it is over.
    Later(Side),
}

impl Cost {
    /// Each request counts once.
    pub const ONE: Self = Self::Weight(NonZeroU32::MIN);

    /// Smallest units in one unit.
    pub(crate) const fn scale(self) -> u64 {
        match self {
            Self::Bytes { per, .. } => per.get(),
            Self::Weight(_) => 1,
        }
    }

    /// What a request costs whose body has `body` bytes, if that is known.
    pub(crate) fn price(self, body: Option<u64>) -> Price {
        match (self, body) {
            (Self::Weight(weight), _) => Price::Known(weight.get().into()),
            (Self::Bytes { side: Side::Request, .. }, Some(bytes)) => Price::Known(bytes),
            (Self::Bytes { side, .. }, _) => Price::Later(side),
        }
    }
}

impl FromStr for Cost {
    type Err = CostError;

    fn from_str(text: &str) -> Result<Self, CostError> {
        let wrong = || CostError(text.to_owned());
        if let Ok(weight) = text.trim().parse() {
            return Ok(Self::Weight(weight));
        }
        let (what, divisor) = match text.split_once('/') {
            Some((what, divisor)) => (what, divisor.trim().parse::<NonZeroU64>().or(Err(wrong()))?),
            None => (text, NonZeroU64::MIN),
        };
        let (side, unit) = what.trim().split_once('.').ok_or_else(wrong)?;
        let side = match side {
            "request" => Side::Request,
            "response" => Side::Response,
            _ => return Err(wrong()),
        };
        let bytes = match unit {
            "bytes" => 1,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            _ => return Err(wrong()),
        };
        let per = divisor.get().checked_mul(bytes).and_then(NonZeroU64::new).ok_or_else(wrong)?;
        Ok(Self::Bytes { side, per })
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weight(weight) => weight.fmt(f),
            Self::Bytes { side, per } => {
                let side = match side {
                    Side::Request => "request",
                    Side::Response => "response",
                };
                let (unit, divisor) = match per.get() {
                    per if per % (1 << 20) == 0 => ("mib", per >> 20),
                    per if per % (1 << 10) == 0 => ("kib", per >> 10),
                    per => ("bytes", per),
                };
                write!(f, "{side}.{unit}")?;
                if divisor == 1 { Ok(()) } else { write!(f, " / {divisor}") }
            }
        }
    }
}

impl FromStr for Allotment {
    type Err = AllotmentError;

    fn from_str(text: &str) -> Result<Self, AllotmentError> {
        let wrong = || AllotmentError(text.to_owned());
        let (amount, period) = text.split_once('/').ok_or_else(wrong)?;
        let period = Period::from_name(period.trim()).ok_or_else(wrong)?;
        let amount = amount.trim().parse().or(Err(wrong()))?;
        Ok(Self { amount, period })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_a_number_or_bytes_with_a_unit_and_a_divisor() {
        let bytes = |side, per| Cost::Bytes { side, per: NonZeroU64::new(per).unwrap() };
        for (text, cost, printed) in [
            ("5", Cost::Weight(NonZeroU32::new(5).unwrap()), "5"),
            ("response.bytes", bytes(Side::Response, 1), "response.bytes"),
            ("response.kib / 1024", bytes(Side::Response, 1 << 20), "response.mib"),
            ("request.kib/3", bytes(Side::Request, 3 << 10), "request.kib / 3"),
            ("request.mib", bytes(Side::Request, 1 << 20), "request.mib"),
        ] {
            assert_eq!(text.parse(), Ok(cost), "{text}");
            assert_eq!(cost.to_string(), printed);
            assert_eq!(printed.parse(), Ok(cost));
        }
        for text in [
            "",
            "0",
            "-1",
            "1.5",
            "response",
            "response.gib",
            "body.kib",
            "response.kib / 0",
            "response.mib / 99999999999999999",
        ] {
            assert!(text.parse::<Cost>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_quota_names_its_period() {
        let quota: Allotment = "50/day".parse().unwrap();

        assert_eq!((quota.amount.get(), quota.period), (50, Period::Day));
        for text in ["50", "0/day", "50/week", "50/d", "x/day"] {
            assert!(text.parse::<Allotment>().unwrap_err().to_string().contains("write it as"));
        }
    }

    #[test]
    fn a_body_of_known_length_is_charged_at_once_and_any_other_later() {
        let cost: Cost = "request.kib".parse().unwrap();

        assert_eq!(cost.price(Some(700)), Price::Known(700));
        assert_eq!(cost.price(None), Price::Later(Side::Request));
        assert_eq!(
            "response.kib".parse::<Cost>().unwrap().price(Some(1)),
            Price::Later(Side::Response)
        );
    }
}
