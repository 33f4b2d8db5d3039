//! The one credential of a request, and the form of a key.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use std::time::Instant;

use enforcer_authn::{ApiKeys, Environment, FingerprintKey, KeyStore, Pepper, Presented, Token};
use enforcer_model::{Moment, Reason, Source, Timestamp};
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::fields;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const CHECKSUM_LENGTH: usize = 6;
const COVERED_LENGTH: usize = Token::LENGTH - CHECKSUM_LENGTH;

/// Nobody has a key here.
struct Nobody {
    keys: ApiKeys,
    names: FingerprintKey,
    since: Instant,
}

static NOBODY: LazyLock<Nobody> = LazyLock::new(Nobody::new);

/// The credential in a block of header fields, one a line; and the block itself as a key.
///
/// Two credentials are refused, one is refused or read as the one token that it is, whichever field
/// it stands in, and a store that has issued no key accepts none. A key is what has the documented
/// form and the right checksum, nothing else; any changed byte is noticed.
pub fn credential(bytes: &[u8]) {
    presented(&fields(bytes));
    key(bytes);
}

fn presented(headers: &HeaderMap) {
    let authorization: Vec<&[u8]> = values(headers, &AUTHORIZATION);
    let api_key: Vec<&[u8]> = values(headers, &X_API_KEY);
    let found = Presented::from_headers(headers);

    let token = match (authorization.as_slice(), api_key.as_slice()) {
        ([], []) => {
            assert!(matches!(found, Ok(None)), "a credential out of nothing");
            return;
        }
        ([value], []) => behind_bearer(value),
        ([], [value]) => is_token68(value).then_some(*value),
        _ => {
            let reason = found.err().map(|refused| refused.reason);
            assert_eq!(reason, Some(Reason::CredentialDuplicate), "one of several was chosen");
            return;
        }
    };
    match (found, token) {
        (Ok(Some(presented)), Some(token)) => accepted(&presented, token),
        (Err(refused), None) => {
            assert!(refused.reason.is_refused_credential(), "{}", refused.reason);
        }
        (found, token) => panic!("read as {found:?}, and is a token: {}", token.is_some()),
    }
}

fn accepted(presented: &Presented, token: &[u8]) {
    assert_eq!(format!("{presented:?}"), "Presented(…)");

    let mut alone = HeaderMap::new();
    alone.extend(HeaderValue::from_bytes(token).map(|value| (X_API_KEY, value)));
    let same = Presented::from_headers(&alone).ok().flatten();
    let same = same.map(|same| same.fingerprint(&NOBODY.names));
    assert_eq!(same, Some(presented.fingerprint(&NOBODY.names)), "one token, two names");

    let source = Source::new(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let now = Moment { monotonic: NOBODY.since, wall: Timestamp::from_unix_seconds(1) };
    let refused = NOBODY.keys.identify(presented, source, None, now).err().map(|refused| refused.reason);
    let expected = if is_key(token) { Reason::KeyUnknown } else { Reason::KeyMalformed };
    assert_eq!(refused, Some(expected));
}

fn key(bytes: &[u8]) {
    judge(bytes);
    let Some(covered) = bytes.get(..COVERED_LENGTH) else { return };
    let mut mended = [covered, &checksum(covered)].concat();
    judge(&mended);

    let place = bytes.get(COVERED_LENGTH).map_or(0, |byte| usize::from(*byte) % mended.len());
    let flips = bytes.get(COVERED_LENGTH + 1).copied().unwrap_or(1).max(1);
    let was_key = Token::parse(&mended).is_ok();
    mended.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= flips);
    assert!(!was_key || Token::parse(&mended).is_err(), "byte {place} does not matter");
}

fn judge(bytes: &[u8]) {
    let parsed = Token::parse(bytes);
    assert_eq!(parsed.is_ok(), is_key(bytes), "{parsed:?}");
    if let Ok(token) = parsed {
        let prefix = match token.environment() {
            Environment::Live => "enf_live_",
            Environment::Test => "enf_test_",
        };
        let begin = format!("{prefix}{}_", token.id());
        assert!(bytes.starts_with(begin.as_bytes()), "{token:?} is another key");
        assert_eq!(format!("{token:?}"), format!("Token({begin}…)"));
    }
}

/// `Bearer` in any case, one blank, a token.
fn behind_bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && is_token68(token)).then_some(token)
}

/// RFC 9110, section 11.2, and a length.
fn is_token68(text: &[u8]) -> bool {
    let body = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let (body, _padding) = text.split_at(body);
    let plain = |byte: &u8| matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    !body.is_empty() && body.iter().all(plain) && text.len() <= Presented::LENGTH_MAX
}

/// `enf_live_` or `enf_test_`, 12 characters, `_`, 43 characters, and their checksum.
fn is_key(text: &[u8]) -> bool {
    let Some((covered, sum)) = text.split_at_checked(COVERED_LENGTH) else { return false };
    let (prefix, body) = covered.split_at(9);
    let plain = |(place, byte): (usize, &u8)| match place {
        12 => *byte == b'_',
        _ => byte.is_ascii_alphanumeric(),
    };
    matches!(prefix, b"enf_live_" | b"enf_test_")
        && body.iter().enumerate().all(plain)
        && sum == checksum(covered)
}

/// CRC-32 by long division, highest power first, on reflected bytes; then base 62.
fn checksum(bytes: &[u8]) -> Vec<u8> {
    let bits = bytes.iter().flat_map(|byte| (0..8).map(move |bit| u64::from(byte >> bit & 1)));
    let ones = std::iter::repeat_n(1, 32);
    let mut rest = 0u64;
    // The initial inversion is the first 32 bits inverted; 32 zeros make room for the remainder.
    let padded = bits.chain(std::iter::repeat_n(0, 32));
    for (bit, flip) in padded.zip(ones.chain(std::iter::repeat(0))) {
        rest = rest << 1 | (bit ^ flip);
        if rest >> 32 == 1 {
            rest ^= 0x1_04C1_1DB7;
        }
    }
    let mut value = u64::from(!u32::try_from(rest).unwrap_or_default().reverse_bits());
    let mut digits = Vec::new();
    for _ in 0..CHECKSUM_LENGTH {
        let digit = u8::try_from(value % 62).unwrap_or_default();
        digits.push(match digit {
            0..10 => b'0' + digit,
            10..36 => b'A' + (digit - 10),
            _ => b'a' + (digit - 36),
        });
        value /= 62;
    }
    digits.reverse();
    digits
}

fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

impl Nobody {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name| folder.path().join(name);
        let pepper = Pepper::load_or_create(&file("pepper")).unwrap();
        Self {
            keys: KeyStore::open(&file("keys.db"), pepper).unwrap().index(),
            names: FingerprintKey::load_or_create(&file("fingerprint.key")).unwrap(),
            since: Instant::now(),
        }
    }
}
