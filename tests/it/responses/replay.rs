//! Rules as files: what is wrong with them, what they would do, what they would have done last week.

use enforcer_tests::lab::{DEADLINE, Family, Http, wait_until};
use serde_json::Value;

use super::{Scene, rule};
use crate::stage::orders;

const BROKEN: &str = "- id: mine\n  title: mine\n  when: 'statsu < 400'\n  key: idnetity\n  \
                      event_count: {gte: 3, within: 1s}\n  respond:\n    - {action: deny_identity}\n";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn every_mistake_of_a_file_is_told_with_its_place_and_what_to_do() {
    let scene = Scene::new(&[rule("one", "identity", "auto", &["action: notify"])], "");
    let broken = scene.stage.file("broken.yaml", BROKEN);

    let told = scene.stage.offline(&["rules", "check", &broken]);

    assert_eq!(told.code, Some(1), "{told}");
    for (place, word, hint) in
        [(":3:", "statsu", "status"), (":4:", "idnetity", "identity"), (":7:", "ttl", "ttl")]
    {
        assert!(told.stdout.contains(&format!("{broken}{place}")), "{place}: {told}");
        assert!(told.stdout.contains(word) && told.stdout.contains(hint), "{word}: {told}");
    }
    assert!(told.stdout.contains('^'), "{told}");
    let json = scene.stage.offline(&["--json", "rules", "check", &broken]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    let problems = json["problems"].as_array().unwrap();
    assert!(problems.len() >= 3, "{json}");
    for problem in problems {
        assert!(problem["line"].as_u64().unwrap() > 0 && problem["column"].as_u64().unwrap() > 0);
        assert!(!problem["message"].as_str().unwrap().is_empty(), "{problem}");
    }

    // A policy that names such a file is not put in force, and says the same.
    scene.stage.file("lab.yaml", BROKEN);
    let applied = scene.stage.enforcer(&["policy", "apply"]);
    assert!(!applied.is_success());
    assert!(applied.stderr.contains("lab.yaml") && applied.stderr.contains("statsu"), "{applied}");
    assert_eq!(scene.status(&scene.key), 200, "the policy in force is the one before");
    assert_eq!(scene.stage.json(&["rules", "list"])[0]["id"], "one");
    let missing = scene.stage.offline(&["rules", "check", "/nowhere.yaml"]);
    assert_eq!(missing.code, Some(1), "{missing}");
    assert!(missing.stderr.contains("cannot read /nowhere.yaml"), "{missing}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_rule_is_explained_and_its_tests_are_run_before_it_acts() {
    let scene = Scene::new(&[], "");
    let events = "{\"identity\":\"key:k7Qx2mP9aB3c\",\"path\":\"/v1/mine\",\"after\":\"100ms\",\
                  \"repeat\":5}\n";
    scene.stage.file("events.jsonl", events);
    let tests = |expect: &str| {
        let own = rule("mine", "identity", "auto", &["action: deny_identity, ttl: 30m"]);
        format!("{own}  tests:\n    - {{events: events.jsonl, expect: {expect}}}\n")
    };
    let good = scene.stage.file("good.yaml", &tests("fire, within_events: 3"));
    let bad = scene.stage.file("bad.yaml", &tests("quiet"));

    let passed = scene.stage.offline(&["rules", "test", &good]);
    assert!(passed.is_success(), "{passed}");
    let failed = scene.stage.offline(&["rules", "test", &bad]);
    assert_eq!(failed.code, Some(7), "{failed}");
    assert!(failed.stdout.contains("mine") && failed.stdout.contains("events.jsonl"), "{failed}");
    let json = scene.stage.offline(&["--json", "rules", "test", &bad]);
    assert_eq!(json.code, Some(7), "{json}");
    serde_json::from_str::<Value>(&json.stdout).unwrap();
    let pack = scene.stage.offline(&["rules", "test"]);
    assert!(pack.is_success(), "the pack: {pack}");

    let told = scene.stage.offline(&["rules", "explain", &good]);
    for words in ["mine", "deny the identity", "30m"] {
        assert!(told.stdout.contains(words), "{words}: {told}");
    }
    let json = scene.stage.offline(&["--json", "rules", "explain", &good]);
    assert!(json.is_success() && serde_json::from_str::<Value>(&json.stdout).is_ok(), "{json}");
    let unknown = scene.stage.offline(&["rules", "explain", "object-enumeratoin"]);
    assert_eq!(unknown.code, Some(3), "{unknown}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_replay_says_whom_a_rule_would_have_blocked_and_what_that_would_have_cost() {
    let scene = Scene::new(&[], "");
    let thief = scene.stage.key("thief", "reader");
    let mut connection = scene.attacker().connect(Http::One).unwrap();
    let ask = enforcer_tests::lab::Ask::get("/v1/mine").key(&thief);
    for _ in 0..10 {
        assert_eq!(connection.ask(&ask).unwrap().status, 200);
    }
    for _ in 0..5 {
        let client = scene.stage.client(Family::V4);
        assert_eq!(client.ask(&orders().key(&scene.key)).unwrap().status, 200);
    }
    let draft = rule("mine", "identity", "auto", &["action: deny_identity, ttl: 30m"]);
    let draft = scene.stage.file("draft.yaml", &draft);
    wait_until("all of it is on record", DEADLINE, || scene.stage.records_of("http").len() >= 15)
        .unwrap();

    let replayed = scene.stage.offline(&["--json", "rules", "replay", &draft, "--since", "7d"]);

    assert!(replayed.is_success(), "{replayed}");
    let report: Value = serde_json::from_str(&replayed.stdout).unwrap();
    assert_eq!(report["events"], 15, "{report}");
    let own = &report["rules"][0];
    assert_eq!((&own["rule"], &own["findings"]), (&"mine".into(), &1.into()), "{report}");
    assert_eq!(own["would_have_blocked"], 1, "{report}");
    assert_eq!(own["would_have_refused"], 7, "what came behind the third: {report}");
    assert_eq!(own["identities_refused"], 1, "{report}");
    let text = scene.stage.offline(&["rules", "replay", &draft, "--since", "7d"]);
    assert!(text.stdout.contains("would have blocked 1 time"), "{text}");
    assert!(text.stdout.contains("refused 7 requests that were served"), "{text}");
    // Nothing is done, and that somebody looked is on record.
    assert_eq!(scene.stage.client(Family::V4).ask(&ask).unwrap().status, 200);
    assert!(scene.stage.json(&["incident", "list", "--all"]).as_array().unwrap().is_empty());
    let looks = scene.stage.records();
    let looked = |record: &&Value| {
        let text = record.to_string();
        text.contains("replay") && text.contains("draft.yaml")
    };
    assert!(looks.iter().any(|record| looked(&record)), "{looks:#?}");
    let before = scene.stage.offline(&["rules", "replay", &draft, "--since", "0s"]);
    assert!(before.code == Some(3) || before.code == Some(2), "{before}");
}
