//! Where the program sits, who sits there already, and how it leaves.

use std::time::Duration;

use enforcer_kernel::{Attach, Budgets, Config, Egress, Kernel, Mode, OnAgentLoss};
use enforcer_tests::lab::{
    ATTACKER, ATTACKER_FACING, CLIENT_FACING, Family, Flood, HOST_FOR_ATTACKER, Sink, wait_until,
};
use serde_json::Value;

use crate::stage::{HOOKS, Hook, SILENCE, Stage, policy};

/// Longer than an agent waits before it tries again by itself.
const TRIES_AGAIN: Duration = Duration::from_secs(40);

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn beside_the_program_of_somebody_else_traffic_control_is_taken_and_that_is_told() {
    let stage = Stage::without_agent(&policy(Hook::Native).replace("\"native\"", "\"auto\""));
    let theirs = somebody_else(&stage);
    let mut stage = stage;

    stage.start();

    let status = stage.json(&["status"]);
    assert_eq!(status["kernel"]["problem"], Value::Null, "nothing is weaker: {status}");
    let hook = |name: &str| {
        let hooks = status["kernel"]["hooks"].as_array().unwrap();
        hooks.iter().find(|hook| hook["interface"] == name).unwrap().clone()
    };
    assert_eq!(hook(ATTACKER_FACING)["ingress"], "tcx", "{status}");
    assert!(hook(ATTACKER_FACING)["foreign"].to_string().contains("xdp "), "{status}");
    assert_eq!(hook(CLIENT_FACING)["ingress"], "xdp-native", "{status}");
    assert_eq!(hook(CLIENT_FACING)["foreign"], Value::Array(Vec::new()));
    let doctor = stage.offline(&["doctor"]);
    assert!(doctor.stdout.contains("judged at tcx, not in the driver"), "{doctor}");
    assert!(doctor.stdout.contains("also runs xdp"), "{doctor}");
    for family in Family::BOTH {
        let target = ATTACKER.of(family).to_string();
        stage.quarantine(&[&target]);
        stage.expect_dropped(&stage.attacker_ping(family), &target);
    }
    drop(theirs);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_agent_tells_who_has_its_place_and_takes_it_when_it_is_free_unless_it_was_detached_by_hand() {
    let detached = Stage::new(Hook::Native);
    assert!(detached.enforcer(&["kernel", "detach", "--yes"]).is_success());
    let mut stage = Stage::without_agent(&policy(Hook::Native));
    let theirs = somebody_else(&stage);

    stage.start();

    let problem = stage.problem().unwrap();
    for told in [ATTACKER_FACING, "already runs the XDP program", "auto"] {
        assert!(problem.contains(told), "{told}: {problem}");
    }
    assert!(stage.agent.as_ref().unwrap().said().contains("KERNEL PART IS OFF"));
    assert_eq!(stage.json(&["status"])["kernel"]["mode"], "off");
    let target = ATTACKER.of(Family::V4).to_string();
    let blocked = stage.enforcer(&["quarantine", &target, "--reason", "test"]);
    assert_eq!(blocked.code, Some(6), "{blocked}");
    assert!(blocked.stdout.contains("NOT applied"), "{blocked}");
    let refused = stage.enforcer(&["kernel", "attach"]);
    assert_eq!(refused.code, Some(6), "{refused}");
    assert!(refused.stdout.contains("already runs the XDP program"), "{refused}");
    let doctor = stage.offline(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "{doctor}");
    assert!(doctor.stdout.contains("sits there"), "{doctor}");

    theirs.detach().unwrap();
    wait_until("the agent tries again by itself", TRIES_AGAIN, || {
        std::thread::sleep(Duration::from_millis(100));
        stage.problem().is_none()
    })
    .unwrap();
    stage.expect_dropped(&stage.attacker_ping(Family::V4), &target);
    stage.expect_verified();
    // This one had its time to try again as well, and was told not to.
    assert!(detached.problem().unwrap().contains("DETACHED by an operator"));
    assert!(detached.pinned().is_err());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_was_detached_by_hand_leaves_nothing_stays_off_and_comes_back_with_every_block() {
    for hook in [Hook::Native, Hook::Clsact] {
        let stage = Stage::new(hook);
        stage.crowd();
        let file = stage.file("feed.txt", "10.88.9.0/24\nfd88:9::/32\n");
        stage.quarantine(&["10.88.7.7", "fd88:7::7"]);
        assert!(stage.enforcer(&["blocks", "import", &file, "--reason", "test"]).is_success());
        let blocked = ["10.88.7.7", "fd88:7::7", "10.88.9.9", "fd88:9::9"];
        assert!(!stage.reaches(&blocked), "{hook:?}");

        let asked = stage.enforcer(&["kernel", "detach"]);
        assert_eq!(asked.code, Some(2), "{asked}");
        let detached = stage.enforcer(&["kernel", "detach", "--yes"]);

        assert!(detached.is_success(), "{detached}");
        assert!(detached.stdout.contains("undo: enforcer kernel attach"), "{detached}");
        assert!(stage.reaches(&blocked), "{hook:?}");
        assert!(stage.pinned().is_err(), "{hook:?}: something stays pinned");
        for interface in [CLIENT_FACING, ATTACKER_FACING] {
            let link = stage.lab.host.ip(&format!("-details link show {interface}")).unwrap();
            assert!(!link.contains("xdp"), "{hook:?}: {link}");
            let queues = tc(&stage, &["qdisc", "show", "dev", interface]);
            assert!(!queues.contains("clsact"), "{hook:?}: {queues}");
        }
        // Another policy does not put it back.
        stage.apply(&(policy(hook) + "\n# changed\n"));
        let problem = stage.problem().unwrap();
        assert!(problem.contains("DETACHED by an operator"), "{problem}");
        assert!(stage.reaches(&blocked), "{hook:?}");
        let verified = stage.enforcer(&["blocks", "--verify"]);
        assert!(verified.stdout.contains("the kernel part is off"), "{verified}");

        let attached = stage.enforcer(&["kernel", "attach"]);

        assert!(attached.is_success(), "{attached}");
        assert!(!stage.reaches(&blocked), "{hook:?}");
        assert!(stage.reaches(&["10.88.7.8", "fd88:7::8"]), "{hook:?}");
        assert_eq!(stage.problem(), None);
        stage.expect_verified();
        let what: Vec<_> =
            stage.records_of("config").iter().map(|one| one["body"]["what"].clone()).collect();
        assert!(what.ends_with(&["kernel-attached".into()]), "{what:?}");
        assert!(what.contains(&"kernel-detached".into()), "{what:?}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_filter_that_somebody_else_removes_is_put_back_and_recorded() {
    let stage = Stage::new(Hook::Clsact);
    let target = ATTACKER.of(Family::V4).to_string();
    stage.quarantine(&[&target]);
    let ping = stage.attacker_ping(Family::V4);
    stage.expect_dropped(&ping, &target);

    tc(&stage, &["qdisc", "delete", "dev", ATTACKER_FACING, "clsact"]);

    wait_until("it judges again", Duration::from_secs(4), || {
        ping.once(SILENCE).unwrap().is_none() && stage.problem().is_none()
    })
    .unwrap();
    stage.expect_dropped(&ping, &target);
    let what: Vec<_> =
        stage.records_of("config").iter().map(|one| one["body"]["what"].clone()).collect();
    assert!(what.ends_with(&["kernel-lost".into(), "kernel-attached".into()]), "{what:?}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn nobody_takes_the_program_off_an_interface_by_the_usual_means() {
    for hook in HOOKS {
        let stage = Stage::new(hook);
        let target = ATTACKER.of(Family::V4).to_string();
        stage.quarantine(&[&target]);
        let before = stage.json(&["status"])["kernel"]["interfaces"].clone();

        for words in ["xdp off", "xdpgeneric off", "xdpdrv off"] {
            let removed = stage.lab.host.ip(&format!("link set {ATTACKER_FACING} {words}"));
            // The kernel keeps a link that is pinned; some ways of asking are passed over.
            drop(removed);
        }

        stage.expect_dropped(&stage.attacker_ping(Family::V4), &target);
        assert_eq!(stage.json(&["status"])["kernel"]["interfaces"], before);
        assert_eq!(stage.problem(), None);
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn frames_of_every_length_are_judged_while_the_interface_changes_its_own() {
    for hook in [Hook::Native, Hook::Tcx] {
        let stage = Stage::new(hook);
        let pings = Family::BOTH.map(|family| stage.attacker_ping(family));
        let targets = Family::BOTH.map(|family| ATTACKER.of(family).to_string());
        for mtu in [9_000, 1_500] {
            stage.lab.host.ip(&format!("link set {ATTACKER_FACING} mtu {mtu}")).unwrap();
            stage.lab.attacker.ip(&format!("link set eth0 mtu {mtu}")).unwrap();
            for (family, (ping, target)) in Family::BOTH.iter().zip(pings.iter().zip(&targets)) {
                ping.until_answered().unwrap();
                let sink = Sink::open(&stage.lab.host, HOST_FOR_ATTACKER.at(*family, 0)).unwrap();
                let long = Flood { packets: 5, payload: mtu - 100 };
                assert_eq!(long.send(&stage.lab.attacker, sink.address()).unwrap(), 5);
                sink.wait_for(5).unwrap();

                stage.quarantine(&[target]);
                assert_eq!(long.send(&stage.lab.attacker, sink.address()).unwrap(), 5);
                stage.expect_dropped(ping, target);
                assert_eq!(sink.received(), 5, "{hook:?} {mtu}: a long frame passed");
                assert!(stage.enforcer(&["release", target]).is_success());
            }
            wait_until("status tells the length", Duration::from_secs(3), || {
                let hooks = stage.json(&["status"])["kernel"]["hooks"].clone();
                let mut hooks = hooks.as_array().unwrap().iter();
                hooks.any(|hook| hook["interface"] == ATTACKER_FACING && hook["mtu"] == mtu)
            })
            .unwrap();
            assert_eq!(stage.problem(), None);
        }
    }
}

/// Another program at the attacker's interface, which lets everything pass.
fn somebody_else(stage: &Stage) -> Kernel {
    let config = Config {
        interfaces: vec![ATTACKER_FACING.to_owned()],
        attach: Attach::Native,
        egress: Egress::Off,
        mode: Mode::Off,
        budgets: Budgets::default(),
        blocks: 64,
        sources: 64,
        on_agent_loss: OnAgentLoss::Keep,
        pins: stage.lab.host.path("/sys/fs/bpf/somebody-else"),
    };
    stage.lab.host.run(|| Kernel::attach(&config, &[], &[])).unwrap().unwrap()
}

fn tc(stage: &Stage, words: &[&str]) -> String {
    let mut command = stage.lab.host.command("tc");
    command.args(words);
    stage.lab.host.succeed(command).unwrap()
}
