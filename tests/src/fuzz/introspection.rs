//! What an issuer answers: about one token, and about itself.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use enforcer_authn::jwt::{Algorithm, KeySet, Kind};
use enforcer_authn::{
    Bindings, Discovery, Endpoint, IssuerPlan, KeySource, RoleValues, Roots, TokenFacts, Unbound,
    read_introspection,
};
use enforcer_model::Timestamp;
use serde_json::{Value, json};

use super::json::{Reading, reading};
use super::token::{AUDIENCE, ISSUER, LEEWAY, NOW, has_our_audience, holds_now, unsure};

/// An issuer on this very machine may be asked without TLS.
const LOCAL: &str = "http://127.0.0.1:9";

/// An answer about a token that says nothing of its end is good for so long.
const UNENDING_SECONDS: u64 = 30;

static CORP: LazyLock<IssuerPlan> = LazyLock::new(|| IssuerPlan {
    name: "corp".into(),
    url: ISSUER.into(),
    audience: [Arc::from(AUDIENCE)].into(),
    algorithms: [Algorithm::Es256].into_iter().collect(),
    keys: KeySource::Pinned(Arc::new(KeySet::of_secret(&[7; 32]).expect("a secret"))),
    roles: RoleValues::Scopes,
    bindings: Bindings::Either,
    unbound: Unbound::Accepted,
    kind: Kind::AccessToken,
    leeway: Duration::from_secs(LEEWAY),
    refresh: Duration::from_secs(300),
    timeout: Duration::from_secs(5),
    roots: Roots::System,
    introspection: None,
});

/// The body of an answer.
///
/// As one about a token, it lets somebody in only if it says in so many words, and once, that the
/// token is active, and if what else it says fits: the issuer, our audience, the time, the kind. The
/// same answer lets nobody in once it says anything else than `true`, or means another audience or
/// issuer. As one about the issuer, it is the one of just this issuer, and leads away neither from
/// it nor from TLS.
pub fn introspection(bytes: &[u8]) {
    match ask(bytes) {
        Ok(facts) => {
            let Reading::Json(answer) = reading(bytes) else { return unsure(bytes) };
            vouches(&answer, &facts);
            no_other(&answer);
        }
        Err(status) => assert!(matches!(status, 401 | 503), "{status}"),
    }
    for url in [ISSUER, LOCAL] {
        if let Ok(discovery) = Discovery::read(bytes, url) {
            discovered(&discovery, bytes, url);
        }
    }
}

fn ask(body: &[u8]) -> Result<TokenFacts, u16> {
    let answered = read_introspection(body, &CORP, Timestamp::from_unix_seconds(NOW));
    answered.map_err(|refused| refused.reason().status())
}

fn vouches(answer: &Value, facts: &TokenFacts) {
    assert_eq!(answer.get("active"), Some(&Value::Bool(true)));
    assert!(answer.get("iss").is_none_or(|issuer| issuer == ISSUER), "{answer}");
    assert!(has_our_audience(answer), "{answer}");
    holds_now(answer);
    let text = |name: &str| answer.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
    let subject = text("sub").or_else(|| text("client_id")).or_else(|| text("username"));
    assert_eq!(subject, Some(&*facts.subject));
    assert!(*facts.issuer == *"corp" && facts.key.is_none());
    if answer.get("exp").is_none() {
        assert_eq!(facts.expires, Timestamp::from_unix_seconds(NOW + UNENDING_SECONDS));
    }
    let bound = answer.get("cnf").and_then(|cnf| cnf.get("jkt")).is_some();
    for kind in ["token_type", "typ"].into_iter().filter_map(|name| answer.get(name)) {
        let kind = kind.as_str().map(str::to_ascii_lowercase);
        let known = match kind.as_deref() {
            Some("bearer" | "at+jwt") => true,
            Some("dpop") => bound,
            _ => false,
        };
        assert!(known, "{answer} is about no access token");
    }
}

fn no_other(answer: &Value) {
    let with = |name: &str, value: Value| {
        let mut other = answer.as_object().expect("an object").clone();
        other.insert(name.to_owned(), value);
        ask(Value::Object(other).to_string().as_bytes())
    };
    assert!(with("active", true.into()).is_ok(), "written down again, it is another answer");
    for active in [json!(false), json!("true"), json!(1), json!([true]), Value::Null] {
        assert!(with("active", active).is_err());
    }
    for audience in [json!("https://other.example.com"), json!([]), json!({}), Value::Null] {
        assert!(with("aud", audience).is_err());
    }
    for issuer in ["https://idp.example.com/", "https://IDP.example.com", ""] {
        assert!(with("iss", issuer.into()).is_err());
    }
    assert!(with("exp", (NOW - LEEWAY).into()).is_err(), "its time is over");
    assert!(with("token_type", "refresh_token".into()).is_err());
}

fn discovered(discovery: &Discovery, bytes: &[u8], url: &str) {
    let Reading::Json(document) = reading(bytes) else { return unsure(bytes) };
    assert_eq!(document.get("issuer"), Some(&json!(url)), "it speaks for another");
    let named =
        [(discovery.jwks(), "jwks_uri"), (discovery.introspection(), "introspection_endpoint")];
    for (endpoint, name) in named {
        let Ok(endpoint) = endpoint else { continue };
        let text = endpoint.as_str();
        assert_eq!(document.get(name), Some(&json!(text)));
        assert!(text.len() <= Endpoint::LENGTH_MAX && text.bytes().all(|b| b.is_ascii_graphic()));
        let (scheme, behind) = text.split_once("://").expect("a URL");
        let authority = behind.split(['/', '?']).next().unwrap_or_default();
        assert!(!authority.is_empty() && !authority.contains('@') && !text.contains('#'));
        let here = |host| authority == host || authority.starts_with(&format!("{host}:"));
        let local = authority.starts_with("127.") || here("[::1]") || {
            authority.to_ascii_lowercase().starts_with("localhost")
        };
        let plain = scheme == "http" && url == LOCAL && local;
        assert!(scheme == "https" || plain, "{text} leads away from TLS");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_that_the_target_starts_from_lets_its_subject_in() {
        let answer = json!({"active": true, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 60});

        let facts = ask(answer.to_string().as_bytes());

        assert_eq!(facts.map(|facts| facts.subject), Ok("alice".into()));
    }
}
