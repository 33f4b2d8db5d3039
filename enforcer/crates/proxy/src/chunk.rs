//! The lines of a chunked body, read in the one way that everybody shares.
//!
//! RFC 9112, 7.1: a size in hexadecimal digits, extensions, and trailers behind the last chunk. White
//! space that the grammar calls bad, and that some take for the end of a size, is refused; so is an
//! extension that is none. What is accepted is not passed on: the upstream gets chunks of our own.

/// The digits of the largest size that everybody can hold, and some zeros in front of it.
const DIGITS_MAX: usize = 16;

/// The size on the line of a chunk, without its line end; none where others could read another.
pub(crate) fn size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extensions) = line.split_at_checked(digits)?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !are_extensions(extensions) {
        return None;
    }
    let size = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    // Whoever counts with a sign reads a larger one as less than nothing.
    i64::try_from(size).is_ok().then_some(size)
}

/// Whether a line behind the last chunk is a field: a name, a colon at once, and a plain value.
pub(crate) fn is_field(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
    let (name, value) = line.split_at(colon);
    !name.is_empty()
        && name.iter().all(|byte| is_token(*byte))
        && !value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')
}

/// `*( ";" name [ "=" ( token / quoted ) ] )`, without white space.
fn are_extensions(mut text: &[u8]) -> bool {
    while let Some((first, rest)) = text.split_first() {
        if *first != b';' {
            return false;
        }
        let Some(behind) = behind_token(rest) else { return false };
        text = match behind.split_first() {
            Some((b'=', value)) => match behind_token(value).or_else(|| behind_quoted(value)) {
                Some(behind) => behind,
                None => return false,
            },
            Some(_) | None => behind,
        };
    }
    true
}

fn behind_token(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().take_while(|byte| is_token(**byte)).count();
    (length > 0).then(|| text.get(length..)).flatten()
}

fn behind_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest.split_first()? {
            (b'"', behind) => return Some(behind),
            (b'\\', behind) => match behind.split_first()? {
                (byte, behind) if !is_control(*byte) => behind,
                _ => return None,
            },
            (byte, behind) if !is_control(*byte) => behind,
            _ => return None,
        };
    }
}

const fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// RFC 9110, 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_digits_and_extensions_of_the_grammar() {
        for (line, length) in [
            ("0", 0),
            ("5", 5),
            ("1A", 26),
            ("00000a", 10),
            ("5;a", 5),
            ("5;a=b;c=\"d;e\\\"\"", 5),
            ("7fffffffffffffff", i64::MAX.unsigned_abs()),
        ] {
            assert_eq!(size(line.as_bytes()), Some(length), "{line}");
        }
    }

    #[test]
    fn what_somebody_reads_as_another_size_is_none() {
        for line in [
            "",
            " 5",
            "5 ",
            "5\t",
            "5 ;a",
            "5; a",
            "+5",
            "-5",
            "0x5",
            "5_0",
            "5.",
            "g",
            "5\r",
            "5;",
            "5;a=",
            "5;=b",
            "5;a=\"b",
            "5;a=\"\0\"",
            "5;a=\"\\\r\"",
            "5a;b c",
            "5,5",
            "\u{fc}",
            "8000000000000000",
            "ffffffffffffffff",
            "10000000000000005",
            "00000000000000005",
        ] {
            assert_eq!(size(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn a_trailer_is_a_field_on_one_line() {
        for line in ["a: b", "a:", "X-Sum:\t1", "a: \u{fc}"] {
            assert!(is_field(line.as_bytes()), "{line:?}");
        }
        for line in
            ["a", ": b", "a : b", " a: b", "\ta: b", "a b: c", "a: \0", "a: b\rc: d", "a\u{fc}: b"]
        {
            assert!(!is_field(line.as_bytes()), "{line:?}");
        }
    }
}
