//! What attackers send: requests with two meanings, heads and answers that take forever, floods.

use std::time::Duration;

use enforcer_model::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::client::{self, raw, request, status_of};
use super::house::Plan;
use super::{House, Http2};

#[tokio::test]
async fn requests_with_two_meanings_never_reach_an_upstream() {
    let house = House::open();
    let smuggled = "GET /open/smuggled HTTP/1.1\r\nhost: api.test\r\n\r\n";
    let post = |fields: &str, body: &str| {
        format!("POST /open/x HTTP/1.1\r\nhost: api.test\r\n{fields}\r\n\r\n{body}{smuggled}")
    };
    let corpus = [
        (post("content-length: 5\r\ntransfer-encoding: chunked", "0\r\n\r\n"), "framing-ambiguous"),
        (post("transfer-encoding: chunked\r\ncontent-length: 5", "0\r\n\r\n"), "framing-ambiguous"),
        (post("content-length: 0\r\ncontent-length: 44", ""), "framing-ambiguous"),
        (post("content-length: 0\r\ncontent-length: 0", ""), "framing-ambiguous"),
        (post("content-length: 0, 0", ""), "framing-ambiguous"),
        (post("content-length: +1", "x"), "framing-ambiguous"),
        (post("content-length: -1", ""), "framing-ambiguous"),
        (post("content-length: 0x1", "x"), "framing-ambiguous"),
        (post("transfer-encoding: xchunked", "0\r\n\r\n"), "framing-ambiguous"),
        (post("transfer-encoding: gzip, chunked", "0\r\n\r\n"), "framing-ambiguous"),
        (post("transfer-encoding: chunked, identity", "0\r\n\r\n"), "framing-ambiguous"),
        (
            post("transfer-encoding: chunked\r\ntransfer-encoding: chunked", "0\r\n\r\n"),
            "framing-ambiguous",
        ),
        (post("transfer-encoding : chunked", "0\r\n\r\n"), "header-malformed"),
        (post("transfer-encoding:\r\n chunked", "0\r\n\r\n"), "framing-ambiguous"),
        (post("x: y\nz: w", ""), "framing-ambiguous"),
        (post("x: y\rcontent-length: 5", ""), "header-malformed"),
        (post("x: \0", ""), "header-malformed"),
        (post("host: other.test", ""), "host-malformed"),
        (post("connection: x-request-id, host", ""), "header-malformed"),
        (post("x_forwarded_for: 1.2.3.4", ""), "header-malformed"),
        (post("x-http-method-override: DELETE", ""), "method-override"),
        (post("connection: upgrade\r\nupgrade: websocket", ""), "upgrade-refused"),
        (format!("GET /open/x HTTP/1.1\r\n\r\n{smuggled}"), "host-malformed"),
        (
            format!("GET http://other.test/open/x HTTP/1.1\r\nhost: api.test\r\n\r\n{smuggled}"),
            "host-mismatch",
        ),
        (
            format!("CONNECT api.test:443 HTTP/1.1\r\nhost: api.test:443\r\n\r\n{smuggled}"),
            "connect-refused",
        ),
        (
            format!(
                "POST /open/x HTTP/1.0\r\nhost: api.test\r\ntransfer-encoding: chunked\r\n\r\n\
                 0\r\n\r\n{smuggled}"
            ),
            "header-malformed",
        ),
    ];

    for (nth, (bytes, reason)) in corpus.iter().enumerate() {
        // What cannot be trusted is the last of its connection, so the smuggled one behind it is
        // not even looked at. Where the request is only unwanted, it is served as what it is.
        let answer = half_closed(&house, bytes).await;
        let record = house.seen_at(nth).await;

        assert_eq!(record.reason.map(Reason::as_str), Some(*reason), "{bytes:?}\n{record:?}");
        assert_eq!(status_of(&answer), record.status, "{bytes:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{bytes:?}\n{answer}");
        assert!(house.upstream.seen().is_empty(), "{bytes:?}\n{:?}", house.upstream.seen());
    }
    house.close().await;
}

