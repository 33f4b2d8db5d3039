//! From a decision to the packets that no longer pass, by rule and by hand.

use std::time::{Duration, Instant};

use enforcer_tests::lab::{
    ATTACKER, Ask, CLIENT, DEADLINE, Family, HOST_FOR_ATTACKER, Http, Train, wait_until,
};

use crate::stage::{HOOKS, Hook, SILENCE, Stage, THRESHOLD, orders};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_address_that_guesses_keys_is_dropped_in_the_kernel_on_both_families_and_hooks() {
    for hook in HOOKS {
        for family in Family::BOTH {
            let stage = Stage::new(hook);
            let reader = stage.key("client", "reader");
            let ping = stage.attacker_ping(family);
            ping.until_answered().unwrap();

            stage.guess(family, THRESHOLD);

            wait_until("the attacker is blocked", DEADLINE, || {
                ping.once(SILENCE).unwrap().is_none()
            })
            .unwrap();
            let row = stage.block_of(&ATTACKER.of(family).to_string()).unwrap();
            assert_eq!(row["author"]["rule"], "key-guessing", "{row}");
            assert!(row["kernel"]["packets"].as_u64().unwrap() > 0, "{row}");
            assert_eq!(row["layer7"], true);
            let served = stage.client(family).ask(&orders().key(&reader)).unwrap();
            assert_eq!(served.status, 200);
        }
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn one_failure_fewer_than_the_threshold_blocks_nobody() {
    let stage = Stage::new(Hook::Native);

    stage.guess(Family::V4, THRESHOLD - 1);

    assert_eq!(stage.json(&["blocks"]).as_array().unwrap().len(), 0);
    stage.attacker_ping(Family::V4).until_answered().unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_request_without_any_credential_is_not_a_guess() {
    let stage = Stage::new(Hook::Native);
    let mut connection = stage.attacker(Family::V4).connect(Http::One).unwrap();

    for _ in 0..THRESHOLD * 3 {
        assert_eq!(connection.ask(&orders()).unwrap().status, 401);
    }

    assert_eq!(stage.json(&["blocks"]).as_array().unwrap().len(), 0);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn quarantine_is_in_the_kernel_when_it_returns_and_release_lifts_it() {
    for hook in HOOKS {
        let stage = Stage::new(hook);
        for family in Family::BOTH {
            let target = CLIENT.of(family).to_string();
            let ping = stage.client_ping(family);
            ping.until_answered().unwrap();

            let done = stage.json(&["quarantine", &target, "--for", "5m", "--reason", "test"]);
            assert!(ping.once(SILENCE).unwrap().is_none());

            let interfaces = done["kernel"]["interfaces"].to_string();
            assert!(interfaces.contains("enf-client xdp-"), "{interfaces}");
            assert_eq!(done["layer7"], true);
            assert!(done["audit"].as_u64().is_some());
            let left = done["kernel"]["remaining_seconds"].as_u64().unwrap();
            assert!((298..=300).contains(&left), "{left}");

            let id = done["block"]["id"].as_str().unwrap();
            let released = stage.json(&["release", id]);
            assert_eq!(released["kernel"], true);
            assert!(released["packets"].as_u64().unwrap() >= 1);
            ping.until_answered().unwrap();
        }
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_network_stays_blocked_when_a_shorter_lived_block_inside_it_ends() {
    let stage = Stage::new(Hook::Native);
    let ping = stage.attacker_ping(Family::V4);
    ping.until_answered().unwrap();

    let network = ["quarantine", "10.77.2.2/31", "--for", "5m", "--reason", "test"];
    assert!(stage.enforcer(&network).is_success());
    let address = ["quarantine", "10.77.2.2", "--for", "1s", "--reason", "test"];
    assert!(stage.enforcer(&address).is_success());

    wait_until("the shorter block is over", DEADLINE, || stage.block_of("10.77.2.2").is_none())
        .unwrap();
    assert!(ping.once(SILENCE).unwrap().is_none());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_guard_is_overridden_only_by_typing_the_target_again() {
    let stage = Stage::new(Hook::Native);
    // The network holds the host's own address.
    let network = "10.77.2.0/25";
    let words = ["quarantine", network, "--reason", "test", "--override-guard"];

    let slip = stage.typing(&words, "10.77.2.0/24\n");
    assert_eq!(slip.code, Some(2), "{slip}");
    assert!(stage.block_of(network).is_none());

    let meant = stage.typing(&words, "10.77.2.0/25\n");
    assert!(meant.is_success(), "{meant}");
    assert!(meant.stdout.contains("overridden: 10.77.2.1"), "{meant}");
    assert!(stage.attacker_ping(Family::V4).once(SILENCE).unwrap().is_none());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_block_ends_by_itself_with_and_without_the_agent() {
    for with_agent in [true, false] {
        let mut stage = Stage::new(Hook::Native);
        let target = ATTACKER.of(Family::V4).to_string();
        let ping = stage.attacker_ping(Family::V4);
        let begun = Instant::now();

        assert!(
            stage
                .enforcer(&["quarantine", &target, "--for", "2s", "--reason", "test"])
                .is_success()
        );
        if !with_agent {
            stage.kill();
        }
        assert!(ping.once(SILENCE).unwrap().is_none());

        ping.until_answered().unwrap();
        let lasted = begun.elapsed();
        assert!(lasted >= Duration::from_secs(2), "{lasted:?}");
        if with_agent {
            wait_until("the decision is cleared away", DEADLINE, || {
                stage.block_of(&target).is_none()
            })
            .unwrap();
            let verified = stage.enforcer(&["blocks", "--verify"]);
            assert!(verified.is_success(), "{verified}");
        }
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_quarantined_key_is_refused_at_layer_7_and_its_address_is_not() {
    let stage = Stage::new(Hook::Native);
    let (bad, good) = (stage.key("bad", "reader"), stage.key("good", "reader"));
    let id = bad.split('_').nth(2).unwrap();

    let done = stage.json(&["quarantine", &format!("key:{id}"), "--reason", "leaked"]);

    assert_eq!(done["kernel"], serde_json::Value::Null);
    let client = stage.client(Family::V4);
    assert_eq!(client.ask(&orders().key(&bad)).unwrap().status, 403);
    assert_eq!(client.ask(&orders().key(&good)).unwrap().status, 200);
    assert!(stage.enforcer(&["release", &format!("key:{id}")]).is_success());
    assert_eq!(client.ask(&orders().key(&bad)).unwrap().status, 200);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_download_under_way_ends_when_its_source_or_its_key_is_shut_out() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    let id = reader.split('_').nth(2).unwrap();
    let client = stage.client(Family::V4);
    let targets = [CLIENT.of(Family::V4).to_string(), format!("key:{id}")];

    for target in targets {
        let before = stage.upstream.requests();
        let download = std::thread::spawn({
            let (client, reader) = (client.clone(), reader.clone());
            // A hundred seconds of drip, had nobody stepped in.
            move || client.ask(&Ask::get("/v1/drip/1000/100").key(&reader))
        });
        stage.upstream.wait_for_requests(before + 1).unwrap();

        let done = stage.json(&["quarantine", &target, "--reason", "test"]);

        assert_eq!(done["connections_closed"], 1, "{done}");
        let begun = Instant::now();
        if target.starts_with("key:") {
            assert!(download.join().unwrap().is_err());
            assert!(begun.elapsed() < Duration::from_secs(2));
        }
        assert!(stage.enforcer(&["release", &target]).is_success());
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn guards_refuse_and_name_what_they_protect() {
    let stage = Stage::new(Hook::Native);
    let cases = [
        ("127.0.0.1", "loopback"),
        ("10.77.1.1", "address of this host"),
        ("fd77:1::1", "address of this host"),
        ("10.77.9.7", "never-block list `monitoring`"),
        ("fd77:9::/64", "never-block list `monitoring`"),
        ("8.0.0.0/8", "wider than /16"),
        ("2600::/20", "wider than /32"),
    ];

    for (target, protection) in cases {
        let refused = stage.enforcer(&["quarantine", target, "--reason", "test"]);

        assert_eq!(refused.code, Some(4), "{target}: {refused}");
        assert!(refused.stderr.contains(protection), "{target}: {refused}");
        assert!(stage.block_of(target).is_none());
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_is_on_a_never_block_list_passes_even_inside_a_block() {
    let stage = Stage::new(Hook::Native);
    let network = "10.77.2.2/31";
    assert!(stage.enforcer(&["quarantine", network, "--reason", "test"]).is_success());
    let ping = stage.attacker_ping(Family::V4);
    assert!(ping.once(SILENCE).unwrap().is_none());

    let grown = crate::stage::policy(Hook::Native).replace("\"10.77.9.0/24\"", "\"10.77.2.2\"");
    stage.site.write_policy(&grown).unwrap();
    assert!(stage.enforcer(&["policy", "apply"]).is_success());

    ping.until_answered().unwrap();
    assert!(stage.block_of(network).is_some(), "the block stands for the rest of the network");
    let why = stage.json(&["blocks", "--why", "10.77.2.2"]);
    assert_eq!(why["verdict"], "pass", "{why}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_dry_run_says_what_would_happen_and_does_nothing() {
    let stage = Stage::new(Hook::Native);
    let target = ATTACKER.of(Family::V6).to_string();

    let told = stage.enforcer(&["quarantine", &target, "--reason", "test", "--dry-run"]);

    assert!(told.is_success() && told.stdout.contains("would block"), "{told}");
    stage.attacker_ping(Family::V6).until_answered().unwrap();
    assert!(stage.block_of(&target).is_none());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn no_packet_passes_while_a_killed_agent_is_replaced() {
    let mut stage = Stage::new(Hook::Native);
    let target = ATTACKER.of(Family::V4).to_string();
    assert!(stage.enforcer(&["quarantine", &target, "--reason", "test"]).is_success());
    let host = HOST_FOR_ATTACKER.of(Family::V4);
    let train = Train::start(&stage.lab.attacker, host, Duration::from_millis(1)).unwrap();

    stage.kill();
    assert_eq!(stage.enforcer(&["status"]).code, Some(5));
    let held = stage.offline(&["blocks", "--from-kernel"]);
    assert!(held.stdout.contains(&target), "{held}");
    stage.start();
    assert!(stage.enforcer(&["blocks", "--verify"]).is_success());

    let echoes = train.stop();
    assert!(echoes.len() > 100);
    assert!(echoes.iter().all(|echo| echo.answered.is_none()), "a packet passed");
    assert!(stage.enforcer(&["release", &target]).is_success());
    stage.attacker_ping(Family::V4).until_answered().unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_difference_between_decision_and_kernel_is_found_and_mended() {
    let stage = Stage::new(Hook::Native);
    let target = ATTACKER.of(Family::V4).to_string();
    assert!(stage.enforcer(&["quarantine", &target, "--reason", "test"]).is_success());

    assert!(stage.offline(&["release", "--from-kernel", &target]).is_success());

    let found = stage.enforcer(&["blocks", "--verify"]);
    assert_eq!(found.code, Some(7), "{found}");
    assert!(found.stdout.contains("not in the kernel"), "{found}");
    stage.attacker_ping(Family::V4).until_answered().unwrap();
    assert!(stage.enforcer(&["blocks", "--verify", "--repair"]).is_success());
    assert!(stage.attacker_ping(Family::V4).once(SILENCE).unwrap().is_none());
    assert!(stage.enforcer(&["blocks", "--verify"]).is_success());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn detaching_ends_every_block_and_only_without_an_agent() {
    let mut stage = Stage::new(Hook::Native);
    let target = ATTACKER.of(Family::V4).to_string();
    assert!(stage.enforcer(&["quarantine", &target, "--reason", "test"]).is_success());
    let refused = stage.offline(&["detach", "--yes"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    stage.kill();

    let unasked = stage.offline(&["detach"]);
    assert_eq!(unasked.code, Some(2), "{unasked}");
    assert!(stage.attacker_ping(Family::V4).once(SILENCE).unwrap().is_none());
    let done = stage.offline(&["detach", "--yes"]);
    assert!(done.is_success() && done.stdout.contains("enf-attacker"), "{done}");
    stage.attacker_ping(Family::V4).until_answered().unwrap();

    stage.start();
    assert!(stage.attacker_ping(Family::V4).once(SILENCE).unwrap().is_none(), "put back");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_block_written_without_an_agent_is_adopted_at_the_next_start() {
    let mut stage = Stage::new(Hook::Native);
    let target = ATTACKER.of(Family::V6).to_string();
    stage.kill();

    let words = ["quarantine", &target, "--kernel-only", "--for", "5m", "--reason", "at night"];
    let done = stage.offline(&words);
    assert!(done.is_success(), "{done}");
    assert!(stage.attacker_ping(Family::V6).once(SILENCE).unwrap().is_none());
    stage.start();

    let row = stage.block_of(&target).unwrap();
    assert_eq!(row["author"], "agent", "{row}");
    assert!(stage.enforcer(&["blocks", "--verify"]).is_success());
    assert!(stage.attacker_ping(Family::V6).once(SILENCE).unwrap().is_none());
}
