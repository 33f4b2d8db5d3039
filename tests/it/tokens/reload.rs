//! Other issuers are put in force while requests come in.

use std::time::Duration;

use enforcer_tests::lab::idp::{ORDERS, READONLY};
use enforcer_tests::lab::{Family, Http};
use serde_json::json;

use super::{LAB, Scene, policy, read};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn issuers_change_under_load_without_a_dropped_request() {
    let scene = Scene::open();
    let client = scene.stage.client(Family::V4);
    let tokens = [
        scene.idp.token(ORDERS, "es256").unwrap(),
        scene.idp.token(READONLY, "opaque").unwrap(),
        scene.signed("alice", &json!({})),
    ];
    let steady = tokens.map(|token| client.steadily(read().key(&token), Duration::from_millis(1)));
    let good = scene.policy("");

    for round in 0..20 {
        let changed = match round % 4 {
            0 => good.replace("leeway        = \"0s\"", "leeway        = \"7s\""),
            1 => good.replace(&format!("[\"{LAB}\"]"), &format!("[\"{LAB}\", \"x{round}\"]")),
            2 => good.replace("timeout       = \"2s\"", "timeout       = \"3s\"\nrefresh = \"1m\""),
            _ => good.clone(),
        };
        assert_eq!(changed == good, round % 4 == 3);
        scene.stage.apply(&changed);
    }

    for one in steady {
        let tally = one.finish().unwrap();
        assert!(tally.is_spotless() && tally.served > 20, "{tally:?}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_issuer_that_is_removed_is_not_believed_from_the_next_request_on() {
    let scene = Scene::open();
    let client = scene.stage.client(Family::V4);
    let mut connections: Vec<_> = [Http::One, Http::Two]
        .into_iter()
        .cycle()
        .take(8)
        .map(|http| client.connect(http).unwrap())
        .collect();
    let (corp, lab) =
        (scene.idp.token(ORDERS, "es256").unwrap(), scene.signed("alice", &json!({})));
    let steady = client.steadily(read().key(&corp), Duration::from_millis(1));
    let mut statuses = |token: &str| -> Vec<u16> {
        let ask = read().key(token);
        connections.iter_mut().map(|one| one.ask(&ask).unwrap().status.as_u16()).collect()
    };

    for _ in 0..3 {
        assert_eq!(statuses(&lab), [200; 8]);
        scene.stage.apply(&policy(&[], &scene.corp()));
        assert_eq!(statuses(&lab), [401; 8]);
        assert_eq!(statuses(&corp), [200; 8]);
        scene.stage.apply(&scene.policy(""));
        scene.until_usable();
    }
    // Its tokens are not for this service any more, though each was checked a moment ago.
    scene.stage.apply(&scene.policy("").replace(LAB, "https://other.test"));
    assert_eq!(statuses(&lab), [401; 8]);

    assert!(steady.finish().unwrap().is_spotless());
    let records = scene.stage.records_of("http");
    for reason in ["token-issuer-unknown", "token-wrong-audience"] {
        assert!(records.iter().any(|one| one["body"]["reason"] == reason), "{reason}");
    }
}
