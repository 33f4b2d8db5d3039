//! Clients that want more than their share, while another one goes on being served: floods of
//! frames, slow heads, bodies and readers, ten thousand who ask nothing, and no descriptors left.
//!
//! The real program, bounded amounts, and a bound on its memory in each.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use enforcer_tests::lab::{Ask, Client, DEADLINE, Family, Http, Steady, TlsStream, wait_until};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::stage::{LAYER_7, Stage};

/// What the agent may grow by under any of these: the bound that the documentation states.
const GROWTH_KIB_MAX: u64 = 64 * 1024;
/// What a connection over TLS may hold while nothing is asked on it.
const IDLE_BYTES_MAX: u64 = 25 * 1024;
const IDLE: usize = 10_000;
/// Descriptors that honest traffic may come to need on the way.
const HONEST: usize = 16;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const ENHANCE_YOUR_CALM: u8 = 0xB;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_flood_of_frames_ends_its_connection_with_a_word_and_a_record_and_nobody_else_notices() {
    let stage = Stage::with_policy(LAYER_7);
    let honest = traffic(&stage);
    let (before, base) = (resident_kib(&stage), descriptors(&stage));
    // GET / of the static table, with a name that is served nowhere.
    let head = [&[0x82, 0x87, 0x84, 0x01, 8][..], b"api.test"].concat();
    let rapid_reset = |nth: u32| {
        let stream = nth * 2 + 1;
        [frame(1, 5, stream, &head), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
    };
    let made_you_reset = |nth: u32| {
        let stream = nth * 2 + 1;
        // A window beyond all windows: the stream is ours to reset.
        [frame(1, 5, stream, &head), frame(8, 0, stream, &[0x7F, 0xFF, 0xFF, 0xFF])].concat()
    };
    let floods: [(&str, Vec<u8>); 11] = [
        ("rapid reset, CVE-2023-44487", (0..2_000).flat_map(rapid_reset).collect()),
        ("made you reset, CVE-2025-8671", (0..2_000).flat_map(made_you_reset).collect()),
        (
            "CONTINUATION, CVE-2024-27316",
            [frame(1, 0, 1, &head), frame(9, 0, 1, b"").repeat(5_000)].concat(),
        ),
        ("ping, CVE-2019-9512", frame(6, 0, 0, &[0; 8]).repeat(2_000)),
        ("settings, CVE-2019-9515", frame(4, 0, 0, b"").repeat(2_000)),
        (
            "empty data, CVE-2019-9518",
            [frame(1, 4, 1, &head), frame(0, 0, 1, b"").repeat(2_000)].concat(),
        ),
        ("priority, CVE-2019-9513", frame(2, 0, 1, &[0, 0, 0, 0, 7]).repeat(4_000)),
        ("small windows, CVE-2019-9517", frame(8, 0, 0, &[0, 0, 0, 1]).repeat(2_000)),
        ("unknown frames", frame(42, 0, 0, b"x").repeat(2_000)),
        ("acknowledgements of nothing", frame(6, 1, 0, &[0; 8]).repeat(2_000)),
        ("windows", frame(8, 0, 0, &[0, 0, 0x10, 0]).repeat(20_000)),
    ];

    for (what, frames) in &floods {
        let mut stream = stage.attacker(Family::V4).tls_socket(&[b"h2"]).unwrap();
        let sent = [PREFACE, &frame(4, 0, 0, b""), frames].concat();
        // Whoever is hung up on cannot go on sending; what was said before may still be read.
        drop(stream.write_all(&sent));
        let told = to_end(&mut stream);

        assert!(told.len() < 1 << 20, "{what}: {} bytes came back", told.len());
        if let Some(code) = goodbye(&told) {
            assert_eq!(code, ENHANCE_YOUR_CALM, "{what}");
        }
    }

    until_free("the connections of the attacker have ended", &stage, base);
    finish(honest);
    assert_bounded(&stage, before);
    let records = stage.records_of("http");
    let flooded = records.iter().filter(|record| record["body"]["reason"] == "http2-flood");
    let by_connection = flooded.filter(|record| record["body"]["path"].is_null()).count();
    assert!(by_connection <= floods.len(), "one record a connection: {by_connection}");
    // h2 itself may be the first to hang up on some of them.
    assert!(by_connection >= 7, "{by_connection} of {}", floods.len());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_honest_clients_of_http2_do_is_no_flood() {
    let stage = Stage::with_policy(LAYER_7);
    let mut connection = stage.client(Family::V4).connect(Http::Two).unwrap();
    let key = stage.key("client", "reader");

    for _ in 0..200 {
        let asks: Vec<Ask> = (0..20).map(|_| Ask::get("/v1/bytes/20000").key(&key)).collect();
        for answer in connection.ask_at_once(&asks).unwrap() {
            assert_eq!(answer.unwrap().status, 200);
        }
    }

    assert!(
        !stage.records_of("http").iter().any(|record| record["body"]["reason"] == "http2-flood")
    );
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn slow_heads_bodies_and_readers_are_cut_and_hold_nothing_at_the_upstream() {
    let policy = LAYER_7.replace("public   = true", "public   = true\nbody_max = \"64KiB\"")
        + "\n[timeouts]\nhead = \"1s\"\nidle = \"2s\"\n";
    let stage = Stage::with_policy(&policy);
    let honest = traffic(&stage);
    let key = stage.key("slow", "writer");
    let (before, base) = (resident_kib(&stage), descriptors(&stage));
    let attacker = stage.attacker(Family::V4);
    let held = |bytes: &str| -> Vec<TlsStream> {
        let streams = (0..50).map(|_| {
            let mut stream = attacker.tls_socket(&[b"http/1.1"]).unwrap();
            stream.write_all(bytes.as_bytes()).unwrap();
            stream
        });
        streams.collect()
    };
    let auth = format!("Host: api.test\r\nAuthorization: Bearer {key}\r\n");

    let heads = held("GET /v1/x HTTP/1.1\r\nHost: api.test\r\nX: ");
    let with_length = held(&format!("POST /v1/x HTTP/1.1\r\n{auth}Content-Length: 100\r\n\r\nx"));
    let readers = held(&format!("GET /v1/bytes/50000000 HTTP/1.1\r\n{auth}\r\n"));
    let connections = stage.upstream.connections();
    let mut slow: Vec<TlsStream> = heads.into_iter().chain(with_length).collect();
    let told: Vec<Vec<u8>> = slow.iter_mut().map(to_end).collect();

    // Nobody took anything up for a head or a body that never came.
    let bodies: Vec<_> = told[50..].iter().map(|answer| String::from_utf8_lossy(answer)).collect();
    assert!(bodies.iter().all(|answer| answer.starts_with("HTTP/1.1 408 ")), "{:?}", bodies[0]);
    until_free("the readers are cut as well", &stage, base);
    finish(honest);
    assert_bounded(&stage, before);
    let seen = stage.upstream.seen();
    assert!(!seen.iter().any(|seen| seen.method == http::Method::POST), "a slow body came through");
    // One for each reader, and what honest traffic needs.
    assert!(connections <= 50 + 8, "{connections}");
    drop(readers);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn ten_thousand_idle_connections_over_tls_are_held_in_little_memory() {
    raise_own_limit();
    let policy = LAYER_7.to_owned()
        + "\n[timeouts]\nidle = \"1h\"\n\n[connections]\nper_source = 12000\nhandshakes = 64\n";
    let stage = Stage::with_policy(&policy);
    let honest = traffic(&stage);
    let crowd = stage.attacker(Family::V4);
    let (before, base) = (resident_kib(&stage), descriptors(&stage));

    let held: Vec<Vec<TlsStream>> = thread::scope(|scope| {
        let hands: Vec<_> = (0..4).map(|_| scope.spawn(|| idle(&crowd, IDLE / 4))).collect();
        hands.into_iter().map(|hand| hand.join().unwrap()).collect()
    });

    assert!(descriptors(&stage) >= base + IDLE, "{}", descriptors(&stage));
    let each = (resident_kib(&stage).saturating_sub(before)) * 1024 / u64::try_from(IDLE).unwrap();
    assert!(each <= IDLE_BYTES_MAX, "{each} bytes each");
    assert_eq!(stage.client(Family::V4).ask(&Ask::get("/healthz")).unwrap().status, 200);
    finish(honest);
    drop(held);
    until_free("all of them have ended", &stage, base);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_source_has_its_share_of_connections_and_handshakes_and_others_have_theirs() {
    let policy = LAYER_7.to_owned() + "\n[connections]\nper_source = 20\nhandshakes = 10\n";
    let stage = Stage::with_policy(&policy);
    let attacker = stage.attacker(Family::V4);

    // They shake no hands: ten may try, the others are hung up on at once.
    let mut held: Vec<TcpStream> = (0..40).map(|_| attacker.socket().unwrap()).collect();
    wait_until("the source has its share", DEADLINE, || {
        count(&stage, "handshakes over source") + count(&stage, "connections over source") == 30
    })
    .unwrap();

    assert_eq!(stage.client(Family::V4).ask(&Ask::get("/healthz")).unwrap().status, 200);
    held.clear();
    wait_until("the share is free again", DEADLINE, || {
        attacker.ask(&Ask::get("/healthz")).is_ok_and(|answer| answer.status == 200)
    })
    .unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn without_descriptors_the_agent_neither_spins_nor_stays_deaf() {
    let stage = Stage::with_policy(LAYER_7);
    let agent = i32::try_from(stage.agent.as_ref().unwrap().pid()).ok().and_then(Pid::from_raw);
    let used = descriptors(&stage);
    let few = Some(u64::try_from(used).unwrap() + 20);
    prlimit(agent, Resource::Nofile, Rlimit { current: few, maximum: few }).unwrap();
    let client = stage.attacker(Family::V4);

    let held: Vec<TcpStream> = (0..100).map(|_| client.socket().unwrap()).collect();
    wait_until("none are left", DEADLINE, || descriptors(&stage) >= used + 20).unwrap();
    let spent = cpu_ticks(&stage);
    thread::sleep(Duration::from_secs(1));
    let spent = cpu_ticks(&stage) - spent;

    // A hundred ticks are a second.
    assert!(spent < 60, "{spent} ticks of CPU in a second");
    drop(held);
    wait_until("who comes later is served", DEADLINE, || {
        stage.client(Family::V4).ask(&Ask::get("/healthz")).is_ok_and(|answer| answer.status == 200)
    })
    .unwrap();
    assert!(count(&stage, "accepts failed") > 0);
}

/// An honest client, who comes again and again.
fn traffic(stage: &Stage) -> Steady {
    let client = stage.client(Family::V4);
    assert_eq!(client.ask(&Ask::get("/healthz")).unwrap().status, 200);
    client.steadily(Ask::get("/healthz"), Duration::from_millis(20))
}

fn finish(honest: Steady) {
    wait_until("it was served again", DEADLINE, || honest.so_far().served > 0).unwrap();
    let tally = honest.finish().unwrap();
    assert!(tally.served > 0 && tally.refused == 0 && tally.failed == 0, "{tally:?}");
}

fn assert_bounded(stage: &Stage, before: u64) {
    let grown = resident_kib(stage).saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB more");
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The error of the last GOAWAY among frames, if all of them arrived.
fn goodbye(mut frames: &[u8]) -> Option<u8> {
    let mut last = None;
    while let Some((header, rest)) = frames.split_at_checked(9) {
        let length = usize::from(header[1]) << 8 | usize::from(header[2]);
        let (payload, rest) = rest.split_at_checked(length)?;
        if header[3] == 7 {
            last = payload.get(7).copied();
        }
        frames = rest;
    }
    last
}

/// All that comes until the connection ends, in whatever way.
fn to_end(stream: &mut TlsStream) -> Vec<u8> {
    let mut told = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        told.extend_from_slice(&buffer[..count]);
    }
    told
}

/// Connections on which the handshake is done and a first request was answered.
fn idle(client: &Client, count: usize) -> Vec<TlsStream> {
    let streams = (0..count).map(|_| {
        let mut stream = client.tls_socket(&[b"http/1.1"]).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: api.test\r\n\r\n").unwrap();
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200 "), "{length}");
        stream
    });
    streams.collect()
}

/// What the agent has open.
fn descriptors(stage: &Stage) -> usize {
    fs::read_dir(format!("/proc/{}/fd", pid(stage))).unwrap().count()
}

fn until_free(what: &str, stage: &Stage, base: usize) {
    wait_until(what, DEADLINE, || descriptors(stage) <= base + HONEST).unwrap();
}

fn count(stage: &Stage, name: &str) -> u64 {
    let status = stage.json(&["status"]);
    let mut counters = status["requests"].as_array().unwrap().iter();
    counters.find(|one| one["name"] == name).map_or(0, |one| one["count"].as_u64().unwrap())
}

fn resident_kib(stage: &Stage) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid(stage))).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn cpu_ticks(stage: &Stage) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid(stage))).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn pid(stage: &Stage) -> u32 {
    stage.agent.as_ref().unwrap().pid()
}

/// Both ends of every connection are on this machine, and ours are in this process.
fn raise_own_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let room = limit.maximum.unwrap_or(u64::MAX);
    assert!(room > u64::try_from(IDLE).unwrap() + 100, "ulimit -Hn is {room}");
}
