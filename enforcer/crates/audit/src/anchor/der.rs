//! As much of DER (X.690) as a timestamp needs; every value has one spelling, all others are refused.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OBJECT: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// `[0]`, constructed.
pub(super) const CONTEXT_0: u8 = 0xa0;

/// Values one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the next value.
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The content of the next value, which has `tag`.
    pub(super) fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, rest) = self.0.split_first()?;
        if *found != tag {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            // The shortest form, and nothing that could not be held.
            if digits.is_empty() || digits.len() > 4 || digits.first() == Some(&0) {
                return None;
            }
            let length = digits.iter().fold(0, |length: usize, digit| {
                length.saturating_mul(256).saturating_add(usize::from(*digit))
            });
            if length < 0x80 {
                return None;
            }
            (length, rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }

    /// The values inside the next one, which has `tag`.
    pub(super) fn inside(&mut self, tag: u8) -> Option<Self> {
        self.value(tag).map(Self)
    }

    /// The next value, if it has `tag`.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        if self.peek() == Some(tag) { self.value(tag).map(Some) } else { Some(None) }
    }

    /// A whole number that is not negative: its digits without leading zeroes.
    pub(super) fn unsigned(&mut self) -> Option<&'a [u8]> {
        unsigned(self.value(INTEGER)?)
    }

    /// The same, when it is a small one.
    pub(super) fn small(&mut self) -> Option<u8> {
        match self.unsigned()? {
            [] => Some(0),
            [digit] => Some(*digit),
            _ => None,
        }
    }
}

/// The digits of a number that is not negative.
pub(super) fn unsigned(content: &[u8]) -> Option<&[u8]> {
    match content {
        [0] => Some(&[]),
        // A zero in front is there for the sign only.
        [0, rest @ ..] if rest.first().is_some_and(|digit| *digit >= 0x80) => Some(rest),
        [1..=0x7f, ..] => Some(content),
        _ => None,
    }
}

/// A value: tag, length, content.
pub(super) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length @ 0..0x80) => bytes.push(length),
        _ => {
            let length = content.len().to_be_bytes();
            let zeroes = length.iter().take_while(|byte| **byte == 0).count();
            let digits = length.get(zeroes..).unwrap_or_default();
            bytes.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
            bytes.extend_from_slice(digits);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

/// A number that is not negative, from its digits.
pub(super) fn number(digits: &[u8]) -> Vec<u8> {
    let zeroes = digits.iter().take_while(|byte| **byte == 0).count();
    let digits = digits.get(zeroes..).unwrap_or_default();
    match digits.first() {
        Some(0x80..) | None => value(INTEGER, &[&[0], digits].concat()),
        Some(_) => value(INTEGER, digits),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_has_one_spelling() {
        for wrong in [
            &[0x04, 0x81, 0x01, 0x00][..],
            &[0x04, 0x80, 0x00, 0x00],
            &[0x04, 0x82, 0x00, 0x80],
            &[0x04, 0x02, 0x00],
            &[0x04, 0x85, 1, 0, 0, 0, 0],
            &[0x04],
            &[],
        ] {
            assert_eq!(Reader::new(wrong).value(OCTET_STRING), None, "{wrong:x?}");
        }
        for wrong in [&[][..], &[0, 1], &[0x80], &[0xff, 1], &[0, 0]] {
            assert_eq!(unsigned(wrong), None, "{wrong:x?}");
        }
        assert_eq!(number(&[0, 0]), [INTEGER, 1, 0]);
        assert_eq!(number(&[0, 0x80]), [INTEGER, 2, 0, 0x80]);
        assert_eq!(number(&[0x7f]), [INTEGER, 1, 0x7f]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(content in prop::collection::vec(any::<u8>(), 0..70_000), rest: u8) {
            let mut bytes = value(OCTET_STRING, &content);
            bytes.push(rest);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.value(OCTET_STRING), Some(content.as_slice()));
            prop_assert_eq!(reader.0, &[rest]);
        }

        #[test]
        fn numbers_are_read_as_they_were_written(digits in prop::collection::vec(any::<u8>(), 0..12)) {
            let bytes = number(&digits);
            let read = Reader::new(&bytes).unsigned().unwrap().to_vec();
            let zeroes = digits.iter().take_while(|byte| **byte == 0).count();
            prop_assert_eq!(read, &digits[zeroes..]);
        }
    }
}
