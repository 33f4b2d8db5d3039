//! How much is done unasked: not more than the policy admits.

use enforcer_tests::lab::{DEADLINE, Family, Http, KeyGuesses, guess, wait_until};

use super::{Range, expect_spotless};

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
