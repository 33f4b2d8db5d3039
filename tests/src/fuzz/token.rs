//! Signed tokens: what is accepted was signed by the key that it names, byte for byte.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use enforcer_authn::TokenFacts;
use enforcer_authn::jwt::{Algorithm, Checked, Expect, JwtError, KeySet, Kind, Parsed};
use enforcer_model::Timestamp;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, Ed25519KeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Value, json};

use super::json::{Reading, base64url, in_base64url, reading};

pub(super) const NOW: u64 = 1_795_000_000;
pub(super) const LEEWAY: u64 = 30;
pub(super) const ISSUER: &str = "https://idp.example.com";
pub(super) const AUDIENCE: &str = "https://api.example.com";

/// Whose private half is known here, and nowhere trusted.
const SEED: [u8; 32] = [7; 32];

/// A public key whose tokens are in the corpus.
const P256: [&str; 2] =
    ["YZ7crZRTiWV4bSCY6der4k8kLzbCLd-9alTfGsV4YXw", "Rv_7R79PcOKumO6cJ7nZ5c-OOPyxlZ4dq_AmpFXpTtM"];
const RSA: [&str; 2] = [
    concat!(
        "nbK2Wtu2HUx66wLcys1r3eQoWHjzsSfwKx1i_2rAtEfKBngXOr_0K0bSXjz_63u9F9QbxbS4SuOPJLmFgL17vk",
        "sbY9DE42X-j3qJlisKBXaObgyWpTKi_f0UtG82M-YTaxJb-5-8TKX4BlBk8_p9bFB0WFybL5-pUjIYEsAdiKI-",
        "Gf_gt_wSp6QbvpfT9lIureFwigtOGL8X059WMk-v9kYpLgxu0z4QcqdUh4_9wjfgBJcgLaFaQ52rsdueYWp0TK",
        "YzO0nazEULDZgn4tak6b0d5g8zv20U6w-I6q5xW6pAJJtpKasaR7e_bCrT1MBYWSW0jUbsGcbbiPCHQ-gfhQ",
    ),
    "AQAB",
];

/// What a good access token says.
const HEADER: &[u8] = br#"{"typ":"at+jwt","alg":"EdDSA","kid":"ed"}"#;
pub(super) const CLAIMS: &[u8] = br#"{"iss":"https://idp.example.com","aud":"https://api.example.com","sub":"alice","exp":1795000060}"#;

/// Parameters that would bring a key, or change what is signed.
const NEVER: &[&str] = &["b64", "crit", "enc", "jku", "jwk", "x5c", "x5u", "zip"];

struct Issuer {
    pair: Ed25519KeyPair,
    keys: KeySet,
    name: Arc<str>,
    audience: [Arc<str>; 1],
}

static CORP: LazyLock<Issuer> = LazyLock::new(Issuer::new);

/// A token; and the same bytes as header, and as claims, of a token that was signed well.
///
/// What is accepted has three parts in canonical base64url, names a key of its issuer with that
/// key's algorithm, is signed by it, brings no key along, and says each thing once: our issuer, our
/// audience, a time that holds, somebody. Not one bit of it can be changed, no part of it cut off or
/// added, no signature of another token put in its place.
pub fn token(bytes: &[u8]) {
    judge(bytes);
    judge(CORP.signed(HEADER, bytes).as_bytes());
    judge(CORP.signed(bytes, CLAIMS).as_bytes());
}

fn judge(token: &[u8]) {
    match verified(token) {
        Err(refused) => assert_eq!(refused.reason().status(), 401, "{refused}"),
        Ok(facts) => {
            says(token, &facts);
            holds_as_a_whole(token);
        }
    }
}

fn verified(token: &[u8]) -> Result<TokenFacts, JwtError> {
    let checked = checked(token)?;
    let key = CORP.keys.find(Parsed::parse(token)?.header())?;
    checked.verify(key)
}

/// The token, if all but its signature is as it should be.
pub(super) fn checked(token: &[u8]) -> Result<Checked<'_>, JwtError> {
    let expect = Expect {
        name: &CORP.name,
        issuer: ISSUER,
        audience: &CORP.audience,
        algorithms: Algorithm::ALL.into_iter().collect(),
        kind: Kind::AccessToken,
        leeway: Duration::from_secs(LEEWAY),
    };
    Parsed::parse(token)?.check(&expect, Timestamp::from_unix_seconds(NOW))
}

fn says(token: &[u8], facts: &TokenFacts) {
    assert!(token.len() <= Parsed::LENGTH_MAX);
    let parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
    let [header, claims, signature] = *parts else { panic!("{} parts", parts.len()) };
    let decoded = |part| base64url(part).expect("canonical base64url");
    let signed = [header, b".", claims].concat();
    let (header, claims, signature) = (decoded(header), decoded(claims), decoded(signature));

    let Reading::Json(header) = reading(&header) else { return unsure(&header) };
    assert!(NEVER.iter().all(|name| header.get(name).is_none()), "{header}");
    let kind = header.get("typ").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    assert_eq!(kind.strip_prefix("application/").unwrap_or(&kind), "at+jwt");
    let text = |name: &str| header.get(name).and_then(Value::as_str).unwrap_or_default();
    assert!(is_signed(text("kid"), text("alg"), &signed, &signature), "{header}");

    let Reading::Json(claims) = reading(&claims) else { return unsure(&claims) };
    assert_eq!(claims.get("iss"), Some(&json!(ISSUER)));
    assert!(has_our_audience(&claims), "{claims}");
    assert_eq!(claims.get("sub").and_then(Value::as_str), Some(&*facts.subject));
    assert!(!facts.subject.is_empty() && *facts.issuer == *"corp");
    assert!(claims.get("exp").is_some(), "it lives forever");
    holds_now(&claims);
}

