//! How much is done unasked: not more than the policy admits.

use enforcer_tests::lab::{DEADLINE, Family, Http, KeyGuesses, guess, wait_for, wait_until};
use serde_json::Value;

use super::{Range, expect_spotless, name_of, read_objects};
use crate::stage::orders;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_burst_of_decisions_beyond_the_limit_waits_for_an_operator_who_is_told() {
    let range = Range::new(&[], "[detect.limits]\nmax_decisions_per_minute = 3\n");
    let steady = range.steady();
    for n in 1..=8 {
        let address = format!("10.88.9.{n}").parse().unwrap();
        let client = range.stage.attacker(Family::V4).at(address);
        let mut connection = client.connect(Http::One).unwrap();
        let own = KeyGuesses::default().skip(n * 100).take(10);
        guess(&mut connection, own).unwrap();
    }

    wait_until("somebody is asked", DEADLINE, || !range.waiting().is_empty()).unwrap();
    let waiting = range.waiting();
    let blocks = range.stage.json(&["blocks"]);
    assert!(blocks.as_array().unwrap().len() <= 3, "{blocks}");
    let first = &waiting[0];
    let (id, target) = (first["id"].as_str().unwrap(), first["target"].as_str().unwrap());

    let approved = range.stage.enforcer(&["incident", "approve", id]);

    assert!(approved.is_success(), "{approved}");
    let address = target.strip_prefix("source:").unwrap();
    wait_until("it is carried out", DEADLINE, || range.stage.block_of(address).is_some()).unwrap();
    expect_spotless(steady);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_rule_that_hits_more_of_the_callers_than_it_may_asks_about_the_next_one() {
    let range = Range::new(&[("object-enumeration", "auto")], "");
    let steady = range.steady();
    for n in 0..6 {
        let key = range.stage.key(&format!("neighbour-{n}"), "reader");
        let served = range.stage.client(Family::V4).ask(&orders().key(&key)).unwrap();
        assert_eq!(served.status, 200);
    }
    let enumerate = |name: &str, objects| {
        let key = range.stage.key(name, "reader");
        let mut connection = range.stage.attacker(Family::V4).connect(Http::One).unwrap();
        read_objects(&mut connection, &key, objects);
        let about = |one: &Value| one["about"] == format!("identity:{}", name_of(&key));
        let found = wait_for("it is found", DEADLINE, || {
            range.findings("object-enumeration").into_iter().find(about)
        });
        found.unwrap()
    };

    let first = enumerate("first", 1_000..1_060);
    let held = range.decision(&first, "tighten to 25 %", "in-force");
    let second = enumerate("second", 2_000..2_060);

    // One caller is what a rule is for; two are more than 1 % of these few.
    let asked = range.decision(&second, "tighten to 25 %", "waiting");
    assert_ne!(asked["target"], held["target"]);
    range.expect_recorded(&second, &asked);
    let id = asked["id"].as_str().unwrap();
    let records = range.stage.records_of("decision");
    let why = records.iter().find(|one| one.to_string().contains(id)).unwrap().to_string();
    assert!(why.contains("would hit 2 of") && why.contains("over 1.0 %"), "{why}");
    range.approve(&asked);
    range.take_back(&held);
    range.take_back(&asked);
    expect_spotless(steady);
}
