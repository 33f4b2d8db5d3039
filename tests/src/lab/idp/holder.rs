//! Somebody with a key of its own, who proves with every request that it has it (RFC 9449).

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;

/// A caller that holds an ES256 key.
pub struct Holder {
    pair: EcdsaKeyPair,
    /// RFC 7638 wants the members in this order and without blanks, and so they are.
    jwk: String,
    random: SystemRandom,
}

impl Holder {
    /// With a fresh key.
    pub fn new() -> Result<Self> {
        let random = SystemRandom::new();
        let pair = fresh(&random)?;
        let jwk = jwk_of(&pair)?;
        Ok(Self { pair, jwk, random })
    }

    /// What a token that is bound to this key says in `cnf.jkt`.
    pub fn thumbprint(&self) -> [u8; 32] {
        sha256(self.jwk.as_bytes())
    }

    /// A proof for one request with `token`, made now.
    pub fn proof(&self, method: &str, url: &str, token: Option<&str>) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut id = [0; 16];
        self.random.fill(&mut id).ok().context("no random numbers")?;
        self.proof_of(method, url, token, now, &base64url(&id))
    }

    /// A proof with a time and an id of its own.
    pub fn proof_of(
        &self,
        method: &str,
        url: &str,
        token: Option<&str>,
        made: u64,
        id: &str,
    ) -> Result<String> {
        let header = format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{}}}"#, self.jwk);
        let ath = token.map(|token| base64url(&sha256(token.as_bytes())));
        let claims = match ath {
            None => json!({ "jti": id, "htm": method, "htu": url, "iat": made }),
            Some(ath) => json!({ "jti": id, "htm": method, "htu": url, "iat": made, "ath": ath }),
        };
        sign(&self.pair, &self.random, &header, &claims.to_string())
    }
}

/// A fresh key.
pub(crate) fn fresh(random: &SystemRandom) -> Result<EcdsaKeyPair> {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, random).ok().context("no random")?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), random);
    pair.ok().context("a key that was just made")
}

/// The public half.
pub(crate) fn jwk_of(pair: &EcdsaKeyPair) -> Result<String> {
    let point = pair.public_key().as_ref();
    let (x, y) = (point.get(1..33).context("no point")?, point.get(33..65).context("no point")?);
    let (x, y) = (base64url(x), base64url(y));
    Ok(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#))
}

/// A signed token of these two pieces of JSON.
pub(crate) fn sign(
    pair: &EcdsaKeyPair,
    random: &SystemRandom,
    header: &str,
    claims: &str,
) -> Result<String> {
    let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let signature = pair.sign(random, signed.as_bytes()).ok().context("signing")?;
    Ok(format!("{signed}.{}", base64url(signature.as_ref())))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    let digest = digest::digest(&digest::SHA256, bytes);
    hash.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 3);
    for group in bytes.chunks(3) {
        let word = group.iter().chain(&[0, 0]).take(3).fold(0_u32, |w, &b| w << 8 | u32::from(b));
        for place in 0..=group.len() {
            let index = word >> (18 - 6 * place) & 63;
            let letter = usize::try_from(index).ok().and_then(|index| ALPHABET.get(index));
            text.extend(letter.map(|&letter| char::from(letter)));
        }
    }
    text
}

impl std::fmt::Debug for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Holder(…)")
    }
}
