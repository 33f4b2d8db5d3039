//! What people are told of a token.

use super::fake::{INTROSPECT, Reply};
use super::*;

const ISSUER: &str = "https://idp.example.com";

#[tokio::test]
async fn a_good_token_passes_every_check() {
    let signer = Signer::new("k1");
    let tokens = start([pinned(&signer)]);

    let found = tokens.inspect(signer.token(&claims(ISSUER)).as_bytes(), now()).await;

    assert_eq!(found.verdict, Outcome::Passed);
    assert_eq!(found.principal.unwrap().as_str(), "token:corp/alice");
    let names: Vec<_> = found.checks.iter().map(|check| check.what).collect();
    assert_eq!(
        names,
        [
            "form",
            "issuer",
            "key",
            "claims",
            "signature",
            "time",
            "audience",
            "revocation",
            "binding"
        ]
    );
    assert!(found.checks.iter().all(|check| check.outcome == Outcome::Passed));
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_and_not_only_the_first() {
    let signer = Signer::new("k1");
    let tokens = start([pinned(&signer)]);
    let wrong = json!({ "aud": "https://elsewhere", "exp": 1_700_000_000, "iat": 1_699_999_000 });

    let found = tokens.inspect(signer.token(&claims_with(ISSUER, &wrong)).as_bytes(), now()).await;

    assert_eq!(found.verdict, Outcome::Failed(Reason::TokenExpired));
    assert_eq!(outcome(&found, "signature"), Outcome::Passed);
    assert_eq!(outcome(&found, "time"), Outcome::Failed(Reason::TokenExpired));
    assert_eq!(outcome(&found, "audience"), Outcome::Failed(Reason::TokenWrongAudience));
    assert_eq!((found.principal, found.issuer.as_deref()), (None, Some("corp")));
}

#[tokio::test]
async fn a_forged_token_fails_at_its_signature_and_nothing_it_says_is_judged() {
    let (signer, forger) = (Signer::new("k1"), Signer::new("k1"));
    let tokens = start([pinned(&signer)]);
    let token = forger.token(&claims(ISSUER));

    let found = tokens.inspect(token.as_bytes(), now()).await;

    assert_eq!(found.verdict, Outcome::Failed(Reason::TokenSignature));
    assert_eq!(found.checks.last().unwrap().what, "signature");
    let signature = token.rsplit('.').next().unwrap();
    assert!(!format!("{found:?}").contains(signature));
}

#[tokio::test]
async fn a_bound_token_depends_on_who_brings_it() {
    let (signer, holder) = (Signer::new("k1"), Signer::new("h"));
    let tokens = start([pinned(&signer)]);
    let cnf = json!({ "cnf": { "jkt": holder.thumbprint() } });

    let found = tokens.inspect(signer.token(&claims_with(ISSUER, &cnf)).as_bytes(), now()).await;

    assert_eq!(found.verdict, Outcome::Depends);
    assert_eq!(outcome(&found, "binding"), Outcome::Depends);
    assert_eq!(found.principal.unwrap().as_str(), "token:corp/alice");
}

#[tokio::test]
async fn noise_strangers_and_opaque_tokens_are_told_apart() {
    let issuer = Fake::new(&[]);
    issuer.reply(INTROSPECT, Reply::Body(r#"{"active":false}"#.to_owned()));
    let signer = Signer::new("k1");
    let tokens = start([asking(&issuer.url())]);
    until(&tokens, |status| status.usable).await;

    let noise = tokens.inspect(b"a.b.c", now()).await;
    assert_eq!(outcome(&noise, "form"), Outcome::Failed(Reason::TokenMalformed));
    let stranger = tokens.inspect(signer.token(&claims(ISSUER)).as_bytes(), now()).await;
    assert_eq!(outcome(&stranger, "issuer"), Outcome::Failed(Reason::TokenIssuerUnknown));
    let opaque = tokens.inspect(b"opaque", now()).await;
    assert_eq!(outcome(&opaque, "introspection"), Outcome::Failed(Reason::TokenInactive));
    let long = tokens.inspect(&[b'a'; 9_000], now()).await;
    assert_eq!(long.verdict, Outcome::Failed(Reason::TokenMalformed));
    assert_eq!(issuer.asked(INTROSPECT), 1, "a long one is not asked about");
}

fn outcome(found: &Inspection, what: &str) -> Outcome {
    found.checks.iter().find(|check| check.what == what).unwrap().outcome
}
