//! Everything that is done is taken back by its name, one by one or with its incident.

use std::time::Duration;

use enforcer_tests::lab::{Ask, Client, DEADLINE, Family, Http, wait_until};
use serde_json::Value;

use super::{Scene, id, limited, rule};
use crate::stage::orders;

/// What each rule does about whom it finds.
const DEEDS: [(&str, &str, &str, &str); 9] = [
    ("drop", "source", "action: drop, ttl: 10m", "drop the source"),
    ("refuse", "source", "action: deny_source, ttl: 10m", "refuse the source at layer 7"),
    ("user", "identity", "action: deny_identity, ttl: 10m", "deny the identity"),
    ("token", "credential", "action: deny_credential, ttl: 10m", "deny the credential"),
    ("client", "ja4", "action: deny_fingerprint, ttl: 10m", "deny the TLS client"),
    ("slow", "identity", "action: tighten, to: 10%, ttl: 10m", "tighten to 10 %"),
    ("proof", "route", "action: require_stronger, ttl: 10m", "require stronger authentication"),
    ("close", "route", "action: disable_route, ttl: 10m", "disable the route"),
    (
        "level",
        "everyone",
        "action: raise_level, level: 2, ttl: 10m",
        "raise the incident level to 2",
    ),
];

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn every_deed_is_taken_back_by_the_name_of_its_decision() {
    let scene = scene();
    for (rule, _, _, action) in DEEDS {
        let (from, http, key) = suspect(&scene, rule);
        assert!(is_free(&scene, &from, http, &key), "{rule}: before");
        scene.trip_by(http, rule, &from, &key);
        let held = scene.decision(rule, action, "in-force");
        wait_until(&format!("{rule} is felt"), DEADLINE, || !is_free(&scene, &from, http, &key))
            .unwrap();

        let released = scene.stage.json(&["release", id(&held), "--reason", "a mistake"]);

        assert_eq!(released["decisions"][0]["state"], "rolled-back", "{rule}: {released}");
        until_free(&scene, &from, http, &key, rule);
        wait_until("it is on record", DEADLINE, || {
            let told = scene.told_of(id(&held));
            let whats: Vec<&str> = told.iter().map(|(what, ..)| what.as_str()).collect();
            whats.contains(&"rolled-back") && whats.contains(&"undone")
        })
        .unwrap();
        let again = scene.stage.enforcer(&["release", id(&held)]);
        assert_eq!(again.code, Some(2), "{rule}: {again}");
    }
    expect_clean(&scene);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn everything_of_an_incident_is_taken_back_by_its_name() {
    let scene = scene();
    let (from, key) = (scene.member("10.88.5.1"), scene.stage.key("suspect", "reader"));
    // One caller, one network: rules of one family are one incident.
    for rule in ["mix-slow", "mix-user", "mix-drop"] {
        scene.trip(rule, &from, &key);
        wait_until("it is done", DEADLINE, || {
            scene.of(rule).iter().any(|one| one["state"] == "in-force")
        })
        .unwrap();
        if rule == "mix-user" {
            // Refused from here on, and what is refused so is never counted: go on as somebody else.
            scene.does(&["release", id(&scene.of(rule)[0])]);
        }
    }
    let held: Vec<Value> = ["mix-slow", "mix-drop"].map(|rule| scene.of(rule).remove(0)).into();
    let incident = held[0]["incident"].as_str().unwrap();
    assert_eq!(held[1]["incident"], incident, "{held:#?}");
    let shown = scene.stage.json(&["incident", "show", incident]);
    assert_eq!(shown["incident"]["in_force"], 2, "{shown}");

    let text = scene.does(&["release", incident, "--reason", "all of it was ours"]);

    assert!(held.iter().all(|one| text.contains(id(one))), "{text}");
    for one in &held {
        scene.until_state(id(one), "rolled-back");
    }
    until_free(&scene, &from, Http::One, &key, "all of it");
    wait_until("nothing is left", DEADLINE, || {
        scene.stage.json(&["endpoint", "list"]).as_array().unwrap().is_empty()
    })
    .unwrap();
    expect_clean(&scene);
    let nothing = scene.stage.enforcer(&["release", incident]);
    assert_eq!(nothing.code, Some(3), "{nothing}");
    assert!(nothing.stderr.contains("has nothing in force"), "{nothing}");
}

/// With everybody else on HTTP/2, who are other TLS clients than those who speak HTTP/1.1 alone.
fn scene() -> Scene {
    let mut rules: Vec<String> =
        DEEDS.iter().map(|(id, key, action, _)| rule(id, key, "auto", &[action])).collect();
    rules.push(rule("mix-slow", "identity", "auto", &["action: tighten, to: 50%, ttl: 10m"]));
    rules.push(rule("mix-user", "identity", "auto", &["action: deny_identity, ttl: 10m"]));
    rules.push(rule("mix-drop", "source", "auto", &["action: drop, ttl: 10m"]));
    let more = "[incident.1.require]\norders = \"token\"\n[incident.2]\nlimits = { all = 0.01 }\n";
    let policy = limited(more).replace("rate = \"1/s\"\nburst = 40", "rate = \"20/s\"\nburst = 40");
    let scene = Scene::with(&policy, &rules);
    scene.crowd();
    for n in 0..20 {
        let key = scene.stage.key(&format!("other-{n}"), "reader");
        let mut other = scene.stage.client(Family::V4).connect(Http::Two).unwrap();
        assert_eq!(other.ask(&orders().key(&key)).unwrap().status, 200);
    }
    scene
}

/// Who is found by a rule: somebody of its own, at an address of its own.
fn suspect(scene: &Scene, rule: &str) -> (Client, Http, String) {
    let place = DEEDS.iter().position(|(name, ..)| *name == rule).unwrap() + 1;
    let http = if rule == "client" { Http::One } else { Http::Two };
    let key = scene.stage.key(&format!("suspect-{rule}"), "reader");
    (scene.member(&format!("10.88.6.{place}")), http, key)
}

/// Whether several requests in a row are served.
fn is_free(scene: &Scene, from: &Client, http: Http, key: &str) -> bool {
    // A dropped address gets no answer at all, for which nobody waits.
    let address = scene.stage.json(&["blocks"]);
    let is_dropped = address.as_array().unwrap().iter().any(|row| !row["kernel"].is_null());
    if is_dropped {
        return false;
    }
    let Ok(mut connection) = from.connect(http) else { return false };
    let ask = Ask::get("/v1/orders").key(key);
    (0..4).all(|_| connection.ask(&ask).is_ok_and(|answer| answer.status == 200))
}

/// Looks now and then, for each look takes of what a limit has left.
fn until_free(scene: &Scene, from: &Client, http: Http, key: &str, what: &str) {
    let is_taken_back = (0..20).any(|_look| {
        std::thread::sleep(Duration::from_millis(500));
        is_free(scene, from, http, key)
    });
    assert!(is_taken_back, "{what} is not taken back");
}

/// Nothing holds anywhere.
fn expect_clean(scene: &Scene) {
    for list in ["blocks", "endpoint list"] {
        let words: Vec<&str> = list.split(' ').collect();
        let rows = scene.stage.json(&words);
        assert!(rows.as_array().unwrap().is_empty(), "{list}: {rows}");
    }
    assert_eq!(scene.stage.json(&["incident", "show"])["level"], 0);
    scene.stage.expect_verified();
    assert_eq!(scene.status(&scene.key), 200);
}
