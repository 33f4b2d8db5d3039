//! The form of an API key: `enf_live_<12 id>_<43 secret><6 checksum>`.
//!
//! [`Token::parse`] accepts exactly what [`IssuedKey`] writes, byte for byte, and looks nothing up:
//! a mistyped or invented key ends here. It borrows from its input and copies no secret. The first
//! word is the policy's to choose; the checksum covers it.

use std::fmt;

use enforcer_model::KeyId;
use ring::error::Unspecified;
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::plan::KeyPrefix;
use crate::Environment;

/// A key read from text: the checksum is right, the secret is not yet compared with anything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    prefix: KeyPrefix,
    environment: Environment,
    id: KeyId,
    secret: &'a [u8],
}

/// The text is not an API key. No variant carries any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// A character outside `0-9A-Za-z` in the id, secret or checksum.
    #[error("the key has a character that no key has")]
    Alphabet,
    /// Mistyped, cut and glued, or invented.
    #[error("the checksum of the key is wrong")]
    Checksum,
    /// Too short or too long.
    #[error("the key is {found} bytes long, and none is")]
    Length {
        /// The length of what was given.
        found: usize,
    },
    /// Neither `enf_live_` nor `enf_test_` nor so with another known prefix, or no `_` behind the id.
    #[error("the key does not begin as a key does")]
    Prefix,
}

/// A new key with its secret, to be shown once. `Debug` hides it, and there is no `Display`.
pub struct IssuedKey {
    id: KeyId,
    text: Zeroizing<String>,
}

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SECRET_LENGTH: usize = 43;
const CHECKSUM_LENGTH: usize = 6;

impl<'a> Token<'a> {
    /// Bytes in a key that begins with `enf`.
    pub const LENGTH: usize = KeyPrefix::ENF.as_str().len() + Self::BEHIND_PREFIX;
    /// Bytes in the longest key.
    pub const LENGTH_MAX: usize = KeyPrefix::LENGTH_MAX + Self::BEHIND_PREFIX;
    /// Bytes behind the prefix of a key.
    pub(crate) const BEHIND_PREFIX: usize =
        "_live_".len() + KeyId::LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH;

    /// Reads `text` as a key that begins with `enf`; length, prefix, alphabet and checksum must all
    /// be right.
    pub fn parse(text: &'a [u8]) -> Result<Self, TokenError> {
        Self::parse_with(text, &[KeyPrefix::ENF])
    }

    /// Reads `text` as a key that begins with one of `prefixes`.
    pub fn parse_with(text: &'a [u8], prefixes: &[KeyPrefix]) -> Result<Self, TokenError> {
        let Some((prefix, environment, rest)) = beginning(text, prefixes) else {
            let fits = |prefix: &KeyPrefix| prefix.as_bytes().len() + Self::BEHIND_PREFIX;
            let some = prefixes.iter().any(|prefix| fits(prefix) == text.len());
            return Err(if some {
                TokenError::Prefix
            } else {
                TokenError::Length { found: text.len() }
            });
        };
        if text.len() != prefix.as_bytes().len() + Self::BEHIND_PREFIX {
            return Err(TokenError::Length { found: text.len() });
        }
        let (covered, checksum) = text.split_at(text.len().saturating_sub(CHECKSUM_LENGTH));
        let body = rest.get(..rest.len().saturating_sub(CHECKSUM_LENGTH)).unwrap_or_default();
        let (id, rest) = body.split_first_chunk().ok_or(TokenError::Prefix)?;
        let secret = rest.strip_prefix(b"_").ok_or(TokenError::Prefix)?;

        let id = KeyId::from_bytes(*id).ok_or(TokenError::Alphabet)?;
        if !secret.iter().chain(checksum).all(u8::is_ascii_alphanumeric) {
            return Err(TokenError::Alphabet);
        }
        if checksum != checksum_of(covered) {
            return Err(TokenError::Checksum);
        }
        Ok(Self { prefix, environment, id, secret })
    }

    /// Whether `text` begins as a key with one of `prefixes` does; what follows may be mistyped.
    pub(crate) fn begins(text: &[u8], prefixes: &[KeyPrefix]) -> bool {
        beginning(text, prefixes).is_some()
    }

    /// The word that it begins with.
    pub const fn prefix(&self) -> KeyPrefix {
        self.prefix
    }

    /// The public id.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// What the prefix says.
    pub const fn environment(&self) -> Environment {
        self.environment
    }

    pub(crate) const fn secret(&self) -> &'a [u8] {
        self.secret
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}_{}_{}_…)", self.prefix, self.environment, self.id)
    }
}

/// The prefix, the environment, and what stands behind both.
fn beginning<'t>(
    text: &'t [u8],
    prefixes: &[KeyPrefix],
) -> Option<(KeyPrefix, Environment, &'t [u8])> {
    prefixes.iter().find_map(|prefix| {
        let rest = text.strip_prefix(prefix.as_bytes())?;
        Environment::ALL.into_iter().find_map(|environment| {
            Some((*prefix, environment, rest.strip_prefix(environment.infix())?))
        })
    })
}

