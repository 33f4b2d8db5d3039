//! Opaque tokens: their issuer is asked, once, and believed only so far.

use super::fake::{INTROSPECT, Reply};
use super::*;
use crate::issuers::{Unintrospected, read_introspection};

#[tokio::test]
async fn an_issuer_is_asked_as_its_rfcs_say_and_its_word_is_taken() {
    let issuer = Fake::new(&[]);
    issuer.reply(INTROSPECT, Reply::Body(active(&issuer.url(), &json!({}))));
    let tokens = ready(&issuer).await;

    let alice = bearer(&tokens, "opaque+/=", now()).await.unwrap();

    assert_eq!(alice.principal().as_str(), "token:corp/alice");
    let asked = issuer.seen(INTROSPECT).remove(0);
    assert_eq!(asked.body, "token_type_hint=access_token&token=opaque%2B%2F%3D");
    // `the+agent:p%26ss%3Aword`
    assert!(asked.head.contains("authorization: Basic dGhlK2FnZW50OnAlMjZzcyUzQXdvcmQ=\r\n"));
    assert!(asked.head.contains("content-type: application/x-www-form-urlencoded\r\n"));
}

#[tokio::test]
async fn many_who_bring_one_token_wait_for_one_answer() {
    let issuer = Fake::new(&[]);
    let answer = active(&issuer.url(), &json!({}));
    issuer.reply(INTROSPECT, Reply::Late(Duration::from_millis(200), answer));
    let tokens = ready(&issuer).await;

    let ask = |_| {
        let tokens = tokens.clone();
        tokio::spawn(async move { bearer(&tokens, "opaque", now()).await })
    };
    for asked in (0..500).map(ask).collect::<Vec<_>>() {
        asked.await.unwrap().unwrap();
    }

    assert_eq!(issuer.asked(INTROSPECT), 1);
}

#[tokio::test]
async fn an_answer_outlives_whoever_asked_first() {
    let issuer = Fake::new(&[]);
    let answer = active(&issuer.url(), &json!({}));
    issuer.reply(INTROSPECT, Reply::Late(Duration::from_millis(200), answer));
    let tokens = ready(&issuer).await;
    let gone = tokio::time::timeout(Duration::from_millis(50), bearer(&tokens, "opaque", now()));
    gone.await.unwrap_err();

    bearer(&tokens, "opaque", now()).await.unwrap();

    assert_eq!(issuer.asked(INTROSPECT), 1);
}

