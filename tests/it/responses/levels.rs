//! Incident levels that open by a trigger or a rule, change what holds, and relax by themselves.

use enforcer_tests::lab::{Ask, DEADLINE, Family, Http, wait_until};
use serde_json::Value;

use super::{Scene, id, rule};

const LEVEL: &str = "[incident.1]\nlimits = { all = 0.1 }\naudit = \"durable\"\nsensitivity = 0.5\n\
                     trigger = { open_incidents = 1, quiet = \"1s\" }\n";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_level_opens_by_its_trigger_tightens_everything_and_relaxes_when_it_is_quiet() {
    let rules = [rule("noise", "identity", "auto", &["action: notify"])];
    let scene = Scene::new(&rules, LEVEL);
    assert_eq!((level(&scene), served(&scene, "before")), (0, 10));

    let opened = scene.stage.json(&["incident", "open", "--reason", "leaked key"]);
    wait_until("the level opens", DEADLINE, || level(&scene) == 1).unwrap();

    assert!(served(&scene, "during") <= 5, "a tenth of forty at once");
    let shown = scene.stage.json(&["incident", "show"]);
    assert!(shown["reason"].to_string().contains("1 incidents open"), "{shown}");
    // Thresholds are halved: two requests are found where three are otherwise.
    wait_until("detection is as sensitive as the level says", DEADLINE, || {
        let before = scene.stage.json(&["findings", "list"]).as_array().unwrap().len();
        let key = scene.stage.key(&format!("noisy-{before}-{}", fresh()), "reader");
        let mut connection = scene.attacker().connect(Http::One).unwrap();
        for _ in 0..2 {
            connection.ask(&Ask::get("/v1/noise").key(&key)).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        scene.stage.json(&["findings", "list"]).as_array().unwrap().len() > before
    })
    .unwrap();
    // Held for seconds, it is not said at each look.
    let changes = level_changes(&scene);
    assert!(changes.len() <= 3, "{changes:#?}");

    let incidents = scene.stage.json(&["incident", "list"]);
    for incident in incidents.as_array().unwrap() {
        scene.does(&["incident", "close", id(incident), "--reason", "dealt with"]);
    }
    wait_until("the level relaxes", DEADLINE, || level(&scene) == 0).unwrap();

    assert_eq!(served(&scene, "after"), 10);
    let changes = level_changes(&scene);
    assert!(changes.last().unwrap().contains("1 to 0"), "{changes:#?}");
    assert_eq!(opened["incident"]["state"], "open");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_level_that_an_operator_lowers_stays_so_while_its_trigger_goes_on() {
    let scene = Scene::new(&[], LEVEL);
    scene.does(&["incident", "open", "--reason", "leaked key"]);
    wait_until("the level opens", DEADLINE, || level(&scene) == 1).unwrap();
    // Seen to be open by whoever opened it.
    std::thread::sleep(std::time::Duration::from_millis(300));

    scene.does(&["incident", "level", "0", "--reason", "it is a drill"]);

    std::thread::sleep(std::time::Duration::from_millis(1_500));
    assert_eq!(level(&scene), 0, "{:#?}", level_changes(&scene));
    assert_eq!(served(&scene, "drill"), 10);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_rule_raises_the_level_for_a_while_and_what_an_operator_set_is_left() {
    let rules = [rule("raise", "everyone", "auto", &["action: raise_level, level: 2, ttl: 3s"])];
    let scene = Scene::new(&rules, "[incident.2]\nlimits = { all = 0.1 }\n");
    scene.does(&["incident", "level", "1", "--reason", "a drill"]);

    scene.trip("raise", &scene.attacker(), &scene.key);

    let held = scene.decision("raise", "raise the incident level to 2", "in-force");
    assert_eq!(level(&scene), 2);
    assert!(served(&scene, "during") <= 5);
    scene.until_state(id(&held), "expired");
    wait_until("the operator's level is left", DEADLINE, || level(&scene) == 1).unwrap();
    assert_eq!(served(&scene, "after"), 10);
}

fn level(scene: &Scene) -> u64 {
    scene.stage.json(&["incident", "show"])["level"].as_u64().unwrap()
}

/// How many of ten requests in a row of somebody new are served.
fn served(scene: &Scene, who: &str) -> usize {
    let key = scene.stage.key(who, "reader");
    let mut connection = scene.stage.client(Family::V4).connect(Http::One).unwrap();
    let ask = Ask::get("/v1/orders").key(&key);
    (0..10).filter(|_| connection.ask(&ask).unwrap().status == 200).count()
}

/// What is on record of the level.
fn level_changes(scene: &Scene) -> Vec<String> {
    let records: Vec<Value> = scene.stage.records_of("config");
    let own = records.iter().filter(|record| record["body"]["what"] == "incident-level");
    own.map(|record| record["body"]["detail"].as_str().unwrap().to_owned()).collect()
}

/// A number that no other has.
fn fresh() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
