//! What the parts of this module promise together, with keys made for each test.

mod attacks;
mod claims;
mod keys;
mod mutations;
mod wycheproof;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use enforcer_model::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use ring::{hmac, rsa};

use super::*;
use crate::TokenFacts;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_000_000);
const ISSUER: &str = "https://idp.example.com";
const SECRET: [u8; 32] = [7; 32];
const AUDIENCE: &str = "https://api.example.com";

/// What a good access token claims.
const CLAIMS: &str = r#""iss":"https://idp.example.com","aud":"https://api.example.com","sub":"alice","client_id":"app","iat":1794999990,"exp":1795000060,"jti":"t-1","scope":"orders:read orders:write""#;

/// A key of an issuer, with its private half.
struct Signer {
    pair: Pair,
    /// The public half as members of a JWK, without `kid`.
    jwk: String,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Secret(hmac::Key),
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::EdDsa => Self::ed25519(),
            Algorithm::Es256 => Self::ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
            Algorithm::Es384 => Self::ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
            Algorithm::Hs256 => Self::secret(&SECRET),
            Algorithm::Ps256 => Self::rsa(&RSA_PSS_SHA256, "2048"),
            Algorithm::Ps384 => Self::rsa(&RSA_PSS_SHA384, "2048"),
            Algorithm::Ps512 => Self::rsa(&RSA_PSS_SHA512, "2048"),
            Algorithm::Rs256 => Self::rsa(&RSA_PKCS1_SHA256, "2048"),
            Algorithm::Rs384 => Self::rsa(&RSA_PKCS1_SHA384, "2048"),
            Algorithm::Rs512 => Self::rsa(&RSA_PKCS1_SHA512, "2048"),
        }
    }

    fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm, curve: &str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let jwk = format!(r#""kty":"EC","crv":"{curve}","x":"{}","y":"{}""#, b64(x), b64(y));
        Self { pair: Pair::Ecdsa(pair), jwk }
    }

    fn ed25519() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let jwk = format!(r#""kty":"OKP","crv":"Ed25519","x":"{}""#, b64(pair.public_key()));
        Self { pair: Pair::Ed25519(pair), jwk }
    }

    /// `ring` makes no RSA keys, so `openssl` does.
    fn rsa(encoding: &'static dyn RsaEncoding, bits: &str) -> Self {
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-outform", "DER", "-pkeyopt"])
            .arg(format!("rsa_keygen_bits:{bits}"))
            .output()
            .unwrap();
        // Which of the two forms DER is depends on the version.
        let pair = RsaKeyPair::from_der(&made.stdout)
            .or_else(|_| RsaKeyPair::from_pkcs8(&made.stdout))
            .unwrap();
        let public = rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
        let jwk = format!(r#""kty":"RSA","n":"{}","e":"{}""#, b64(public.n), b64(public.e));
        Self { pair: Pair::Rsa(pair, encoding), jwk }
    }

    fn secret(secret: &[u8]) -> Self {
        let jwk = format!(r#""kty":"oct","k":"{}""#, b64(secret));
        Self { pair: Pair::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret)), jwk }
    }

    fn sign(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&random, signed).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(signed).as_ref().to_vec(),
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, signed, &mut signature).unwrap();
                signature
            }
            Pair::Secret(key) => hmac::sign(key, signed).as_ref().to_vec(),
        }
    }

    /// A token with these members of header and payload, signed.
    fn token(&self, header: &str, claims: &str) -> String {
        self.token_of(&format!("{{{header}}}"), format!("{{{claims}}}"))
    }

    fn token_of(&self, header: &str, payload: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", b64(header), b64(payload));
        let signature = self.sign(signed.as_bytes());
        format!("{signed}.{}", b64(signature))
    }

    /// The key set that has only this key, called `k1`.
    fn keys(&self) -> KeySet {
        if let Pair::Secret(_) = self.pair {
            return KeySet::of_secret(&SECRET).unwrap();
        }
        KeySet::parse(format!(r#"{{"keys":[{{"kid":"k1",{}}}]}}"#, self.jwk).as_bytes()).unwrap()
    }
}

/// The header of a good access token.
fn header(algorithm: Algorithm) -> String {
    format!(r#""typ":"at+jwt","alg":"{algorithm}","kid":"k1""#)
}

/// Good claims, with one of them replaced, added or (with an empty value) left out.
fn claims_with(name: &str, value: &str) -> String {
    let kept = CLAIMS.split(",\"").map(|claim| claim.trim_start_matches('"'));
    let mut claims: Vec<String> = kept
        .filter(|claim| !claim.starts_with(&format!("{name}\":")))
        .map(|claim| format!("\"{claim}"))
        .collect();
    if !value.is_empty() {
        claims.push(format!("\"{name}\":{value}"));
    }
    claims.join(",")
}

fn verify_as(token: &str, keys: &KeySet, kind: Kind) -> Result<TokenFacts, JwtError> {
    let name = Arc::from("corp");
    let audience = [Arc::from(AUDIENCE), Arc::from("https://other.example.com")];
    let expect = Expect {
        name: &name,
        issuer: ISSUER,
        audience: &audience,
        algorithms: Algorithm::ALL.into_iter().collect(),
        kind,
        leeway: Duration::from_secs(30),
    };
    let parsed = Parsed::parse(token.as_bytes())?;
    let key = keys.find(parsed.header())?;
    parsed.check(&expect, NOW)?.verify(key)
}

fn verify(token: &str, keys: &KeySet) -> Result<TokenFacts, JwtError> {
    verify_as(token, keys, Kind::AccessToken)
}
