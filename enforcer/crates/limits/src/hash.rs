//! From a limit and a subject to the 64 bits that stand for their bucket.
//!
//! `SipHash-1-3` under a secret seed: a caller who cannot read the seed cannot choose addresses that
//! fall on a victim's bucket or into its set. Two of a million live buckets share their 64 bits
//! with a probability of 3 in 10⁸; they would then share one bucket, which admits less, not more.

use std::net::IpAddr;

use enforcer_model::{Prefix, Source};

use crate::{Demand, Subject};

/// `SipHash` (Aumasson and Bernstein, 2012) with 1 round per word and 3 at the end, as in `std`.
#[derive(Clone, Copy)]
pub(crate) struct Seed([u64; 2]);

/// The network that counts as one host in IPv6: its owner can use every address of it.
const V6_HOST_BITS: u8 = 64;

impl Seed {
    pub(crate) const fn new(seed: [u64; 2]) -> Self {
        Self(seed)
    }

    /// What stands for the bucket that `demand` draws on; never zero.
    pub(crate) fn bucket(self, demand: &Demand<'_>) -> u64 {
        let name = demand.limit.name.as_bytes();
        let mut hasher = Hasher::<1, 3>::new(self.0);
        // The length first, so that no name and subject run into each other.
        hasher.write(&u64::try_from(name.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.write(name);
        match demand.subject {
            Subject::Principal(principal) => {
                hasher.write(b"k");
                hasher.write(principal.as_str().as_bytes());
            }
            Subject::Source(source) => match host(source) {
                IpAddr::V4(v4) => {
                    hasher.write(b"4");
                    hasher.write(&v4.octets());
                }
                IpAddr::V6(v6) => {
                    hasher.write(b"6");
                    hasher.write(&v6.octets());
                }
            },
        }
        hasher.finish().max(1)
    }
}

fn host(source: Source) -> IpAddr {
    match source.address() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        v6 @ IpAddr::V6(_) => Prefix::around(v6, V6_HOST_BITS).address(),
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

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
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

    use enforcer_model::Principal;
    use proptest::prelude::*;

    use super::*;
    use crate::{By, Limit};

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
            let source = Source::new(address.parse().unwrap());
            Seed::new([1, 2]).bucket(&per_ip.demand(source, None))
        };

        assert_eq!(bucket("2001:db8:0:1::1"), bucket("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(bucket("2001:db8:0:1::1"), bucket("2001:db8:0:2::1"));
        assert_ne!(bucket("192.0.2.1"), bucket("192.0.2.2"));
        assert_eq!(bucket("192.0.2.1"), bucket("::ffff:192.0.2.1"));
    }

    #[test]
    fn limits_callers_and_seeds_have_buckets_of_their_own() {
        let (one, two) = (limit("one", By::Key), limit("two", By::Key));
        let (ann, bob) = ("k7Qx2mP9aB3c", "k7Qx2mP9aB3d");
        let bucket = |seed, limit: &Limit, key: &str| {
            let principal = Principal::from_key(key.parse().unwrap());
            let source = Source::new("192.0.2.1".parse().unwrap());
            Seed::new(seed).bucket(&limit.demand(source, Some(&principal)))
        };

        let all = [
            bucket([1, 2], &one, ann),
            bucket([1, 2], &one, bob),
            bucket([1, 2], &two, ann),
            bucket([3, 2], &one, ann),
        ];

        for (n, a) in all.iter().enumerate() {
            assert!(all.iter().skip(n + 1).all(|b| a != b));
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
        let rate = "1/s".parse().unwrap();
        Limit { name: name.into(), by, rate, burst: NonZeroU32::MIN }
    }
}
