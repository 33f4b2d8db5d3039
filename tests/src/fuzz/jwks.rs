//! Documents of keys, as an issuer publishes them.

use std::collections::BTreeSet;

use enforcer_authn::jwt::{Algorithm, Key, KeySet, Parsed};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::json::{Reading, base64url, in_base64url, reading};
use super::token::unsure;

/// Members that only somebody who can sign has.
const PRIVATE: &[&str] = &["d", "dp", "dq", "k", "oth", "p", "q", "qi"];

/// Keys of one document that are asked about signatures.
const ASKED: usize = 8;

/// A document of keys.
///
/// What is used of it is public, for signatures, of a known kind and size, and bears the thumbprint
/// that RFC 7638 computes; whatever has its private half with it, is a secret, or shares its name
/// with another key is not used. The order of a document means nothing. A key is found by its name
/// for its own algorithms and for no other, and no signature of zeros, and none of the neutral
/// element's, is good under any of them.
pub fn jwks(bytes: &[u8]) {
    let set = match KeySet::parse(bytes) {
        Err(refused) => return assert!(!refused.to_string().is_empty()),
        Ok(set) => set,
    };
    let Reading::Json(document) = reading(bytes) else { return unsure(bytes) };
    let entries = document.get("keys").and_then(Value::as_array).expect("a list of keys");
    assert!(bytes.len() <= KeySet::DOCUMENT_MAX && entries.len() <= KeySet::KEYS_MAX);
    assert!(set.len() + set.skipped().count() <= entries.len(), "a key out of nothing");
    for (label, reason) in set.skipped() {
        assert!(label.len() <= Key::KID_LENGTH_MAX && !reason.to_string().is_empty());
    }
    set.keys().for_each(|key| published(key, entries));
    let backwards: Vec<&Value> = entries.iter().rev().collect();
    let backwards = json!({ "keys": backwards }).to_string();
    let again = KeySet::parse(backwards.as_bytes()).expect("the same keys in another order");
    assert_eq!(names(&again), names(&set), "the order of a document means something");
    set.keys().take(ASKED).for_each(|key| found(&set, key));
}

fn names(set: &KeySet) -> BTreeSet<(String, [u8; 32])> {
    set.keys().map(|key| (key.name().to_string(), key.thumbprint())).collect()
}

/// Every entry of the key's name that could be this key is fit for use, and there is one.
fn published(key: &Key, entries: &[Value]) {
    assert!(!key.name().is_empty() && key.name().len() <= Key::KID_LENGTH_MAX);
    assert!(!key.algorithms().contains(Algorithm::Hs256), "a secret that everybody can read");
    let is_it = |entry: &&Value| {
        let kid = entry.get("kid");
        kid.and_then(Value::as_str) == key.key_id() && thumbprint(entry) == Some(key.thumbprint())
    };
    let fit = entries.iter().filter(is_it).any(|entry| {
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let usage = entry.get("use").is_none_or(|usage| usage == "sig");
        let may = entry
            .get("key_ops")
            .is_none_or(|may| may.as_array().is_some_and(|may| may.contains(&json!("verify"))));
        let algorithm = entry.get("alg").is_none() || {
            let mut named = key.algorithms().iter().map(Algorithm::as_str);
            let name = text("alg").unwrap_or_default();
            named.any(|known| known == name || (known, name) == ("EdDSA", "Ed25519"))
        };
        usage && may && algorithm && PRIVATE.iter().all(|name| entry.get(name).is_none())
    });
    assert!(fit, "{} was never published for this", key.name());
}

/// RFC 7638, for what has a size that is accepted.
fn thumbprint(entry: &Value) -> Option<[u8; 32]> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let bytes = |name: &str| base64url(text(name)?.as_bytes());
    let text_of = match (text("kty")?, text("crv")) {
        ("EC", Some(curve @ ("P-256" | "P-384"))) => {
            let size = if curve == "P-256" { 32 } else { 48 };
            let (x, y) = (bytes("x")?, bytes("y")?);
            let fits = x.len() == size && y.len() == size;
            fits.then(|| json!({"crv": curve, "kty": "EC", "x": text("x"), "y": text("y")}))?
        }
        ("OKP", Some("Ed25519")) => {
            let fits = bytes("x")?.len() == 32;
            fits.then(|| json!({"crv": "Ed25519", "kty": "OKP", "x": text("x")}))?
        }
        ("RSA", _) => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
            let fits = (256..=1024).contains(&n.len()) && odd(&n) && odd(&e) && e != [1];
            fits.then(|| json!({"e": text("e"), "kty": "RSA", "n": text("n")}))?
        }
        _ => return None,
    };
    // The members stand in the order that RFC 7638 asks for.
    digest(&SHA256, text_of.to_string().as_bytes()).as_ref().try_into().ok()
}

fn found(set: &KeySet, key: &Key) {
    let mut neutral = [0u8; 64];
    neutral[0] = 1;
    for algorithm in Algorithm::ALL {
        let header = match key.key_id() {
            Some(kid) => json!({"typ": "at+jwt", "alg": algorithm.as_str(), "kid": kid}),
            None if set.len() == 1 => json!({"typ": "at+jwt", "alg": algorithm.as_str()}),
            None => return,
        };
        for signature in [&neutral[..], &[0; 64], &[0; 96], &[0; 256]] {
            let token = unsigned(&header, signature);
            let parsed = Parsed::parse(token.as_bytes()).expect("a token of the right form");
            let found = set.find(parsed.header()).ok().map(Key::thumbprint);
            let fits = key.algorithms().contains(algorithm);
            assert_eq!(found, fits.then(|| key.thumbprint()), "{} {algorithm}", key.name());
            if fits {
                never_verified(&token, key);
            }
        }
    }
}

fn unsigned(header: &Value, signature: &[u8]) -> String {
    let claims = super::token::CLAIMS;
    let header = in_base64url(header.to_string().as_bytes());
    format!("{header}.{}.{}", in_base64url(claims), in_base64url(signature))
}

fn never_verified(token: &str, key: &Key) {
    let verified = super::token::checked(token.as_bytes()).and_then(|checked| checked.verify(key));
    assert!(verified.is_err(), "{} vouches for a signature that nobody made", key.name());
}
