//! The credential of a request: exactly one, or none.
//!
//! A key or token stands in `Authorization: Bearer …` (RFC 6750), a token that is bound to a key of
//! its holder in `Authorization: DPoP …` with a `DPoP` header beside it (RFC 9449), a key also in
//! `X-Api-Key`. Whatever could be read two ways (both headers, a header twice, a comma list) is
//! refused, because an upstream might read the other one. What the credential is worth is not said
//! here.

use std::fmt;
use std::path::Path;

use enforcer_model::{Fingerprint, Reason, Rejection};
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use ring::hmac;
use zeroize::Zeroizing;

use crate::SecretFileError;
use crate::private;

/// The headers that can carry a credential; what is forwarded must not have them.
pub const CREDENTIAL_HEADERS: [HeaderName; 3] = [AUTHORIZATION, X_API_KEY, DPOP];

const DPOP: HeaderName = HeaderName::from_static("dpop");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A credential as it was sent, wiped when dropped. `Debug` hides it, and there is no `Display`.
pub struct Presented {
    token: Zeroizing<Vec<u8>>,
    scheme: Scheme,
    proof: Option<HeaderValue>,
}

/// How a credential was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `X-Api-Key: …`.
    ApiKey,
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer,
    /// `Authorization: DPoP …` (RFC 9449).
    Dpop,
}

/// Names credentials in the audit log: HMAC-SHA-256 under a key that never leaves the host.
///
/// The same credential has the same name as long as the key file lives; without the key file a
/// name cannot be tied to a credential, not even to one that is known or guessed.
pub struct FingerprintKey(hmac::Key);

/// The headers carry no single, readable credential. No variant carries any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Both headers, one header twice, or a list in one.
    #[error("more than one credential")]
    Duplicate,
    /// Not `Bearer`, one space, token; or not a token.
    #[error("the `{header}` header does not carry one bearer token")]
    Malformed {
        /// Which header.
        header: &'static str,
    },
    /// Longer than any credential that is accepted.
    #[error("a credential of {found} bytes; at most {} are read", Presented::LENGTH_MAX)]
    TooLong {
        /// The length of what was given.
        found: usize,
    },
}

impl Presented {
    /// Bytes in a credential of any kind.
    pub const LENGTH_MAX: usize = 8 * 1024;

    /// The one credential in `headers`, or none.
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Rejection> {
        Self::find(headers).map_err(|error| {
            let reason = match error {
                CredentialError::Duplicate => Reason::CredentialDuplicate,
                CredentialError::Malformed { .. } | CredentialError::TooLong { .. } => {
                    Reason::KeyMalformed
                }
            };
            reason.because(error)
        })
    }

    fn find(headers: &HeaderMap) -> Result<Option<Self>, CredentialError> {
        let authorization = single(headers, &AUTHORIZATION)?;
        let api_key = single(headers, &X_API_KEY)?;
        let proof =
            single(headers, &DPOP)?.filter(|proof| proof.len() <= Self::LENGTH_MAX).cloned();
        let (scheme, token) = match (authorization, api_key) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err(CredentialError::Duplicate),
            (Some(value), None) => authorized(value.as_bytes())?,
            (None, Some(value)) => (Scheme::ApiKey, token68(value.as_bytes(), "x-api-key")?),
        };
        Ok(Some(Self { token: Zeroizing::new(token.to_vec()), scheme, proof }))
    }

    /// A name for this credential that does not reveal it.
    pub fn fingerprint(&self, key: &FingerprintKey) -> Fingerprint {
        let mac = hmac::sign(&key.0, &self.token);
        let mut name = [0; 16];
        name.iter_mut().zip(mac.as_ref()).for_each(|(to, from)| *to = *from);
        Fingerprint(name)
    }

    /// How it was sent.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The proof of possession beside it, as it was sent; none when it is longer than any that is
    /// read.
    pub fn proof(&self) -> Option<&[u8]> {
        self.proof.as_ref().map(HeaderValue::as_bytes)
    }

    /// The credential itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.token
    }

    /// One as it stands behind `Bearer`; for what does not come with a request.
    pub fn bearer(token: &[u8]) -> Self {
        Self { token: Zeroizing::new(token.to_vec()), scheme: Scheme::Bearer, proof: None }
    }
}

fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, CredentialError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(CredentialError::Duplicate),
    }
}

/// The token in the value of an `Authorization` header: `Bearer` in any case, one space, token68.
pub fn bearer(value: &[u8]) -> Result<&[u8], CredentialError> {
    match authorized(value)? {
        (Scheme::Bearer, token) => Ok(token),
        (Scheme::ApiKey | Scheme::Dpop, _) => {
            Err(CredentialError::Malformed { header: "authorization" })
        }
    }
}

/// `Bearer` or `DPoP` in any case, one space, token68.
fn authorized(value: &[u8]) -> Result<(Scheme, &[u8]), CredentialError> {
    let malformed = CredentialError::Malformed { header: "authorization" };
    let space = value.iter().position(|&byte| byte == b' ').ok_or(malformed)?;
    let (name, token) = value.split_at_checked(space).ok_or(malformed)?;
    let scheme = match name {
        name if name.eq_ignore_ascii_case(b"bearer") => Scheme::Bearer,
        name if name.eq_ignore_ascii_case(b"dpop") => Scheme::Dpop,
        _ => return Err(malformed),
    };
    Ok((scheme, token68(token.strip_prefix(b" ").ok_or(malformed)?, "authorization")?))
}

/// `value` if it is a token68 (RFC 9110 section 11.2); a comma makes it a list of credentials.
fn token68<'a>(value: &'a [u8], header: &'static str) -> Result<&'a [u8], CredentialError> {
    if value.contains(&b',') {
        return Err(CredentialError::Duplicate);
    }
    if value.len() > Presented::LENGTH_MAX {
        return Err(CredentialError::TooLong { found: value.len() });
    }
    let padding = value.iter().rev().take_while(|&&byte| byte == b'=').count();
    let (body, _) = value.split_at(value.len() - padding);
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    if body.is_empty() || !body.iter().all(plain) {
        return Err(CredentialError::Malformed { header });
    }
    Ok(value)
}

