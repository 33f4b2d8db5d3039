//! From a limit and a subject to the 64 bits that stand for their bucket.
//!
//! `SipHash-1-3` under a secret seed: a caller who cannot read the seed cannot choose addresses that
//! fall on a victim's bucket or into its set. Two of a million live buckets share their 64 bits
//! with a probability of 3 in 10⁸; they would then share one bucket, which admits less, not more.

use std::net::IpAddr;

use enforcer_model::Value;

use crate::{Limit, Subject};

/// `SipHash` (Aumasson and Bernstein, 2012) with 1 round per word and 3 at the end, as in `std`.
#[derive(Clone, Copy)]
pub(crate) struct Seed([u64; 2]);

/// Stands for a limit's name in all hashes; needs no secret, because operators choose names.
pub(crate) fn name_of(text: &str) -> u64 {
    let mut hasher = Hasher::<1, 3>::new([0, 0]);
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// Tells texts apart whose beginnings are the same, where no secret is at hand.
pub(crate) fn digest_of(text: &str) -> [u64; 2] {
    [[1, 2], [3, 4]].map(|seed| {
        let mut hasher = Hasher::<2, 4>::new(seed);
        hasher.write(text.as_bytes());
        hasher.finish()
    })
}

impl Seed {
    pub(crate) const fn new(seed: [u64; 2]) -> Self {
        Self(seed)
    }

    /// What stands for the bucket of `subject` under `limit`; never zero.
    pub(crate) fn bucket(self, limit: &Limit, subject: &Subject<'_>) -> u64 {
        let mut hasher = Hasher::<1, 3>::new(self.0);
        hasher.word(limit.id);
        hasher.length = 8;
        // One byte says what follows, so that no two kinds of subject run into each other.
        match subject {
            Subject::Absent => hasher.write(b"-"),
            Subject::Application(name) => hasher.text(b"a", name),
            Subject::Claim(Value::Text(text)) => hasher.text(b"t", text),
            Subject::Claim(Value::Number(number)) => {
                hasher.write(b"n");
                hasher.write(&number.to_le_bytes());
            }
            Subject::Claim(Value::Flag(flag)) => hasher.write(if *flag { b"y" } else { b"z" }),
            Subject::Claim(Value::List(_) | Value::Table(_) | Value::Other) => hasher.write(b"-"),
            Subject::Everybody => hasher.write(b"*"),
            Subject::Key(key) => hasher.text(b"k", key.as_str()),
            Subject::Network(network) => {
                match network.address() {
                    IpAddr::V4(v4) => {
                        hasher.write(b"4");
                        hasher.write(&v4.octets());
                    }
                    IpAddr::V6(v6) => {
                        hasher.write(b"6");
                        hasher.write(&v6.octets());
                    }
                }
                hasher.write(&[network.length()]);
            }
            Subject::Principal(principal) => hasher.text(b"p", principal.as_str()),
            Subject::Region(region) => hasher.text(b"g", region),
            Subject::Role(role) => hasher.text(b"r", role),
            Subject::Route(route) => hasher.text(b"o", route),
        }
        hasher.finish().max(1)
    }
}

struct Hasher<const WORD_ROUNDS: usize, const END_ROUNDS: usize> {
    v: [u64; 4],
    /// Bytes that do not yet fill a word, the first in the lowest place.
    tail: u64,
    length: u64,
}

impl<const WORD_ROUNDS: usize, const END_ROUNDS: usize> Hasher<WORD_ROUNDS, END_ROUNDS> {
    const fn new([k0, k1]: [u64; 2]) -> Self {
        let v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        Self { v, tail: 0, length: 0 }
    }

    fn text(&mut self, kind: &[u8; 1], text: &str) {
        self.write(kind);
        self.write(text.as_bytes());
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        // Whole words, cut where the tail ends.
        let shift = self.length % 8 * 8;
        for word in words {
            let word = u64::from_le_bytes(*word);
            self.word(self.tail | word << shift);
            self.tail = word.checked_shr(64 - u32::try_from(shift).unwrap_or(0)).unwrap_or(0);
            self.length = self.length.wrapping_add(8);
        }
        for &byte in rest {
            self.tail |= u64::from(byte) << (self.length % 8 * 8);
            self.length = self.length.wrapping_add(1);
            if self.length.is_multiple_of(8) {
                self.word(self.tail);
                self.tail = 0;
            }
        }
    }

    fn word(&mut self, word: u64) {
        let [_, _, _, v3] = &mut self.v;
        *v3 ^= word;
        self.rounds::<WORD_ROUNDS>();
        let [v0, _, _, _] = &mut self.v;
        *v0 ^= word;
    }

    fn finish(mut self) -> u64 {
        self.word(self.length << 56 | self.tail);
        let [_, _, v2, _] = &mut self.v;
        *v2 ^= 0xFF;
        self.rounds::<END_ROUNDS>();
        self.v.into_iter().fold(0, |hash, v| hash ^ v)
    }

    fn rounds<const ROUNDS: usize>(&mut self) {
        let [mut v0, mut v1, mut v2, mut v3] = self.v;
        for _ in 0..ROUNDS {
            v0 = v0.wrapping_add(v1);
            v2 = v2.wrapping_add(v3);
            v1 = v1.rotate_left(13) ^ v0;
            v3 = v3.rotate_left(16) ^ v2;
            v0 = v0.rotate_left(32);
            v2 = v2.wrapping_add(v1);
            v0 = v0.wrapping_add(v3);
            v1 = v1.rotate_left(17) ^ v2;
            v3 = v3.rotate_left(21) ^ v0;
            v2 = v2.rotate_left(32);
        }
        self.v = [v0, v1, v2, v3];
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher as _};
    use std::num::NonZeroU32;

    use enforcer_model::{Principal, Source};
    use proptest::prelude::*;

    use super::*;
    use crate::{By, Kind, Payer};

    #[test]
    fn the_vector_of_the_siphash_paper_is_met() {
        let bytes: Vec<u8> = (0..15).collect();
        let mut hasher = Hasher::<2, 4>::new([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
        hasher.write(&bytes);

        assert_eq!(hasher.finish(), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_of_64_bits_share_a_bucket() {
        let per_ip = limit("per_ip", By::Ip);
        let bucket = |address: &str| {
            let payer = Payer::from_source(Source::new(address.parse().unwrap()), "r", None);
            Seed::new([1, 2]).bucket(&per_ip, &per_ip.subject(&payer))
        };

        assert_eq!(bucket("2001:db8:0:1::1"), bucket("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(bucket("2001:db8:0:1::1"), bucket("2001:db8:0:2::1"));
        assert_ne!(bucket("192.0.2.1"), bucket("192.0.2.2"));
        assert_eq!(bucket("192.0.2.1"), bucket("::ffff:192.0.2.1"));
    }

    #[test]
    fn limits_subjects_and_seeds_have_buckets_of_their_own() {
        let (one, two) = (limit("one", By::Global), limit("two", By::Global));
        let (ann, bob) = ("k7Qx2mP9aB3c".parse().unwrap(), "k7Qx2mP9aB3d".parse().unwrap());
        let principal = Principal::from_key(ann);
        let (word, number) = (Value::Text("7".into()), Value::Number(7));
        let (yes, no) = (Value::Flag(true), Value::Flag(false));
        let net = |text: &str| Subject::Network(text.parse().unwrap());
        let subjects = [
            Subject::Absent,
            Subject::Application("a"),
            Subject::Application("b"),
            Subject::Claim(&word),
            Subject::Claim(&number),
            Subject::Claim(&yes),
            Subject::Claim(&no),
            Subject::Everybody,
            Subject::Key(ann),
            Subject::Key(bob),
            net("192.0.2.0/24"),
            net("192.0.2.0/25"),
            net("192.0.2.0"),
            net("2001:db8::/64"),
            Subject::Principal(&principal),
            Subject::Region("a"),
            Subject::Role("a"),
            Subject::Route("a"),
        ];
        let mut seen = std::collections::HashSet::new();
        for seed in [[1, 2], [3, 2]] {
            for limit in [&one, &two] {
                for subject in &subjects {
                    assert!(seen.insert(Seed::new(seed).bucket(limit, subject)), "{subject}");
                }
            }
        }
    }

    proptest! {
        /// `DefaultHasher` is `SipHash-1-3` under a seed of zeros.
        #[test]
        fn it_is_the_hash_of_the_standard_library(parts: Vec<Vec<u8>>) {
            let (mut ours, mut theirs) = (Hasher::<1, 3>::new([0, 0]), DefaultHasher::new());
            for part in parts {
                ours.write(&part);
                theirs.write(&part);
            }

            prop_assert_eq!(ours.finish(), theirs.finish());
        }
    }

    fn limit(name: &str, by: By) -> Limit {
        Limit::new(name, by, Kind::Concurrent(NonZeroU32::MIN))
    }
}
