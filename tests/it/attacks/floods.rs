//! What only the kernel sees, and what is malformed.

use std::net::Ipv4Addr;
use std::time::Duration;

use enforcer_tests::lab::{
    ATTACKER, Family, Flood, HOST_FOR_ATTACKER, MALFORMED, PORT, Sink, knock, send_raw, wait_until,
};

use super::{Outcome, Range, expect_spotless};

/// A flood is one after seconds of it, and each of them may be a long one on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// A range whose sources have this budget, but for the client's network, which is known.
fn with_budget(budget: &str) -> Range {
    let known = "[kernel.class.known]\nnetworks = [\"10.77.1.0/24\"]\nbudget = \"unlimited\"\n";
    let plain = super::detecting(&super::modes(&[]), known);
    let enforce = format!("mode = \"enforce\"\nbudget = {{ {budget} }}\n");
    Range::with_policy(&plain.replace("mode = \"enforce\"\n", &enforce))
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_source_that_floods_beyond_its_budget_is_dropped_when_an_operator_says_so() {
    let range = with_budget("packets = \"200/s\", burst = 200");
    let steady = range.steady();
    let sink = Sink::open(&range.stage.lab.host, HOST_FOR_ATTACKER.at(Family::V4, 0)).unwrap();
    let target = ATTACKER.v4.to_string();

    wait_until("the flood is found", PATIENCE, || {
        Flood { packets: 2_000, payload: 64 }
            .send(&range.stage.lab.attacker, sink.address())
            .unwrap();
        std::thread::sleep(Duration::from_millis(200));
        !range.findings("packet-flood").is_empty()
    })
    .unwrap();

    let asked = range.expect(&Outcome {
        rule: "packet-flood",
        about: &format!("source:{target}"),
        words: "packets in 15s",
        decided: ("drop the source", "waiting", 10),
    });
    assert!(range.stage.block_of(&target).is_none(), "a sender can be forged");
    range.approve(&asked);
    assert!(range.stage.block_of(&target).is_some());
    range.take_back(&asked);
    range.stage.attacker_ping(Family::V4).until_answered().unwrap();
    expect_spotless(steady);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_source_that_opens_connection_after_connection_is_dropped_when_an_operator_says_so() {
    let range = with_budget("syns = \"20/s\", syn_burst = 20");
    let steady = range.steady();
    let door = HOST_FOR_ATTACKER.at(Family::V4, PORT);
    let target = ATTACKER.v4.to_string();
    range.stage.attacker_ping(Family::V4).until_answered().unwrap();

    wait_until("the flood is found", PATIENCE, || {
        let begun = knock(&range.stage.lab.attacker, ATTACKER.v4.into(), door, 200).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        drop(begun);
        !range.findings("connection-flood").is_empty()
    })
    .unwrap();

    let asked = range.expect(&Outcome {
        rule: "connection-flood",
        about: &format!("source:{target}"),
        words: "packets in 15s",
        decided: ("drop the source", "waiting", 10),
    });
    assert!(range.findings("packet-flood").is_empty(), "it is told apart");
    assert!(range.stage.block_of(&target).is_none(), "a sender can be forged");
    range.approve(&asked);
    range.stage.expect_dropped(&range.stage.attacker_ping(Family::V4), &target);
    range.take_back(&asked);
    range.stage.attacker_ping(Family::V4).until_answered().unwrap();
    expect_spotless(steady);
    range.expect_whole_log();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_network_whose_sources_flood_together_is_dropped_when_an_operator_says_so() {
    let range = with_budget("packets = \"50/s\", burst = 50");
    let steady = range.steady();
    let sink = Sink::open(&range.stage.lab.host, HOST_FOR_ATTACKER.at(Family::V4, 0)).unwrap();

    // Each a little: none of them goes on for long enough to be found by itself.
    for host in 1..=120 {
        let source = Ipv4Addr::new(10, 88, 7, host).into();
        let flood = Flood { packets: 120, payload: 64 };
        flood.send_as(&range.stage.lab.attacker, source, sink.address()).unwrap();
    }

    let asked = range.expect(&Outcome {
        rule: "flood-from-a-network",
        about: "source:10.88.7.0/24",
        words: "packets in 15s",
        decided: ("drop the source", "waiting", 10),
    });
    assert!(range.findings("packet-flood").is_empty());
    range.approve(&asked);
    assert!(range.stage.block_of("10.88.7.0/24").is_some());
    assert!(!range.stage.reaches(&["10.88.7.200"]), "one that has sent nothing yet");
    assert!(range.stage.reaches(&["10.88.8.200"]), "a network beside it");
    range.take_back(&asked);
    assert!(range.stage.reaches(&["10.88.7.201"]));
    expect_spotless(steady);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_scanner_that_sends_several_kinds_of_malformed_requests_is_dropped() {
    let range = Range::new(&[("scanner", "auto")], "");
    let steady = range.steady();
    let scanner = range.stage.attacker(Family::V4);
    for request in MALFORMED {
        // Refused, and the connection ended, before anything of it is read as HTTP.
        if !range.findings("scanner").is_empty() {
            break;
        }
        assert!(send_raw(&scanner, request).unwrap() >= 400);
    }

    let finding = range.finding("scanner");

    let decision = range.decision(&finding, "drop the source", "in-force");
    assert!(range.stage.block_of(&ATTACKER.v4.to_string()).is_some());
    range.expect_recorded(&finding, &decision);
    expect_spotless(steady);
}
