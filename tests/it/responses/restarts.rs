//! An incident over the end of its agent: killed, or succeeded by another one.

use std::time::Duration;

use enforcer_tests::lab::{DEADLINE, wait_until};
use serde_json::Value;

use super::{Scene, id, rule};
use crate::handover::take_over;

/// Longer than anything takes on a machine that has other work.
const LONG: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_incident_outlives_a_kill_nothing_is_decided_twice_and_all_of_it_can_be_undone() {
    let mut case = Case::begin();

    case.scene.stage.kill();
    case.scene.stage.start();

    case.expect_continued();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_successor_goes_on_with_an_open_incident_and_its_predecessor_decides_nothing_more() {
    let mut case = Case::begin();

    let next = take_over(&case.scene.stage);
    next.wait_until_said("serving policy").unwrap();
    let mut old = case.scene.stage.agent.replace(next).unwrap();
    assert!(old.wait(LONG).unwrap().success(), "{}", old.said());

    case.expect_continued();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn who_is_not_succeeded_after_all_goes_on_deciding() {
    let case = Case::begin();
    let next = take_over(&case.scene.stage);
    next.wait_until_said("everything is handed over").unwrap();
    next.kill().unwrap();
    wait_until("the agent answers again", LONG, || {
        case.scene.stage.enforcer(&["status"]).is_success()
    })
    .unwrap();

    case.expect_continued();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_runs_out_while_no_agent_runs_is_ended_by_the_next_one() {
    let rules = [rule("user", "identity", "auto", &["action: deny_identity, ttl: 2s"])];
    let mut scene = Scene::new(&rules, "");
    let key = scene.stage.key("thief", "reader");
    scene.trip("user", &scene.attacker(), &key);
    let held = scene.decision("user", "deny the identity", "in-force");
    assert_eq!(scene.status(&key), 403);

    scene.stage.kill();
    std::thread::sleep(Duration::from_millis(2_500));
    scene.stage.start();

    assert_eq!(scene.state(id(&held)), "expired");
    wait_until("it is served again", DEADLINE, || scene.status(&key) == 200).unwrap();
    let whats: Vec<String> = scene.told_of(id(&held)).into_iter().map(|told| told.0).collect();
    assert_eq!(whats.iter().filter(|what| *what == "expired").count(), 1, "{whats:?}");
}

/// An open incident with something in force and something that waits.
struct Case {
    scene: Scene,
    thief: String,
    waiting: Value,
    held: Value,
    slowed: Value,
    before: Vec<String>,
}

impl Case {
    fn begin() -> Self {
        let rules = [
            rule("user", "identity", "auto", &["action: deny_identity, ttl: 10m"]),
            rule("slow", "route", "auto", &["action: tighten, to: 50%, ttl: 10m"]),
            rule("ask", "identity", "approve", &["action: deny_identity, ttl: 10m"]),
        ];
        let scene = Scene::new(&rules, "");
        let thief = scene.stage.key("thief", "reader");
        let asked = scene.stage.key("asked", "reader");
        scene.trip("user", &scene.attacker(), &thief);
        scene.trip("slow", &scene.attacker(), &scene.key);
        scene.trip("ask", &scene.attacker(), &asked);
        let held = scene.decision("user", "deny the identity", "in-force");
        let slowed = scene.decision("slow", "tighten to 50 %", "in-force");
        let waiting = scene.decision("ask", "deny the identity", "waiting");
        assert_eq!(scene.status(&thief), 403);
        let before = names(&scene);
        Self { scene, thief, waiting, held, slowed, before }
    }

    /// Everything is as it was, goes on, and can be undone.
    fn expect_continued(self) {
        let Self { scene, thief, waiting, held, slowed, before } = self;
        assert_eq!(names(&scene), before, "nothing is lost and nothing decided anew");
        assert_eq!([scene.status(&thief), scene.status(&scene.key)], [403, 200]);
        for (row, state) in [(&held, "in-force"), (&slowed, "in-force"), (&waiting, "waiting")] {
            scene.until_state(id(row), state);
        }
        let endpoints = scene.stage.json(&["endpoint", "list"]);
        assert_eq!(endpoints.as_array().unwrap().len(), 1, "{endpoints}");
        let blocks = scene.stage.json(&["blocks"]);
        assert_eq!(blocks.as_array().unwrap().len(), 1, "{blocks}");

        // It is found again, and is part of the same incident; what is done about it stands.
        let times = found(&scene, "slow");
        wait_until("it is found again", DEADLINE, || {
            scene.trip("slow", &scene.attacker(), &scene.key);
            found(&scene, "slow") > times
        })
        .unwrap();
        assert_eq!(names(&scene), before, "{:#?}", scene.decisions());

        scene.does(&["release", id(&held), "--reason", "a mistake"]);
        scene.does(&["release", id(&slowed), "--reason", "a mistake"]);
        scene.does(&["incident", "reject", id(&waiting), "--reason", "a mistake"]);
        wait_until("nothing is left", DEADLINE, || {
            let none = |words: &[&str]| scene.stage.json(words).as_array().unwrap().is_empty();
            none(&["blocks"]) && none(&["endpoint", "list"])
        })
        .unwrap();
        assert_eq!(scene.status(&thief), 200);
        // No number is given twice.
        let last = before.last().unwrap().clone();
        let opened = scene.stage.json(&["incident", "open", "--reason", "another one"]);
        assert!(opened["incident"]["id"].as_str().unwrap() > last.as_str(), "{opened} {last}");
    }
}

/// Every decision and every incident, by name.
fn names(scene: &Scene) -> Vec<String> {
    let incidents = scene.stage.json(&["incident", "list", "--all"]);
    let decisions = scene.decisions();
    let rows = decisions.iter().chain(incidents.as_array().unwrap());
    let mut names: Vec<String> = rows.map(|row| id(row).to_owned()).collect();
    names.sort_unstable();
    names
}

/// How often a rule has found something.
fn found(scene: &Scene, rule: &str) -> u64 {
    let rows = scene.stage.json(&["findings", "list", "--rule", rule]);
    rows.as_array().unwrap().iter().map(|row| row["times"].as_u64().unwrap()).sum()
}
