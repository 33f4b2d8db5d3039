//! Dictionaries of structured fields (RFC 9651, 4.2.2), as far as directives need them.
//!
//! Wholly right, or not there: a field that breaks the grammar anywhere says nothing.

/// A value without its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bare {
    True,
    False,
    /// Not negative.
    Integer(u64),
    /// A string, a list, a decimal, a negative number, …
    Other,
}

/// The members of a dictionary, the last of each name; none when it is malformed.
pub(crate) fn dictionary(text: &[u8]) -> Option<Vec<(&[u8], Bare)>> {
    let mut members: Vec<(&[u8], Bare)> = Vec::new();
    let mut input = Input(trimmed(text));
    while !input.0.is_empty() {
        let name = input.key()?;
        let value = if input.takes(b'=') { input.item_or_list()? } else { Bare::True };
        input.parameters()?;
        members.retain(|(known, _)| *known != name);
        members.push((name, value));
        input.blanks();
        if input.0.is_empty() {
            break;
        }
        if !input.takes(b',') {
            return None;
        }
        input.blanks();
        if input.0.is_empty() {
            return None;
        }
    }
    Some(members)
}

fn trimmed(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| *byte == b' ';
    let start = text.iter().position(|byte| !blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !blank(byte)).map_or(start, |at| at + 1);
    text.get(start..end).unwrap_or_default()
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn takes(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            Some(_) | None => false,
        }
    }

    fn while_some(&mut self, is_part: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|byte| !is_part(*byte)).unwrap_or(self.0.len());
        let (part, rest) = self.0.split_at(end);
        self.0 = rest;
        part
    }

    fn blanks(&mut self) {
        self.while_some(|byte| matches!(byte, b' ' | b'\t'));
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let first = *self.0.first()?;
        if !first.is_ascii_lowercase() && first != b'*' {
            return None;
        }
        Some(self.while_some(|byte| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'_' | b'-' | b'.' | b'*')
        }))
    }

    fn item_or_list(&mut self) -> Option<Bare> {
        if !self.takes(b'(') {
            return self.bare();
        }
        loop {
            self.while_some(|byte| byte == b' ');
            if self.takes(b')') {
                return Some(Bare::Other);
            }
            self.bare()?;
            self.parameters()?;
            if !matches!(self.0.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    fn parameters(&mut self) -> Option<()> {
        while self.takes(b';') {
            self.while_some(|byte| byte == b' ');
            self.key()?;
            if self.takes(b'=') {
                self.bare()?;
            }
        }
        Some(())
    }

    fn bare(&mut self) -> Option<Bare> {
        match *self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'?' => {
                self.takes(b'?');
                match (self.takes(b'1'), self.takes(b'0')) {
                    (true, false) => Some(Bare::True),
                    (false, true) => Some(Bare::False),
                    (true, true) | (false, false) => None,
                }
            }
            b':' => {
                self.takes(b':');
                self.while_some(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
                });
                self.takes(b':').then_some(Bare::Other)
            }
            b'@' => {
                self.takes(b'@');
                self.number().map(|_| Bare::Other)
            }
            b'*' | b'A'..=b'Z' | b'a'..=b'z' => {
                self.while_some(|byte| {
                    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
                });
                Some(Bare::Other)
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Bare> {
        let is_negative = self.takes(b'-');
        let digits = self.while_some(|byte| byte.is_ascii_digit());
        if self.takes(b'.') {
            let decimals = self.while_some(|byte| byte.is_ascii_digit());
            let fits = (1..=12).contains(&digits.len()) && (1..=3).contains(&decimals.len());
            return fits.then_some(Bare::Other);
        }
        if !(1..=15).contains(&digits.len()) {
            return None;
        }
        let value = digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        Some(if is_negative { Bare::Other } else { Bare::Integer(value) })
    }

    fn string(&mut self) -> Option<Bare> {
        self.takes(b'"');
        loop {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            match first {
                b'"' => return Some(Bare::Other),
                b'\\' if !self.takes(b'"') && !self.takes(b'\\') => return None,
                b' '..=b'~' => {}
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_with_the_last_of_a_name() {
        let read = |text: &str| {
            let members = dictionary(text.as_bytes())?;
            let told = |(name, value): &(&[u8], Bare)| format!("{} {value:?}", name.escape_ascii());
            Some(members.iter().map(told).collect::<Vec<_>>().join(", "))
        };

        assert_eq!(
            read(r#"a, max-age=99999999999;x=1, b=?0, c="q,\"\\", d=(1 "x";y), e=1.5, f=:YQ==:, a=-1"#)
                .unwrap(),
            "max-age Integer(99999999999), b False, c Other, d Other, e Other, f Other, a Other"
        );
        assert_eq!(read("  ").unwrap(), "");
        for text in [
            "&&&&", "a,", "a b", "A=1", "a=", "a =1", "a= 1", "a=\"x", "a=1.", "a=(1", "a=?2",
            "a;A",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
