//! A token that is remembered, and one whose signature is verified; what was taken back.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use enforcer_authn::jwt::{Algorithm, Algorithms, KeySet, Kind};
use enforcer_authn::{
    Asked, Bindings, DpopProofs, Identity, IssuerPlan, KeySource, NewRevocation, Presented,
    ProofTarget, RevocationStore, Revocations, RoleValues, Roots, TokenTarget, Tokens, Unbound,
};
use enforcer_model::{Author, Clock, Expiry, Moment, SystemClock, Thumbprint};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
use serde_json::json;

use super::super::super::{Effort, Row, Samples, Target};
use super::{at_once, each, keys, rounds, versus};
use crate::lab::idp::{fresh, jwk_of, sign};

const TOKENS: usize = 1_000;
const FULL: usize = 200;
const CACHED_MOST: f64 = 600.0;
const FULL_MOST: f64 = 55_000.0;
const REVOKED: usize = 1_200;
const REVOKED_MOST: f64 = 50.0;
const URL: &str = "https://idp.example.com";
const AUDIENCE: &str = "https://api.example.com";

pub(super) const TARGET: ProofTarget<'static> = ProofTarget {
    method: "GET",
    scheme: "https",
    authority: "api.example.com",
    path: "/v1/orders",
};

/// An issuer that signs with ES256, and whom to believe.
struct Issuer {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    plan: Arc<IssuerPlan>,
}

pub(super) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let issuer = Issuer::new()?;
    let now = SystemClock.now();
    let texts = (0..TOKENS).map(|n| issuer.token(n, now)).collect::<Result<Vec<_>>>()?;
    let presented: Vec<Presented> =
        texts.iter().map(|text| Presented::bearer(text.as_bytes())).collect();
    let length = texts.iter().map(String::len).sum::<usize>() / TOKENS;

    let public = issuer.pair.public_key().as_ref();
    let alone = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
    let parts = texts.iter().map(|text| signed_parts(text)).collect::<Result<Vec<_>>>()?;
    let fresh = || {
        // Nothing is remembered in the beginning.
        let tokens = issuer.tokens(Revocations::default());
        each(FULL, |n| Ok(identify(&tokens, &presented[n], now).is_ok()))
    };
    let ring = || {
        each(FULL, |n| {
            let (signed, signature) = &parts[n];
            Ok(black_box(alone.verify(signed.as_bytes(), signature)).is_ok())
        })
    };
    let full = versus(
        format!("token check, ES256, first time ({length} bytes)"),
        "the signature by ring alone",
        effort,
        fresh,
        ring,
    )?;

    let tokens = issuer.tokens(Revocations::default());
    for token in &presented {
        identify(&tokens, token, now)?;
    }
    let cached = versus(
        format!("token check, remembered, {TOKENS} tokens"),
        "its SHA-256 by ring alone",
        effort,
        || each(TOKENS, |n| Ok(identify(&tokens, &presented[n], now).is_ok())),
        || each(TOKENS, |n| Ok(black_box(digest(&SHA256, texts[n].as_bytes())).as_ref()[0] == 0)),
    )?;
    Ok(vec![
        cached.target(Target::AtMost(CACHED_MOST)),
        full.target(Target::AtMost(FULL_MOST)),
        revoked(&issuer, &tokens, &presented, now, effort)?,
    ])
}

/// What every request asks: whether its caller was taken back, which none of these was.
fn revoked(
    issuer: &Issuer,
    tokens: &Tokens,
    presented: &[Presented],
    now: Moment,
    effort: Effort,
) -> Result<Row> {
    let folder = keys::folder()?;
    let mut store = RevocationStore::open(&folder.path().join("revocations.db"))?;
    for n in 0..REVOKED {
        let target = match n % 6 {
            0 => TokenTarget::Subject(format!("mallory-{n}").into()),
            1 => TokenTarget::Key(format!("old-{n}").into()),
            2 => TokenTarget::Client(format!("app-{n}-gone").into()),
            3 => TokenTarget::Certificate(Thumbprint(digest_of(&n.to_le_bytes()))),
            _ => TokenTarget::Token(format!("gone-{n}").into()),
        };
        let new = NewRevocation {
            target,
            issuer: None,
            until: Expiry::Never,
            author: Author::Agent,
            reason: "bench".to_owned(),
        };
        store.revoke(new, now.wall)?;
    }
    let index = store.index();
    let callers: Vec<Identity> =
        presented.iter().map(|one| identify(tokens, one, now)).collect::<Result<_>>()?;
    let one = &issuer.plan.name;
    let last = TokenTarget::Subject("user-7".into());
    let figures = (0..rounds(effort))
        .map(|_| each(20_000, |n| Ok(index.check(&callers[n % callers.len()], now.wall).is_ok())));
    let median = Samples::new(figures.collect::<Result<_>>()?)?.median()?;
    // What is asked is not only fast.
    let new = NewRevocation {
        target: last,
        issuer: Some(Arc::clone(one)),
        until: Expiry::Never,
        author: Author::Agent,
        reason: "bench".to_owned(),
    };
    store.revoke(new, now.wall)?;
    let hit = callers.iter().filter(|caller| index.check(caller, now.wall).is_err()).count();
    ensure!(hit == TOKENS / 100, "{hit} callers were taken back");
    Ok(Row::new(format!("revocation check of a token, {REVOKED} in force"), "ns", median)
        .target(Target::AtMost(REVOKED_MOST)))
}

