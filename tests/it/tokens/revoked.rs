//! What is taken back by an operator: from the next request on, and in the middle of what is open.

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use enforcer_tests::lab::idp::ORDERS;
use enforcer_tests::lab::{
    ATTACKER, Ask, Connection, DEADLINE, Family, Http, TlsStream, wait_until,
};
use serde_json::json;

use super::{Scene, now, payload, read};

/// Bytes of an answer that takes minutes.
const LONG: &str = "/v1/drip/100000/5";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_is_revoked_is_refused_by_every_core_and_cut_wherever_it_is_open_until_it_is_restored() {
    let scene = Scene::open();
    scene.lab.rotate("other").unwrap();
    // Issued in the future, which `before:now` does not reach.
    let kept = scene.signed("kept", &json!({ "iat": now() + 20 }));
    assert_eq!(scene.status(&kept), 200);
    let token = scene.idp.token(ORDERS, "es256").unwrap();
    let id = payload(&token)["jti"].as_str().unwrap().to_owned();
    let mut connections = many(&scene);

    for target in
        [&*format!("jti:{id}"), "sub:svc-orders", "kid:ES256", "client:svc-orders", "before:now"]
    {
        let open = Open::of(&scene, &token, &kept);
        assert_eq!(statuses(&mut connections, &token), [200; 12], "{target}");

        let words = ["tokens", "revoke", target, "--reason", "leaked"];
        let revoked = scene.stage.json(&words);

        assert_eq!(statuses(&mut connections, &token), [401; 12], "{target}");
        assert_eq!(scene.reason(), "token-revoked");
        assert_eq!(revoked["cut"], 3, "{target}: {revoked}");
        open.expect_cut(target);
        assert_eq!(statuses(&mut connections, &kept), [200; 12], "{target}");
        let id = revoked["revocation"]["id"].as_str().unwrap();
        let restored = scene.stage.enforcer(&["tokens", "restore", id, "--reason", "found"]);
        assert!(restored.is_success(), "{restored}");
        assert_eq!(statuses(&mut connections, &token), [200; 12], "{target}");
    }

    let cut = || -> Vec<u64> {
        let records = scene.stage.records_of("http");
        let revoked = records.iter().filter(|one| one["body"]["reason"] == "token-revoked");
        let statuses = revoked.map(|one| one["body"]["status"].as_u64().unwrap());
        statuses.filter(|&status| status < 400).collect()
    };
    wait_until("all that was cut is on record", DEADLINE, || cut().len() >= 15).unwrap();
    let cut = cut();
    assert_eq!(cut.len(), 15, "each of them once");
    assert_eq!(cut.iter().filter(|&&status| status == 101).count(), 5, "{cut:?}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_revoked_token_stays_revoked_over_a_restart_and_at_its_issuer_only() {
    let mut scene = Scene::open();
    let (corp, lab) = (scene.idp.token(ORDERS, "es256").unwrap(), scene.signed(ORDERS, &json!({})));
    assert_eq!([scene.status(&corp), scene.status(&lab)], [200, 200]);

    let words = ["tokens", "revoke", "sub:svc-orders", "--issuer", "corp", "--reason", "left"];
    assert!(scene.stage.enforcer(&words).is_success());
    assert_eq!([scene.status(&corp), scene.status(&lab)], [401, 200]);
    scene.stage.kill();
    scene.stage.start();
    scene.until_usable();

    assert_eq!([scene.status(&corp), scene.status(&lab)], [401, 200]);
    let words = ["tokens", "revoke", "sub:x", "--issuer", "crop", "--reason", "left"];
    let unknown = scene.stage.enforcer(&words);
    assert_eq!(unknown.code, Some(2), "{unknown}");
    assert!(unknown.stderr.contains("corp"), "{unknown}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_revoked_key_loses_all_that_it_has_open_and_its_holder_is_not_taken_for_a_guesser() {
    let scene = Scene::open();
    let rule = "\n[[rule]]\nid = \"key-guessing\"\nfailures = 3\nwithin = \"30s\"\n\
                respond = { action = \"block\", ttl = \"10m\" }\nmode = \"auto\"\n";
    scene.stage.apply(&scene.policy(rule));
    let key = scene.stage.key("leaked", "reader");
    let kept = scene.signed("kept", &json!({}));
    let mut connections = many(&scene);
    assert_eq!(statuses(&mut connections, &key), [200; 12]);
    let open = Open::of(&scene, &key, &kept);

    let revoked = scene.stage.enforcer(&["keys", "revoke", "leaked", "--reason", "leaked"]);

    assert!(revoked.is_success(), "{revoked}");
    open.expect_cut("the key");
    // Three of its requests were cut; what it sends from here on is a failure like any.
    assert_eq!(statuses(&mut connections, &kept), [200; 12]);
    assert_eq!(connections[0].ask(&read().key(&key)).unwrap().status, 401);
    assert_eq!(connections[11].ask(&read().key(&key)).unwrap().status, 401);
    assert_eq!(scene.reason(), "key-revoked");
    assert_eq!(statuses(&mut connections, &kept), [200; 12]);
    // Failures are judged in their order: once these are, the others were.
    let own = ATTACKER.of(Family::V4).to_string();
    scene.stage.guess(Family::V4, 3);
    wait_until("the guesser is blocked", DEADLINE, || scene.stage.block_of(&own).is_some())
        .unwrap();
    assert_eq!(scene.stage.json(&["blocks"]).as_array().unwrap().len(), 1);
}

/// Connections of both versions, as many as are spread over all cores.
fn many(scene: &Scene) -> Vec<Connection> {
    let client = scene.stage.client(Family::V4);
    let versions = [Http::One, Http::Two].into_iter().cycle().take(12);
    versions.map(|http| client.connect(http).unwrap()).collect()
}

fn statuses(connections: &mut [Connection], credential: &str) -> Vec<u16> {
    let ask = read().key(credential);
    connections.iter_mut().map(|one| one.ask(&ask).unwrap().status.as_u16()).collect()
}

/// What a caller has open: a download and a WebSocket over HTTP/1.1, and an HTTP/2 stream beside
/// one of somebody else.
pub(super) struct Open {
    download: TlsStream,
    socket: TlsStream,
    streams: thread::JoinHandle<(bool, Option<usize>, u16)>,
}

impl Open {
    pub(super) fn of(scene: &Scene, credential: &str, kept: &str) -> Self {
        let before = scene.stage.upstream.requests();
        let client = scene.stage.client(Family::V4);
        let mut download = client.tls_socket(&[b"http/1.1"]).unwrap();
        write!(download, "{}\r\n", head(LONG, credential)).unwrap();
        let mut some = [0; 64];
        download.read_exact(&mut some).unwrap();
        assert!(some.starts_with(b"HTTP/1.1 200 "));

        let mut socket = client.tls_socket(&[b"http/1.1"]).unwrap();
        write!(
            socket,
            "{}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            head("/v1/socket", credential)
        )
        .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
        socket.write_all(b"hello").unwrap();
        let mut echoed = [0; 5];
        socket.read_exact(&mut echoed).unwrap();
        assert_eq!(&echoed, b"hello");

        let asks = [Ask::get(LONG).key(credential), Ask::get("/v1/drip/40/10").key(kept)];
        let mut streams = client.connect(Http::Two).unwrap();
        let streams = thread::spawn(move || {
            let answers = streams.ask_at_once(&asks).unwrap();
            let [cut, whole] = <[_; 2]>::try_from(answers).unwrap();
            let after = streams.ask(&Ask::get("/healthz")).unwrap().status.as_u16();
            (cut.is_err(), whole.ok().map(|answer| answer.body.len()), after)
        });
        scene.stage.upstream.wait_for_requests(before + 4).unwrap();
        Self { download, socket, streams }
    }

    /// All of it has ended, and nothing else has; how long the first two took from here.
    pub(super) fn expect_cut(self, what: &str) -> Duration {
        let Self { mut download, mut socket, streams } = self;
        let began = Instant::now();
        for (name, stream) in [("download", &mut download), ("socket", &mut socket)] {
            let mut rest = Vec::new();
            match stream.read_to_end(&mut rest) {
                Ok(_) => assert!(rest.len() < 100_000, "{what}: the {name} is whole"),
                Err(error) => {
                    let silent = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
                    assert!(!silent.contains(&error.kind()), "{what}: the {name} is open: {error}");
                }
            }
        }
        let took = began.elapsed();
        assert_eq!(streams.join().unwrap(), (true, Some(40), 200), "{what}: HTTP/2");
        took
    }
}

fn head(target: &str, credential: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {credential}\r\n")
}
