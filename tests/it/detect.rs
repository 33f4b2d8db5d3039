//! What counts as guessing keys, who is found to do it, and what follows.

use std::time::Duration;

use enforcer_tests::lab::{
    ATTACKER, CLIENT, DEADLINE, Family, Forgery, HOST_FOR_ATTACKER, Http, PORT, Sink, wait_until,
};

use crate::stage::{HOOKS, Hook, Stage, THRESHOLD, orders, policy};

/// Packets that a forger sends of each kind; so many datagrams fit a socket's buffer.
const FORGED: u32 = 100;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_address_that_guesses_keys_is_dropped_in_the_kernel_on_both_families_and_hooks() {
    for hook in HOOKS {
        let stage = Stage::new(hook);
        let reader = stage.key("client", "reader");
        for family in Family::BOTH {
            let ping = stage.attacker_ping(family);
            ping.until_answered().unwrap();
            let target = ATTACKER.of(family).to_string();

            assert!(stage.blocked_after_guessing(family).contains(&target));

            stage.expect_dropped(&ping, &target);
            let row = stage.block_of(&target).unwrap();
            assert_eq!(row["author"]["rule"], "key-guessing", "{row}");
            assert_eq!(row["layer7"], true);
            let served = stage.client(family).ask(&orders().key(&reader)).unwrap();
            assert_eq!(served.status, 200);
        }
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn one_failure_fewer_than_the_threshold_blocks_nobody() {
    for (fewer, full) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        let stage = Stage::new(Hook::Native);

        stage.guess(fewer, THRESHOLD - 1);

        assert_eq!(stage.blocked_after_guessing(full), [ATTACKER.of(full).to_string()]);
        stage.attacker_ping(fewer).until_answered().unwrap();
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_request_without_any_credential_is_not_a_guess() {
    let stage = Stage::new(Hook::Native);
    let mut connection = stage.attacker(Family::V4).connect(Http::One).unwrap();

    for _ in 0..THRESHOLD * 3 {
        assert_eq!(connection.ask(&orders()).unwrap().status, 401);
    }

    assert_eq!(stage.blocked_after_guessing(Family::V6), [ATTACKER.v6.to_string()]);
    assert_eq!(connection.ask(&orders()).unwrap().status, 401, "nor is its connection closed");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn packets_with_a_forged_source_block_nobody() {
    for (forged, own) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        let stage = Stage::new(Hook::Native);
        let reader = stage.key("client", "reader");
        let door = HOST_FOR_ATTACKER.at(forged, PORT);
        let sink = Sink::open(&stage.lab.host, HOST_FOR_ATTACKER.at(forged, 0)).unwrap();
        // Whoever is not known yet is asked for, and the first packets wait.
        stage.attacker_ping(forged).until_answered().unwrap();
        let steady = stage.client(forged).steadily(orders().key(&reader), Duration::from_millis(2));

        let forgery = Forgery::begin(&stage.lab.attacker, CLIENT.of(forged)).unwrap();
        forgery.knock(door, FORGED).unwrap();
        forgery.datagrams(sink.address(), FORGED).unwrap();
        sink.wait_for(u64::from(FORGED)).unwrap();
        drop(forgery);

        assert_eq!(stage.blocked_after_guessing(own), [ATTACKER.of(own).to_string()]);
        let tally = steady.finish().unwrap();
        assert!(tally.is_spotless(), "{tally:?}");
        stage.client_ping(forged).until_answered().unwrap();
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_rule_that_only_observes_puts_its_finding_on_record_and_blocks_nobody() {
    let observing = policy(Hook::Native).replace("mode     = \"auto\"", "mode     = \"observe\"");
    let stage = Stage::with_policy(&observing);

    stage.guess(Family::V4, THRESHOLD);

    wait_until("the finding is on record", DEADLINE, || !stage.records_of("finding").is_empty())
        .unwrap();
    let findings = stage.records_of("finding");
    assert_eq!(findings.len(), 1, "{findings:?}");
    let finding = &findings[0]["body"];
    assert_eq!(finding["mode"], "observe", "{finding}");
    assert!(finding["block"].is_null(), "{finding}");
    assert!(finding.to_string().contains(&ATTACKER.v4.to_string()), "{finding}");
    assert_eq!(stage.json(&["blocks"]).as_array().unwrap().len(), 0);
    assert!(stage.records_of("block").is_empty());
    stage.attacker_ping(Family::V4).until_answered().unwrap();
}
