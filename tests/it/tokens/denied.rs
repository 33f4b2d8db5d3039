//! Who is denied, by name, credential or role: from the next request on, and in the middle of what is
//! open, while others on the same connection go on.

use std::time::Duration;

use enforcer_tests::lab::idp::ORDERS;
use enforcer_tests::lab::{Ask, DEADLINE, Family, Http, wait_until};
use serde_json::{Value, json};

use super::revoked::Open;
use super::{Scene, read};

/// What is open of whoever is denied may stay so long.
const MOST: Duration = Duration::from_millis(100);

/// No load of a machine that tests share makes it longer.
const LATEST: Duration = Duration::from_secs(1);

/// Whoever asks three times for one of these paths is denied, one way or the other.
const RULES: &str = r#"
- id: user
  title: somebody asked for it
  when: 'path == "/v1/user"'
  key: identity
  event_count: {gte: 3, within: 1s}
  respond:
    - {action: deny_identity, ttl: 10m}
  mode: auto
- id: token
  title: somebody asked for it
  when: 'path == "/v1/token"'
  key: credential
  event_count: {gte: 3, within: 1s}
  respond:
    - {action: deny_credential, ttl: 10m}
  mode: auto
"#;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn whoever_is_denied_loses_what_is_open_at_once_and_nobody_else_does() {
    let scene = Scene::open();
    let kept = scene.signed("kept", &json!({}));
    let token = scene.idp.token(ORDERS, "es256").unwrap();
    let key = scene.stage.key("ci", "reader");
    assert_eq!([scene.status(&token), scene.status(&kept), scene.status(&key)], [200; 3]);
    let fingerprint = last(&scene, "token:corp/svc-orders")["credential"].clone();
    let own = last(&scene, "key:")["who"]["principal"].as_str().unwrap().to_owned();

    for (credential, target) in [
        (&token, "user:token:corp/svc-orders".to_owned()),
        (&token, format!("token:{}", fingerprint.as_str().unwrap())),
        (&token, "role:writer".to_owned()),
        (&key, own.clone()),
    ] {
        let open = Open::of(&scene, credential, &kept);

        let words = ["quarantine", &target, "--for", "10m", "--reason", "60 objects in 10m"];
        let blocked = scene.stage.json(&words);

        let took = open.expect_cut(&target);
        assert!(took < MOST, "{target}: {took:?} after it was acknowledged");
        assert_eq!(blocked["connections_closed"], 3, "{target}: {blocked}");
        assert_eq!(blocked["layer7"], true);
        assert_eq!([scene.status(credential), scene.status(&kept)], [403, 200], "{target}");
        assert_eq!(scene.reason(), "quarantined");
        let row = scene.stage.block_of(&target).unwrap();
        assert!(row["layer7"] == true && row["kernel"].is_null(), "{row}");
        scene.stage.expect_verified();
        assert!(scene.stage.enforcer(&["release", &target]).is_success());
        assert_eq!(scene.status(credential), 200, "{target}");
    }
    let changes = scene.stage.records_of("block");
    let told: Vec<_> = changes
        .iter()
        .map(|one| (one["body"]["what"].clone(), one["body"]["block"]["target"].clone()))
        .collect();
    assert_eq!(told.len(), 8, "{told:?}");
    assert_eq!(told[6], (json!("applied"), json!(own)));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn whoever_a_rule_denies_loses_what_is_open_within_the_promised_time_and_nobody_else_does() {
    let scene = Scene::open();
    scene.stage.file("lab.yaml", RULES);
    let more = "[detect]\npack = \"none\"\nrules = [\"lab.yaml\"]\n\
                [detect.limits]\nmax_share_of_identities = \"100%\"\n";
    scene.stage.apply(&scene.policy(more));
    let kept = scene.signed("kept", &json!({}));
    let token = scene.idp.token(ORDERS, "es256").unwrap();
    let key = scene.stage.key("ci", "reader");
    assert_eq!([scene.status(&token), scene.status(&kept), scene.status(&key)], [200; 3]);
    // So many that four of them are no more than all.
    for name in ["one", "two", "three"] {
        assert_eq!(scene.status(&scene.stage.key(name, "reader")), 200);
    }
    let mut fastest = DEADLINE;

    for (rule, credential) in [("user", &token), ("token", &token), ("user", &key), ("token", &key)]
    {
        let open = Open::of(&scene, credential, &kept);
        let mut connection = scene.stage.attacker(Family::V4).connect(Http::One).unwrap();
        let ask = Ask::get(&format!("/v1/{rule}")).key(credential);
        for _ in 0..3 {
            assert_eq!(connection.ask(&ask).unwrap().status, 200, "the last one is answered");
        }

        // From the answer to the request that crossed the threshold.
        let took = open.expect_cut(rule);

        assert!(took < LATEST, "{rule}: {took:?}");
        fastest = fastest.min(took);
        assert_eq!([scene.status(credential), scene.status(&kept)], [403, 200], "{rule}");
        assert_eq!(scene.reason(), "quarantined");
        let blocks = scene.stage.json(&["blocks"]);
        let decision = held(&scene);
        let reason = blocks[0]["reason"].as_str().unwrap();
        assert!(reason.contains(&decision), "{blocks}");
        scene.stage.expect_verified();
        assert!(scene.stage.enforcer(&["release", &decision]).is_success());
        wait_until("it is taken back", DEADLINE, || scene.status(credential) == 200).unwrap();
        wait_until("nothing is blocked", DEADLINE, || {
            scene.stage.json(&["blocks"]).as_array().unwrap().is_empty()
        })
        .unwrap();
    }
    assert!(fastest < MOST, "{fastest:?} at best");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_denial_holds_over_a_kill_and_ends_by_itself() {
    let mut scene = Scene::open();
    let token = scene.idp.token(ORDERS, "es256").unwrap();
    let target = "user:token:corp/svc-orders";
    let words = ["quarantine", target, "--for", "6s", "--reason", "test"];
    assert!(scene.stage.enforcer(&words).is_success());
    assert_eq!(scene.status(&token), 403);

    scene.stage.kill();
    scene.stage.start();
    scene.until_usable();

    assert_eq!(scene.status(&token), 403);
    wait_until("its time is over", DEADLINE, || scene.stage.block_of(target).is_none()).unwrap();
    assert_eq!(scene.status(&token), 200);
    wait_until("its end is on record", DEADLINE, || {
        let records = scene.stage.records_of("block");
        records.iter().any(|record| record["body"]["what"] == "expired")
    })
    .unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_role_or_a_tls_client_that_most_callers_have_is_guarded_and_a_rare_one_is_not() {
    let scene = Scene::open();
    let tokens: Vec<_> = ["a", "b", "c"].map(|subject| scene.signed(subject, &json!({}))).into();
    tokens.iter().for_each(|token| assert_eq!(scene.status(token), 200));
    let ja4 = last(&scene, "token:lab/c")["ja4"].as_str().unwrap().to_owned();
    let ja4 = format!("ja4:{ja4}");

    for target in ["role:reader", &ja4] {
        let refused = scene.stage.enforcer(&["quarantine", target, "--reason", "test"]);
        assert_eq!(refused.code, Some(4), "{refused}");
        assert!(refused.stderr.contains("3 of 3 callers"), "{refused}");
    }
    let rare = scene.stage.json(&["quarantine", "role:writer", "--reason", "test"]);
    assert_eq!(rare["layer7"], true);
    assert_eq!(scene.status(&tokens[0]), 200);

    let mut open = scene.stage.client(Family::V4).connect(Http::Two).unwrap();
    assert_eq!(open.ask(&read().key(&tokens[0])).unwrap().status, 200);
    let words = ["quarantine", &ja4, "--reason", "test", "--override-guard"];
    let forced = scene.stage.typing(&words, &format!("{ja4}\n"));
    assert!(forced.is_success(), "{forced}");
    wait_until("its connection is closed", MOST, || !open.is_open()).unwrap();
    let again = scene.stage.client(Family::V4).connect(Http::Two);
    assert!(again.and_then(|mut open| open.ask(&Ask::get("/healthz"))).is_err());
    assert!(scene.stage.enforcer(&["release", &ja4]).is_success());
    assert_eq!(scene.status(&tokens[0]), 200);
    for (wrong, said) in [
        ("user:alice", "token:ISSUER/SUBJECT"),
        ("token:corp/alice", "user:token:ISSUER/SUBJECT"),
        ("ja4:chrome", "t13d1516h2"),
    ] {
        let refused = scene.stage.enforcer(&["quarantine", wrong, "--reason", "test"]);
        assert_eq!(refused.code, Some(2), "{refused}");
        assert!(refused.stderr.contains(said), "{refused}");
    }
}

/// The decision that is in force.
fn held(scene: &Scene) -> String {
    let incidents = scene.stage.json(&["incident", "list"]);
    let mut decisions = incidents.as_array().unwrap().iter().flat_map(|incident| {
        let shown = scene.stage.json(&["incident", "show", incident["id"].as_str().unwrap()]);
        shown["decisions"].as_array().unwrap().clone()
    });
    let own = decisions.find(|one| one["state"] == "in-force").unwrap();
    own["id"].as_str().unwrap().to_owned()
}

/// The last request of a caller whose name begins so.
fn last(scene: &Scene, principal: &str) -> Value {
    let records = scene.stage.records_of("http");
    let mut own = records.into_iter().map(|record| record["body"].clone()).filter(|body| {
        body["who"]["principal"].as_str().is_some_and(|name| name.starts_with(principal))
    });
    own.next_back().unwrap()
}
