//! What tokens are worth, with a real issuer on a loopback port that behaves as each test says.

mod asking;
mod binding;
mod fake;
mod inspecting;
mod rotation;

use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Clock, Moment, Reason, SystemClock, Thumbprint, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::issuers::{ClientSecret, Introspection, IssuerPlan, KeySource, RoleValues, Roots};
use crate::jwt::{Algorithm, Algorithms, KeySet, Kind};
use fake::{Fake, Signer};

pub(super) const AUDIENCE: &str = "https://api.example.com";

/// Longest wait for what must happen soon.
const SOON: Duration = Duration::from_secs(10);

fn now() -> Moment {
    SystemClock.now()
}

/// `now` and so long after.
fn after(seconds: u64) -> Moment {
    let Moment { monotonic, wall } = now();
    let later = Duration::from_secs(seconds);
    Moment { monotonic: monotonic + later, wall: wall.saturating_add(later) }
}

fn plan(url: &str) -> IssuerPlan {
    IssuerPlan {
        name: "corp".into(),
        url: url.into(),
        audience: [AUDIENCE.into()].into(),
        algorithms: Algorithms::only(Algorithm::EdDsa),
        keys: KeySource::Discovery,
        roles: RoleValues::Scopes,
        bindings: Bindings::Either,
        unbound: Unbound::Accepted,
        kind: Kind::AccessToken,
        leeway: Duration::from_secs(5),
        refresh: Duration::from_secs(300),
        timeout: Duration::from_secs(2),
        roots: Roots::System,
        introspection: None,
    }
}

/// The same, asked about opaque tokens.
fn asking(url: &str) -> IssuerPlan {
    let introspection = Introspection {
        endpoint: None,
        client: "the agent".into(),
        secret: ClientSecret::new(zeroize::Zeroizing::new("p&ss:word".to_owned())),
        cache: Duration::from_secs(30),
    };
    IssuerPlan { introspection: Some(introspection), ..plan(url) }
}

/// With a set of keys that is never fetched.
fn pinned(signer: &Signer) -> IssuerPlan {
    let keys = KeySet::parse(format!(r#"{{"keys":[{}]}}"#, signer.jwk()).as_bytes()).unwrap();
    IssuerPlan { keys: KeySource::Pinned(Arc::new(keys)), ..plan("https://idp.example.com") }
}

/// Tokens of `plans`, with their background.
fn start(plans: impl IntoIterator<Item = IssuerPlan>) -> Tokens {
    start_with(plans, Revocations::default())
}

fn start_with(plans: impl IntoIterator<Item = IssuerPlan>, revoked: Revocations) -> Tokens {
    let plans: Vec<_> = plans.into_iter().map(Arc::new).collect();
    let (tokens, issuers) = Tokens::new(&plans, revoked, DpopProofs::new());
    tokio::spawn(issuers.run(Arc::new(SystemClock), std::future::pending()));
    tokens
}

/// Waits until the first issuer is as `wanted`.
async fn until(tokens: &Tokens, wanted: impl Fn(&IssuerStatus) -> bool) -> IssuerStatus {
    let waiting = async {
        loop {
            let status = tokens.status().remove(0);
            if wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.expect("it comes to be soon")
}

/// What a good token of `issuer` claims.
fn claims(issuer: &str) -> Value {
    let now = now().wall.unix_seconds();
    json!({
        "iss": issuer, "aud": AUDIENCE, "sub": "alice", "client_id": "app", "jti": "t-1",
        "iat": now, "exp": now + 60, "scope": "orders:read orders:write",
    })
}

/// The same with other values, or without those that are `null`.
fn claims_with(issuer: &str, other: &Value) -> Value {
    let mut claims = claims(issuer);
    for (name, value) in other.as_object().unwrap() {
        let claims = claims.as_object_mut().unwrap();
        if value.is_null() {
            drop(claims.remove(name));
        } else {
            drop(claims.insert(name.clone(), value.clone()));
        }
    }
    claims
}

const REQUEST: ProofTarget<'static> = ProofTarget {
    method: "GET",
    scheme: "https",
    authority: "api.example.com",
    path: "/v1/orders",
};

async fn bearer(tokens: &Tokens, token: &str, now: Moment) -> Result<Identity, Reason> {
    let asked = Asked { request: REQUEST, certificate: None };
    let presented = Presented::bearer(token.as_bytes());
    tokens.identify(&presented, &asked, now).await.map_err(|refused| refused.reason)
}

fn certificate(byte: u8) -> Arc<Certificate> {
    Arc::new(Certificate {
        thumbprint: Thumbprint([byte; 32]),
        spiffe: None,
        names: Box::default(),
    })
}

fn seconds(time: u64) -> Timestamp {
    Timestamp::from_unix_seconds(time)
}
