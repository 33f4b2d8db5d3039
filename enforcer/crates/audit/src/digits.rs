//! Values whose text says less than its bytes could: numbers, times, hexadecimal digits, handles.
//!
//! Each way there takes exactly the texts that the way back writes.

const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;
/// Days from the first of March of the year 0 to 1970, and in 400 years.
const EPOCH_DAYS: u64 = 719_468;
const ERA_DAYS: u64 = 146_097;
/// Characters of a time.
const TIME_BYTES: usize = 27;
const HEX: &[u8; 16] = b"0123456789abcdef";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The number that `text` writes in decimal digits, none of them needless.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    let canonical = match text {
        [] => false,
        [b'0'] => true,
        [first, ..] => *first != b'0' && text.len() < 20,
    };
    canonical.then_some(())?;
    text.iter().try_fold(0, |number, byte| Some(number * 10 + digit(*byte)?))
}

fn digit(byte: u8) -> Option<u64> {
    byte.is_ascii_digit().then(|| u64::from(byte - b'0'))
}

/// Appends a number in decimal digits.
pub(crate) fn push_number(to: &mut Vec<u8>, number: u64) {
    let mut digits = [b'0'; 20];
    let mut rest = number;
    let mut used = 0;
    for place in digits.iter_mut().rev() {
        *place = low(b'0', rest % 10);
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    to.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

/// `base` and a small number.
fn low(base: u8, number: u64) -> u8 {
    base + u8::try_from(number).unwrap_or_default()
}

/// Microseconds since 1970 of a time as records write it.
pub(crate) fn time(text: &[u8]) -> Option<u64> {
    let text: &[u8; TIME_BYTES] = text.try_into().ok()?;
    let pattern = b"dddd-dd-ddTdd:dd:dd.ddddddZ";
    let mut numbers = [0; 7];
    let mut at = 0;
    for (byte, wanted) in text.iter().zip(pattern) {
        if *wanted == b'd' {
            let number: &mut u64 = numbers.get_mut(at)?;
            *number = *number * 10 + digit(*byte)?;
        } else {
            (byte == wanted).then_some(())?;
            at += 1;
        }
    }
    let [year, month, day, hour, minute, second, micros] = numbers;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u64::from(leap),
        _ => return None,
    };
    let fits = year >= 1970 && (1..=days).contains(&day) && hour < 24 && minute < 60 && second < 60;
    fits.then_some(())?;
    let (march_year, march_month) =
        if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (march_year / 400, march_year % 400);
    let of_year = (153 * march_month + 2) / 5 + day - 1;
    let days = era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - EPOCH_DAYS;
    Some(days * DAY + ((hour * 60 + minute) * 60 + second) * SECOND + micros)
}

/// Appends a time as records write it; none behind the year 9999.
pub(crate) fn push_time(to: &mut Vec<u8>, micros: u64) -> Option<()> {
    let days = micros / DAY + EPOCH_DAYS;
    let (era, of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    (year <= 9_999).then_some(())?;
    let of_day = micros % DAY;
    let second = of_day / SECOND;
    let parts = [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (second / 3_600, 2, b':'),
        (second / 60 % 60, 2, b':'),
        (second % 60, 2, b'.'),
        (of_day % SECOND, 6, b'Z'),
    ];
    let mut text = [0; TIME_BYTES];
    let mut end = 0;
    for (number, width, mark) in parts {
        let mut rest = number;
        let places = text.get_mut(end..end + width + 1)?;
        let (last, places) = places.split_last_mut()?;
        *last = mark;
        for place in places.iter_mut().rev() {
            *place = low(b'0', rest % 10);
            rest /= 10;
        }
        end += width + 1;
    }
    to.extend_from_slice(&text);
    Some(())
}

/// The bytes that `text` writes in hexadecimal digits, into all of `to`.
pub(crate) fn unhex(text: &[u8], to: &mut [u8]) -> Option<()> {
    let (pairs, rest) = text.as_chunks::<2>();
    (rest.is_empty() && pairs.len() == to.len()).then_some(())?;
    // Both digits of all bytes are looked at before one is refused: that is faster than to branch.
    let mut odd = 0;
    for ([high, low], to) in pairs.iter().zip(to) {
        let (high, low) = (nibble(*high), nibble(*low));
        odd |= high | low;
        *to = high << 4 | low & 0xF;
    }
    (odd < 0x10).then_some(())
}

/// What a digit stands for; more than fifteen when it is none.
fn nibble(byte: u8) -> u8 {
    NIBBLES.get(usize::from(byte)).copied().unwrap_or(NONE)
}

const NONE: u8 = 0xF0;
static NIBBLES: [u8; 256] = nibbles();

#[expect(clippy::indexing_slicing, clippy::as_conversions, reason = "made by the compiler")]
#[expect(clippy::cast_possible_truncation, reason = "of numbers below 16")]
const fn nibbles() -> [u8; 256] {
    let mut nibbles = [NONE; 256];
    let mut digit = 0;
    while digit < HEX.len() {
        nibbles[HEX[digit] as usize] = digit as u8;
        digit += 1;
    }
    nibbles
}

/// Appends at most 32 bytes in hexadecimal digits.
pub(crate) fn push_hex(to: &mut Vec<u8>, bytes: impl IntoIterator<Item = u8>) {
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or_default();
    let mut text = [0; 64];
    let mut used = 0;
    for (byte, pair) in bytes.into_iter().zip(text.as_chunks_mut::<2>().0) {
        *pair = [digit(byte >> 4), digit(byte & 0xF)];
        used += 2;
    }
    to.extend_from_slice(text.get(..used).unwrap_or_default());
}

/// The eight bytes of a handle, which `text` writes in base64url.
pub(crate) fn unhandle(text: &[u8], to: &mut [u8]) -> Option<()> {
    (text.len() == 11 && to.len() == 8).then_some(())?;
    let bits = text.iter().try_fold(0_u128, |bits, byte| {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        Some(bits << 6 | u128::from(digit))
    })?;
    (bits & 3 == 0).then_some(())?;
    let (_, bytes) =
        (bits >> 2).to_be_bytes().split_last_chunk::<8>().map(|(a, b)| (a.len(), *b))?;
    to.copy_from_slice(&bytes);
    Some(())
}

/// Appends a handle without its tilde.
pub(crate) fn push_handle(to: &mut Vec<u8>, handle: u64) {
    let bits = u128::from(handle) << 2;
    for place in (0..11).rev() {
        let digit = usize::try_from(bits >> (6 * place) & 0x3F).unwrap_or_default();
        to.extend(BASE64.get(digit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        for text in ["0", "7", "10", "9999999999999999999"] {
            let mut back = Vec::new();
            push_number(&mut back, number(text.as_bytes()).unwrap());
            assert_eq!(back, text.as_bytes());
        }
        for text in [
            "1970-01-01T00:00:00.000000Z",
            "2000-02-29T23:59:59.999999Z",
            "2026-11-22T20:12:07.719880Z",
            "2100-03-01T00:00:00.000001Z",
            "9999-12-31T23:59:59.999999Z",
        ] {
            let mut back = Vec::new();
            push_time(&mut back, time(text.as_bytes()).unwrap()).unwrap();
            assert_eq!(String::from_utf8(back).unwrap(), text);
        }
        let mut bytes = [0; 8];
        unhandle(b"k3JxT0aPq8w", &mut bytes).unwrap();
        let mut back = Vec::new();
        push_handle(&mut back, u64::from_be_bytes(bytes));
        assert_eq!(back, b"k3JxT0aPq8w");
        unhex(b"00ff7a10deadbeef", &mut bytes).unwrap();
        back.clear();
        push_hex(&mut back, bytes);
        assert_eq!(back, b"00ff7a10deadbeef");
    }

    #[test]
    fn every_day_of_two_centuries_is_written_as_elsewhere() {
        for day in 0..73_000 {
            let micros = day * DAY + day % DAY;
            let mut text = Vec::new();
            push_time(&mut text, micros).unwrap();
            let other = enforcer_model::Timestamp::from_unix_ns(micros * 1_000).to_string();
            assert_eq!(String::from_utf8(text.clone()).unwrap(), other);
            assert_eq!(time(&text), Some(micros));
        }
    }

    #[test]
    fn another_spelling_is_not_taken() {
        for text in ["", "00", "01", "-1", "+1", "1e3", "18446744073709551616", "1 "] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
        for text in [
            "1969-12-31T23:59:59.000000Z",
            "2026-02-29T00:00:00.000000Z",
            "2026-13-01T00:00:00.000000Z",
            "2026-00-01T00:00:00.000000Z",
            "2026-01-00T00:00:00.000000Z",
            "2026-01-01T24:00:00.000000Z",
            "2026-01-01T00:00:60.000000Z",
            "2026-01-01T00:00:00.00000Z",
            "2026-01-01 00:00:00.000000Z",
        ] {
            assert_eq!(time(text.as_bytes()), None, "{text}");
        }
        let mut bytes = [0; 8];
        assert_eq!(unhandle(b"k3JxT0aPq8x", &mut bytes), None, "bits are left over");
        assert_eq!(unhandle(b"k3JxT0aPq+w", &mut bytes), None);
        assert_eq!(unhex(b"00FF7A10DEADBEEF", &mut bytes), None);
        assert_eq!(unhex(b"00ff7a10deadbee", &mut bytes), None);
        let mut past = Vec::new();
        assert_eq!(push_time(&mut past, u64::MAX), None);
    }
}