impl IssuedKey {
    /// The key `id` with a fresh secret.
    pub(crate) fn with_fresh_secret(
        id: KeyId,
        prefix: KeyPrefix,
        environment: Environment,
        random: &dyn SecureRandom,
    ) -> Result<Self, Unspecified> {
        // Never grown: a string that moves leaves its secret behind.
        let mut text = Zeroizing::new(String::with_capacity(Token::LENGTH_MAX));
        text.push_str(prefix.as_str());
        text.push('_');
        text.push_str(environment.as_str());
        text.push('_');
        text.push_str(id.as_str());
        text.push('_');
        let secret = Zeroizing::new(random_base62::<SECRET_LENGTH>(random)?);
        text.extend(secret.iter().copied().map(char::from));
        let checksum = checksum_of(text.as_bytes());
        text.extend(checksum.map(char::from));
        Ok(Self { id, text })
    }

    /// The public id.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The whole key with its secret, for the eyes of its owner.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for IssuedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuedKey({}_…)", self.id)
    }
}

pub(crate) fn random_id(random: &dyn SecureRandom) -> Result<KeyId, Unspecified> {
    KeyId::from_bytes(random_base62(random)?).ok_or(Unspecified)
}

/// `N` independent, uniform characters: a byte at or above 4 × 62 is thrown away, because the rest
/// of a division by 62 would favour the first eight characters.
fn random_base62<const N: usize>(random: &dyn SecureRandom) -> Result<[u8; N], Unspecified> {
    const FAIR: u8 = 4 * 62;
    let mut characters = [0; N];
    let mut pool = Zeroizing::new([0u8; 64]);
    let mut bytes = [].iter();
    for character in &mut characters {
        *character = loop {
            match bytes.next() {
                Some(&byte) if byte < FAIR => break digit(u32::from(byte % 62)),
                Some(_) => {}
                None => {
                    random.fill(&mut *pool)?;
                    bytes = pool.iter();
                }
            }
        };
    }
    Ok(characters)
}

/// CRC-32 of `bytes` in base 62, most significant digit first. 62⁶ exceeds 2³², so it always fits.
pub(crate) fn checksum_of(bytes: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut rest = crc32(bytes);
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for place in digits.iter_mut().rev() {
        *place = digit(rest % 62);
        rest /= 62;
    }
    digits
}

fn digit(value: u32) -> u8 {
    usize::try_from(value).ok().and_then(|value| ALPHABET.get(value)).copied().unwrap_or(b'0')
}

