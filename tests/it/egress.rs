//! What this host sends: nothing to whom it has blocked, and counted by destination.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use enforcer_model::Prefix;
use enforcer_tests::lab::{
    ATTACKER, Ask, DEADLINE, Family, Flood, HOST_FOR_ATTACKER, HOST_FOR_CLIENT, Namespace, Sink,
    wait_until,
};

use serde_json::Value;

use crate::stage::{Hook, Stage, policy};

/// Some datagrams.
const FEW: Flood = Flood { packets: 20, payload: 100 };

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn nothing_is_sent_to_who_is_blocked_at_any_place_and_every_byte_is_counted() {
    for hook in [Hook::Native, Hook::Clsact] {
        let stage = Stage::new(hook);
        for family in Family::BOTH {
            let sink = Sink::open(&stage.lab.attacker, ATTACKER.at(family, 0)).unwrap();
            let target = ATTACKER.of(family).to_string();
            FEW.send(&stage.lab.host, sink.address()).unwrap();
            sink.wait_for(FEW.packets).unwrap();

            stage.quarantine(&[&target]);
            let before = stage.packets("out drop contained");
            drop(FEW.send(&stage.lab.host, sink.address()));

            wait_until("what goes out is dropped", DEADLINE, || {
                stage.packets("out drop contained") >= before + FEW.packets
            })
            .unwrap();
            assert_eq!(sink.received(), FEW.packets, "{hook:?} {family:?}");
            let talkers = stage.json(&["status", "--talkers", "10"])["talkers"].clone();
            let top = stage.json(&["top", "10", "--once"]);
            for seen in [talkers, top] {
                let bytes = sent_to(&seen, &target);
                assert!(bytes >= FEW.packets * 100, "{target}: {seen}");
            }
            assert!(stage.enforcer(&["release", &target]).is_success());
            FEW.send(&stage.lab.host, sink.address()).unwrap();
            sink.wait_for(FEW.packets * 2).unwrap();
        }
        let hooks = stage.json(&["status"])["kernel"]["hooks"].clone();
        let egress = if hook == Hook::Clsact { "clsact" } else { "tcx" };
        assert!(hooks.as_array().unwrap().iter().all(|one| one["egress"] == egress), "{hooks}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn who_is_on_a_never_block_list_is_sent_to_even_inside_a_block() {
    let stage = Stage::new(Hook::Native);
    for (family, network) in [(Family::V4, "10.77.2.2/31"), (Family::V6, "fd77:2::2/127")] {
        let sink = Sink::open(&stage.lab.attacker, ATTACKER.at(family, 0)).unwrap();
        stage.quarantine(&[network]);
        stage.apply(
            &policy(Hook::Native).replace("\"10.77.9.0/24\"", "\"10.77.2.2\", \"fd77:2::2\""),
        );

        FEW.send(&stage.lab.host, sink.address()).unwrap();

        sink.wait_for(FEW.packets).unwrap();
        stage.apply(&policy(Hook::Native));
        drop(FEW.send(&stage.lab.host, sink.address()));
        wait_until("what goes out is dropped", DEADLINE, || {
            stage.packets("out drop contained") >= FEW.packets
        })
        .unwrap();
        assert_eq!(sink.received(), FEW.packets);
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_policy_that_only_counts_what_goes_out_takes_hold_at_once_and_one_that_looks_at_nothing_too() {
    let stage = Stage::new(Hook::Native);
    let target = ATTACKER.of(Family::V4).to_string();
    let sink = Sink::open(&stage.lab.attacker, ATTACKER.at(Family::V4, 0)).unwrap();
    stage.quarantine(&[&target]);
    let bytes = || sent_to(&stage.json(&["top", "10", "--once"]), &target);

    stage.apply(&(policy(Hook::Native) + "egress = \"count\"\n"));
    let before = bytes();
    FEW.send(&stage.lab.host, sink.address()).unwrap();
    sink.wait_for(FEW.packets).unwrap();
    assert!(bytes() >= before + FEW.packets * 100);

    stage.apply(&(policy(Hook::Native) + "egress = \"off\"\n"));
    let before = bytes();
    FEW.send(&stage.lab.host, sink.address()).unwrap();
    sink.wait_for(FEW.packets * 2).unwrap();
    assert_eq!(bytes(), before);
    stage.expect_dropped(&stage.attacker_ping(Family::V4), &target);

    stage.apply(&policy(Hook::Native));
    drop(FEW.send(&stage.lab.host, sink.address()));
    wait_until("what goes out is dropped", DEADLINE, || {
        stage.packets("out drop contained") >= FEW.packets
    })
    .unwrap();
    assert_eq!(sink.received(), FEW.packets * 2);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_rules_block_contains_its_source_once_the_last_answer_is_out() {
    let stage = Stage::new(Hook::Native);
    for family in Family::BOTH {
        // Every one of the guesses gets its answer; else this fails.
        stage.blocked_after_guessing(family);
        let sink = Sink::open(&stage.lab.attacker, ATTACKER.at(family, 0)).unwrap();
        let before = stage.packets("out drop contained");
        wait_until("what goes out is dropped", DEADLINE, || {
            drop(FEW.send(&stage.lab.host, sink.address()));
            stage.packets("out drop contained") >= before + FEW.packets
        })
        .unwrap();
        let received = sink.received();
        drop(FEW.send(&stage.lab.host, sink.address()));
        assert_eq!(sink.received(), received);
    }
    stage.expect_verified();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn open_connections_of_a_blocked_source_end_with_a_reset_at_both_ends_whoever_serves_them() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    for family in Family::BOTH {
        let target = ATTACKER.of(family).to_string();
        let door = HOST_FOR_ATTACKER.at(family, 0);
        let (mut near, mut far) = connected(&stage, door);
        // A hundred seconds of drip, had nobody stepped in.
        let before = stage.upstream.requests();
        let download = std::thread::spawn({
            let (client, reader) = (stage.attacker(family), reader.clone());
            move || client.ask(&Ask::get("/v1/drip/1000/100").key(&reader))
        });
        stage.upstream.wait_for_requests(before + 1).unwrap();
        let elsewhere = connected_from(&stage, &stage.lab.client, family);

        let told = stage.enforcer(&["quarantine", &target, "--reason", "test"]);

        assert!(told.stdout.contains("1 open connection closed"), "{told}");
        assert!(told.stdout.contains("1 other open socket closed"), "{told}");
        for end in [&mut far, &mut near] {
            let error = end.read(&mut [0; 16]).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted),
                "{family:?}: {error}"
            );
        }
        assert!(download.join().unwrap().is_err(), "{family:?}: the download went on");
        still_talks(elsewhere);
        assert!(stage.enforcer(&["release", &target]).is_success());
    }
}

/// The two ends of a connection that enforcer has nothing to do with.
fn connected(stage: &Stage, door: SocketAddr) -> (TcpStream, TcpStream) {
    let listener = stage.lab.host.run(|| TcpListener::bind(door).unwrap()).unwrap();
    let door = listener.local_addr().unwrap();
    let far = stage.lab.attacker.run(|| TcpStream::connect(door).unwrap()).unwrap();
    talking(&listener, far)
}

fn connected_from(stage: &Stage, from: &Namespace, family: Family) -> (TcpStream, TcpStream) {
    let door = HOST_FOR_CLIENT.at(family, 0);
    let listener = stage.lab.host.run(|| TcpListener::bind(door).unwrap()).unwrap();
    let door = listener.local_addr().unwrap();
    let far = from.run(|| TcpStream::connect(door).unwrap()).unwrap();
    talking(&listener, far)
}

fn talking(listener: &TcpListener, far: TcpStream) -> (TcpStream, TcpStream) {
    let (near, _) = listener.accept().unwrap();
    for end in [&near, &far] {
        end.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    }
    (near, far)
}

fn still_talks((mut near, mut far): (TcpStream, TcpStream)) {
    near.write_all(b"still there?").unwrap();
    let mut heard = [0; 12];
    far.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"still there?");
}

/// Bytes that went to this address or its /64.
fn sent_to(talkers: &Value, address: &str) -> u64 {
    let address: IpAddr = address.parse().unwrap();
    let mut rows = talkers["destinations"].as_array().unwrap().iter();
    let row = rows.find(|row| {
        let to: Prefix = row["destination"].as_str().unwrap().parse().unwrap();
        to.contains(address)
    });
    row.map_or(0, |row| row["bytes"].as_u64().unwrap())
}