impl FingerprintKey {
    /// The key in the file at `path`; a fresh one is written there first when there is none.
    pub fn load_or_create(path: &Path) -> Result<Self, SecretFileError> {
        let secret = private::load_or_create(path)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &*secret)))
    }

    /// The key in the file at `path`; none when there is no such file.
    pub fn load(path: &Path) -> Result<Option<Self>, SecretFileError> {
        let secret = private::load(path)?;
        Ok(secret.map(|secret| Self(hmac::Key::new(hmac::HMAC_SHA256, &*secret))))
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented(…)")
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_headers_carry_a_key() {
        for (name, value) in [
            ("authorization", "Bearer abc.DEF-1_~+/=="),
            ("authorization", "bEaReR abc.DEF-1_~+/=="),
            ("x-api-key", "abc.DEF-1_~+/=="),
        ] {
            let found = Presented::from_headers(&headers(&[(name, value)])).unwrap().unwrap();

            assert_eq!(found.as_bytes(), b"abc.DEF-1_~+/==", "{name}: {value}");
        }
    }

    #[test]
    fn a_bound_token_comes_with_the_one_proof_beside_it() {
        let sent = headers(&[("authorization", "dPoP a.b.c"), ("dpop", "x.y.z")]);
        let found = Presented::from_headers(&sent).unwrap().unwrap();
        let plain = headers(&[("authorization", "Bearer a.b.c")]);
        let without = Presented::from_headers(&plain).unwrap().unwrap();
        let twice = headers(&[("authorization", "DPoP a"), ("dpop", "x"), ("dpop", "x")]);

        assert_eq!((found.scheme(), found.proof()), (Scheme::Dpop, Some(&b"x.y.z"[..])));
        assert_eq!((without.scheme(), without.proof()), (Scheme::Bearer, None));
        let refused = Presented::from_headers(&twice).unwrap_err();
        assert_eq!(refused.reason, Reason::CredentialDuplicate);
    }

    #[test]
    fn a_request_without_a_credential_has_none() {
        let none = Presented::from_headers(&headers(&[("cookie", "key=abc")])).unwrap();

        assert!(none.is_none());
    }

    #[test]
    fn more_than_one_credential_is_refused_even_when_they_are_the_same() {
        for pairs in [
            &[("authorization", "Bearer a"), ("x-api-key", "a")][..],
            &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
            &[("x-api-key", "a"), ("x-api-key", "a")],
            &[("authorization", "Basic a"), ("x-api-key", "a")],
            &[("authorization", "Bearer a, Bearer b")],
            &[("authorization", "Bearer a,b")],
            &[("x-api-key", "a,b")],
            &[("x-api-key", ",")],
        ] {
            let refused = Presented::from_headers(&headers(pairs)).unwrap_err();

            assert_eq!(refused.reason, Reason::CredentialDuplicate, "{pairs:?}");
        }
    }

    #[test]
    fn anything_but_one_bearer_token_is_malformed() {
        for pair in [
            ("authorization", ""),
            ("authorization", "Bearer"),
            ("authorization", "Bearer "),
            ("authorization", "Bearer  a"),
            ("authorization", "Bearer\ta"),
            ("authorization", "Bearera"),
            ("authorization", "Bearer a b"),
            ("authorization", "Bearer a=b"),
            ("authorization", "Bearer ="),
            ("authorization", "Bearer a\u{e9}"),
            ("authorization", "Basic dXNlcjpwYXNz"),
            ("authorization", "Digest username=\"a\", realm=\"b\""),
            ("x-api-key", ""),
            ("x-api-key", "a b"),
            ("x-api-key", "Bearer a"),
            ("x-api-key", "a;b"),
        ] {
            let refused = Presented::from_headers(&headers(&[pair])).unwrap_err();

            assert_eq!(refused.reason, Reason::KeyMalformed, "{pair:?}");
        }
    }

    #[test]
    fn a_credential_has_a_longest_length() {
        let at = |length| Presented::from_headers(&headers(&[("x-api-key", &"a".repeat(length))]));

        assert!(at(Presented::LENGTH_MAX).is_ok());
        assert_eq!(at(Presented::LENGTH_MAX + 1).unwrap_err().reason, Reason::KeyMalformed);
    }

    #[test]
    fn no_refusal_repeats_the_credential() {
        let pairs = [("authorization", "Basic c2VjcmV0"), ("x-api-key", "sec ret")];
        for pair in pairs {
            let refused = Presented::from_headers(&headers(&[pair])).unwrap_err();

            assert!(!format!("{refused:?} {}", refused.chain()).contains("c2VjcmV0"));
            assert!(!format!("{refused:?} {}", refused.chain()).contains("sec ret"));
        }
        let presented = Presented::from_headers(&headers(&[("x-api-key", "secret")])).unwrap();
        assert_eq!(format!("{presented:?}"), "Some(Presented(…))");
    }

    #[test]
    fn a_fingerprint_is_the_truncated_hmac_of_rfc_4231() {
        // RFC 4231, test case 2, with its text as the credential.
        let key = FingerprintKey(hmac::Key::new(hmac::HMAC_SHA256, b"Jefe"));
        let presented = Presented::bearer(b"what do ya want for nothing?");

        assert_eq!(presented.fingerprint(&key).to_string(), "5bdcc146bf60754e6a042426089575c7");
    }

    #[test]
    fn fingerprints_differ_by_key_file_and_survive_loading() {
        let folder = tempfile::tempdir().unwrap();
        let load = |name| FingerprintKey::load_or_create(&folder.path().join(name)).unwrap();
        let presented = Presented::bearer(b"enf");

        let first = presented.fingerprint(&load("a"));

        assert_eq!(presented.fingerprint(&load("a")), first);
        assert_ne!(presented.fingerprint(&load("b")), first);
    }

    proptest! {
        #[test]
        fn arbitrary_values_never_panic_and_what_passes_is_token68(value: Vec<u8>) {
            if let Ok(token) = bearer(&value) {
                prop_assert!(!token.is_empty());
                prop_assert!(token.iter().all(|&byte| byte.is_ascii_graphic() && byte != b','));
            }
        }
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }
}
