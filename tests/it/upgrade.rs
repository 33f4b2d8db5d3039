//! Agents and programs come and go, and packets do not notice.

use std::fs;

use aya::maps::MapData;
use enforcer_tests::lab::{ATTACKER, Family};

use crate::stage::{Hook, SILENCE, Stage};

/// Who is blocked and who is not, of the attacker's crowd, for each family.
const V4: [&str; 2] = ["10.88.0.1", "10.88.0.2"];
const V6: [&str; 2] = ["fd88::1", "fd88::2"];

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn no_packet_passes_or_is_lost_while_agents_are_killed_and_replaced_around_xdp() {
    agents_come_and_go([Hook::Native, Hook::Generic]);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn no_packet_passes_or_is_lost_while_agents_are_killed_and_replaced_around_traffic_control() {
    agents_come_and_go([Hook::Tcx, Hook::Clsact]);
}

fn agents_come_and_go(hooks: [Hook; 2]) {
    for hook in hooks {
        let mut stage = Stage::new(hook);
        stage.crowd();
        stage.quarantine(&[V4[0], V6[0]]);
        let place = format!("enf-attacker {}", hook.place());
        let streams = [stage.stream(&V4), stage.stream(&V6)];
        let flow = || streams.iter().for_each(|stream| stream.flow(20).unwrap());
        let is_in_place = |stage: &Stage| {
            let interfaces = stage.json(&["status"])["kernel"]["interfaces"].to_string();
            interfaces.contains(&place).then_some(()).ok_or(interfaces)
        };
        is_in_place(&stage).unwrap();

        stage.kill();
        flow();
        let held = stage.offline(&["blocks", "--from-kernel"]);
        assert!([V4[0], V6[0]].iter().all(|one| held.stdout.contains(one)), "{held}");
        stage.start();
        is_in_place(&stage).unwrap();
        let upgraded = stage.enforcer(&["kernel", "upgrade"]);
        assert!(upgraded.is_success() && upgraded.stdout.contains("in the place of"), "{upgraded}");
        flow();
        stage.agent.take().unwrap().terminate().unwrap();
        let upgraded = stage.offline(&["kernel", "upgrade"]);
        assert!(upgraded.is_success() && upgraded.stdout.contains("enf-attacker"), "{upgraded}");
        let status = stage.offline(&["kernel", "status"]);
        assert!(status.stdout.contains(&place), "{status}");
        flow();
        stage.start();
        is_in_place(&stage).unwrap();
        flow();

        for stream in streams {
            let passages = stream.stop().unwrap();
            assert!(passages[0].is_shut_out(), "{hook:?}: {:?}", passages[0]);
            assert!(passages[1].is_served(), "{hook:?}: {:?}", passages[1]);
        }
        stage.expect_verified();
        assert_eq!(stage.problem(), None);
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_another_layout_left_in_force_is_taken_over_without_a_gap() {
    for hook in [Hook::Native, Hook::Tcx] {
        let mut stage = Stage::new(hook);
        stage.crowd();
        stage.quarantine(&[V4[0], V6[0]]);
        let streams = [stage.stream(&V4), stage.stream(&V6)];
        let pins = stage.lab.host.path("/sys/fs/bpf/enforcer");
        for other in ["v1", "v9"] {
            stage.kill();
            fs::rename(pins.join("v2"), pins.join(other)).unwrap();
            let told = stage.offline(&["blocks", "--from-kernel"]);
            assert_eq!(told.code, Some(1), "{told}");
            assert!(told.stderr.contains("program of another version"), "{told}");

            stage.start();

            streams.iter().for_each(|stream| stream.flow(20).unwrap());
            assert!(!pins.join(other).exists() && pins.join("v2").exists());
            stage.expect_verified();
        }
        for stream in streams {
            let passages = stream.stop().unwrap();
            assert!(passages[0].is_shut_out(), "{hook:?}: {:?}", passages[0]);
            assert!(passages[1].is_served(), "{hook:?}: {:?}", passages[1]);
        }
        assert_eq!(stage.problem(), None);
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn pins_that_are_not_what_they_seem_keep_an_agent_from_attaching_and_the_old_program_in_force() {
    let mut stage = Stage::new(Hook::Native);
    let target = ATTACKER.of(Family::V4).to_string();
    stage.quarantine(&[&target]);
    stage.kill();
    let pins = stage.lab.host.path("/sys/fs/bpf/enforcer/v2");
    // Another map under the name of one of ours.
    fs::rename(pins.join("CONFIG"), pins.join("../aside")).unwrap();
    MapData::from_pin(pins.join("FLOOD")).unwrap().pin(pins.join("CONFIG")).unwrap();

    stage.start();

    let problem = stage.problem().unwrap();
    assert!(problem.contains("CONFIG"), "{problem}");
    assert!(stage.agent.as_ref().unwrap().said().contains("KERNEL PART IS OFF"));
    let blocked = stage.enforcer(&["quarantine", "203.0.113.7", "--reason", "test"]);
    assert_eq!(blocked.code, Some(6), "{blocked}");
    let ping = stage.attacker_ping(Family::V4);
    assert!(ping.once(SILENCE).unwrap().is_none(), "the old program drops on");

    fs::remove_file(pins.join("CONFIG")).unwrap();
    fs::rename(pins.join("../aside"), pins.join("CONFIG")).unwrap();
    let attached = stage.enforcer(&["kernel", "attach"]);
    assert!(attached.is_success(), "{attached}");
    assert_eq!(stage.problem(), None);
    stage.expect_dropped(&ping, &target);
    stage.expect_verified();
}
