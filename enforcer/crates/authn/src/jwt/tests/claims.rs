//! Every claim in its one form, and what a good token tells.

use enforcer_model::{Reason, Thumbprint, Value};

use super::*;
use crate::Confirmation;

fn outcome(claims: &str) -> Result<TokenFacts, JwtError> {
    let signer = Signer::new(Algorithm::EdDsa);
    verify(&signer.token(&header(Algorithm::EdDsa), claims), &signer.keys())
}

fn with(name: &str, value: &str) -> Result<TokenFacts, JwtError> {
    outcome(&claims_with(name, value))
}

#[test]
fn a_good_token_tells_who_its_subject_is() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(algorithm);
        let facts = verify(&signer.token(&header(algorithm), CLAIMS), &signer.keys()).unwrap();

        assert_eq!(&*facts.issuer, "corp", "{algorithm}");
        assert_eq!(&*facts.subject, "alice");
        assert_eq!(facts.id.as_deref(), Some("t-1"));
        assert_eq!(facts.client.as_deref(), Some("app"));
        assert_eq!(*facts.audience, [Arc::from(AUDIENCE)]);
        assert_eq!(*facts.scopes, [Arc::from("orders:read"), Arc::from("orders:write")]);
        assert_eq!(facts.issued, Some(Timestamp::from_unix_seconds(1_794_999_990)));
        assert_eq!(facts.expires, Timestamp::from_unix_seconds(1_795_000_060));
        assert_eq!(facts.confirmation, None);
        assert_eq!(facts.claims.get("sub").and_then(Value::text), Some("alice"));
        let expected_key = if algorithm == Algorithm::Hs256 { "secret" } else { "k1" };
        assert_eq!(facts.key.as_deref(), Some(expected_key));
    }
}

#[test]
fn issuer_audience_end_and_subject_are_needed() {
    for name in ["iss", "aud", "exp", "sub"] {
        assert_eq!(with(name, "").err(), Some(JwtError::Missing(name)));
    }
    assert_eq!(with("sub", "\"\"").err(), Some(JwtError::Missing("sub")));
    for optional in ["jti", "iat", "client_id", "scope"] {
        assert!(with(optional, "").is_ok(), "{optional}");
    }
}

#[test]
fn an_end_is_a_number_and_nothing_that_looks_like_one() {
    for wrong in [
        "\"1795000060\"",
        "null",
        "true",
        "[1795000060]",
        "{}",
        "-1",
        "-1795000060",
        "1e400",
        "99999999999999999999",
        "18446744074",
    ] {
        assert_eq!(with("exp", wrong).err(), Some(JwtError::Claim("exp")), "{wrong}");
    }
    for good in ["1795000060.75", "1.79500006e9", "17950000600e-1", "18446744073"] {
        assert!(with("exp", good).is_ok(), "{good}");
    }
}

#[test]
fn a_token_lives_until_its_end_and_the_leeway_and_no_nanosecond_longer() {
    // The leeway of these tests is 30 s.
    for (exp, good) in [
        ("1794999971", true),
        ("1794999970.000000001", true),
        ("1794999970", false),
        ("1794999969.999999999", false),
        ("0", false),
    ] {
        let outcome = with("exp", exp);
        assert_eq!(outcome.is_ok(), good, "{exp}");
        if let Err(error) = outcome {
            assert_eq!(error.reason(), Reason::TokenExpired);
        }
    }
}

#[test]
fn a_token_begins_when_it_says_less_the_leeway() {
    for name in ["nbf", "iat"] {
        assert!(with(name, "1795000030").is_ok(), "{name}");
        for late in ["1795000031", "1795000030.5"] {
            let refused = with(name, late).unwrap_err();
            assert_eq!(refused.reason(), Reason::TokenNotYetValid, "{name}");
        }
        for wrong in ["\"1795000000\"", "null", "-5"] {
            assert_eq!(with(name, wrong).err(), Some(JwtError::Claim(name)), "{wrong}");
        }
    }
}

