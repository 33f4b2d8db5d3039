//! The one credential of a request.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use std::time::Instant;

use enforcer_authn::{ApiKeys, FingerprintKey, KeyStore, Pepper, Presented, Scheme};
use enforcer_model::{Moment, Reason, Source, Timestamp};
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::fields;
use super::key::is_key;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// Nobody has a key here.
struct Nobody {
    keys: ApiKeys,
    names: FingerprintKey,
    since: Instant,
}

static NOBODY: LazyLock<Nobody> = LazyLock::new(Nobody::new);

/// The credential in a block of header fields, one a line.
///
/// Two credentials are refused, and so are two proofs beside one; one is refused or read as the one
/// token that it is, by the scheme that was written, whichever field it stands in; and a store that
/// has issued no key accepts none.
pub fn credential(bytes: &[u8]) {
    let headers = fields(bytes);
    let authorization: Vec<&[u8]> = values(&headers, &AUTHORIZATION);
    let api_key: Vec<&[u8]> = values(&headers, &X_API_KEY);
    let proofs: Vec<&[u8]> = values(&headers, &DPOP);
    let found = Presented::from_headers(&headers);

    let token = match (authorization.as_slice(), api_key.as_slice(), proofs.as_slice()) {
        ([], [], [] | [_]) => {
            assert!(matches!(found, Ok(None)), "a credential out of nothing");
            return;
        }
        ([value], [], [] | [_]) => behind_scheme(value),
        ([], [value], [] | [_]) => is_token68(value).then_some((Scheme::ApiKey, *value)),
        _ => {
            let reason = found.err().map(|refused| refused.reason);
            assert_eq!(reason, Some(Reason::CredentialDuplicate), "one of several was chosen");
            return;
        }
    };
    match (found, token) {
        (Ok(Some(presented)), Some((scheme, token))) => {
            assert_eq!((presented.scheme(), presented.as_bytes()), (scheme, token));
            let read = |proof: &&[u8]| proof.len() <= Presented::LENGTH_MAX;
            assert_eq!(presented.proof(), proofs.first().copied().filter(read));
            accepted(&presented, token);
        }
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
    let refused =
        NOBODY.keys.identify(presented, source, None, now).err().map(|refused| refused.reason);
    let expected = if is_key(token) { Reason::KeyUnknown } else { Reason::KeyMalformed };
    assert_eq!(refused, Some(expected));
}

/// `Bearer` or `DPoP` in any case, one blank, a token.
fn behind_scheme(value: &[u8]) -> Option<(Scheme, &[u8])> {
    let behind = |word: &[u8]| {
        let (scheme, token) = value.split_at_checked(word.len())?;
        (scheme.eq_ignore_ascii_case(word) && is_token68(token)).then_some(token)
    };
    let bearer = behind(b"bearer ").map(|token| (Scheme::Bearer, token));
    bearer.or_else(|| behind(b"dpop ").map(|token| (Scheme::Dpop, token)))
}

/// RFC 9110, section 11.2, and a length.
fn is_token68(text: &[u8]) -> bool {
    let body = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let (body, _padding) = text.split_at(body);
    let plain = |byte: &u8| matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    !body.is_empty() && body.iter().all(plain) && text.len() <= Presented::LENGTH_MAX
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