#[tokio::test]
async fn an_answer_holds_for_half_a_minute_or_until_the_token_ends() {
    let issuer = Fake::new(&[]);
    issuer.reply(INTROSPECT, Reply::Body(active(&issuer.url(), &json!({}))));
    let tokens = ready(&issuer).await;

    bearer(&tokens, "long", now()).await.unwrap();
    bearer(&tokens, "long", after(25)).await.unwrap();
    assert_eq!(issuer.asked(INTROSPECT), 1);
    bearer(&tokens, "long", after(31)).await.unwrap();
    assert_eq!(issuer.asked(INTROSPECT), 2);

    let end = now().wall.unix_seconds() + 10;
    issuer.reply(INTROSPECT, Reply::Body(active(&issuer.url(), &json!({ "exp": end }))));
    bearer(&tokens, "short", now()).await.unwrap();
    bearer(&tokens, "short", after(5)).await.unwrap();
    assert_eq!(issuer.asked(INTROSPECT), 3);
    issuer.reply(INTROSPECT, Reply::Body(r#"{"active":false}"#.to_owned()));
    assert_eq!(bearer(&tokens, "short", after(11)).await.unwrap_err(), Reason::TokenInactive);
}

#[tokio::test]
async fn a_token_that_is_not_active_is_not_asked_about_again_for_five_seconds() {
    let issuer = Fake::new(&[]);
    issuer.reply(INTROSPECT, Reply::Body(r#"{"active":false}"#.to_owned()));
    let tokens = ready(&issuer).await;

    for _ in 0..10 {
        assert_eq!(bearer(&tokens, "opaque", now()).await.unwrap_err(), Reason::TokenInactive);
    }
    assert_eq!(issuer.asked(INTROSPECT), 1);
    issuer.reply(INTROSPECT, Reply::Body(active(&issuer.url(), &json!({}))));
    bearer(&tokens, "opaque", after(6)).await.unwrap();
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_lets_nobody_in_and_is_asked_again() {
    let issuer = Fake::new(&[]);
    let tokens = ready(&issuer).await;
    let broken = [
        Reply::Close,
        Reply::Endless,
        Reply::Raw(b"nonsense"),
        Reply::Redirect(format!("{}/else", issuer.url())),
        Reply::Status(401),
        Reply::Status(503),
        Reply::Body("{}".to_owned()),
        Reply::Body(r#"{"active":true"#.to_owned()),
        Reply::Body(r#"{"active":false,"active":true}"#.to_owned()),
    ];
    for (number, reply) in broken.into_iter().enumerate() {
        issuer.reply(INTROSPECT, reply);

        let refused = bearer(&tokens, "opaque", now()).await.unwrap_err();

        assert_eq!(refused, Reason::IssuerUnavailable, "{number}");
        assert_eq!(issuer.asked(INTROSPECT), number + 1, "{number}");
    }
    assert_eq!(issuer.asked("/else"), 0);
}

#[tokio::test]
async fn of_several_issuers_the_first_that_vouches_counts_and_none_may_be_left_out() {
    let (one, two) = (Fake::new(&[]), Fake::new(&[]));
    one.reply(INTROSPECT, Reply::Body(r#"{"active":false}"#.to_owned()));
    two.reply(INTROSPECT, Reply::Body(active(&two.url(), &json!({}))));
    let second = IssuerPlan { name: "partner".into(), ..asking(&two.url()) };
    let tokens = start([asking(&one.url()), second]);
    while !tokens.status().iter().all(|status| status.usable) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    let found = bearer(&tokens, "opaque", now()).await.unwrap();
    assert_eq!(found.principal().as_str(), "token:partner/alice");

    one.reply(INTROSPECT, Reply::Status(500));
    two.reply(INTROSPECT, Reply::Body(r#"{"active":false}"#.to_owned()));
    let refused = bearer(&tokens, "another", now()).await.unwrap_err();
    assert_eq!(refused, Reason::IssuerUnavailable, "the first may have vouched for it");
}

#[tokio::test]
async fn an_issuer_without_keys_is_asked_about_signed_tokens_too() {
    let signer = Signer::new("k1");
    let issuer = Fake::new(&[]);
    issuer.reply(INTROSPECT, Reply::Body(active(&issuer.url(), &json!({}))));
    let tokens = start([IssuerPlan { keys: KeySource::None, ..asking(&issuer.url()) }]);
    until(&tokens, |status| status.usable).await;

    let token = signer.token(&claims(&issuer.url()));
    bearer(&tokens, &token, now()).await.unwrap();

    assert_eq!(issuer.asked(INTROSPECT), 1);
    let foreign = signer.token(&claims("https://elsewhere.example.com"));
    assert_eq!(bearer(&tokens, &foreign, now()).await.unwrap_err(), Reason::TokenIssuerUnknown);
}

#[tokio::test]
async fn where_nobody_is_asked_a_token_that_says_nothing_is_malformed() {
    let tokens = start([pinned(&Signer::new("k1"))]);

    for token in ["opaque", "a.b", "a.b.c.d", "a.b.c"] {
        assert_eq!(bearer(&tokens, token, now()).await.unwrap_err(), Reason::TokenMalformed);
    }
}

#[tokio::test]
async fn without_the_background_nobody_waits_for_ever() {
    let plan = IssuerPlan { timeout: Duration::from_millis(50), ..asking("http://127.0.0.1:1") };
    let (tokens, issuers) =
        Tokens::new(&[Arc::new(plan)], Revocations::default(), DpopProofs::new());
    assert_eq!(bearer(&tokens, "opaque", now()).await.unwrap_err(), Reason::IssuerUnavailable);
    drop(issuers);
    assert_eq!(bearer(&tokens, "other", now()).await.unwrap_err(), Reason::IssuerUnavailable);
}

#[test]
fn only_a_literal_true_and_a_fitting_rest_let_anybody_in() {
    let url = "https://idp.example.com";
    let plan = asking(url);
    let at = seconds(1_795_000_000);
    let read = |other: Value| {
        let mut answer = json!({
            "active": true, "iss": url, "aud": AUDIENCE, "sub": "alice",
            "exp": 1_795_000_060, "iat": 1_795_000_000, "token_type": "Bearer",
        });
        for (name, value) in other.as_object().unwrap() {
            answer[name] = value.clone();
        }
        read_introspection(answer.to_string().as_bytes(), &plan, at)
            .map_err(|refused: Unintrospected| refused.reason())
    };

    assert_eq!(&*read(json!({})).unwrap().subject, "alice");
    for (other, reason) in [
        (json!({ "active": "true" }), Reason::TokenInactive),
        (json!({ "active": 1 }), Reason::TokenInactive),
        (json!({ "active": null }), Reason::TokenInactive),
        (json!({ "active": [true] }), Reason::TokenInactive),
        (json!({ "iss": "https://idp.example.com/" }), Reason::TokenIssuerUnknown),
        (json!({ "aud": "https://elsewhere" }), Reason::TokenWrongAudience),
        (json!({ "aud": [] }), Reason::IssuerUnavailable),
        (json!({ "exp": 1_794_999_990 }), Reason::TokenExpired),
        (json!({ "nbf": 1_795_000_030 }), Reason::TokenNotYetValid),
        (json!({ "iat": 1_795_000_030 }), Reason::TokenNotYetValid),
        (json!({ "token_type": "refresh_token" }), Reason::TokenMalformed),
        (json!({ "token_type": "N_A" }), Reason::TokenMalformed),
        (json!({ "token_type": 7 }), Reason::TokenMalformed),
        (json!({ "token_type": "DPoP" }), Reason::TokenMalformed),
        (json!({ "typ": "Refresh" }), Reason::TokenMalformed),
        (json!({ "typ": "ID" }), Reason::TokenMalformed),
    ] {
        assert_eq!(read(other.clone()).unwrap_err(), reason, "{other}");
    }
    let without = |name: &str| {
        let mut answer = json!({ "active": true, "aud": AUDIENCE, "sub": "alice" });
        drop(answer.as_object_mut().unwrap().remove(name));
        read_introspection(answer.to_string().as_bytes(), &plan, at).map_err(|e| e.reason())
    };
    assert!(without("nothing").is_ok(), "issuer and end may be left out");
    assert_eq!(without("aud").unwrap_err(), Reason::TokenMalformed);
    assert_eq!(without("sub").unwrap_err(), Reason::TokenMalformed);
    assert_eq!(without("active").unwrap_err(), Reason::IssuerUnavailable);
}

async fn ready(issuer: &Fake) -> Tokens {
    let tokens = start([asking(&issuer.url())]);
    until(&tokens, |status| status.usable).await;
    tokens
}

fn active(issuer: &str, other: &Value) -> String {
    let now = now().wall.unix_seconds();
    let more = json!({ "active": true, "token_type": "Bearer", "exp": now + 600 });
    let mut answer = claims_with(issuer, &more);
    for (name, value) in other.as_object().unwrap() {
        answer[name] = value.clone();
    }
    answer.to_string()
}
