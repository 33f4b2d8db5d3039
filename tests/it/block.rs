//! From an operator's decision to the packets that no longer pass, and back.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use enforcer_tests::lab::{
    ATTACKER, Ask, CLIENT, DEADLINE, Family, HOST_FOR_ATTACKER, Train, wait_until,
};

use crate::stage::{HOOKS, Hook, SILENCE, Stage, orders};

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
            stage.expect_dropped(&ping, &target);

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
    stage.expect_dropped(&ping, "10.77.2.2/31");
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
    stage.expect_dropped(&stage.attacker_ping(Family::V4), network);
    let asked = stage.records_of("admin").pop().unwrap();
    assert!(asked["body"]["arguments"].to_string().contains("override-guard"), "{asked}");
    let change = stage.records_of("block").pop().unwrap();
    assert_eq!(change["body"]["what"], "applied", "{change}");
    let detail = change["body"]["detail"].as_str().unwrap();
    assert!(detail.contains("overrode: ") && detail.contains("10.77.2.1"), "{change}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_block_ends_by_itself_with_and_without_the_agent() {
    // Each hook and each circumstance once; the four products would show no more.
    for (hook, with_agent) in [(Hook::Native, false), (Hook::Generic, true)] {
        let mut stage = Stage::new(hook);
        let targets = Family::BOTH.map(|family| ATTACKER.of(family).to_string());
        let pings = Family::BOTH.map(|family| stage.attacker_ping(family));
        let begun = Instant::now();

        for target in &targets {
            let words = ["quarantine", target, "--for", "3s", "--reason", "test"];
            assert!(stage.enforcer(&words).is_success());
        }
        if !with_agent {
            stage.kill();
        }
        assert!(pings.iter().all(|ping| ping.once(SILENCE).unwrap().is_none()));

        for ping in &pings {
            ping.until_answered().unwrap();
            let lasted = begun.elapsed();
            assert!(lasted >= Duration::from_secs(3), "{lasted:?}");
        }
        if with_agent {
            wait_until("the decisions are cleared away", DEADLINE, || {
                targets.iter().all(|target| stage.block_of(target).is_none())
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
        let (ended, end) = channel();
        std::thread::spawn({
            let (client, reader) = (client.clone(), reader.clone());
            // A hundred seconds of drip, had nobody stepped in.
            move || drop(ended.send(client.ask(&Ask::get("/v1/drip/1000/100").key(&reader))))
        });
        stage.upstream.wait_for_requests(before + 1).unwrap();

        let done = stage.json(&["quarantine", &target, "--reason", "test"]);

        assert_eq!(done["connections_closed"], 1, "{done}");
        // Well before the client itself would lose its patience.
        let answer = end.recv_timeout(DEADLINE / 2).unwrap();
        assert!(answer.is_err(), "{target}: {answer:?}");
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
fn a_dry_run_says_what_would_happen_does_nothing_and_is_on_record_as_one() {
    let stage = Stage::new(Hook::Native);
    let target = ATTACKER.of(Family::V6).to_string();

    let told = stage.enforcer(&["quarantine", &target, "--reason", "test", "--dry-run"]);

    assert!(told.is_success() && told.stdout.contains("would block"), "{told}");
    stage.attacker_ping(Family::V6).until_answered().unwrap();
    assert!(stage.block_of(&target).is_none());
    let asked = stage.records_of("admin").pop().unwrap();
    assert_eq!(asked["body"]["verb"], "quarantine", "{asked}");
    assert!(asked["body"]["arguments"].to_string().contains("dry-run"), "{asked}");
    assert!(stage.records_of("block").is_empty());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn no_packet_passes_while_a_killed_agent_is_replaced() {
    for hook in HOOKS {
        let mut stage = Stage::new(hook);
        let targets = Family::BOTH.map(|family| ATTACKER.of(family).to_string());
        for target in &targets {
            assert!(stage.enforcer(&["quarantine", target, "--reason", "test"]).is_success());
        }
        let trains = Family::BOTH.map(|family| {
            let host = HOST_FOR_ATTACKER.of(family);
            Train::start(&stage.lab.attacker, host, Duration::from_millis(1)).unwrap()
        });

        stage.kill();
        assert_eq!(stage.enforcer(&["status"]).code, Some(5));
        let held = stage.offline(&["blocks", "--from-kernel"]);
        assert!(targets.iter().all(|target| held.stdout.contains(target)), "{held}");
        stage.start();
        assert!(stage.enforcer(&["blocks", "--verify"]).is_success());

        for train in trains {
            let echoes = train.stop();
            assert!(echoes.len() > 20, "{} echoes", echoes.len());
            assert!(echoes.iter().all(|echo| echo.answered.is_none()), "a packet passed");
        }
        for (family, target) in Family::BOTH.into_iter().zip(&targets) {
            assert!(stage.enforcer(&["release", target]).is_success());
            stage.attacker_ping(family).until_answered().unwrap();
        }
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_difference_between_decision_and_kernel_is_found_and_mended() {
    let stage = Stage::new(Hook::Native);
    let target = ATTACKER.of(Family::V4).to_string();
    assert!(stage.enforcer(&["quarantine", &target, "--reason", "test"]).is_success());

    let asked = stage.offline(&["release", "--from-kernel", &target]);
    assert_eq!(asked.code, Some(1), "that is the agent's to do: {asked}");
    // Somebody who does not ask for the agent where it is.
    let nowhere = format!("unix:{}", stage.site.folder().join("nobody.sock").display());
    let behind = ["--agent", nowhere.as_str(), "release", "--from-kernel", &target];
    let behind = stage.offline(&behind);
    assert!(behind.is_success(), "{behind}");

    // Whoever looks first finds it: the operator, or the agent in one of its rounds.
    let found = stage.enforcer(&["blocks", "--verify"]);
    let is_told = found.code == Some(7) && found.stdout.contains("not in the kernel");
    assert!(is_told || found.is_success(), "{found}");
    assert!(stage.enforcer(&["blocks", "--verify", "--repair"]).is_success());
    stage.expect_dropped(&stage.attacker_ping(Family::V4), &target);
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
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn blocks_come_back_after_a_reboot_with_the_time_that_is_left() {
    for hook in HOOKS {
        let mut stage = Stage::new(hook);
        let targets = Family::BOTH.map(|family| ATTACKER.of(family).to_string());
        let before = targets.clone().map(|target| {
            let words = ["quarantine", &target, "--for", "1m", "--reason", "test"];
            assert!(stage.enforcer(&words).is_success());
            stage.block_of(&target).unwrap()
        });
        stage.agent.take().unwrap().terminate().unwrap();
        // What a reboot does: the kernel forgets everything, the disk nothing.
        assert!(stage.offline(&["detach", "--yes"]).is_success());
        for family in Family::BOTH {
            stage.attacker_ping(family).until_answered().unwrap();
        }
        std::thread::sleep(Duration::from_secs(1));

        stage.start();

        for (family, before) in Family::BOTH.into_iter().zip(before) {
            let target = ATTACKER.of(family).to_string();
            stage.expect_dropped(&stage.attacker_ping(family), &target);
            let row = stage.block_of(&target).unwrap();
            for same in ["id", "since", "until", "reason", "author"] {
                assert_eq!(row[same], before[same], "{same}");
            }
            assert_eq!(row["layer7"], true, "{row}");
            let left = row["kernel"]["remaining_seconds"].as_u64().unwrap();
            assert!((1..59).contains(&left), "{left}");
        }
        assert!(stage.enforcer(&["blocks", "--verify"]).is_success());
    }
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
    stage.expect_dropped(&stage.attacker_ping(Family::V6), &target);
}
