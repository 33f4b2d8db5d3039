//! Tunnels: who gets one, what passes, and what ends it.

use std::time::Duration;

use enforcer_model::{KeyId, Reason, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::House;
use super::client::{PATIENCE, body_of, head_of, status_of, to_end};
use super::house::Plan;

#[tokio::test]
async fn bytes_pass_both_ways_and_are_counted() {
    let mut house = House::open();
    let (id, key) = house.key(&["reader"]);

    let (mut socket, head) = open(&house, "/socket/socket", &key).await;
    let sent = vec![b'x'; 300_000];
    let (mut from, mut to) = socket.split();
    let mut echoed = vec![0; sent.len()];
    let (written, read) = tokio::join!(to.write_all(&sent), from.read_exact(&mut echoed));
    written.unwrap();
    read.unwrap();
    to.shutdown().await.unwrap();
    let rest = to_end(socket).await;

    assert_eq!((echoed, rest.as_str()), (sent, ""));
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert!(head.contains("connection: upgrade") && head.contains("upgrade: websocket"), "{head}");
    assert!(!head.contains("secret"), "{head}");
    let record = house.record().await;
    assert_eq!((record.status, record.reason, record.cause), (101, None, None));
    assert_eq!((record.bytes_in, record.bytes_out), (300_000, 300_000));
    assert_eq!(record.who.unwrap().key, Some(id));
    let seen = house.upstream.seen().remove(0);
    assert_eq!(seen.headers["upgrade"], "websocket");
    assert_eq!(seen.headers["connection"], "upgrade");
    assert_eq!(seen.headers["sec-websocket-protocol"], "chat");
    assert!(!seen.headers.contains_key("authorization"));
    assert_eq!(house.shared.counters.tunnels.get(), 1);
    house.close().await;
}

#[tokio::test]
async fn nobody_gets_a_tunnel_without_what_every_request_needs() {
    let mut house = House::open();
    let (_, key) = house.key(&["reader"]);
    let unknown = house.key_of_another_house();

    for (status, reason, path, key, more) in [
        (401, Reason::CredentialMissing, "/socket/socket", "", ""),
        (401, Reason::KeyUnknown, "/socket/socket", &*unknown, ""),
        (400, Reason::UpgradeRefused, "/app/socket", &*key, ""),
        (400, Reason::UpgradeRefused, "/open/socket", "", ""),
        (400, Reason::UpgradeRefused, "/socket/socket", &*key, "sec-websocket-version: 13\r\n"),
        (404, Reason::NoRoute, "/elsewhere", &*key, ""),
    ] {
        let records = house.count();
        let answer = answer_to(&house, &handshake(path, key, more)).await;

        assert_eq!(status_of(&answer), status, "{path} {more}");
        assert_eq!(house.seen_at(records).await.reason, Some(reason));
    }
    let half = handshake("/socket/socket", &key, "").replace("connection: upgrade\r\n", "");
    assert_eq!(status_of(&answer_to(&house, &half).await), 400);

    assert!(house.upstream.seen().is_empty());
    assert_eq!(house.shared.counters.tunnels.get(), 0);
    house.close().await;
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_this_very_request_makes_no_tunnel() {
    let mut house = House::open();
    let (_, key) = house.key(&["reader"]);

    let answer = answer_to(&house, &handshake("/socket/false-socket", &key, "")).await;

    assert_eq!(status_of(&answer), 502);
    assert_eq!(house.record().await.reason, Some(Reason::UpstreamInvalid));
    assert_eq!(house.shared.counters.tunnels.get(), 0);
    house.close().await;
}

#[tokio::test]
async fn an_upstream_that_stays_with_http_gives_an_answer_like_any() {
    let mut house = House::open();
    let (_, key) = house.key(&["reader"]);
    let mut stream = TcpStream::connect(house.plain()).await.unwrap();

    stream.write_all(handshake("/socket/x", &key, "").as_bytes()).await.unwrap();
    // What comes behind is a request, and is judged as one.
    stream
        .write_all(b"GET /app/x HTTP/1.1\r\nhost: api.test\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let answers = to_end(stream).await;

    assert_eq!(status_of(&answers), 200);
    assert!(body_of(&answers).starts_with("ok"), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 401").count(), 1, "{answers}");
    assert_eq!(house.upstream.seen().len(), 1);
    house.close().await;
}

#[tokio::test]
async fn a_tunnel_ends_within_milliseconds_when_its_caller_or_source_is_shut_out() {
    for by_source in [false, true] {
        let mut house = House::open();
        let (id, key) = house.key(&["reader"]);
        let (_, other) = house.key(&["reader"]);
        let (mut socket, _) = open(&house, "/socket/socket", &key).await;
        let (mut bystander, _) = open(&house, "/socket/socket", &other).await;
        echo(&mut socket).await;
        echo(&mut bystander).await;

        let began = Instant::now();
        house.block(target(by_source, id));
        let ended = to_end(socket).await;
        let took = began.elapsed();

        assert_eq!(ended, "");
        assert!(took < Duration::from_millis(500), "{took:?}");
        let record = house.seen_at(0).await;
        assert_eq!((record.status, record.reason), (101, Some(Reason::Quarantined)));
        assert!(record.bytes_in > 0);
        if by_source {
            assert_eq!(to_end(bystander).await, "");
        } else {
            echo(&mut bystander).await;
            drop(bystander);
        }
        house.records(2).await;
        house.close().await;
    }
}

#[tokio::test]
async fn a_tunnel_on_which_nothing_moves_ends_and_one_that_is_used_does_not() {
    let mut house = House::with(Plan { timeouts: "idle = \"300ms\"", ..Plan::default() });
    let (_, key) = house.key(&["reader"]);
    let (unused, _) = open(&house, "/socket/socket", &key).await;
    let (mut used, _) = open(&house, "/socket/socket", &key).await;
    let using = async {
        for _ in 0..10 {
            echo(&mut used).await;
            sleep(Duration::from_millis(100)).await;
        }
    };

    let began = Instant::now();
    let ending = async {
        assert_eq!(to_end(unused).await, "");
        began.elapsed()
    };
    let ((), unused_for) = tokio::join!(using, ending);

    assert!((250..900).contains(&unused_for.as_millis()), "{unused_for:?}");
    echo(&mut used).await;
    drop(used);
    house.records(2).await;
    house.close().await;
}

#[tokio::test]
async fn an_agent_that_stops_says_goodbye_to_both_ends() {
    let mut house = House::open();
    let (_, key) = house.key(&["reader"]);
    let (mut socket, _) = open(&house, "/socket/socket", &key).await;
    // A frame that is not complete: nothing may stand in the middle of it.
    socket.write_all(&[0x82, 0x84, 0, 0, 0, 0, b'a', b'b']).await.unwrap();
    let mut half = [0; 8];
    socket.read_exact(&mut half).await.unwrap();

    let began = Instant::now();
    house.stop.cancel();
    sleep(Duration::from_millis(50)).await;
    socket.write_all(b"cd").await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut rest)).await.unwrap().unwrap();
    drop(socket);
    house.until(|| house.has_ended()).await;

    // The rest of the frame, and the goodbye: of ours, or what the upstream made of its own.
    assert!(rest.starts_with(b"cd"), "{rest:?}");
    assert!(rest.ends_with(&[0x03, 0xE9]), "{rest:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(house.record().await.reason, None);
    house.close().await;
}

/// The handshake of RFC 6455, 1.3.
fn handshake(path: &str, key: &str, more: &str) -> String {
    let credential =
        if key.is_empty() { String::new() } else { format!("authorization: Bearer {key}\r\n") };
    format!(
        "GET {path} HTTP/1.1\r\nhost: api.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\
         sec-websocket-protocol: chat\r\n{credential}{more}\r\n"
    )
}

/// The answer to a client that has nothing more to say.
async fn answer_to(house: &House, text: &str) -> String {
    let mut stream = TcpStream::connect(house.plain()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    to_end(stream).await
}

async fn open(house: &House, path: &str, key: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(house.plain()).await.unwrap();
    stream.write_all(handshake(path, key, "").as_bytes()).await.unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap()));
    }
    assert_eq!(status_of(&head), 101, "{head}");
    (stream, head_of(&head).to_owned())
}

async fn echo(socket: &mut TcpStream) {
    let frame = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    socket.write_all(&frame).await.unwrap();
    let mut back = [0; 8];
    timeout(PATIENCE, socket.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, frame);
}

fn target(by_source: bool, key: KeyId) -> Target {
    if by_source { Target::Network("127.0.0.0/8".parse().unwrap()) } else { Target::Key(key) }
}
