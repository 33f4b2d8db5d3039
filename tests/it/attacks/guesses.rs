//! Credentials that are tried out: many from one address, one from many, behind a shared address.

use enforcer_tests::lab::{ATTACKER, Ask, DEADLINE, Family, Http, KeyGuesses, guess, wait_until};

use super::{Outcome, Range, expect_spotless};
use crate::stage::orders;

/// Different credentials after which `credential-stuffing` finds an address.
const TRIED: usize = 10;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn one_address_that_tries_many_credentials_is_dropped_in_the_kernel_until_it_is_taken_back() {
    let range = Range::new(&[], "");
    let steady = range.steady();
    let ping = range.stage.attacker_ping(Family::V4);
    ping.until_answered().unwrap();

    range.stage.guess(Family::V4, TRIED);

    let finding = range.finding("credential-stuffing");
    assert_eq!(finding["about"], format!("source:{}", ATTACKER.v4), "{finding}");
    assert!(finding["signals"][0].as_str().unwrap().contains("10"), "{finding}");
    assert!(!finding["evidence"].as_array().unwrap().is_empty(), "{finding}");
    let decision = range.decision(&finding, "drop the source", "in-force");
    let target = ATTACKER.v4.to_string();
    range.stage.expect_dropped(&ping, &target);
    range.expect_recorded(&finding, &decision);

    range.take_back(&decision);

    ping.until_answered().unwrap();
    assert!(range.stage.block_of(&target).is_none());
    expect_spotless(steady);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_address_that_callers_share_is_not_dropped_for_one_that_guesses_behind_it() {
    let range = Range::new(&[], "");
    let keys: Vec<String> =
        (0..6).map(|n| range.stage.key(&format!("neighbour-{n}"), "reader")).collect();
    let mut shared = range.stage.attacker(Family::V4).connect(Http::One).unwrap();
    for key in &keys {
        assert_eq!(shared.ask(&orders().key(key)).unwrap().status, 200);
    }

    range.stage.guess(Family::V4, TRIED * 2);

    let finding = range.finding("credential-stuffing");
    wait_until("something is decided", DEADLINE, || !range.decisions(&finding).is_empty()).unwrap();
    for decision in range.decisions(&finding) {
        assert!(
            decision["state"] != "in-force" || decision["action"] != "drop the source",
            "{decision}"
        );
    }
    assert!(range.stage.block_of(&ATTACKER.v4.to_string()).is_none());
    for key in &keys {
        assert_eq!(shared.ask(&orders().key(key)).unwrap().status, 200);
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn one_credential_that_is_tried_from_many_addresses_is_refused_by_itself() {
    let range = Range::new(&[], "");
    let steady = range.steady();
    let stolen = KeyGuesses::default().next().unwrap();
    for n in 1..=8 {
        let address = format!("10.88.1.{n}").parse().unwrap();
        let client = range.stage.attacker(Family::V4).at(address);
        let mut connection = client.connect(Http::One).unwrap();
        guess(&mut connection, [stolen.clone()]).unwrap();
    }

    let finding = range.finding("credential-stuffing-spread");
    let decision = range.decision(&finding, "deny the credential", "in-force");

    assert!(decision["target"].as_str().unwrap().starts_with("credential:"), "{decision}");
    let mut connection = range.stage.attacker(Family::V4).connect(Http::One).unwrap();
    let refused = connection.ask(&Ask::get("/v1/orders").key(&stolen)).unwrap();
    assert_eq!(refused.status, 403);
    range.expect_recorded(&finding, &decision);
    expect_spotless(steady);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn guesses_that_are_spread_over_a_network_are_found_by_the_network_and_by_the_program_they_share() {
    let range = Range::new(&[], "");
    let steady = range.steady();
    // Three of each address, which nobody would look at twice.
    for host in 1..=26 {
        let mut connection = range.as_one_of_many(&format!("10.88.50.{host}"), Http::One);
        guess(&mut connection, KeyGuesses::default().skip(host * 100).take(3)).unwrap();
    }

    assert!(range.findings("credential-stuffing").is_empty(), "none of them by itself");
    let network = range.expect(&Outcome {
        rule: "credential-stuffing-network",
        about: "source:10.88.50.0/24",
        words: "60 different credentials",
        decided: ("drop the source", "waiting", 30),
    });
    let program = range.expect(&Outcome {
        rule: "credential-stuffing-botnet",
        about: "ja4:",
        words: "25 different addresses",
        decided: ("deny the TLS client", "waiting", 15),
    });
    assert!(program["target"].as_str().unwrap().starts_with("ja4:"), "{program}");
    assert!(range.stage.reaches(&["10.88.50.1", "10.88.51.1"]), "nothing is done unasked");
    range.approve(&network);
    assert!(!range.stage.reaches(&["10.88.50.1", "10.88.50.200"]));
    assert!(range.stage.reaches(&["10.88.51.1"]));
    let id = program["id"].as_str().unwrap();
    let reason = ["--reason", "everybody's browser"];
    let words = [&["incident", "reject", id][..], &reason].concat();
    assert!(range.stage.enforcer(&words).is_success());
    range.take_back(&network);
    assert!(range.stage.reaches(&["10.88.50.1"]));
    expect_spotless(steady);
    range.expect_whole_log();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_is_refused_because_of_a_decision_is_no_evidence_of_anything() {
    let range = Range::new(&[], "");
    let stolen = KeyGuesses::default().next().unwrap();
    for n in 1..=8 {
        let address = format!("10.88.2.{n}").parse().unwrap();
        let mut connection =
            range.stage.attacker(Family::V4).at(address).connect(Http::One).unwrap();
        guess(&mut connection, [stolen.clone()]).unwrap();
    }
    let finding = range.finding("credential-stuffing-spread");
    range.decision(&finding, "deny the credential", "in-force");
    let times = range.finding("credential-stuffing-spread")["times"].clone();

    for n in 1..=40 {
        let address = format!("10.88.3.{n}").parse().unwrap();
        let mut connection =
            range.stage.attacker(Family::V4).at(address).connect(Http::One).unwrap();
        let refused = connection.ask(&Ask::get("/v1/orders").key(&stolen)).unwrap();
        assert_eq!(refused.status, 403);
    }

    assert_eq!(range.findings("credential-stuffing-spread").len(), 1);
    assert_eq!(range.finding("credential-stuffing-spread")["times"], times);
}
