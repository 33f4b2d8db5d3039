//! Keys come, go and fail to come.

use super::fake::{DISCOVERY, JWKS, Reply};
use super::*;

#[tokio::test]
async fn keys_are_found_by_discovery_and_their_tokens_are_accepted() {
    let signer = Signer::new("k1");
    let issuer = Fake::new(&[&signer]);
    let tokens = start([plan(&issuer.url())]);

    let alice = bearer(&tokens, &signer.token(&claims(&issuer.url())), now()).await.unwrap();

    assert_eq!(alice.principal().as_str(), "token:corp/alice");
    assert_eq!(
        alice.scopes().iter().map(|s| &**s).collect::<Vec<_>>(),
        ["orders:read", "orders:write"]
    );
    let status = until(&tokens, |status| status.last_good.is_some()).await;
    assert_eq!((status.keys, status.failure, status.usable), (1, None, true));
    assert_eq!((issuer.asked(DISCOVERY), issuer.asked(JWKS)), (1, 1));
}

#[tokio::test]
async fn a_new_key_under_a_new_name_is_accepted_at_once() {
    let (old, new) = (Signer::new("k1"), Signer::new("k2"));
    let issuer = Fake::new(&[&old]);
    let tokens = start([plan(&issuer.url())]);
    let before = old.token(&claims(&issuer.url()));
    bearer(&tokens, &before, now()).await.unwrap();

    issuer.serve_keys(&[&old, &new]);

    bearer(&tokens, &new.token(&claims(&issuer.url())), now()).await.unwrap();
    bearer(&tokens, &before, now()).await.unwrap();
    assert_eq!(issuer.asked(JWKS), 2);
}

#[tokio::test]
async fn a_new_key_under_an_old_name_is_accepted_at_once_and_the_old_one_no_more() {
    let (old, new) = (Signer::new("k1"), Signer::new("k1"));
    let issuer = Fake::new(&[&old]);
    let tokens = start([plan(&issuer.url())]);
    let before = old.token(&claims(&issuer.url()));
    bearer(&tokens, &before, now()).await.unwrap();

    issuer.serve_keys(&[&new]);

    bearer(&tokens, &new.token(&claims(&issuer.url())), now()).await.unwrap();
    let refused = bearer(&tokens, &before, now()).await.unwrap_err();
    assert_eq!(refused, Reason::TokenSignature, "not even from memory");
}

#[tokio::test]
async fn a_key_that_goes_takes_its_tokens_with_it() {
    let (stolen, new) = (Signer::new("k1"), Signer::new("k2"));
    let issuer = Fake::new(&[&stolen]);
    let tokens = start([plan(&issuer.url())]);
    let token = stolen.token(&claims(&issuer.url()));
    bearer(&tokens, &token, now()).await.unwrap();

    issuer.serve_keys(&[&new]);
    bearer(&tokens, &new.token(&claims(&issuer.url())), now()).await.unwrap();

    assert_eq!(bearer(&tokens, &token, now()).await.unwrap_err(), Reason::TokenKeyUnknown);
}

#[tokio::test]
async fn a_thousand_unknown_keys_are_fetched_for_once_in_ten_seconds() {
    let (known, unknown) = (Signer::new("k1"), Signer::new("k2"));
    let issuer = Fake::new(&[&known]);
    let tokens = start([plan(&issuer.url())]);
    bearer(&tokens, &known.token(&claims(&issuer.url())), now()).await.unwrap();
    let at = now();

    let ask = |number: usize| {
        let id = json!({ "jti": number.to_string() });
        let token = unknown.token(&claims_with(&issuer.url(), &id));
        let tokens = tokens.clone();
        tokio::spawn(async move { bearer(&tokens, &token, at).await })
    };
    for asked in (0..1_000).map(ask).collect::<Vec<_>>() {
        let refused = asked.await.unwrap().unwrap_err();
        assert_eq!(refused, Reason::TokenKeyUnknown);
    }
    assert_eq!(issuer.asked(JWKS), 2, "the first fetch, and one for all");

    let token = unknown.token(&claims(&issuer.url()));
    assert_eq!(bearer(&tokens, &token, now()).await.unwrap_err(), Reason::TokenKeyUnknown);
    assert_eq!(issuer.asked(JWKS), 2, "not again within ten seconds");
    assert_eq!(bearer(&tokens, &token, after(11)).await.unwrap_err(), Reason::TokenKeyUnknown);
    assert_eq!(issuer.asked(JWKS), 3);
}