#[tokio::test]
async fn ambiguity_behind_an_honest_request_is_found() {
    let house = House::open();
    let honest = "POST /open/read HTTP/1.1\r\nhost: api.test\r\ntransfer-encoding: chunked\r\n\r\n\
                  3\r\nabc\r\n0\r\n\r\n";
    let two = "POST /open/x HTTP/1.1\r\nhost: api.test\r\ncontent-length: 3\r\n\
               transfer-encoding: chunked\r\n\r\n0\r\n\r\n";

    let answer = half_closed(&house, &format!("{honest}{two}")).await;

    assert!(answer.contains("HTTP/1.1 200 OK") && answer.contains("HTTP/1.1 400 "), "{answer}");
    assert_eq!(house.upstream.seen().len(), 1);
    let records = house.records(2).await;
    assert_eq!(records[1].reason, Some(Reason::FramingAmbiguous));
    house.close().await;
}

#[tokio::test]
async fn paths_that_can_be_read_twice_are_refused_in_both_versions() {
    let house = House::open();
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let paths = [
        "/open/../app/x",
        "/open/%2e%2e/app/x",
        "/open//x",
        "/open/%2fx",
        "/open/%252e/x",
        "/open/x;a=b",
        "/open/%00",
        "/open/%",
        "/open/\\x",
        "/open/%c0%ae",
    ];

    for (nth, path) in paths.iter().enumerate() {
        let answer = raw(house.plain(), request(&format!("GET {path}"), &[])).await;
        assert_eq!(status_of(&answer), 400, "{path}");
        let record = house.seen_at(nth).await;
        assert!(record.reason.is_some_and(|reason| reason.as_str().starts_with("path-")), "{path}");
    }
    let (status, _) = client.text("GET /open/%2e%2e/app/x", &[]).await;

    assert_eq!(status, 400);
    assert!(house.upstream.seen().is_empty());
    house.close().await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_recorded() {
    let house = House::open();
    let field = |length| format!("x: {}", "x".repeat(length));

    let large = raw(house.plain(), request("GET /open/x", &[&field(33 * 1024)])).await;
    let huge = raw(house.plain(), request("GET /open/x", &[&field(100 * 1024)])).await;
    let many = vec!["x: y"; 200];
    let many = raw(house.plain(), request("GET /open/x", &many)).await;

    assert_eq!([status_of(&large), status_of(&huge), status_of(&many)], [431, 431, 431]);
    for record in house.records(3).await {
        assert_eq!(record.reason, Some(Reason::HeadersTooLarge));
    }
    house.close().await;
}

#[tokio::test]
async fn a_head_that_takes_forever_is_cut_and_an_unused_connection_is_closed() {
    let house =
        House::with(Plan { timeouts: "head = \"300ms\"\nidle = \"600ms\"", ..Plan::default() });
    let mut silent = TcpStream::connect(house.plain()).await.unwrap();
    let mut unused = TcpStream::connect(house.plain()).await.unwrap();
    unused.write_all(b"GET /open/x HTTP/1.1\r\nhost: api.test\r\n\r\n").await.unwrap();
    let dripping = TcpStream::connect(house.plain()).await.unwrap();
    let (mut reader, mut writer) = dripping.into_split();
    let began = Instant::now();
    tokio::spawn(async move {
        for byte in "GET /open/x HTTP/1.1\r\n".bytes().cycle() {
            sleep(Duration::from_millis(20)).await;
            if writer.write_all(&[byte]).await.is_err() {
                break;
            }
        }
    });

    assert_eq!(silent.read(&mut [0; 9]).await.unwrap_or(0), 0);
    assert_eq!(reader.read(&mut [0; 9]).await.unwrap_or(0), 0);
    let cut = began.elapsed();
    let answer = client::to_end(unused).await;
    let closed = began.elapsed();

    assert_eq!(status_of(&answer), 200);
    assert!((200..5_000).contains(&cut.as_millis()), "{cut:?}");
    assert!((500..5_000).contains(&closed.as_millis()), "{closed:?}");
    assert_eq!(house.shared.counters.heads_too_slow.get(), 2);
    house.records(1).await;
    house.close().await;
}

#[tokio::test]
async fn a_second_head_that_takes_forever_is_cut_too() {
    let house =
        House::with(Plan { timeouts: "head = \"200ms\"\nidle = \"30s\"", ..Plan::default() });
    let mut stream = TcpStream::connect(house.plain()).await.unwrap();
    stream.write_all(b"GET /open/x HTTP/1.1\r\nhost: api.test\r\n\r\nGET /").await.unwrap();
    let began = Instant::now();

    let answer = client::to_end(stream).await;

    assert_eq!(status_of(&answer), 200);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(house.shared.counters.heads_too_slow.get(), 1);
    house.close().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_cut() {
    let house = House::with(Plan { timeouts: "idle = \"500ms\"", ..Plan::default() });
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let mut stream = TcpStream::connect(house.plain()).await.unwrap();

    stream.write_all(request("GET /open/endless", &[]).as_bytes()).await.unwrap();
    // This one takes no more than its window, while its socket stays healthy.
    let http2 = client.send("GET /open/endless", &[], "").await.unwrap();

    for record in house.records(2).await {
        assert_eq!((record.status, record.reason), (200, None));
        assert!(record.cause.as_ref().unwrap().contains("took nothing"), "{record:?}");
    }
    assert_eq!(house.shared.counters.connections_stalled.get(), 2);
    drop((stream, http2));
    house.close().await;
}

#[tokio::test]
async fn what_is_not_tls_ends_the_handshake_and_nothing_else() {
    let house = House::with(Plan { timeouts: "handshake = \"200ms\"", ..Plan::default() });
    let secure = house.address("secure");

    let mut clear = TcpStream::connect(secure).await.unwrap();
    clear.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut silent = TcpStream::connect(secure).await.unwrap();
    let mut rest = Vec::new();
    clear.read_to_end(&mut rest).await.unwrap_or_default();
    silent.read_to_end(&mut rest).await.unwrap_or_default();

    house.until(|| house.shared.counters.handshakes_failed.get() >= 2).await;
    let client = Http2::connect(secure, house.certificate()).await;
    assert_eq!(client.text("GET /open/x", &[]).await, (200, "ok".to_owned()));
    house.records(1).await;
    house.close().await;
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_makes_no_difference_to_the_others() {
    let house = House::with(Plan { connections: "total = 3", ..Plan::default() });
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(house.plain()).await.unwrap());
    }
    house.until(|| house.shared.connections.open() == 3).await;

    let mut one_more = TcpStream::connect(house.plain()).await.unwrap();

    assert_eq!(one_more.read(&mut [0]).await.unwrap_or(0), 0);
    assert_eq!(house.shared.counters.connections_over_total.get(), 1);
    held.pop();
    house.until(|| house.shared.connections.open() == 2).await;
    assert_eq!(status_of(&raw(house.plain(), request("GET /open/x", &[])).await), 200);
    drop(held);
    house.close().await;
}

#[tokio::test]
async fn rapid_reset_ends_the_connection_and_not_the_proxy() {
    let house = House::open();
    let version = &rustls::version::TLS13;
    let (address, certificate) = (house.address("secure"), house.certificate());
    let mut stream = client::tls(address, certificate.clone(), &["h2"], version).await.unwrap();
    let mut flood = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // :method GET, :scheme https, :path / of the static table; :authority as a literal.
    let mut head = vec![0x82, 0x87, 0x84, 0x01, 8];
    head.extend_from_slice(b"api.test");
    for stream_id in (1u32..20_000).step_by(2) {
        let length = u8::try_from(head.len()).unwrap();
        flood.extend_from_slice(&[0, 0, length, 0x01, 0x05]);
        flood.extend_from_slice(&stream_id.to_be_bytes());
        flood.extend_from_slice(&head);
        flood.extend_from_slice(&[0, 0, 4, 0x03, 0]);
        flood.extend_from_slice(&stream_id.to_be_bytes());
        flood.extend_from_slice(&[0, 0, 0, 8]);
    }

    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let mut rest = Vec::new();
    let began = Instant::now();
    tokio::join!(async { writer.write_all(&flood).await.unwrap_or_default() }, async {
        reader.read_to_end(&mut rest).await.unwrap_or_default()
    },);

    assert!(began.elapsed() < Duration::from_secs(10));
    house.until(|| house.shared.connections.open() == 0).await;
    let client = Http2::connect(address, certificate).await;
    assert_eq!(client.text("GET /open/x", &[]).await.0, 200);
    assert!(house.count() < 1_000, "{} requests were served", house.count());
    house.close().await;
}

/// Sends `bytes`, ends its half, and returns the answers.
async fn half_closed(house: &House, bytes: &str) -> String {
    let mut stream = TcpStream::connect(house.plain()).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap_or_default();
    client::to_end(stream).await
}
