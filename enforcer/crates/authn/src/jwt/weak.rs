//! Keys in a good form that are known to be worthless.

/// Whether the modulus looks like one of the generator behind CVE-2017-15361 ("ROCA"), whose primes
/// are `k·M + (65537^a mod M)` with `M` a product of small primes: modulo each of those, such a
/// modulus is a power of 65537. A random one is for all 38 of them with a chance below 2⁻²⁷.
pub(super) fn is_roca(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
        97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.into_iter().all(|prime| {
        let rest = modulus.iter().fold(0, |rest, &byte| (rest << 8 | u32::from(byte)) % prime);
        let mut power = 1;
        loop {
            if power == rest {
                return true;
            }
            power = power * (65_537 % prime) % prime;
            if power <= 1 {
                return false;
            }
        }
    })
}

/// Whether an Ed25519 point is one of the few for which one signature fits many messages.
///
/// The encodings of the points whose order divides eight, canonical and not, with the sign taken
/// away: the list that libsodium refuses.
pub(super) fn has_small_order(mut point: [u8; 32]) -> bool {
    const fn ends(first: u8, middle: u8, last: u8) -> [u8; 32] {
        let mut point = [middle; 32];
        point[0] = first;
        point[31] = last;
        point
    }
    const POINTS: [[u8; 32]; 7] = [
        ends(0, 0, 0),
        ends(1, 0, 0),
        ends(0xec, 0xff, 0x7f),
        ends(0xed, 0xff, 0x7f),
        ends(0xee, 0xff, 0x7f),
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef,
            0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88,
            0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10,
            0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77,
            0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    if let Some(last) = point.last_mut() {
        *last &= 0x7f;
    }
    POINTS.contains(&point)
}

#[cfg(test)]
mod tests {
    use ring::signature;

    use super::*;

    #[test]
    fn a_point_of_small_order_would_accept_one_signature_for_every_message() {
        // The neutral element as key and as R, zero as S: 0·B = R + h·A whatever the message.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut forged = [0; 64];
        forged[0] = 1;
        for message in ["one", "another"] {
            let key = signature::UnparsedPublicKey::new(&signature::ED25519, neutral);
            assert!(key.verify(message.as_bytes(), &forged).is_ok());
        }

        assert!(has_small_order(neutral));
        neutral[31] = 0x80;
        assert!(has_small_order(neutral));
        let mut base = [0x66; 32];
        base[0] = 0x58;
        assert!(!has_small_order(base));
    }

    #[test]
    fn a_power_of_65537_modulo_all_small_primes_is_the_weak_generators() {
        let power = 65_537_u128.pow(7).to_be_bytes();

        assert!(is_roca(&power));
        let mut other = power;
        other[15] ^= 2;
        assert!(!is_roca(&other));
    }
}
