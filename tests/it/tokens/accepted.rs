//! Which tokens are served, and what those are told whose tokens are not.

use std::time::Duration;

use enforcer_tests::lab::idp::{DPOP, Holder, Idp, IdpOptions, ORDERS, READONLY};
use enforcer_tests::lab::{Ask, DEADLINE, Http, wait_until};
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use super::{Scene, claims, decoded, encoded, issuer, now, payload, read, told};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn tokens_of_every_algorithm_are_served_by_their_roles_and_claims() {
    let scene = Scene::open();
    let with = |method: Method, token: &str| Ask::new(method, "/v1/orders").key(token);

    for (http, resource) in [
        (Http::One, "es256"),
        (Http::Two, "rs256"),
        (Http::One, "ps256"),
        (Http::Two, "eddsa"),
        (Http::One, "opaque"),
    ] {
        let (writer, reader) =
            (scene.idp.token(ORDERS, resource).unwrap(), scene.idp.token(READONLY, resource));
        let reader = reader.unwrap();
        let status =
            |method: Method, token: &str| scene.ask(http, &with(method, token)).status.as_u16();

        assert_eq!(status(Method::GET, &reader), 200, "{resource}");
        assert_eq!(status(Method::POST, &reader), 403, "no role: {resource}");
        assert_eq!(status(Method::POST, &writer), 200, "the tenant is t1: {resource}");
        assert_eq!(status(Method::DELETE, &writer), 403, "and not t2: {resource}");
        assert_eq!(scene.reason(), "not-allowed");
    }

    let records = scene.stage.records_of("http");
    let written = records.iter().find(|record| record["body"]["rule"] == "orders.allow[2]");
    let who = &written.unwrap()["body"]["who"];
    assert_eq!(who["principal"], "token:corp/svc-orders", "{who}");
    assert_eq!((&who["issuer"], &who["role"]), (&"corp".into(), &"writer".into()), "{who}");
    assert_eq!(scene.stage.upstream.requests(), 10, "nothing that was refused arrived");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_refused_token_is_told_the_same_whatever_the_reason_which_is_on_record() {
    let scene = Scene::open();
    let (soon, gone) = (now() + 3_600, now() - 3_600);
    let with = |changes: Value| scene.signed("alice", &changes);
    let good = with(json!({}));
    let [header, _, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let richer = encoded(&claims(scene.lab.issuer(), "alice", &json!({ "roles": ["writer"] })));
    let mut none: Value = serde_json::from_slice(&decoded(header)).unwrap();
    none["alg"] = "none".into();
    let foreign = scene.idp.token(ORDERS, "es256").unwrap();
    let (_, foreign_signature) = foreign.rsplit_once('.').unwrap();

    let refused = [
        ("token-wrong-audience", with(json!({ "aud": "https://other.test" }))),
        ("token-malformed", with(json!({ "aud": [] }))),
        ("token-issuer-unknown", with(json!({ "iss": "http://127.0.0.1:1" }))),
        ("token-issuer-unknown", with(json!({ "iss": format!("{}/", scene.lab.issuer()) }))),
        ("token-expired", with(json!({ "exp": gone }))),
        ("token-not-yet-valid", with(json!({ "nbf": soon }))),
        ("token-signature", format!("{header}.{richer}.{signature}")),
        ("token-signature", good.replace(signature, foreign_signature)),
        (
            "token-key-unknown",
            with(json!({ "iss": scene.idp.issuer(), "aud": "https://api.test/es256" })),
        ),
        ("token-algorithm", format!("{}.{richer}.", encoded(&none))),
        ("token-malformed", "a.b.c".to_owned()),
        ("token-inactive", "nobody-issued-this".to_owned()),
        ("key-malformed", "enf_live_x".to_owned()),
    ];
    let missing = scene.ask(Http::One, &read());

    for (reason, token) in &refused {
        for http in [Http::One, Http::Two] {
            let answer = scene.ask(http, &read().key(token));

            assert_eq!(told(&answer), told(&missing), "{reason} {http:?}");
            assert_eq!(scene.reason(), *reason);
        }
    }
    let elsewhere = HeaderValue::try_from(&good).unwrap();
    let elsewhere = read().header(HeaderName::from_static("x-api-key"), elsewhere);
    assert_eq!(told(&scene.ask(Http::Two, &elsewhere)), told(&missing), "not where it belongs");
    let twice = scene.ask(Http::Two, &elsewhere.key(&good));
    assert_eq!(told(&twice), told(&missing), "nobody says which of the two is meant");
    assert_eq!(scene.reason(), "credential-duplicate");
    assert_eq!(scene.status(&good), 200);
    assert_eq!(scene.stage.upstream.requests(), 2);
    let log = format!("{:?}", scene.stage.records());
    assert!(!log.contains(signature) && !log.contains(&richer), "no token is on record");

    let records = scene.stage.records_of("http");
    let record = records.iter().find(|one| one["body"]["reason"] == "token-wrong-audience");
    let index = record.unwrap()["index"].to_string();
    for verb in [&["explain"][..], &["policy", "explain"]] {
        let told = scene.stage.offline(&[verb, &["--audit", &index]].concat());

        assert!(told.is_success(), "{told}");
        for words in
            ["401 token-wrong-audience: The token is meant for another audience.", "cause "]
        {
            assert!(told.stdout.contains(words), "{words}: {told}");
        }
        assert!(!told.stdout.contains(signature) && !told.stdout.contains(&good), "{told}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_token_ends_with_its_life_though_it_was_good_a_moment_ago() {
    let scene = Scene::open();
    let options = IdpOptions { ttl: Duration::from_secs(2), ..IdpOptions::default() };
    let brief = Idp::start(Some(&scene.stage.lab.host), options).unwrap();
    let audience = "audience = [\"https://api.test/es256\"]";
    let section = issuer("brief", brief.issuer(), "leeway = \"0s\"")
        .replace(&format!("audience = [\"{}\"]", super::LAB), audience);
    let roles = scene.policy(&section).replace("[\"key\", ", "[\"key\", \"issuer:brief/reader\", ");
    scene.stage.apply(&roles);
    scene.until_usable();
    let token = brief.token(READONLY, "es256").unwrap();
    let mut open = scene.stage.client(enforcer_tests::lab::Family::V4).connect(Http::Two).unwrap();

    assert_eq!(open.ask(&read().key(&token)).unwrap().status, 200);
    wait_until("the token ends", DEADLINE, || open.ask(&read().key(&token)).unwrap().status == 401)
        .unwrap();

    assert_eq!(scene.reason(), "token-expired");
    assert!(now() >= payload(&token)["exp"].as_u64().unwrap());
    assert_eq!(scene.status(&token), 401);
    assert_eq!(scene.status(&brief.token(READONLY, "es256").unwrap()), 200);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn whoever_has_no_token_is_told_where_tokens_come_from() {
    let scene = Scene::open();
    let place = "/.well-known/oauth-protected-resource";

    for http in [Http::One, Http::Two] {
        let refused = scene.ask(http, &read());
        assert_eq!(
            refused.headers["www-authenticate"],
            format!("Bearer resource_metadata=\"https://api.test{place}\"")
        );
        let document = scene.ask(http, &Ask::get(place));
        assert_eq!(document.status, 200);
        assert_eq!(document.headers["content-type"], "application/json");
        let document: Value = serde_json::from_slice(&document.body).unwrap();
        assert_eq!(document["resource"], "https://api.test");
        let issuers = [scene.idp.issuer(), scene.lab.issuer()];
        assert_eq!(document["authorization_servers"], json!(issuers));
        assert_eq!(document["bearer_methods_supported"], json!(["header"]));
        assert_eq!(document["tls_client_certificate_bound_access_tokens"], true);
        let proofs = document["dpop_signing_alg_values_supported"].as_array().unwrap();
        assert!(proofs.contains(&"ES256".into()) && !proofs.contains(&"HS256".into()));
    }
    let head = scene.ask(Http::One, &Ask::new(Method::HEAD, place));
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(scene.ask(Http::One, &Ask::post(place, "{}")).status, 404);

    // Whoever needs a token cannot be asked for one to learn where it comes from.
    let guarded = scene
        .policy("")
        .replace("match    = \"api.test/bound/{**}\"", "match    = \"api.test/{**}\"");
    scene.stage.apply(&guarded);
    assert_eq!(scene.ask(Http::Two, &Ask::get("/elsewhere")).status, 401);
    assert_eq!(scene.ask(Http::Two, &Ask::get(place)).status, 200);
    assert_eq!(scene.stage.upstream.requests(), 0);

    // What an operator says for everybody stands.
    let own = format!(
        "\n[[route]]\nname = \"own\"\nmatch = \"api.test{place}\"\nupstream = \"app\"\npublic = true\n"
    );
    scene.stage.apply(&scene.policy(&own));
    assert_eq!(scene.ask(Http::One, &Ask::get(place)).text(), format!("GET {place}\n"));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_operator_can_ask_what_would_become_of_a_token() {
    let scene = Scene::open();
    let holder = Holder::new().unwrap();
    let good = scene.idp.token(READONLY, "es256").unwrap();
    let (left, _) = good.split_at(good.len() - 8);
    for (token, verdict, code) in [
        (good.clone(), "accepted", 0),
        (scene.idp.token(READONLY, "opaque").unwrap(), "accepted", 0),
        (scene.idp.dpop_token(DPOP, "es256", &holder).unwrap(), "depends", 0),
        (format!("{left}AAAAAAAA"), "token-signature", 7),
        (scene.signed("alice", &json!({ "aud": "https://other.test" })), "token-wrong-audience", 7),
        (scene.signed("alice", &json!({ "exp": 1 })), "token-expired", 7),
        ("nobody-issued-this".to_owned(), "token-inactive", 7),
    ] {
        let inspected = scene.stage.typing(&["tokens", "inspect", "-", "--json"], &token);

        assert_eq!(inspected.code, Some(code), "{verdict}: {inspected}");
        let told: Value = serde_json::from_str(&inspected.stdout).unwrap();
        assert_eq!(told["agent"]["verdict"], verdict, "{told}");
        assert!(!inspected.stdout.contains(token.rsplit('.').next().unwrap()), "no signature");
        if token.contains('.') {
            assert!(told["unverified"]["claims"]["sub"].is_string(), "{told}");
        }
    }
    assert_eq!(scene.stage.upstream.requests(), 0);
    assert_eq!(scene.status(&good), 200);

    let words = ["tokens", "revoke", "client:svc-readonly", "--reason", "leaked"];
    assert!(scene.stage.enforcer(&words).is_success());
    let inspected = scene.stage.typing(&["tokens", "inspect", "-", "--json"], &good);
    let told: Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(told["agent"]["verdict"], "token-revoked", "{told}");
}
