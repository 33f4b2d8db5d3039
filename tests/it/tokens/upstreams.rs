//! What upstreams are told about callers, and by whom.

use std::fs;

use enforcer_tests::lab::idp::{DPOP, Holder, ORDERS};
use enforcer_tests::lab::{Ask, Http, Seen};
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};

use super::{Scene, decoded, now, payload, read};

const IDENTITY: &str = "enforcer-identity";

/// The claims of the statement that came with a request, verified as an upstream would: with the
/// public key in the state folder, and nothing of ours.
fn stated(scene: &Scene, seen: &Seen) -> Value {
    let word = seen.headers[IDENTITY].to_str().unwrap();
    assert_eq!(seen.headers.get_all(IDENTITY).iter().count(), 1);
    let file = scene.stage.site.state().join("identity.jwks.json");
    let set: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let [key] = <[_; 1]>::try_from(set["keys"].as_array().unwrap().clone()).unwrap();
    assert!(key.get("d").is_none(), "the private half stays private");
    let (signed, signature) = word.rsplit_once('.').unwrap();
    let header: Value =
        serde_json::from_slice(&decoded(signed.split('.').next().unwrap())).unwrap();
    assert_eq!((&header["alg"], &header["kid"]), (&"EdDSA".into(), &key["kid"]));
    assert_eq!(header["typ"], "enforcer-identity+jwt");
    let public = UnparsedPublicKey::new(&ED25519, decoded(key["x"].as_str().unwrap()));
    public.verify(signed.as_bytes(), &decoded(signature)).unwrap();
    let claims = payload(word);
    let (issued, expires) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert!(expires <= issued + 60 && now().abs_diff(issued) <= 5, "{claims}");
    claims
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_upstream_is_told_who_calls_in_a_statement_that_it_can_verify() {
    let scene = Scene::open();
    let last = || scene.stage.upstream.seen().pop().unwrap();
    let token = scene.idp.token(ORDERS, "es256").unwrap();
    let holder = Holder::new().unwrap();
    let bound = scene.idp.dpop_token(DPOP, "es256", &holder).unwrap();
    let key = scene.stage.key("ci", "reader");

    for http in [Http::One, Http::Two] {
        let answer = scene.ask(http, &Ask::post("/v1/orders?a=b", "{}").key(&token));
        let claims = stated(&scene, &last());
        assert_eq!(answer.status, 200);
        for (name, expected) in [
            ("aud", "app".into()),
            ("sub", "token:corp/svc-orders".into()),
            ("htm", "POST".into()),
            ("htp", "/v1/orders".into()),
            ("host", "api.test".into()),
            ("kind", "token".into()),
            ("issuer", "corp".into()),
            ("client_id", "svc-orders".into()),
            ("scope", "api.read api.write".into()),
            ("roles", json!(["reader", "writer"])),
            ("jti", answer.headers["x-request-id"].to_str().unwrap().into()),
        ] {
            assert_eq!(claims[name], expected, "{name}: {claims}");
        }
        assert!(!claims["iss"].as_str().unwrap().is_empty(), "{claims}");
        assert_eq!(claims.get("bound"), None);

        let proof = holder.proof("GET", "https://api.test/v1/orders", Some(&bound)).unwrap();
        let value = |text: String| HeaderValue::try_from(text).unwrap();
        let proven = read()
            .header(AUTHORIZATION, value(format!("DPoP {bound}")))
            .header(HeaderName::from_static("dpop"), value(proof));
        assert_eq!(scene.ask(http, &proven).status, 200);
        let seen = last();
        assert_eq!(stated(&scene, &seen)["bound"], "dpop");
        for spent in ["authorization", "dpop"] {
            assert!(!seen.headers.contains_key(spent), "{spent} is ours alone");
        }

        assert_eq!(scene.ask(http, &read().key(&key)).status, 200);
        let claims = stated(&scene, &last());
        assert_eq!((&claims["kind"], &claims["roles"]), (&"api-key".into(), &json!(["reader"])));
        assert!(claims["sub"].as_str().unwrap().starts_with("key:"), "{claims}");
        assert!(!last().headers.contains_key("authorization"));

        assert_eq!(scene.ask(http, &Ask::get("/old/orders").key(&token)).status, 200);
        assert_eq!(last().target, "/v1/orders");
        assert_eq!(stated(&scene, &last())["htp"], "/v1/orders", "as the upstream sees it");

        assert_eq!(scene.ask(http, &Ask::get("/healthz").key(&token)).status, 200);
        let claims = stated(&scene, &last());
        assert_eq!((&claims["sub"], &claims["roles"]), (&"anonymous".into(), &json!([])));
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn no_client_says_who_it_is() {
    let scene = Scene::open();
    let token = scene.idp.token(ORDERS, "es256").unwrap();
    let key = scene.stage.key("ci", "reader");
    let last = || scene.stage.upstream.seen().pop().unwrap();
    assert_eq!(scene.ask(Http::One, &read().key(&key)).status, 200);
    let genuine = last().headers[IDENTITY].to_str().unwrap().to_owned();
    let forged = |ask: Ask, name: &'static str, text: &str| {
        ask.header(HeaderName::from_static(name), HeaderValue::try_from(text).unwrap())
    };
    let identities = [
        "x-user",
        "x-user-id",
        "x-forwarded-user",
        "x-forwarded-email",
        "x-remote-user",
        "remote-user",
        "x-auth-request-user",
        "x-roles",
        "x-spiffe-id",
        "enforcer-roles",
    ];

    for http in [Http::One, Http::Two] {
        // One of ours, of another caller and still good.
        for path in ["/v1/orders", "/healthz", "/trusting/x"] {
            let mut ask = forged(Ask::get(path).key(&token), IDENTITY, &genuine);
            ask = forged(ask, IDENTITY, "x.y.z");
            for name in identities {
                ask = forged(ask, name, "admin");
            }
            assert_eq!(scene.ask(http, &ask).status, 200, "{http:?} {path}");
            let seen = last();
            for name in identities {
                assert!(!seen.headers.contains_key(name), "{name} on {path}");
            }
            if path == "/trusting/x" {
                assert!(!seen.headers.contains_key(IDENTITY));
            } else {
                assert_ne!(stated(&scene, &seen)["kind"], "api-key", "{path}");
            }
        }
        let before = scene.stage.upstream.requests();
        for twin in ["enforcer_identity", "x_user", "x_forwarded_user", "x_forwarded-user"] {
            let ask = forged(read().key(&token), twin, "admin");
            assert_eq!(scene.ask(http, &ask).status, 400, "{http:?} {twin}");
        }
        assert_eq!(scene.stage.upstream.requests(), before);
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn the_credential_stays_here_unless_the_policy_lets_it_go_and_our_keys_always_do() {
    let scene = Scene::open();
    let last = || scene.stage.upstream.seen().pop().unwrap();
    let token = scene.idp.token(ORDERS, "es256").unwrap();
    let key = scene.stage.key("ci", "reader");

    assert_eq!(scene.ask(Http::One, &read().key(&token)).status, 200);
    assert!(!last().headers.contains_key(AUTHORIZATION));
    assert_eq!(scene.ask(Http::One, &Ask::get("/trusting/x").key(&token)).status, 200);
    assert_eq!(last().headers[AUTHORIZATION], format!("Bearer {token}"));
    assert_eq!(scene.ask(Http::One, &Ask::get("/trusting/x").key(&key)).status, 200);
    assert!(!last().headers.contains_key(AUTHORIZATION));
    // Nobody was asked for it here: it is for somebody else.
    assert_eq!(scene.ask(Http::One, &Ask::get("/healthz").key("for.somebody.else")).status, 200);
    assert_eq!(last().headers[AUTHORIZATION], "Bearer for.somebody.else");
}
