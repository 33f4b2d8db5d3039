//! What clients notice of hosts that fail, leave and come back: as little as can be.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use enforcer_tests::lab::{Ask, Family, Http, Upstream};

use crate::stage::{LAYER_7, Stage, orders};

const SECOND: &str = "127.0.0.1:9001";

fn policy(upstream: &str) -> String {
    LAYER_7
        .replace("hosts      = [\"127.0.0.1:9000\"]\nfirst_byte = \"5s\"", upstream)
        .replace("failures = 5\n", "failures = 500\n")
}

/// A second server in the host.
fn second(stage: &Stage) -> Upstream {
    let address: SocketAddr = SECOND.parse().unwrap();
    Upstream::start(&stage.lab.host, address).unwrap()
}

/// A server in the host that runs `script` on every connection, until the test ends.
fn scripted(stage: &Stage, script: fn(TcpStream)) {
    let listener = stage.lab.host.run(|| TcpListener::bind(SECOND)).unwrap().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || script(stream));
        }
    });
}

fn head(stream: &mut TcpStream) {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        read.push(byte[0]);
    }
}

/// What an upstream does with a connection.
type Script = fn(TcpStream);

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn half_of_a_pool_dies_and_returns_and_no_request_is_lost() {
    let stage = Stage::with_policy(&policy(
        "hosts = ['127.0.0.1:9000', '127.0.0.1:9001']\nbalance = 'round-robin'\n\
         eject = { failures = 2, for = '300ms' }",
    ));
    let reader = stage.key("client", "reader");
    let mut connection = stage.client(Family::V4).connect(Http::One).unwrap();
    let mut ask = |count: usize| {
        for n in 0..count {
            assert_eq!(connection.ask(&orders().key(&reader)).unwrap().status, 200, "{n}");
        }
    };

    let other = second(&stage);
    ask(100);
    assert!(other.requests() >= 40, "{}", other.requests());
    drop(other);
    ask(200);
    let other = second(&stage);
    enforcer_tests::lab::wait_until(
        "the host is asked again",
        enforcer_tests::lab::DEADLINE,
        || {
            ask(1);
            other.requests() > 0
        },
    )
    .unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn others_stand_in_and_step_back_and_no_request_is_lost() {
    let stage = Stage::with_policy(&policy(
        "hosts = ['127.0.0.1:9001']\nbackup = [['127.0.0.1:9000']]\n\
         eject = { failures = 1, for = '200ms' }",
    ));
    let reader = stage.key("client", "reader");
    let mut connection = stage.client(Family::V4).connect(Http::Two).unwrap();
    let mut ask = || assert_eq!(connection.ask(&orders().key(&reader)).unwrap().status, 200);

    for _ in 0..50 {
        ask();
    }
    assert_eq!(stage.upstream.requests(), 50);
    let front = second(&stage);
    enforcer_tests::lab::wait_until("the first are back", enforcer_tests::lab::DEADLINE, || {
        ask();
        front.requests() > 0
    })
    .unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn answers_that_cannot_be_passed_on_are_problem_documents_or_broken_off() {
    let scripts: [(Script, &[u16]); 6] = [
        (|mut stream| drop(stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")), &[502]),
        (|mut stream| head(&mut stream), &[502]),
        (
            |mut stream| {
                head(&mut stream);
                while stream.write_all(&b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(64)).is_ok() {}
            },
            &[502],
        ),
        (
            |mut stream| {
                head(&mut stream);
                thread::park_timeout(enforcer_tests::lab::DEADLINE);
            },
            &[504],
        ),
        (
            |mut stream| {
                head(&mut stream);
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"));
            },
            &[],
        ),
        (
            |mut stream| {
                head(&mut stream);
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"));
                thread::park_timeout(enforcer_tests::lab::DEADLINE);
            },
            &[],
        ),
    ];
    for (n, (script, statuses)) in scripts.into_iter().enumerate() {
        let stage = Stage::with_policy(&policy(
            "hosts = ['127.0.0.1:9001']\nfirst_byte = '500ms'\nbetween_bytes = '500ms'",
        ));
        scripted(&stage, script);
        let reader = stage.key("client", "reader");

        let answer = stage.client(Family::V4).ask(&orders().key(&reader));

        match answer {
            Ok(answer) => assert!(statuses.contains(&answer.status.as_u16()), "{n}: {answer:?}"),
            Err(broken) => assert!(statuses.is_empty(), "{n}: {broken:?}"),
        }
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let stage = Stage::with_policy(&policy("hosts = ['127.0.0.1:9001']"));
    scripted(&stage, |mut stream| {
        head(&mut stream);
        drop(stream.write_all(b"HTTP/1.1 413 Enough\r\ncontent-length: 6\r\n\r\nenough"));
        drop(std::io::copy(&mut stream, &mut std::io::sink()));
    });
    let writer = stage.key("client", "writer");

    let body = vec![b'x'; 1 << 20];
    let answer = stage.client(Family::V4).ask(&Ask::post("/v1/a", body).key(&writer)).unwrap();

    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (413, "enough"));
}
