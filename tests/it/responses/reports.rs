//! The report of a closed incident: what happened, who did what, on which records, at whose cost.

use std::collections::BTreeSet;

use enforcer_tests::lab::{DEADLINE, wait_until};
use serde_json::Value;

use super::{Scene, id, rule};
use crate::stage::orders;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_report_tells_what_happened_who_did_what_on_which_evidence_and_what_it_cost_others() {
    let rules = [rule("close", "route", "approve", &["action: disable_route, ttl: 10m"])];
    let scene = Scene::new(&rules, "");
    scene.crowd();
    assert_eq!(scene.status(&scene.key), 200, "there is more than one client");
    let shared = scene.member("10.88.7.1");
    let (thief, neighbour) =
        (scene.stage.key("thief", "reader"), scene.stage.key("next", "reader"));
    assert_eq!(shared.ask(&orders().key(&neighbour)).unwrap().status, 200);
    scene.trip("close", &shared, &thief);
    let asked = scene.decision("close", "disable the route", "waiting");
    let incident = asked["incident"].as_str().unwrap().to_owned();
    scene.does(&["incident", "approve", id(&asked), "--reason", "go on"]);
    scene.until_state(id(&asked), "in-force");
    for key in [&thief, &neighbour, &neighbour] {
        assert_eq!(shared.ask(&orders().key(key)).unwrap().status, 503);
    }
    scene.does(&["release", id(&asked), "--reason", "a neighbour was hit"]);
    wait_until("it is taken back", DEADLINE, || {
        shared.ask(&orders().key(&neighbour)).unwrap().status == 200
    })
    .unwrap();
    scene.does(&["incident", "close", &incident, "--reason", "the key is revoked"]);

    let report = reported(&scene, &["--json", "incident", "report", &incident]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let text = reported(&scene, &["incident", "report", &incident]);

    assert_eq!(report["incident"]["state"], "closed", "{report}");
    assert_eq!(report["incident"]["closed_reason"], "the key is revoked");
    let records = scene.stage.records();
    let indexed = |number: &Value| {
        let found = records.iter().find(|record| &record["index"] == number);
        found.unwrap_or_else(|| panic!("no record {number}: {records:#?}"))
    };
    let classes: BTreeSet<&str> = report["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| indexed(&line["record"])["class"].as_str().unwrap())
        .collect();
    for class in ["finding", "incident", "decision"] {
        assert!(classes.contains(class), "{class}: {classes:?}");
    }
    let requests = report["requests"].as_array().unwrap();
    assert!(requests.len() >= 3, "{report}");
    for request in requests {
        let record = indexed(&request["record"]);
        assert_eq!(
            (&record["class"], &record["body"]["id"]),
            (&"http".into(), &request["request"])
        );
    }
    let cost = &report["cost"];
    // A disabled route answers before anybody is asked who calls.
    let refused = ["refused", "refused_unnamed", "refused_of_others"].map(|name| &cost[name]);
    assert_eq!(refused, [3, 3, 0], "{report}");
    assert!(report["undo"].as_array().unwrap().is_empty(), "nothing is in force: {report}");

    for words in [
        "## What happened",
        "## Decisions and effects",
        "## Timeline, by audit record",
        "## Evidence",
        "## What it cost",
        "- requests refused by what was decided: 3",
        "- of these, of callers about whom nothing was found: 0",
        "- of these, before anybody asked who calls: 3",
        "go on",
        "a neighbour was hit",
        "the key is revoked",
        "root",
        "Nothing is in force any more.",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let first = requests[0]["record"].as_u64().unwrap();
    assert!(text.contains(&format!("- #{first} request ")), "{text}");
}

/// A report needs the log, which the policy names.
fn reported(scene: &Scene, words: &[&str]) -> String {
    let done = scene.stage.offline(words);
    assert!(done.is_success(), "{words:?}: {done}");
    done.stdout
}
