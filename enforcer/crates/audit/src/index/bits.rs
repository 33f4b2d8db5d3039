//! Bits, most significant first, and Rice codes over them: how ascending numbers are kept short.
//!
//! A Rice code of parameter `k` is the quotient by `2^k` in unary, ones ended by a zero, then the
//! rest in `k` bits. Reading never goes behind the bytes that are there, whatever they say.

/// Bits that are written or read at once.
const AT_ONCE: u32 = 56;

/// Writes bits into bytes.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    held: u32,
}

/// Reads bits out of bytes.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits that were read.
    at: usize,
}

// === impl BitWriter ===

impl BitWriter {
    /// The low `width` bits of `value`, at most 56.
    pub(super) fn put(&mut self, value: u64, width: u32) {
        debug_assert!(width <= AT_ONCE, "more than fit beside a begun byte");
        let mask = (1u64 << width) - 1;
        self.pending = self.pending << width | value & mask;
        self.held += width;
        while self.held >= 8 {
            self.held -= 8;
            let [.., byte] = (self.pending >> self.held).to_be_bytes();
            self.bytes.push(byte);
        }
    }

    /// `value` in the Rice code of parameter `k`.
    pub(super) fn rice(&mut self, value: u64, k: u32) {
        let mut quotient = value >> k;
        while quotient >= 32 {
            self.put(u64::from(u32::MAX), 32);
            quotient -= 32;
        }
        let ones = u32::try_from(quotient).unwrap_or_default();
        self.put((1u64 << (ones + 1)) - 2, ones + 1);
        self.put(value, k);
    }

    /// The bytes, the last one filled up with zeroes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.held > 0 {
            self.put(0, 8 - self.held);
        }
        self.bytes
    }
}

// === impl BitReader ===

impl<'a> BitReader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next bits, first at the top; behind the end there are zeroes.
    fn ahead(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let word = match rest.first_chunk::<8>() {
            Some(word) => *word,
            None => {
                let mut word = [0; 8];
                word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                word
            }
        };
        u64::from_be_bytes(word) << (self.at % 8)
    }

    fn left(&self) -> usize {
        self.bytes.len().saturating_mul(8).saturating_sub(self.at)
    }

    fn pass(&mut self, count: u32) -> Option<()> {
        let count = usize::try_from(count).ok().filter(|count| *count <= self.left())?;
        self.at += count;
        Some(())
    }

    /// The next `width` bits, at most 56.
    pub(super) fn take(&mut self, width: u32) -> Option<u64> {
        if width > AT_ONCE {
            return None;
        }
        let value = self.ahead().checked_shr(64 - width).unwrap_or(0);
        self.pass(width)?;
        Some(value)
    }

    /// The next Rice code of parameter `k`; none when its value would be above `most`.
    pub(super) fn rice(&mut self, k: u32, most: u64) -> Option<u64> {
        let mut quotient = 0u64;
        loop {
            let ones = self.ahead().leading_ones().min(AT_ONCE);
            quotient += u64::from(ones);
            if quotient > most.checked_shr(k).unwrap_or(0) {
                return None;
            }
            self.pass(ones)?;
            if ones < AT_ONCE {
                break;
            }
        }
        self.pass(1)?;
        let value = quotient << k | self.take(k)?;
        (value <= most).then_some(value)
    }
}

/// The parameter under which `count` numbers with this sum are shortest, or nearly so.
pub(super) fn rice_parameter(sum: u64, count: u64) -> u32 {
    // The logarithm of the mean times ln 2.
    let mean = sum / count.max(1);
    (mean * 693 / 1_000).checked_ilog2().map_or(0, |log| log.min(40))
}

/// Numbers of seven bits each, the lowest first, all but the last with the high bit set.
pub(super) fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        let [.., low] = value.to_be_bytes();
        bytes.push(low | 0x80);
        value >>= 7;
    }
    let [.., low] = value.to_be_bytes();
    bytes.push(low);
}

/// The number at the beginning of `bytes`, which become the rest.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(values in proptest::collection::vec(0u64..1 << 24, 1..200), k in 0u32..24) {
            let mut writer = BitWriter::default();
            for value in &values {
                writer.put(*value, 24);
                writer.rice(*value >> 12, k);
            }
            let bytes = writer.finish();

            let mut reader = BitReader::new(&bytes);
            for value in &values {
                prop_assert_eq!(reader.take(24), Some(*value));
                prop_assert_eq!(reader.rice(k, 1 << 24), Some(*value >> 12));
            }
            prop_assert!(reader.left() < 8);
        }

        #[test]
        fn a_varint_is_read_as_written(value in 0u64..1 << 62) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut rest = bytes.as_slice();

            prop_assert_eq!(take_varint(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_end_without_a_number_too_large(bytes: Vec<u8>, k in 0u32..40) {
            let mut reader = BitReader::new(&bytes);
            while let Some(value) = reader.rice(k, 1_000) {
                prop_assert!(value <= 1_000);
            }
        }
    }
}
