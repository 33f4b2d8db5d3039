//! The id that ties the requests of one operation together, across services.

use std::fmt;
use std::num::NonZeroU128;

use serde::{Serialize, Serializer};

/// The trace id of W3C Trace Context: 128 bits, never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// Length of a `traceparent` of version 00.
const LENGTH: usize = 55;

impl TraceId {
    /// What the field `traceparent` says, if it follows the specification; a version that does not
    /// exist yet may have more behind it.
    pub fn from_traceparent(field: &[u8]) -> Option<Self> {
        let (known, more) = field.split_at_checked(LENGTH)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32)?;
        let parent = hex(parts.next()?, 16)?;
        hex(parts.next()?, 2)?;
        let is_over = more.is_empty() || version != 0 && more.starts_with(b"-");
        let fits = parts.next().is_none() && version != 0xff && parent != 0 && is_over;
        NonZeroU128::new(trace).filter(|_| fits).map(Self)
    }
}

/// Exactly so many lower-case digits.
fn hex(text: &[u8], digits: usize) -> Option<u128> {
    if text.len() != digits {
        return None;
    }
    text.iter().try_fold(0_u128, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_trace_of_a_valid_field_is_read() {
        let later = format!("cc{}-what-comes-later", GOOD.split_at(2).1);
        for field in [GOOD, &later] {
            let trace = TraceId::from_traceparent(field.as_bytes()).unwrap();
            assert_eq!(trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        }
    }

    #[test]
    fn a_field_that_is_not_valid_has_no_trace() {
        for bad in [
            String::new(),
            GOOD.split_at(54).0.to_owned(),
            format!("{GOOD}-more"),
            format!("{GOOD} "),
            format!("cc{}.", GOOD.split_at(2).1),
            GOOD.to_uppercase(),
            format!("ff{}", GOOD.split_at(2).1),
            format!("0g{}", GOOD.split_at(2).1),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            GOOD.replace("-b7", "--7"),
            GOOD.replace('-', "_"),
        ] {
            assert_eq!(TraceId::from_traceparent(bad.as_bytes()), None, "{bad}");
        }
    }
}