#[tokio::test]
async fn a_forged_token_that_is_older_than_the_keys_has_nothing_fetched() {
    let (signer, forger) = (Signer::new("k1"), Signer::new("k1"));
    let issuer = Fake::new(&[&signer]);
    let tokens = start([plan(&issuer.url())]);
    bearer(&tokens, &signer.token(&claims(&issuer.url())), now()).await.unwrap();
    let old = now().wall.unix_seconds() - 60;

    let token = forger.token(&claims_with(&issuer.url(), &json!({ "iat": old })));

    assert_eq!(bearer(&tokens, &token, now()).await.unwrap_err(), Reason::TokenSignature);
    assert_eq!(issuer.asked(JWKS), 1);
}

#[tokio::test]
async fn an_issuer_that_was_never_reached_makes_its_tokens_unavailable_until_it_is() {
    let signer = Signer::new("k1");
    let issuer = Fake::new(&[&signer]);
    issuer.reply(DISCOVERY, Reply::Close);
    let tokens = start([plan(&issuer.url())]);
    let token = signer.token(&claims(&issuer.url()));

    assert_eq!(bearer(&tokens, &token, now()).await.unwrap_err(), Reason::IssuerUnavailable);
    let status = until(&tokens, |status| status.failure.is_some()).await;
    assert!(!status.usable && status.keys == 0);

    let url = issuer.url();
    let document = format!(r#"{{"issuer":"{url}","jwks_uri":"{url}{JWKS}"}}"#);
    issuer.reply(DISCOVERY, Reply::Body(document));
    until(&tokens, |status| status.usable).await;
    bearer(&tokens, &token, now()).await.unwrap();
}

#[tokio::test]
async fn whatever_goes_wrong_the_last_good_keys_stay_in_force() {
    let signer = Signer::new("k1");
    let broken = [
        Reply::Close,
        Reply::Endless,
        Reply::Raw(b"\x16\x03\x01 this is not HTTP\r\n\r\n"),
        Reply::Redirect("http://127.0.0.1:1/jwks".to_owned()),
        Reply::Status(500),
        Reply::Body("<html>busy</html>".to_owned()),
        Reply::Body(r#"{"keys":[]}"#.to_owned()),
        Reply::Body(r#"{"keys":[{"kty":"OKP"}]}"#.to_owned()),
        Reply::Body(r#"{"keys":{},"keys":[]}"#.to_owned()),
        Reply::Late(Duration::from_secs(30), "{}".to_owned()),
    ];
    for (number, reply) in broken.into_iter().enumerate() {
        let issuer = Fake::new(&[&signer]);
        let short = IssuerPlan {
            refresh: Duration::from_millis(50),
            timeout: Duration::from_millis(500),
            ..plan(&issuer.url())
        };
        let tokens = start([short]);
        until(&tokens, |status| status.keys == 1).await;

        issuer.reply(JWKS, reply);

        let status = until(&tokens, |status| status.failure.is_some()).await;
        assert!(status.keys == 1 && status.usable, "{number}: {status:?}");
        let token = signer.token(&claims(&issuer.url()));
        bearer(&tokens, &token, now()).await.unwrap_or_else(|why| panic!("{number}: {why}"));
    }
}

#[tokio::test]
async fn a_document_of_another_issuer_changes_nothing() {
    let (signer, other) = (Signer::new("k1"), Signer::new("k1"));
    let issuer = Fake::new(&[&signer]);
    let short = IssuerPlan { refresh: Duration::from_millis(20), ..plan(&issuer.url()) };
    let tokens = start([short]);
    until(&tokens, |status| status.keys == 1).await;

    let evil = Fake::new(&[&other]);
    issuer.reply(
        DISCOVERY,
        Reply::Body(format!(
            r#"{{"issuer":"{}/","jwks_uri":"{}{JWKS}"}}"#,
            issuer.url(),
            evil.url()
        )),
    );

    let status = until(&tokens, |status| status.failure.is_some()).await;
    assert!(status.failure.unwrap().1.contains("byte for byte"));
    assert_eq!(evil.asked(JWKS), 0);
    bearer(&tokens, &signer.token(&claims(&issuer.url())), now()).await.unwrap();
}

#[tokio::test]
async fn a_slow_issuer_keeps_nobody_waiting_for_longer_than_the_policy_says() {
    let (known, unknown) = (Signer::new("k1"), Signer::new("k2"));
    let issuer = Fake::new(&[&known]);
    let quick = IssuerPlan { timeout: Duration::from_millis(300), ..plan(&issuer.url()) };
    let tokens = start([quick]);
    until(&tokens, |status| status.keys == 1).await;
    issuer.reply(JWKS, Reply::Late(Duration::from_secs(30), "{}".to_owned()));

    let begun = now();
    let token = unknown.token(&claims(&issuer.url()));
    assert_eq!(bearer(&tokens, &token, now()).await.unwrap_err(), Reason::TokenKeyUnknown);
    let took = now().monotonic - begun.monotonic;

    assert!(took < Duration::from_secs(3), "{took:?}");
    bearer(&tokens, &known.token(&claims(&issuer.url())), now()).await.unwrap();
}

#[tokio::test]
async fn one_of_ten_thousand_keys_is_found() {
    let signer = Signer::new("the one");
    let issuer = Fake::new(&[&signer]);
    let keys: Vec<_> = (0..10_000)
        .map(|number| {
            let jwk = Signer::new("k").jwk();
            jwk.replace(r#""kid":"k""#, &format!(r#""kid":"k{number}""#))
        })
        .chain([signer.jwk()])
        .collect();
    issuer.reply(JWKS, Reply::Body(format!(r#"{{"keys":[{}]}}"#, keys.join(","))));
    let patient = IssuerPlan { timeout: SOON, ..plan(&issuer.url()) };
    let tokens = start([patient]);

    bearer(&tokens, &signer.token(&claims(&issuer.url())), now()).await.unwrap();

    assert_eq!(tokens.status().remove(0).keys, 10_001);
}

#[tokio::test]
async fn another_policy_keeps_the_keys_of_issuers_that_lead_to_the_same_place() {
    let signer = Signer::new("k1");
    let issuer = Fake::new(&[&signer]);
    let first = plan(&issuer.url());
    let tokens = start([first.clone()]);
    let token = signer.token(&claims(&issuer.url()));
    bearer(&tokens, &token, now()).await.unwrap();
    until(&tokens, |status| status.last_good.is_some()).await;
    issuer.reply(DISCOVERY, Reply::Close);

    let elsewhere = IssuerPlan { audience: ["https://other".into()].into(), ..first.clone() };
    tokens.replace(&[Arc::new(elsewhere)]);
    assert_eq!(bearer(&tokens, &token, now()).await.unwrap_err(), Reason::TokenWrongAudience);
    let slower = IssuerPlan { refresh: Duration::from_secs(600), ..first.clone() };
    tokens.replace(&[Arc::new(slower)]);
    bearer(&tokens, &token, now()).await.unwrap();
    tokens.replace(&[]);
    assert_eq!(bearer(&tokens, &token, now()).await.unwrap_err(), Reason::TokenIssuerUnknown);
    tokens.replace(&[Arc::new(first)]);
    let refused = bearer(&tokens, &token, now()).await.unwrap_err();
    assert_eq!(refused, Reason::IssuerUnavailable, "an issuer that was gone begins anew");
}

#[tokio::test]
async fn a_verified_token_is_remembered_until_it_ends_and_no_longer() {
    let signer = Signer::new("k1");
    let tokens = start([pinned(&signer)]);
    let token = signer.token(&claims("https://idp.example.com"));
    let facts = |identity: &Identity| match identity.proof() {
        Proof::Token(facts) => Arc::clone(facts),
        other @ (Proof::Certificate | Proof::Key(_)) => panic!("{other:?}"),
    };

    let first = bearer(&tokens, &token, now()).await.unwrap();
    let second = bearer(&tokens, &token, after(50)).await.unwrap();

    assert!(Arc::ptr_eq(&facts(&first), &facts(&second)), "the same facts, not verified again");
    assert_eq!(bearer(&tokens, &token, after(66)).await.unwrap_err(), Reason::TokenExpired);
    assert_eq!(
        tokens.end_of("t-1", Some("corp")),
        Some(facts(&first).expires.saturating_add(Duration::from_secs(5)))
    );
    assert_eq!(tokens.end_of("t-1", Some("other")), None);
}
