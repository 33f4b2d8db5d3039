//! As much of DER as it takes to read a certificate's own words and an OCSP response.
//!
//! Reads definite lengths in their one form and nothing else. Nothing here decides about trust: what a
//! certificate is good for is judged by `rustls-webpki`.

use std::fmt::Write;

use enforcer_model::Timestamp;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Values that are read one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Der<'a>(pub(super) &'a [u8]);

/// One value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    pub(super) tag: u8,
    /// What it holds.
    pub(super) inside: &'a [u8],
    /// All of it, with tag and length.
    pub(super) whole: &'a [u8],
}

impl<'a> Der<'a> {
    pub(super) const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The next value.
    pub(super) fn next(&mut self) -> Option<Value<'a>> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        // Tags of more than one byte are used by nothing that is read here.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                // The shortest form is the only one.
                let shortest = if digits.len() == 1 { 0x80 } else { 1 << (8 * (digits.len() - 1)) };
                if length < shortest {
                    return None;
                }
                (length, rest)
            }
            _ => return None,
        };
        let inside = rest.get(..length)?;
        let whole = self.0.get(..self.0.len() - rest.len() + length)?;
        self.0 = rest.get(length..)?;
        Some(Value { tag, inside, whole })
    }

    /// The next value, which has this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<Value<'a>> {
        self.next().filter(|value| value.tag == tag)
    }

    /// The next value if it has this tag; otherwise nothing is read.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Value<'a>> {
        let mut ahead = *self;
        let value = ahead.expect(tag)?;
        *self = ahead;
        Some(value)
    }

    /// What the next value, a sequence, holds.
    pub(super) fn sequence(&mut self) -> Option<Self> {
        self.expect(SEQUENCE).map(Value::values)
    }
}

impl<'a> Value<'a> {
    /// What it holds, as values.
    pub(super) const fn values(self) -> Der<'a> {
        Der(self.inside)
    }

    /// The moment that it names, of the forms that RFC 5280 (4.1.2.5) admits.
    pub(super) fn time(self) -> Option<Timestamp> {
        let text = std::str::from_utf8(self.inside).ok()?.strip_suffix('Z')?;
        let (year, rest) = match self.tag {
            UTC_TIME => {
                let (year, rest) = text.split_at_checked(2)?;
                let year = number(year)?;
                (if year < 50 { 2_000 + year } else { 1_900 + year }, rest)
            }
            GENERALIZED_TIME => {
                let (year, rest) = text.split_at_checked(4)?;
                (number(year)?, rest)
            }
            _ => return None,
        };
        if rest.len() != 10 || !rest.is_ascii() {
            return None;
        }
        let pair = |at: usize| number(rest.get(at..at + 2)?);
        let (month, day) = (pair(0)?, pair(2)?);
        let (hour, minute, second) = (pair(4)?, pair(6)?, pair(8)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 {
            return None;
        }
        if year < 1_970 {
            return Some(Timestamp::from_unix_seconds(0));
        }
        let days = days_before(year, month) + day - 1;
        Some(Timestamp::from_unix_seconds(
            days * 86_400 + hour * 3_600 + minute * 60 + second.min(59),
        ))
    }

    /// A distinguished name as people write it: `CN=api.example.com, O=Example`.
    pub(super) fn name(self) -> Option<String> {
        let mut text = String::new();
        let mut parts = self.values();
        while !parts.is_empty() {
            let mut set = parts.expect(SET)?.values();
            while !set.is_empty() {
                let mut pair = set.sequence()?;
                let (kind, value) = (pair.expect(OID)?, pair.next()?);
                if !text.is_empty() {
                    text.push_str(", ");
                }
                match attribute(kind.inside) {
                    Some(word) => text.push_str(word),
                    None => text.push_str(&dotted(kind.inside)),
                }
                text.push('=');
                text.extend(
                    String::from_utf8_lossy(value.inside)
                        .chars()
                        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }),
                );
            }
        }
        Some(text)
    }
}

/// Whole days from 1970 to the first of `month`; the calendar of Gregory.
fn days_before(year: u64, month: u64) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let place = usize::try_from(month - 1).unwrap_or(0);
    let in_year = BEFORE.get(place).copied().unwrap_or(0) + u64::from(is_leap && month > 2);
    (year - 1_970) * 365 + leaps(year - 1) - leaps(1_969) + in_year
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

const fn attribute(oid: &[u8]) -> Option<&'static str> {
    match oid {
        [0x55, 0x04, 0x03] => Some("CN"),
        [0x55, 0x04, 0x05] => Some("serialNumber"),
        [0x55, 0x04, 0x06] => Some("C"),
        [0x55, 0x04, 0x07] => Some("L"),
        [0x55, 0x04, 0x08] => Some("ST"),
        [0x55, 0x04, 0x0a] => Some("O"),
        [0x55, 0x04, 0x0b] => Some("OU"),
        _ => None,
    }
}

fn dotted(oid: &[u8]) -> String {
    let mut text = String::new();
    let mut arc = 0_u64;
    for byte in oid {
        arc = arc.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        let written = match (text.is_empty(), arc) {
            (true, 0..40) => write!(text, "0.{arc}"),
            (true, 40..80) => write!(text, "1.{}", arc - 40),
            (true, _) => write!(text, "2.{}", arc - 80),
            (false, _) => write!(text, ".{arc}"),
        };
        // Writing into a string does not fail.
        written.unwrap_or_default();
        arc = 0;
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_of_both_forms_are_read() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", Some("1970-01-01T00:00:00Z")),
            (UTC_TIME, "490228235959Z", Some("2049-02-28T23:59:59Z")),
            (GENERALIZED_TIME, "20240229120000Z", Some("2024-02-29T12:00:00Z")),
            (GENERALIZED_TIME, "21000301000000Z", Some("2100-03-01T00:00:00Z")),
            (UTC_TIME, "7001010000Z", None),
            (GENERALIZED_TIME, "20241301000000Z", None),
            (GENERALIZED_TIME, "20240101000000+0100", None),
            (GENERALIZED_TIME, "+0240101000000Z", None),
        ] {
            let value = Value { tag, inside: text.as_bytes(), whole: &[] };
            assert_eq!(value.time(), expected.map(|time| time.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_length_has_one_form() {
        assert_eq!(Der(&[4, 1, 7]).next().unwrap().inside, [7]);
        let long = [&[4, 0x81, 0x80][..], &[7; 0x80]].concat();
        assert_eq!(Der(&long).next().unwrap().inside.len(), 0x80);
        for bytes in [&[4, 0x81, 1, 7][..], &[4, 0x82, 0, 1, 7], &[4, 0x80, 7, 0, 0], &[4, 2, 7]] {
            assert!(Der(bytes).next().is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn names_of_kinds_that_nobody_knows_are_numbers() {
        assert_eq!(
            dotted(&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19]),
            "0.9.2342.19200300.100.1.25"
        );
        assert_eq!(dotted(&[0x2a, 0x86, 0x48]), "1.2.840");
    }

    proptest! {
        #[test]
        fn no_bytes_are_read_past_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut der = Der(&bytes);
            let mut length = 0;
            while let Some(value) = der.next() {
                length += value.whole.len();
                drop((value.time(), value.name()));
            }
            prop_assert_eq!(length + der.0.len(), bytes.len());
        }
    }
}
