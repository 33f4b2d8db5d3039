//! A policy that watches, one on probation, and the way back.

use enforcer_tests::lab::{Ask, DEADLINE, Family, wait_until};
use serde_json::Value;

use crate::stage::{LAYER_7, Stage, orders};

/// Readers may write as well.
fn looser() -> String {
    LAYER_7.replace("role   = \"writer\"", "role   = \"reader\"")
}

/// Nobody but writers may read.
fn stricter() -> String {
    LAYER_7.replace("role   = \"reader\"", "role   = \"writer\"")
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_policy_that_watches_decides_nothing_and_counts_what_it_would_change() {
    let stage = Stage::with_policy(LAYER_7);
    let reader = stage.key("client", "reader");
    let client = stage.client(Family::V4);
    let file = stage.file("stricter.toml", &stricter());

    let begun = stage.json(&["policy", "apply", &file, "--shadow", "24h"]);
    for _ in 0..3 {
        assert_eq!(client.ask(&orders().key(&reader)).unwrap().status, 200);
    }
    assert_eq!(client.ask(&Ask::post("/v1/orders", "{}").key(&reader)).unwrap().status, 403);

    assert!(begun["shadow"]["sha256"].is_string(), "{begun}");
    let state = stage.json(&["policy", "state"]);
    let shadow = &state["shadow"];
    assert_eq!((shadow["compared"].as_u64(), shadow["flipped"].as_u64()), (Some(4), Some(3)));
    let flip = &shadow["flips"][0];
    assert_eq!(
        (&flip["route"], &flip["from"], &flip["count"]),
        (&"orders".into(), &"allow".into(), &3.into())
    );
    let sample = flip["sample"].as_str().unwrap();
    assert!(sample.starts_with("GET api.test/v1/orders as key:"), "{sample}");
    assert_eq!(stage.json(&["status"])["policy"]["sha256"], state["sha256"]);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_policy_that_watched_is_put_in_force_by_promotion_and_comes_back_by_rollback() {
    let stage = Stage::with_policy(LAYER_7);
    let reader = stage.key("client", "reader");
    let create = Ask::post("/v1/orders", "{}").key(&reader);
    let status = || stage.client(Family::V4).ask(&create).unwrap().status;
    let file = stage.file("looser.toml", &looser());
    assert_eq!(stage.enforcer(&["policy", "promote"]).code, Some(3));

    assert!(stage.enforcer(&["policy", "apply", &file, "--shadow", "1h"]).is_success());
    assert_eq!(status(), 403);
    let promoted = stage.enforcer(&["policy", "promote"]);

    assert!(promoted.is_success(), "{promoted}");
    assert_eq!(status(), 200);
    assert_eq!(std::fs::read_to_string(stage.site.policy()).unwrap(), looser());
    let back = stage.enforcer(&["policy", "rollback"]);
    assert!(back.is_success(), "{back}");
    assert_eq!(status(), 403);
    assert_eq!(std::fs::read_to_string(stage.site.policy()).unwrap(), LAYER_7);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_policy_that_is_not_confirmed_in_time_is_rolled_back_by_itself() {
    let stage = Stage::with_policy(LAYER_7);
    let reader = stage.key("client", "reader");
    let create = Ask::post("/v1/orders", "{}").key(&reader);
    let status = || stage.client(Family::V4).ask(&create).unwrap().status;
    let file = stage.file("looser.toml", &looser());

    let begun = stage.json(&["policy", "apply", &file, "--confirm-within", "2s"]);
    assert!(begun["confirm_until"].is_string(), "{begun}");
    assert_eq!(status(), 200);

    wait_until("the old policy is back", DEADLINE, || status() == 403).unwrap();
    assert_eq!(std::fs::read_to_string(stage.site.policy()).unwrap(), LAYER_7);
    assert_eq!(stage.json(&["policy", "state"])["confirm_until"], Value::Null);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_confirmed_policy_stays_and_one_that_was_not_is_gone_after_a_crash() {
    let mut stage = Stage::with_policy(LAYER_7);
    let reader = stage.key("client", "reader");
    let create = Ask::post("/v1/orders", "{}").key(&reader);
    let file = stage.file("looser.toml", &looser());
    let apply = ["policy", "apply", &file, "--confirm-within", "10m"];

    assert!(stage.enforcer(&apply).is_success());
    stage.kill();
    stage.start();
    assert_eq!(stage.client(Family::V4).ask(&create).unwrap().status, 403);

    assert!(stage.enforcer(&apply).is_success());
    assert!(stage.enforcer(&["policy", "promote"]).is_success());
    stage.kill();
    stage.start();
    assert_eq!(stage.client(Family::V4).ask(&create).unwrap().status, 200);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn reading_the_same_policy_again_confirms_nothing_and_keeps_the_way_back() {
    let stage = Stage::with_policy(LAYER_7);
    let reader = stage.key("client", "reader");
    let create = Ask::post("/v1/orders", "{}").key(&reader);
    let status = || stage.client(Family::V4).ask(&create).unwrap().status;
    let first = stage.file("looser.toml", &looser());
    let second = stage.file("another.toml", &(looser() + "\n# another\n"));
    let apply = |file: &str| {
        let words = ["policy", "apply", file, "--confirm-within", "10m"];
        assert!(stage.enforcer(&words).is_success());
    };

    apply(&first);
    // As a hook does that has renewed the certificates.
    assert!(stage.enforcer(&["policy", "apply"]).is_success());
    assert!(stage.json(&["policy", "state"])["confirm_until"].is_string());
    apply(&second);
    assert_eq!(status(), 200);

    assert!(stage.enforcer(&["policy", "rollback"]).is_success());
    assert_eq!(status(), 403);
    assert_eq!(std::fs::read_to_string(stage.site.policy()).unwrap(), LAYER_7);
    // Nothing waits any more, and what is read again is not its own predecessor.
    assert!(stage.enforcer(&["policy", "apply"]).is_success());
    assert!(stage.enforcer(&["policy", "rollback"]).is_success());
    assert_eq!(status(), 200);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_policy_whose_own_tests_fail_never_comes_into_force() {
    let stage = Stage::with_policy(LAYER_7);
    let failing = format!(
        "{}\n[[test]]\ndo = \"POST api.test/v1/orders as reader from 192.0.2.1\"\nexpect = \"deny\"\n",
        looser()
    );
    let file = stage.file("failing.toml", &failing);

    let refused = stage.enforcer(&["policy", "apply", &file]);

    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stderr.contains("POST api.test/v1/orders as reader"), "{refused}");
    assert_eq!(std::fs::read_to_string(stage.site.policy()).unwrap(), LAYER_7);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_incident_level_changes_decisions_limits_and_proofs_at_once_and_survives_a_crash() {
    let policy = LAYER_7.replace(
        "upstream = \"orders\"\n\n  [[route.allow]]",
        "upstream = \"orders\"\nlimits = [\"few\"]\n\n  [[route.deny]]\n  name = \"freeze\"\n  \
         method = [\"POST\"]\n  when = 'incident >= 2'\n\n  [[route.allow]]",
    ) + "\n[limit]\nfew = { by = \"key\", rate = \"1/h\", burst = 100 }\n\
         [incident.1]\nlimits = { few = 0.01 }\n[incident.3]\nrequire = { orders = \"mtls\" }\n";
    let mut stage = Stage::with_policy(&policy);
    let writer = stage.key("client", "writer");
    let ask =
        |stage: &Stage, ask: Ask| stage.client(Family::V4).ask(&ask.key(&writer)).unwrap().status;
    let create = || Ask::post("/v1/orders", "{}");
    let level = |stage: &Stage, level: &str| {
        let set = stage.enforcer(&["incident", "level", level, "--reason", "test", "--for", "1h"]);
        assert!(set.is_success(), "{set}");
    };
    assert_eq!(ask(&stage, create()), 200);

    // One hundredth of the burst was used up by the first request.
    level(&stage, "1");
    assert_eq!(ask(&stage, orders()), 429);
    level(&stage, "2");
    assert_eq!(ask(&stage, create()), 403);
    level(&stage, "3");
    assert_eq!(ask(&stage, orders()), 401);
    stage.kill();
    stage.start();
    assert_eq!(stage.json(&["incident", "show"])["level"], 3);
    assert_eq!(ask(&stage, orders()), 401);
    level(&stage, "0");
    assert_eq!(ask(&stage, create()), 200);

    let levels = stage.records_of("config");
    let levels = levels.iter().filter(|record| record["body"]["what"] == "incident-level");
    assert_eq!(levels.count(), 4);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_incident_level_ends_by_itself() {
    let stage = Stage::with_policy(LAYER_7);

    let set = stage.json(&["incident", "level", "2", "--reason", "test", "--for", "1s"]);

    assert_eq!((&set["level"], &set["before"]), (&2.into(), &0.into()));
    wait_until("the level is over", DEADLINE, || stage.json(&["incident", "show"])["level"] == 0)
        .unwrap();
    assert_eq!(stage.enforcer(&["incident", "level", "6", "--reason", "test"]).code, Some(2));
}