fn identify(tokens: &Tokens, presented: &Presented, now: Moment) -> Result<Identity> {
    let asked = Asked { request: TARGET, certificate: None };
    at_once(tokens.identify(presented, &asked, now))?.map_err(|refused| anyhow!(refused.chain()))
}

/// What was signed, and the signature.
fn signed_parts(token: &str) -> Result<(&str, Vec<u8>)> {
    let (signed, signature) = token.rsplit_once('.').context("a token has dots")?;
    Ok((signed, decoded(signature)?))
}

/// From base64url.
fn decoded(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut word, mut bits) = (0_u32, 0);
    for letter in text.bytes() {
        let digit = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return Err(anyhow!("not base64url")),
        };
        word = word << 6 | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(word >> bits & 0xFF)?);
        }
    }
    Ok(bytes)
}

fn digest_of(bytes: &[u8]) -> [u8; 32] {
    let mut found = [0; 32];
    found.copy_from_slice(digest(&SHA256, bytes).as_ref());
    found
}

impl Issuer {
    fn new() -> Result<Self> {
        let random = SystemRandom::new();
        let pair = fresh(&random)?;
        let jwk = jwk_of(&pair)?;
        let members = jwk.trim_start_matches('{');
        let document = format!(r#"{{"keys":[{{"kid":"k1","use":"sig","alg":"ES256",{members}]}}"#);
        let plan = IssuerPlan {
            name: "corp".into(),
            url: URL.into(),
            audience: [AUDIENCE.into()].into(),
            algorithms: Algorithms::only(Algorithm::Es256),
            keys: KeySource::Pinned(Arc::new(KeySet::parse(document.as_bytes())?)),
            roles: RoleValues::Scopes,
            bindings: Bindings::Either,
            unbound: Unbound::Accepted,
            kind: Kind::AccessToken,
            leeway: Duration::from_secs(30),
            refresh: Duration::from_secs(300),
            timeout: Duration::from_secs(5),
            roots: Roots::System,
            introspection: None,
        };
        Ok(Self { pair, random, plan: Arc::new(plan) })
    }

    fn tokens(&self, revocations: Revocations) -> Tokens {
        Tokens::new(&[Arc::clone(&self.plan)], revocations, DpopProofs::new()).0
    }

    /// What an identity provider puts into an access token, and no more.
    fn token(&self, n: usize, now: Moment) -> Result<String> {
        let issued = now.wall.unix_seconds();
        let claims = json!({
            "iss": URL, "aud": AUDIENCE, "sub": format!("user-{}", n % 100),
            "client_id": format!("app-{}", n % 20), "jti": format!("t-{n:08}"),
            "iat": issued, "exp": issued + 3_600, "scope": "orders:read orders:write",
            "tenant": "acme",
        });
        let header = r#"{"alg":"ES256","typ":"at+jwt","kid":"k1"}"#;
        sign(&self.pair, &self.random, header, &claims.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ring_verifies_alone_is_what_a_token_carries() {
        let issuer = Issuer::new().unwrap();
        let token = issuer.token(1, SystemClock.now()).unwrap();
        let (signed, signature) = signed_parts(&token).unwrap();
        let public = issuer.pair.public_key().as_ref();

        let verified = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);

        assert!(verified.verify(signed.as_bytes(), &signature).is_ok());
        assert!(verified.verify(b"other", &signature).is_err());
        assert!(
            identify(
                &issuer.tokens(Revocations::default()),
                &Presented::bearer(token.as_bytes()),
                SystemClock.now()
            )
            .is_ok()
        );
    }
}
