//! Hosts that a rule or an operator isolates, and endpoints that are locked down.

use std::net::SocketAddr;
use std::time::Duration;

use enforcer_tests::lab::{Ask, DEADLINE, Family, Steady, Upstream, wait_until};

use super::{Scene, id, limited, rule};
use crate::stage::orders;

const FIRST: &str = "orders/127.0.0.1:9000";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_host_that_a_rule_isolates_gets_nothing_more_and_its_routes_go_on_through_the_failover_pool() {
    let (scene, backup) = with_backup("auto", "action: isolate_upstream, ttl: 10m");
    let steady = steady(&scene);

    scene.trip("compromised", &scene.attacker(), &scene.key);
    let held = scene.decision("compromised", "isolate the upstream", "in-force");
    assert_eq!(held["target"], "upstream:127.0.0.1:9000", "{held}");
    expect_failed_over(&scene, &backup, &steady);

    scene.does(&["release", id(&held), "--reason", "patched"]);
    let before = scene.stage.upstream.requests();
    wait_until("it is asked again", DEADLINE, || scene.stage.upstream.requests() > before).unwrap();
    expect_served(steady);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_host_that_an_operator_isolates_stays_isolated_whatever_becomes_of_a_rules_decision() {
    let (scene, backup) = with_backup("auto", "action: isolate_upstream, ttl: 10m");
    let steady = steady(&scene);
    scene.trip("compromised", &scene.attacker(), &scene.key);
    let held = scene.decision("compromised", "isolate the upstream", "in-force");

    scene.does(&["upstream", "isolate", FIRST, "--for", "forever", "--reason", "compromised"]);
    expect_failed_over(&scene, &backup, &steady);
    scene.does(&["release", id(&held)]);
    scene.until_state(id(&held), "rolled-back");
    wait_until("what became of it is known", DEADLINE, || {
        scene.told_of(id(&held)).iter().any(|(what, ..)| what == "undone")
    })
    .unwrap();

    expect_failed_over(&scene, &backup, &steady);
    scene.does(&["upstream", "restore", FIRST]);
    let before = scene.stage.upstream.requests();
    wait_until("it is asked again", DEADLINE, || scene.stage.upstream.requests() > before).unwrap();
    expect_served(steady);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_drained_host_that_is_isolated_by_a_decision_is_drained_again_when_that_is_over() {
    let (scene, _backup) = with_backup("approve", "action: isolate_upstream, ttl: 2s");
    scene.trip("compromised", &scene.attacker(), &scene.key);
    let asked = scene.decision("compromised", "isolate the upstream", "waiting");
    scene.does(&["upstream", "drain", FIRST, "--for", "forever", "--reason", "upgrade"]);
    assert_eq!(state(&scene), "draining");

    scene.does(&["incident", "approve", id(&asked), "--reason", "it is worse"]);
    scene.until_state(id(&asked), "in-force");
    assert_eq!(state(&scene), "isolated");

    scene.until_state(id(&asked), "expired");
    wait_until("the operator's word holds again", DEADLINE, || state(&scene) == "draining")
        .unwrap();
    assert_eq!(scene.status(&scene.key), 200);
    scene.does(&["upstream", "undrain", FIRST]);
    assert_eq!(state(&scene), "up");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_endpoint_that_is_locked_down_answers_as_the_policy_says_until_its_time_is_over() {
    let rules = [
        rule("disable", "route", "auto", &["action: disable_route, ttl: 3s"]),
        rule("require", "route", "auto", &["action: require_stronger, ttl: 3s"]),
    ];
    let scene = Scene::new(&rules, "[incident.1.require]\norders = \"token\"\n");
    let other = Ask::get("/others/a").key(&scene.key);
    let other = || scene.stage.client(Family::V4).ask(&other).unwrap().status.as_u16();

    scene.trip("disable", &scene.attacker(), &scene.key);
    let held = scene.decision("disable", "disable the route", "in-force");
    let answer = scene.answer(&scene.key);
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    wait_until("why is on record", DEADLINE, || {
        let records = scene.stage.records_of("http");
        records.iter().any(|record| record["body"]["reason"] == "endpoint-disabled")
    })
    .unwrap();
    assert_eq!(other(), 200, "another route of the same upstream");
    scene.until_state(id(&held), "expired");
    wait_until("it serves again", DEADLINE, || scene.status(&scene.key) == 200).unwrap();

    scene.trip("require", &scene.attacker(), &scene.key);
    let held = scene.decision("require", "require stronger authentication", "in-force");
    let status = scene.status(&scene.key);
    assert!([401, 403].contains(&status), "a key is not enough: {status}");
    assert_eq!(other(), 200);
    scene.until_state(id(&held), "expired");
    wait_until("a key is enough again", DEADLINE, || scene.status(&scene.key) == 200).unwrap();
}

/// A scene whose upstream has a pool that stands in.
fn with_backup(mode: &str, respond: &str) -> (Scene, Upstream) {
    let hosts = "hosts      = [\"127.0.0.1:9000\"]\nbackup     = [[\"127.0.0.1:9001\"]]";
    let policy = limited("").replace("hosts      = [\"127.0.0.1:9000\"]", hosts);
    let policy = policy.replace("rate = \"1/s\"\nburst = 40", "rate = \"10000/s\"");
    let scene = Scene::with(&policy, &[rule("compromised", "upstream", mode, &[respond])]);
    let second: SocketAddr = "127.0.0.1:9001".parse().unwrap();
    let backup = Upstream::start(&scene.stage.lab.host, second).unwrap();
    (scene, backup)
}

fn steady(scene: &Scene) -> Steady {
    let client = scene.stage.client(Family::V4);
    client.steadily(orders().key(&scene.key), Duration::from_millis(5))
}

/// Nothing but what was under way at the host when it was isolated, which is cut, was refused.
fn expect_served(steady: Steady) {
    let tally = steady.finish().unwrap();
    assert!(tally.refused <= 1 && tally.failed + tally.missed == 0, "{tally:?}");
}

/// The first host gets nothing more, while the other serves.
fn expect_failed_over(scene: &Scene, backup: &Upstream, steady: &Steady) {
    let (first, second) = (scene.stage.upstream.requests(), backup.requests());
    let served = steady.so_far().served;
    wait_until("the others serve", DEADLINE, || steady.so_far().served > served + 40).unwrap();
    assert_eq!(scene.stage.upstream.requests(), first);
    assert!(backup.requests() > second);
}

fn state(scene: &Scene) -> String {
    let rows = scene.stage.json(&["upstream", "list", "orders"]);
    let mut hosts = rows[0]["hosts"].as_array().unwrap().iter();
    let own = hosts.find(|host| host["name"] == "127.0.0.1:9000").unwrap();
    own["state"].as_str().unwrap().to_owned()
}