/// A number beyond this reader's; anything else must be JSON here as well.
pub(super) fn unsure(bytes: &[u8]) {
    assert!(matches!(reading(bytes), Reading::Unsure), "accepted, and no JSON with one meaning");
}

pub(super) fn has_our_audience(claims: &Value) -> bool {
    match claims.get("aud") {
        Some(Value::String(one)) => one == AUDIENCE,
        Some(Value::Array(many)) => {
            many.iter().all(Value::is_string) && many.contains(&json!(AUDIENCE))
        }
        _ => false,
    }
}

/// What it says of time holds, give or take the leeway.
pub(super) fn holds_now(claims: &Value) {
    let time = |name: &str| claims.get(name).map(|time| time.as_f64().expect("a number"));
    let now = f64::from(u32::try_from(NOW).expect("before the year 2106"));
    let leeway = f64::from(u32::try_from(LEEWAY).expect("half a minute"));
    let (earliest, latest) = (now - leeway, now + leeway);
    assert!(time("exp").is_none_or(|end| end > earliest - 0.001), "{claims}");
    for begin in ["nbf", "iat"] {
        assert!(time(begin).is_none_or(|begin| (0.0..latest + 0.001).contains(&begin)), "{claims}");
    }
}

/// Asked of `ring` itself, with the one algorithm that the key is for.
fn is_signed(kid: &str, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
    match (kid, algorithm) {
        ("ed", "EdDSA" | "Ed25519") => {
            let key = UnparsedPublicKey::new(&ED25519, CORP.pair.public_key());
            key.verify(signed, signature).is_ok()
        }
        ("es", "ES256") => {
            let halves = P256.map(|half| base64url(half.as_bytes()).expect("a coordinate"));
            let point = [&[4], halves.concat().as_slice()].concat();
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
            key.verify(signed, signature).is_ok()
        }
        ("rs", "RS256") => {
            let [n, e] = RSA.map(|half| base64url(half.as_bytes()).expect("a number"));
            let key = RsaPublicKeyComponents { n, e };
            key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok()
        }
        _ => false,
    }
}

fn holds_as_a_whole(token: &[u8]) {
    for place in 0..token.len() {
        assert!(verified(token.get(..place).unwrap_or_default()).is_err(), "cut at {place}");
        for bit in 0..8 {
            let mut changed = token.to_vec();
            changed.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1 << bit);
            assert!(verified(&changed).is_err(), "bit {bit} of byte {place} does not matter");
        }
    }
    for more in [".", "=", "A", " ", "\n", "\0"] {
        assert!(verified(&[token, more.as_bytes()].concat()).is_err(), "{more:?} behind it");
        assert!(verified(&[more.as_bytes(), token].concat()).is_err(), "{more:?} before it");
    }
    let other = CORP.signed(HEADER, br#"{"iss":"https://idp.example.com"}"#);
    let end = token.iter().rposition(|byte| *byte == b'.').unwrap_or_default();
    let borrowed = other.rsplit('.').next().unwrap_or_default();
    let swapped = [token.get(..=end).unwrap_or_default(), borrowed.as_bytes()].concat();
    assert!(verified(&swapped).is_err(), "the signature of another token");
}

impl Issuer {
    fn new() -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&SEED).expect("a seed of 32 bytes");
        let x = in_base64url(pair.public_key().as_ref());
        let ([px, py], [n, e]) = (P256, RSA);
        let keys = json!({"keys": [
            {"kid": "ed", "kty": "OKP", "crv": "Ed25519", "x": x},
            {"kid": "es", "kty": "EC", "crv": "P-256", "x": px, "y": py},
            {"kid": "rs", "kty": "RSA", "alg": "RS256", "n": n, "e": e},
        ]});
        let keys = KeySet::parse(keys.to_string().as_bytes()).expect("a key set");
        assert_eq!(keys.len(), 3, "{:?}", keys.skipped().collect::<Vec<_>>());
        Self { pair, keys, name: "corp".into(), audience: [AUDIENCE.into()] }
    }

    fn signed(&self, header: &[u8], claims: &[u8]) -> String {
        let signed = format!("{}.{}", in_base64url(header), in_base64url(claims));
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", in_base64url(signature.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_tokens_that_the_target_starts_from_are_good() {
        assert!(verified(CORP.signed(HEADER, CLAIMS).as_bytes()).is_ok());
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/token");
        for name in ["good-eddsa", "good-es256", "good-rs256", "good-application-type"] {
            let token = fs::read(format!("{folder}/{name}")).unwrap();
            assert_eq!(verified(&token).map(|facts| facts.subject), Ok("alice".into()), "{name}");
        }
    }
}
