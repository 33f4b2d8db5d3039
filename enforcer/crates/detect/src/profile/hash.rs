//! Names of what was seen, keyed per host: a stolen file of profiles tells no path and no address
//! to who does not have the key as well.
//!
//! SipHash-1-3 (Aumasson and Bernstein, 2012), because names must stay the same over restarts and
//! releases, which the standard library promises of none of its hashers.

use std::fmt;

/// The key of all names of one host.
#[derive(Clone, Copy)]
pub(super) struct Key(u64, u64);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub(super) fn new(bytes: [u8; 16]) -> Self {
        let [low, high] = [0, 8].map(|from| {
            let half = bytes.iter().skip(from).take(8).rev();
            half.fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
        });
        Self(low, high)
    }

    /// The name of `parts`, told apart by `domain`.
    pub(super) fn name(self, domain: u8, parts: &[&str]) -> u64 {
        let mut sip = Sip::new(self);
        sip.word(u64::from(domain) << 56 | count(parts.len()));
        for part in parts {
            sip.text(part.as_bytes());
        }
        sip.finish()
    }

    /// The name of a few numbers.
    pub(super) fn number(self, domain: u8, words: &[u64]) -> u64 {
        let mut sip = Sip::new(self);
        sip.word(u64::from(domain) << 56 | count(words.len()));
        words.iter().for_each(|word| sip.word(*word));
        sip.finish()
    }

    /// The sum of a long text, by which damage is seen.
    pub(super) fn sum(self, bytes: &[u8]) -> u64 {
        let mut sip = Sip::new(self);
        sip.text(bytes);
        sip.finish()
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX) & 0x00FF_FFFF_FFFF_FFFF
}

struct Sip {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl Sip {
    const fn new(Key(k0, k1): Key) -> Self {
        Self {
            v0: k0 ^ 0x736f_6d65_7073_6575,
            v1: k1 ^ 0x646f_7261_6e64_6f6d,
            v2: k0 ^ 0x6c79_6765_6e65_7261,
            v3: k1 ^ 0x7465_6462_7974_6573,
        }
    }

    const fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }

    const fn word(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
    }

    /// Each text ends with its length, so that two texts never run into each other.
    fn text(&mut self, text: &[u8]) {
        let (words, rest) = text.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let rest = rest.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        self.word(rest | count(text.len()) << 56);
    }

    const fn finish(mut self) -> u64 {
        self.v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher as _;

    use super::*;

    #[test]
    fn the_sum_of_one_text_is_siphash_1_3() {
        // The standard library's default is SipHash-1-3 with a key of zeros.
        for text in ["", "a", "12345678", "the quick brown fox"] {
            let mut default = std::collections::hash_map::DefaultHasher::new();
            default.write(text.as_bytes());

            assert_eq!(Key::new([0; 16]).sum(text.as_bytes()), default.finish());
            assert_ne!(Key::new([1; 16]).sum(text.as_bytes()), default.finish());
        }
    }

    #[test]
    fn names_differ_by_domain_by_key_and_by_where_texts_end() {
        let key = Key::new(*b"0123456789abcdef");

        assert_ne!(key.name(1, &["ab", "c"]), key.name(1, &["a", "bc"]));
        assert_ne!(key.name(1, &["ab"]), key.name(2, &["ab"]));
        assert_ne!(key.name(1, &["ab"]), Key::new([7; 16]).name(1, &["ab"]));
        assert_eq!(key.number(3, &[1, 2]), key.number(3, &[1, 2]));
    }
}
