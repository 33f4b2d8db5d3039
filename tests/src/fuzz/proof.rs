//! Proofs of possession: what is accepted was made for this very request, and once.

use std::sync::LazyLock;

use enforcer_authn::jwt::Parsed;
use enforcer_authn::{DpopProofs, PROOF_WINDOW, ProofError, ProofTarget};
use enforcer_model::{Reason, Timestamp};
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

use super::json::{Reading, base64url, in_base64url, reading};
use super::token::{NOW, unsure};

const SEED: [u8; 32] = [9; 32];
const TOKEN: &[u8] = b"header.claims.signature";
const TARGET: ProofTarget<'_> = ProofTarget {
    method: "POST",
    scheme: "https",
    authority: "api.example.com",
    path: "/v1/orders",
};
const ID_LENGTH_MAX: usize = 256;

struct Holder {
    pair: Ed25519KeyPair,
    thumbprint: [u8; 32],
    header: String,
    claims: String,
}

static HOLDER: LazyLock<Holder> = LazyLock::new(Holder::new);

/// A proof; and the same bytes as header, and as claims, of a proof that was signed well.
///
/// What is accepted is signed by the very key that the token is bound to, which it brings along
/// without its private half, and names method, token, time and an id, each once. It is accepted
/// once; not with another token, key, method or address; not before and after its time; and not with
/// one bit of it changed.
pub fn dpop_proof(bytes: &[u8]) {
    judge(bytes);
    judge(HOLDER.proof(HOLDER.header.as_bytes(), bytes).as_bytes());
    judge(HOLDER.proof(bytes, HOLDER.claims.as_bytes()).as_bytes());
}

fn judge(proof: &[u8]) {
    let proofs = DpopProofs::new();
    let mine = &HOLDER.thumbprint;
    let at = Timestamp::from_unix_seconds;
    if let Err(refused) = proofs.prove(proof, TOKEN, &TARGET, mine, at(NOW)) {
        assert_eq!(refused.reason().status(), 401, "{refused}");
        return;
    }
    says(proof);
    let again = proofs.prove(proof, TOKEN, &TARGET, mine, at(NOW));
    assert_eq!(again.map_err(|refused| refused.reason()), Err(Reason::ProofReplayed));

    let fresh = |proof: &[u8], token: &[u8], target: &ProofTarget<'_>, key: &[u8; 32], now: u64| {
        DpopProofs::new().prove(proof, token, target, key, at(now))
    };
    let far = 2 * PROOF_WINDOW.as_secs() + 1;
    let refusals: [Result<(), ProofError>; 8] = [
        fresh(proof, b"another.good.token", &TARGET, mine, NOW),
        fresh(proof, TOKEN, &TARGET, &[0; 32], NOW),
        fresh(proof, TOKEN, &TARGET, mine, NOW + far),
        fresh(proof, TOKEN, &TARGET, mine, NOW - far),
        fresh(proof, TOKEN, &ProofTarget { method: "GET", ..TARGET }, mine, NOW),
        fresh(proof, TOKEN, &ProofTarget { scheme: "http", ..TARGET }, mine, NOW),
        fresh(proof, TOKEN, &ProofTarget { authority: "a.example.com", ..TARGET }, mine, NOW),
        fresh(proof, TOKEN, &ProofTarget { path: "/v1/order", ..TARGET }, mine, NOW),
    ];
    assert!(refusals.iter().all(Result::is_err), "{refusals:?}");
    for place in 0..proof.len() {
        for bit in 0..8 {
            let mut changed = proof.to_vec();
            changed.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1 << bit);
            let read = fresh(&changed, TOKEN, &TARGET, mine, NOW);
            assert!(read.is_err(), "bit {bit} of byte {place} does not matter");
        }
    }
}

fn says(proof: &[u8]) {
    assert!(proof.len() <= Parsed::LENGTH_MAX);
    let parts: Vec<&[u8]> = proof.split(|byte| *byte == b'.').collect();
    let [header, claims, signature] = *parts else { panic!("{} parts", parts.len()) };
    let signed = [header, b".", claims].concat();
    let decoded = |part| base64url(part).expect("canonical base64url");
    let (header, claims, signature) = (decoded(header), decoded(claims), decoded(signature));
    let key = UnparsedPublicKey::new(&ED25519, HOLDER.pair.public_key());
    assert!(key.verify(&signed, &signature).is_ok(), "signed by somebody else");

    let Reading::Json(header) = reading(&header) else { return unsure(&header) };
    let jwk = header.get("jwk").expect("the key");
    assert_eq!(jwk.get("x"), Some(&json!(in_base64url(HOLDER.pair.public_key().as_ref()))));
    assert!(jwk.get("d").is_none() && header.get("crit").is_none(), "{header}");

    let Reading::Json(claims) = reading(&claims) else { return unsure(&claims) };
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    assert_eq!(text("htm"), "POST");
    assert_eq!(text("ath"), in_base64url(digest(&SHA256, TOKEN).as_ref()));
    assert!((1..=ID_LENGTH_MAX).contains(&text("jti").len()), "{claims}");
    let target = text("htu").to_ascii_lowercase();
    assert!(target.starts_with("https://api.example.com"), "{target}");
    let now = f64::from(u32::try_from(NOW).expect("before the year 2106"));
    let made = claims.get("iat").and_then(Value::as_f64).expect("a time");
    assert!((made - now).abs() < PROOF_WINDOW.as_secs_f64() + 0.001, "{claims}");
}

impl Holder {
    fn new() -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&SEED).expect("a seed of 32 bytes");
        let x = in_base64url(pair.public_key().as_ref());
        let jwk = json!({"crv": "Ed25519", "kty": "OKP", "x": x});
        let thumbprint = digest(&SHA256, jwk.to_string().as_bytes());
        let thumbprint = thumbprint.as_ref().try_into().expect("32 bytes");
        let header = json!({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk}).to_string();
        let ath = in_base64url(digest(&SHA256, TOKEN).as_ref());
        let claims = json!({
            "jti": "p-1", "htm": "POST", "htu": "https://api.example.com/v1/orders",
            "iat": NOW, "ath": ath,
        });
        Self { pair, thumbprint, header, claims: claims.to_string() }
    }

    fn proof(&self, header: &[u8], claims: &[u8]) -> String {
        let signed = format!("{}.{}", in_base64url(header), in_base64url(claims));
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", in_base64url(signature.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_that_the_target_starts_from_is_good() {
        let proof = HOLDER.proof(HOLDER.header.as_bytes(), HOLDER.claims.as_bytes());
        let now = Timestamp::from_unix_seconds(NOW);
        let proven =
            DpopProofs::new().prove(proof.as_bytes(), TOKEN, &TARGET, &HOLDER.thumbprint, now);

        assert_eq!(proven, Ok(()));
    }
}