/// CRC-32 as in ISO-HDLC, zlib and PNG: reflected polynomial 0xEDB88320, initial and final
/// inversion; eight bytes at a time, because every request with a key comes through here.
fn crc32(bytes: &[u8]) -> u32 {
    let (eights, rest) = bytes.as_chunks::<8>();
    let [single, ..] = &TABLES;
    let entry = |table: &[u32; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or(0);
    let mut crc = u32::MAX;
    for eight in eights {
        let mixed = u64::from_le_bytes(*eight) ^ u64::from(crc);
        let tables = TABLES.iter().rev().zip(mixed.to_le_bytes());
        crc = tables.fold(0, |crc, (table, byte)| crc ^ entry(table, byte));
    }
    for byte in rest {
        let [low, ..] = crc.to_le_bytes();
        crc = (crc >> 8) ^ entry(single, low ^ byte);
    }
    !crc
}

/// What a byte does to a checksum when 0 to 7 more bytes follow it.
const TABLES: [[u32; 256]; 8] = tables();

#[expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "run by the compiler, which stops at a wrong index"
)]
const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let (mut at, mut byte) = (0, 0u32);
    while at < 256 {
        let (mut crc, mut bit) = (byte, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        tables[0][at] = crc;
        at += 1;
        byte += 1;
    }
    let mut more = 1;
    while more < 8 {
        at = 0;
        while at < 256 {
            let crc = tables[more - 1][at];
            tables[more][at] = (crc >> 8) ^ tables[0][(crc & 0xFF) as usize];
            at += 1;
        }
        more += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use ring::rand::SystemRandom;

    use super::*;

    #[test]
    fn the_checksum_is_the_crc_32_of_zlib() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(checksum_of(b""), *b"000000");
        assert_eq!(checksum_of(b"123456789"), *b"3jZRME");
    }

    #[test]
    fn eight_bytes_at_a_time_give_what_one_bit_at_a_time_gives() {
        let slowly = |bytes: &[u8]| {
            !bytes.iter().fold(u32::MAX, |crc, &byte| {
                (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                    (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
                })
            })
        };
        let noise: Vec<u8> = (0..200u32).map(|n| (n * 167 % 251).to_le_bytes()[0]).collect();
        for length in 0..noise.len() {
            assert_eq!(crc32(&noise[..length]), slowly(&noise[..length]), "{length}");
        }
    }

    #[test]
    fn a_key_has_the_documented_form() {
        let key = fresh(Environment::Live);

        assert_eq!(key.expose().len(), 71);
        assert!(key.expose().starts_with(&format!("enf_live_{}_", key.id())));
        assert!(fresh(Environment::Test).expose().starts_with("enf_test_"));
    }

    /// The checksums come from Python's `zlib`, not from this file.
    #[test]
    fn keys_made_elsewhere_parse_to_their_parts() {
        let live = b"enf_live_k7Qx2mP9aB3c_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA4Zt9Pt";
        let test = b"enf_test_000000000000_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg16SwaY";

        let (live, test) = (Token::parse(live).unwrap(), Token::parse(test).unwrap());

        assert_eq!(live.id().as_str(), "k7Qx2mP9aB3c");
        assert_eq!(live.environment(), Environment::Live);
        assert_eq!(live.secret(), [b'A'; 43]);
        assert_eq!(test.environment(), Environment::Test);
        assert!(test.secret().ends_with(b"abcdefg"));
    }

    #[test]
    fn a_key_is_read_with_the_prefixes_that_are_known_and_no_other() {
        let (enf, acme) = (KeyPrefix::ENF, "acme2".parse::<KeyPrefix>().unwrap());
        let random = SystemRandom::new();
        let id = random_id(&random).unwrap();
        let key = IssuedKey::with_fresh_secret(id, acme, Environment::Test, &random).unwrap();
        let text = key.expose().as_bytes();

        assert!(key.expose().starts_with("acme2_test_"));
        let token = Token::parse_with(text, &[enf, acme]).unwrap();
        assert_eq!((token.prefix(), token.id()), (acme, id));
        assert_eq!(Token::parse(text), Err(TokenError::Length { found: 73 }));
        assert!(Token::begins(b"acme2_live_?", &[enf, acme]));
        assert!(!Token::begins(b"acme2_live_?", &[enf]) && !Token::begins(b"enf_", &[enf]));
    }

    #[test]
    fn neither_a_token_nor_an_issued_key_shows_its_secret() {
        let key = fresh(Environment::Live);
        let token = Token::parse(key.expose().as_bytes()).unwrap();
        let secret = std::str::from_utf8(token.secret()).unwrap();

        assert!(!format!("{key:?}{token:?}").contains(secret.get(..8).unwrap()));
    }

    #[test]
    fn every_character_of_the_alphabet_is_drawn_and_no_other() {
        let random = SystemRandom::new();
        let mut counts = [0u32; 256];
        for _ in 0..400 {
            for byte in random_base62::<62>(&random).unwrap() {
                counts[usize::from(byte)] += 1;
            }
        }

        // 400 draws of each are expected; ten standard deviations are 200.
        let drawn: HashSet<u8> = (0..=255).filter(|&byte| counts[usize::from(byte)] > 0).collect();
        assert_eq!(drawn, ALPHABET.iter().copied().collect());
        assert!(ALPHABET.iter().all(|&byte| (200..600).contains(&counts[usize::from(byte)])));
    }

    #[test]
    fn each_fault_has_its_own_name() {
        let key = fresh(Environment::Live);
        let text = key.expose();
        let with = |at: usize, byte: u8| {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = byte;
            Token::parse(&bytes).map(|_| ()).unwrap_err()
        };

        assert_eq!(Token::parse(b""), Err(TokenError::Length { found: 0 }));
        assert_eq!(Token::parse(&text.as_bytes()[..70]), Err(TokenError::Length { found: 70 }));
        assert_eq!(with(0, b'E'), TokenError::Prefix);
        assert_eq!(with(8, b'-'), TokenError::Prefix);
        assert_eq!(with(21, b'-'), TokenError::Prefix);
        assert_eq!(with(9, b'_'), TokenError::Alphabet);
        assert_eq!(with(30, b'+'), TokenError::Alphabet);
        assert_eq!(with(70, 0xFF), TokenError::Alphabet);
    }

    proptest! {
        #[test]
        fn any_single_changed_byte_is_noticed(at in 0..Token::LENGTH, byte: u8) {
            let key = fresh(Environment::Live);
            let mut bytes = key.expose().as_bytes().to_vec();
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;

            prop_assert!(Token::parse(&bytes).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_parse(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(Token::parse(&bytes).is_err());
        }

        #[test]
        fn a_checksum_is_six_digits_that_spell_the_number(bytes: Vec<u8>) {
            let value = checksum_of(&bytes).iter().fold(0u64, |value, digit| {
                let digit = ALPHABET.iter().position(|known| known == digit).unwrap();
                value * 62 + u64::try_from(digit).unwrap()
            });

            prop_assert_eq!(value, u64::from(crc32(&bytes)));
        }
    }

    fn fresh(environment: Environment) -> IssuedKey {
        let random = SystemRandom::new();
        let id = random_id(&random).unwrap();
        IssuedKey::with_fresh_secret(id, KeyPrefix::ENF, environment, &random).unwrap()
    }
}
