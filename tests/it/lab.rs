//! The lab is what it claims to be: before a test trusts it, it is tested.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use enforcer_tests::lab::{
    ATTACKER, ATTACKER_FACING, Ask, CLIENT, CLIENT_FACING, Client, DEADLINE, Family, Flood,
    Forgery, HOST_FOR_ATTACKER, HOST_FOR_CLIENT, Http, Lab, Ping, Sink, Train, Upstream,
    raw_exchange, wait_for, wait_until,
};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn client_and_attacker_reach_the_host_by_both_families() {
    let lab = Lab::new().unwrap();

    for family in Family::BOTH {
        for (from, to) in [(&lab.client, HOST_FOR_CLIENT), (&lab.attacker, HOST_FOR_ATTACKER)] {
            Ping::new(from, to.of(family)).unwrap().until_answered().unwrap();
        }
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn the_host_forwards_nothing_between_client_and_attacker() {
    let lab = Lab::new().unwrap();

    for family in Family::BOTH {
        let ping = Ping::new(&lab.client, ATTACKER.of(family)).unwrap();
        assert_eq!(ping.once(Duration::from_millis(200)).unwrap(), None);
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn the_host_sees_its_own_interfaces_and_pins_and_no_others() {
    let lab = Lab::new().unwrap();

    let mut names: Vec<String> = fs::read_dir(lab.host.path("/sys/class/net"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();

    assert_eq!(names, [ATTACKER_FACING, CLIENT_FACING, "lo"]);
    let pins = fs::read_dir(lab.host.path("/sys/fs/bpf")).unwrap();
    let own = pins.filter(|pin| !pin.as_ref().unwrap().file_name().to_str().unwrap().contains('.'));
    assert_eq!(own.count(), 0);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn labs_stand_side_by_side_and_leave_nothing_behind() {
    let one = Lab::new().unwrap();
    let two = Lab::new().unwrap();
    let keepers = [one.host.keeper(), one.client.keeper(), one.attacker.keeper()];

    Ping::new(&two.client, HOST_FOR_CLIENT.v4.into()).unwrap().until_answered().unwrap();
    drop(one);

    for keeper in keepers {
        assert!(!Path::new(&format!("/proc/{keeper}")).exists());
    }
    Ping::new(&two.client, HOST_FOR_CLIENT.v4.into()).unwrap().until_answered().unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_lab_is_taken_down_after_a_panic() {
    let keeper = std::panic::catch_unwind(|| {
        let lab = Lab::new().unwrap();
        std::panic::panic_any(lab.host.keeper());
    })
    .unwrap_err();

    let keeper = *keeper.downcast::<u32>().unwrap();
    assert!(!Path::new(&format!("/proc/{keeper}")).exists());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_lab_ends_with_a_process_that_is_killed() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["loop", "--quick"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let keepers = wait_for("the bench makes a lab", DEADLINE, || {
        let children = children_of(bench.id());
        (children.len() >= 3).then_some(children)
    });

    bench.kill().unwrap();
    bench.wait().unwrap();

    for keeper in keepers.unwrap() {
        wait_until("the keepers end", DEADLINE, || !is_running(keeper)).unwrap();
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn the_upstream_answers_what_the_path_asks_and_remembers_who_asked() {
    let lab = Lab::new().unwrap();

    for family in Family::BOTH {
        let upstream = Upstream::start(&lab.host, HOST_FOR_CLIENT.at(family, 0)).unwrap();
        let client = Client::new(&lab.client, upstream.address(), "api.example.com", None);
        let mut connection = client.connect(Http::One).unwrap();

        let line = connection.ask(&Ask::get("/v1/orders?a=1").key("enf_x")).unwrap();
        let echo = connection.ask(&Ask::post("/v1/echo", "hello")).unwrap();
        let large = connection.ask(&Ask::get("/bytes/200000")).unwrap();
        let refused = connection.ask(&Ask::get("/status/503")).unwrap();
        let drip = connection.ask(&Ask::get("/drip/3/20")).unwrap();

        assert_eq!(line.text(), "GET /v1/orders?a=1\n");
        assert_eq!(echo.text(), "hello");
        assert_eq!(large.body.len(), 200_000);
        assert_eq!(refused.status.as_u16(), 503);
        assert_eq!(drip.text(), "000");
        assert!(drip.took >= Duration::from_millis(60), "{:?}", drip.took);
        assert_eq!(upstream.requests(), 5);
        assert_eq!(upstream.connections(), 1);
        let first = upstream.seen().into_iter().next().unwrap();
        assert_eq!(first.peer.ip(), CLIENT.of(family));
        assert_eq!(first.headers["authorization"], "Bearer enf_x");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_upstream_that_breaks_off_is_an_error_to_the_client() {
    let lab = Lab::new().unwrap();
    let upstream = Upstream::start(&lab.host, service(Family::V4)).unwrap();
    let client = Client::new(&lab.client, upstream.address(), "api.example.com", None);

    let broken = client.ask(&Ask::get("/break/100"));

    assert!(broken.is_err(), "{broken:?}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_steady_client_tells_served_from_failed() {
    let lab = Lab::new().unwrap();
    let upstream = Upstream::start(&lab.host, service(Family::V4)).unwrap();
    let client = Client::new(&lab.client, upstream.address(), "api.example.com", None);

    let steady = client.steadily(Ask::get("/"), Duration::from_millis(1));
    upstream.wait_for_requests(20).unwrap();
    let tally = steady.finish().unwrap();
    assert!(tally.is_spotless(), "{tally:?}");
    assert!(tally.served >= 19);

    let steady = client.steadily(Ask::get("/status/503"), Duration::from_millis(1));
    upstream.wait_for_requests(40).unwrap();
    drop(upstream);
    wait_until("nobody is there any more", DEADLINE, || steady.so_far().missed > 0).unwrap();
    let tally = steady.finish().unwrap();
    assert_eq!(tally.served, 0);
    assert!(tally.refused > 0 && tally.missed > 0, "{tally:?}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn raw_bytes_reach_a_server_and_its_words_come_back() {
    let lab = Lab::new().unwrap();
    let upstream = Upstream::start(&lab.host, HOST_FOR_ATTACKER.at(Family::V6, 0)).unwrap();

    let answer = raw_exchange(&lab.attacker, upstream.address(), b"NONSENSE\r\n\r\n").unwrap();

    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn datagrams_are_counted_where_they_arrive() {
    let lab = Lab::new().unwrap();

    for family in Family::BOTH {
        let sink = Sink::open(&lab.host, HOST_FOR_ATTACKER.at(family, 0)).unwrap();
        let sent = Flood { packets: 100, payload: 32 }.send(&lab.attacker, sink.address()).unwrap();
        assert_eq!(sent, 100);
        sink.wait_for(100).unwrap();
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_a_forger_sends_arrives_and_what_is_answered_goes_to_the_owner() {
    let lab = Lab::new().unwrap();

    for family in Family::BOTH {
        let host = HOST_FOR_ATTACKER.of(family);
        Ping::new(&lab.attacker, host).unwrap().until_answered().unwrap();
        let sink = Sink::open(&lab.host, HOST_FOR_ATTACKER.at(family, 0)).unwrap();
        let forgery = Forgery::begin(&lab.attacker, CLIENT.of(family)).unwrap();

        forgery.datagrams(sink.address(), 50).unwrap();

        sink.wait_for(50).unwrap();
        let answered = forgery.ping(host).unwrap().once(Duration::from_millis(200)).unwrap();
        assert_eq!(answered, None, "the client is answered");
        drop(forgery);
        Ping::new(&lab.attacker, host).unwrap().until_answered().unwrap();
        Ping::new(&lab.client, HOST_FOR_CLIENT.of(family)).unwrap().until_answered().unwrap();
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_train_of_echoes_shows_when_the_cable_was_unplugged_and_plugged() {
    let lab = Lab::new().unwrap();
    let target = HOST_FOR_CLIENT.of(Family::V4);
    let train = Train::start(&lab.client, target, Duration::from_millis(1)).unwrap();
    train.wait_for_answer_since(Instant::now()).unwrap();

    let unplugged = Instant::now();
    lab.client_cable.unplug().unwrap();
    train.wait_for_silence(5, Duration::from_millis(20)).unwrap();
    lab.client_cable.plug().unwrap();
    let plugged = Instant::now();
    train.wait_for_answer_since(plugged).unwrap();
    let echoes = train.stop();

    assert!(echoes.iter().any(|echo| echo.sent < unplugged && echo.answered.is_some()));
    assert!(echoes.iter().any(|echo| echo.sent > unplugged && echo.answered.is_none()));
    assert!(echoes.iter().any(|echo| echo.sent >= plugged && echo.answered.is_some()));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_removed_cable_is_gone_from_both_hosts() {
    let lab = Lab::new().unwrap();

    lab.attacker_cable.remove().unwrap();

    assert!(!lab.host.path(format!("/sys/class/net/{ATTACKER_FACING}")).exists());
    assert!(!lab.attacker.path("/sys/class/net/eth0").exists());
    assert!(!lab.attacker_cable.is_up());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_socket_made_in_a_host_stays_there() {
    let lab = Lab::new().unwrap();
    let upstream = Upstream::start(&lab.host, service(Family::V4)).unwrap();

    let mut socket =
        Client::new(&lab.client, upstream.address(), "api.example.com", None).socket().unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(upstream.seen()[0].peer.ip(), CLIENT.of(Family::V4));
}

/// The processes that this one has made.
fn children_of(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|process| status(*process, "PPid").is_some_and(|ppid| ppid == parent.to_string()))
        .collect()
}

/// A process that nobody has waited for yet does not run any more.
fn is_running(process: u32) -> bool {
    status(process, "State").is_some_and(|state| !state.starts_with(['Z', 'X']))
}

fn status(process: u32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(name, _)| *name == field).map(|(_, value)| value.trim().to_owned())
}

fn service(family: Family) -> SocketAddr {
    HOST_FOR_CLIENT.at(family, 9000)
}
