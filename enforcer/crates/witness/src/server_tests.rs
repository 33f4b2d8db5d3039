//! What comes over the wire, well formed or not.

use std::net::SocketAddr;

use enforcer_model::SystemClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::judge::tests::{LogKey, ORIGIN, ask, proof, tree};
use crate::{Home, judge};

#[tokio::test]
async fn each_answer_has_the_status_that_the_protocol_gives_it() {
    let (address, _folder, log) = start().await;
    let note = |size| log.note(ORIGIN, size, &tree(0, size));
    let add = |body: Vec<u8>| post(address, "/add-checkpoint", body);

    let first = add(ask(0, &[], &note(5))).await;
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n") && first.contains("\r\n\r\n— w "), "{first}");
    let behind = add(ask(3, &proof(3, 9), &note(9))).await;
    assert!(behind.starts_with("HTTP/1.1 409 Conflict\r\n"), "{behind}");
    assert!(behind.contains("content-type: text/x.tlog.size\r\n"), "{behind}");
    assert!(behind.ends_with("\r\n\r\n5\n"), "{behind}");
    for (body, status) in [
        (b"old 5\n".to_vec(), 400),
        (ask(9, &[], &note(5)), 400),
        (ask(5, &[], &LogKey::new(9).note("other.example", 5, &tree(0, 5))), 404),
        (ask(5, &[], &LogKey::new(9).note(ORIGIN, 5, &tree(0, 5))), 403),
        (ask(5, &[], &note(9)), 422),
        (ask(5, &[], &log.note(ORIGIN, 5, &tree(90, 95))), 422),
        (vec![b'a'; REQUEST_BYTES_MAX + 1], 413),
    ] {
        let answer = add(body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
    }
}

#[tokio::test]
async fn whoever_monitors_gets_the_newest_cosigned_checkpoint() {
    let (address, _folder, log) = start().await;
    let origin = judge::hex_sha256(ORIGIN);
    let get = |path: String| {
        exchange(address, format!("GET {path} HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n"))
    };
    let missing = get(format!("/{origin}/checkpoint")).await;
    assert!(missing.starts_with("HTTP/1.1 404 "), "{missing}");

    let note = log.note(ORIGIN, 5, &tree(0, 5));
    let cosigned = post(address, "/add-checkpoint", ask(0, &[], &note)).await;
    let line = cosigned.split_once("\r\n\r\n").unwrap().1;

    let newest = get(format!("/{origin}/checkpoint")).await;
    assert_eq!(newest.split_once("\r\n\r\n").unwrap().1, format!("{note}{line}"));
    for (request, status) in [
        ("GET /add-checkpoint", 405),
        ("POST /0/checkpoint", 405),
        ("GET /0/checkpoint", 404),
        ("GET /", 404),
        ("GET /add-checkpoint/", 404),
    ] {
        let request = format!(
            "{request} HTTP/1.1\r\nHost: w\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = exchange(address, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
    }
}

#[tokio::test]
async fn one_address_cannot_take_every_connection() {
    let (address, _folder, log) = start().await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_PER_SOURCE {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"POST /add-checkpoint HTTP/1.1\r\n").await.unwrap();
        held.push(stream);
    }

    let mut more = TcpStream::connect(address).await.unwrap();
    let mut byte = [0; 1];
    // Closed, or reset: in any case over at once.
    assert!(matches!(more.read(&mut byte).await, Ok(0) | Err(_)));
    held.clear();

    let note = log.note(ORIGIN, 5, &tree(0, 5));
    let body = ask(0, &[], &note);
    let mut answer = String::new();
    while !answer.starts_with("HTTP/1.1 200 ") {
        // The places come back when the server has seen that they are free.
        answer = post(address, "/add-checkpoint", body.clone()).await;
    }
}

#[test]
fn places_are_counted_by_address_and_given_back() {
    let sources = Sources::default();
    let one: Vec<_> = (0..CONNECTIONS_PER_SOURCE)
        .map(|_| Place::take(&sources, [192, 0, 2, 1].into()).unwrap())
        .collect();
    assert!(Place::take(&sources, [192, 0, 2, 1].into()).is_none());
    let mut others = Vec::new();
    for number in 2..=u8::MAX {
        others.extend(
            (0..CONNECTIONS_PER_SOURCE)
                .filter_map(|_| Place::take(&sources, [192, 0, 2, number].into())),
        );
    }

    assert_eq!(one.len() + others.len(), CONNECTIONS_MAX);
    drop((one, others));
    assert!(sources.lock().is_empty());
}

async fn start() -> (SocketAddr, tempfile::TempDir, LogKey) {
    let folder = tempfile::tempdir().unwrap();
    let (home, log) = (Home::at(folder.path()), LogKey::new(1));
    home.make("w").unwrap();
    let witness = Arc::new(Witness::open(&home, [log.key(ORIGIN)]).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    tokio::task::spawn(serve(witness, listener, clock, CancellationToken::new()));
    (address, folder, log)
}

async fn post(address: SocketAddr, path: &str, body: Vec<u8>) -> String {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: w\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    exchange(address, [head.into_bytes(), body].concat()).await
}

/// What is answered until the connection is idle.
async fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let Ok(mut stream) = TcpStream::connect(address).await else { return String::new() };
    drop(stream.write_all(request.as_ref()).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}
