//! Limits of one route, or of one caller, that shrink for a while and are themselves again.

use enforcer_tests::lab::{Ask, DEADLINE, Family, Http, wait_until};
use serde_json::Value;

use super::{Scene, id, rule};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_rule_tightens_one_route_for_a_while_and_it_relaxes_by_itself() {
    let rules = [rule("surge", "route", "auto", &["action: tighten, to: 10%, ttl: 4s"])];
    let scene = Scene::new(&rules, "");
    let [one, other] = ["one", "other"].map(|name| scene.stage.key(name, "reader"));
    assert_eq!(served(&scene, "/v1/orders", &one), 10);

    scene.trip("surge", &scene.attacker(), &scene.key);

    let held = scene.decision("surge", "tighten to 10 %", "in-force");
    assert_eq!(held["target"], "route:orders", "{held}");
    let fresh = scene.stage.key("fresh", "reader");
    assert!(served(&scene, "/v1/orders", &fresh) <= 5, "a tenth of forty at once");
    assert_eq!(served(&scene, "/others/a", &other), 10, "the other route is as it was");
    let shown = scene.stage.json(&["limits", "show"]);
    assert_eq!(shrunk(&shown), ["route:orders"]);
    assert_eq!(shown["shrunk"][0]["decision"], held["id"], "{shown}");

    scene.until_state(id(&held), "expired");
    wait_until("nothing is shrunk", DEADLINE, || {
        shrunk(&scene.stage.json(&["limits", "show"])).is_empty()
    })
    .unwrap();
    let late = scene.stage.key("late", "reader");
    assert_eq!(served(&scene, "/v1/orders", &late), 10);
    let told = scene.told_of(id(&held));
    let whats: Vec<&str> = told.iter().map(|(what, ..)| what.as_str()).collect();
    assert_eq!(&whats[..3], ["ordered", "applied", "expired"], "{told:?}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn callers_whose_limits_are_shrunk_are_shown_with_them_until_they_are_relaxed() {
    let rules = [rule("slow", "identity", "auto", &["action: tighten, to: 10%, ttl: 10m"])];
    let scene = Scene::new(&rules, "");
    let key = scene.stage.key("thief", "reader");
    scene.trip("slow", &scene.attacker(), &key);
    let held = scene.decision("slow", "tighten to 10 %", "in-force");
    let who = held["target"].as_str().unwrap().strip_prefix("identity:").unwrap().to_owned();
    scene.does(&["endpoint", "shrink", "source:192.0.2.0/24", "--to", "50", "--reason", "a test"]);

    let all = scene.stage.json(&["limits", "show"]);
    assert_eq!(shrunk(&all), [who.as_str(), "source:192.0.2.0/24"]);
    assert_eq!(shrunk(&scene.stage.json(&["limits", "show", &who])), [who.as_str()]);
    assert_eq!(
        shrunk(&scene.stage.json(&["limits", "show", "192.0.2.7"])),
        ["source:192.0.2.0/24"]
    );
    assert!(shrunk(&scene.stage.json(&["limits", "show", "192.0.3.7"])).is_empty());
    let text = scene.does(&["limits", "show"]);
    let line = text.lines().find(|line| line.contains(&who)).unwrap();
    assert!(line.contains("limits at 10 %") && line.contains(id(&held)), "{line}");
    assert!(served(&scene, "/v1/orders", &key) <= 5);

    scene.does(&["release", id(&held), "--reason", "was asked for"]);
    scene.until_state(id(&held), "rolled-back");
    wait_until("only the operator's own is left", DEADLINE, || {
        shrunk(&scene.stage.json(&["limits", "show"])) == ["source:192.0.2.0/24"]
    })
    .unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_an_operator_has_shrunk_is_neither_loosened_nor_ended_by_a_rule() {
    let rules = [rule("slow", "route", "auto", &["action: tighten, to: 90%, ttl: 10m"])];
    let scene = Scene::new(&rules, "");
    let own = ["endpoint", "shrink", "route:orders", "--to", "10", "--reason", "an incident"];
    scene.does(&own);
    scene.trip("slow", &scene.attacker(), &scene.key);
    let held = scene.decision("slow", "tighten to 90 %", "in-force");
    let fresh = scene.stage.key("fresh", "reader");
    assert!(served(&scene, "/v1/orders", &fresh) <= 5, "the smaller share holds");

    scene.does(&["release", id(&held)]);
    wait_until("the rule's own is gone", DEADLINE, || {
        scene.stage.json(&["endpoint", "list"]).as_array().unwrap().len() == 1
    })
    .unwrap();

    let left = scene.stage.json(&["endpoint", "list"]);
    assert_eq!(left[0]["author"]["operator"]["name"], "root", "{left}");
    let late = scene.stage.key("late", "reader");
    assert!(served(&scene, "/v1/orders", &late) <= 5);
    scene.does(&["incident", "relax", "--route", "orders"]);
    let last = scene.stage.key("last", "reader");
    assert_eq!(served(&scene, "/v1/orders", &last), 10);
}

/// How many of ten requests in a row are served.
fn served(scene: &Scene, path: &str, key: &str) -> usize {
    let mut connection = scene.stage.client(Family::V4).connect(Http::One).unwrap();
    let ask = Ask::get(path).key(key);
    (0..10).filter(|_| connection.ask(&ask).unwrap().status == 200).count()
}

fn shrunk(shown: &Value) -> Vec<&str> {
    let rows = shown["shrunk"].as_array().unwrap();
    let mut names: Vec<&str> = rows.iter().map(|row| row["endpoint"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}