#[test]
fn an_audience_is_a_text_or_a_flat_list_of_texts() {
    assert!(with("aud", r#"["https://x.example","https://api.example.com"]"#).is_ok());
    assert!(with("aud", r#"["https://other.example.com"]"#).is_ok());
    assert_eq!(with("aud", r#"["https://x.example"]"#).err(), Some(JwtError::Audience));
    for wrong in [
        "[]",
        "null",
        "1",
        "true",
        "{\"https://api.example.com\":1}",
        r#"[["https://api.example.com"]]"#,
        r#"["https://api.example.com",1]"#,
        r#"["https://api.example.com",null]"#,
    ] {
        assert_eq!(with("aud", wrong).err(), Some(JwtError::Claim("aud")), "{wrong}");
    }
}

#[test]
fn registered_texts_are_texts() {
    for name in ["iss", "sub", "jti", "client_id", "azp"] {
        for wrong in ["1", "null", "[\"a\"]", "{}", "true"] {
            assert_eq!(with(name, wrong).err(), Some(JwtError::Claim(name)), "{name}: {wrong}");
        }
    }
    for wrong in ["1", "{}", "[1]", "null"] {
        assert_eq!(with("scope", wrong).err(), Some(JwtError::Claim("scope")), "{wrong}");
    }
}

#[test]
fn scopes_come_as_words_or_as_a_list() {
    let scopes = |name: &str, value: &str| {
        let facts = outcome(&format!(r#"{},"{name}":{value}"#, claims_with("scope", ""))).unwrap();
        facts.scopes.iter().map(|scope| scope.to_string()).collect::<Vec<_>>()
    };

    assert_eq!(scopes("scp", r#"["a","b c"]"#), ["a", "b c"]);
    assert_eq!(scopes("scp", r#""a b""#), ["a", "b"]);
    assert_eq!(scopes("scope", r#""  a  b ""#), ["a", "b"]);
    assert!(scopes("other", "1").is_empty());
}

#[test]
fn a_bound_token_says_to_what_or_that_we_do_not_know() {
    let hash = b64([7; 32]);
    let bound = |cnf: &str| with("cnf", cnf).map(|facts| facts.confirmation.unwrap());

    assert_eq!(bound(&format!(r#"{{"jkt":"{hash}"}}"#)), Ok(Confirmation::Key([7; 32])));
    assert_eq!(
        bound(&format!(r#"{{"x5t#S256":"{hash}"}}"#)),
        Ok(Confirmation::Certificate(Thumbprint([7; 32])))
    );
    for unknown in [
        "{}".to_owned(),
        r#"{"kid":"a"}"#.to_owned(),
        r#"{"jwk":{}}"#.to_owned(),
        format!(r#"{{"jkt":"{hash}","x5t#S256":"{hash}"}}"#),
        format!(r#"{{"jkt":"{hash}","kid":"a"}}"#),
    ] {
        assert_eq!(bound(&unknown), Ok(Confirmation::Unknown), "{unknown}");
    }
    for wrong in [
        "1".to_owned(),
        "null".to_owned(),
        format!("\"{hash}\""),
        r#"{"jkt":"short"}"#.to_owned(),
        r#"{"jkt":1}"#.to_owned(),
        format!(r#"{{"jkt":"{hash}="}}"#),
    ] {
        assert_eq!(bound(&wrong).err(), Some(JwtError::Claim("cnf")), "{wrong}");
    }
}

#[test]
fn facts_that_were_verified_end_like_the_token() {
    let facts = outcome(CLAIMS).unwrap();
    let name = Arc::from("corp");
    let audience = [Arc::from(AUDIENCE)];
    let elsewhere = [Arc::from("https://else.example")];
    let expect = Expect {
        name: &name,
        issuer: ISSUER,
        audience: &audience,
        algorithms: Algorithms::ASYMMETRIC,
        kind: Kind::AccessToken,
        leeway: Duration::from_secs(30),
    };
    let at = |seconds: u64| Timestamp::from_unix_seconds(seconds);

    assert_eq!(expect.still_admits(&facts, NOW), Ok(()));
    assert_eq!(expect.still_admits(&facts, at(1_795_000_089)), Ok(()));
    let ended = expect.still_admits(&facts, at(1_795_000_090)).unwrap_err();
    assert_eq!(ended.reason(), Reason::TokenExpired);
    let moved = Expect { audience: &elsewhere, ..expect };
    assert_eq!(moved.still_admits(&facts, NOW), Err(JwtError::Audience));
}

#[test]
fn an_introspection_answer_has_the_same_claims() {
    let answer = br#"{"active":true,"client_id":"app","scope":"a b","iss":"https://idp.example.com","exp":1795000060}"#;

    let payload = Payload::parse(answer).unwrap();

    assert_eq!(payload.claims().get("active"), Some(&Value::Flag(true)));
    assert_eq!(payload.issuer(), Some(ISSUER));
    assert!(payload.audience().is_empty());
    let facts = payload.into_facts(&Arc::from("corp"), None, NOW).unwrap();
    assert_eq!(&*facts.subject, "app");
    assert_eq!(facts.expires, Timestamp::from_unix_seconds(1_795_000_060));

    let nobody = Payload::parse(br#"{"active":true}"#).unwrap();
    let refused = nobody.into_facts(&Arc::from("corp"), None, NOW).unwrap_err();
    assert_eq!(refused, JwtError::Missing("sub"));
    let document = document(br#"{"jwks_uri":"https://idp.example.com/jwks"}"#).unwrap();
    assert!(document.get("jwks_uri").is_some());
}
