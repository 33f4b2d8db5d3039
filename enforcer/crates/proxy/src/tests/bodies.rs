//! Bodies both ways: streamed, bounded, timed, broken off; and when the record is written.

use std::time::Duration;

use bytes::Bytes;
use enforcer_model::{Exposed, Reason};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::client::{self, body_of, raw, request, status_of};
use super::house::Plan;
use super::{House, Http2};

const CHUNKED: &str = "transfer-encoding: chunked";

#[tokio::test]
async fn large_bodies_pass_unchanged_in_both_versions() {
    let house = House::open();
    let body: Bytes = (0..8_u32 << 20).map(|n| (n % 251).to_le_bytes()[0]).collect();
    let client = Http2::connect(house.address("secure"), house.certificate()).await;

    let http2 = client.send("POST /open/echo", &[], body.clone()).await.unwrap();
    let http2 = http2.into_body().collect().await.unwrap().to_bytes();
    let mut stream = TcpStream::connect(house.plain()).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let length = format!("content-length: {}", body.len());
    let head = request("POST /open/echo", &[&length]);
    let sending = async {
        writer.write_all(head.as_bytes()).await.unwrap();
        writer.write_all(&body).await.unwrap();
    };
    let mut answer = Vec::new();
    let ((), received) = tokio::join!(sending, reader.read_to_end(&mut answer));
    received.unwrap();

    assert!(http2 == body);
    assert!(answer.ends_with(&body));
    let length = u64::try_from(body.len()).unwrap();
    for record in house.records(2).await {
        assert_eq!((record.bytes_in, record.bytes_out), (length, length));
    }
    house.close().await;
}

#[tokio::test]
async fn what_an_answer_gives_away_is_counted_where_the_policy_wants_it_and_passes_unchanged() {
    let looking = "[detect]\npack = 'none'\n";
    let blind = "[detect]\npack = 'none'\nscan_answers = false\n";
    let found = Exposed { cards: 1, accounts: 1, emails: 1, ..Exposed::default() };
    for (detect, path, expected) in [
        (looking, "leak", Some(found)),
        (looking, "packed-leak", None),
        (looking, "x", None),
        (blind, "leak", None),
        ("", "leak", None),
    ] {
        let house = House::with(Plan { listen: detect, ..Plan::default() });

        let answer = raw(house.plain(), request(&format!("GET /open/{path}"), &[])).await;

        assert_eq!(status_of(&answer), 200);
        assert_eq!(answer.contains("ann@example.com"), path != "x", "{answer}");
        assert_eq!(house.record().await.exposed, expected, "{detect} {path}");
        house.close().await;
    }
}

#[tokio::test]
async fn a_body_larger_than_memory_should_be_passes_in_little_of_it() {
    let house = House::open();
    let mut stream = TcpStream::connect(house.plain()).await.unwrap();
    let before = resident_kib();

    stream.write_all(request("GET /open/endless", &[]).as_bytes()).await.unwrap();
    let (mut received, mut most) = (0, 0);
    let mut buffer = vec![0; 256 * 1024];
    while received < 256 << 20 {
        let count = stream.read(&mut buffer).await.unwrap();
        assert_ne!(count, 0);
        received += count;
        most = most.max(resident_kib());
    }

    let grown = most.saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more than before");
    drop(stream);
    house.records(1).await;
    house.close().await;
}

#[tokio::test]
async fn each_part_of_a_body_arrives_before_the_next_is_sent() {
    let house = House::open();
    let mut stream = TcpStream::connect(house.plain()).await.unwrap();
    stream.write_all(request("POST /open/echo", &[CHUNKED]).as_bytes()).await.unwrap();

    let mut received = String::new();
    for word in ["one", "two", "three"] {
        stream.write_all(format!("{:x}\r\n{word}\r\n", word.len()).as_bytes()).await.unwrap();
        while !received.contains(word) {
            let mut buffer = [0; 256];
            let count = stream.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "{received}");
            received.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();

    assert!(client::to_end(stream).await.ends_with("0\r\n\r\n"));
    assert_eq!(house.record().await.bytes_out, 11);
    house.close().await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_whether_it_says_so_or_not() {
    let house = House::open();
    let (long, fitting) = ("x".repeat(1025), "x".repeat(1024));

    let said = raw(house.plain(), request("POST /small/read", &["content-length: 1025"])).await;
    let unsaid = request("POST /small/read", &[CHUNKED]);
    let unsaid = raw(house.plain(), format!("{unsaid}401\r\n{long}\r\n0\r\n\r\n")).await;
    let fits = request("POST /small/read", &["content-length: 1024"]);
    let fits = raw(house.plain(), format!("{fits}{fitting}")).await;

    assert_eq!((status_of(&said), status_of(&unsaid)), (413, 413));
    assert_eq!((status_of(&fits), body_of(&fits)), (200, "1024"));
    let read_to_the_end = house.upstream.seen().iter().filter(|seen| seen.read.is_some()).count();
    assert_eq!(read_to_the_end, 1);
    let records = house.records(3).await;
    assert_eq!(records[0].reason, Some(Reason::BodyTooLarge));
    assert_eq!(records[0].bytes_in, 0);
    assert_eq!(records[1].reason, Some(Reason::BodyTooLarge));
    house.close().await;
}

#[tokio::test]
async fn a_client_that_is_still_sending_gets_the_answer_that_refuses_it() {
    let house = House::open();
    let long = "x".repeat(8 << 20);
    let too_long = format!("content-length: {}", long.len());

    for (line, fields, status) in [
        ("POST /small/read", [too_long.as_str()], 413),
        ("POST /small/read", [CHUNKED], 413),
        ("POST /app/read", [too_long.as_str()], 401),
    ] {
        let mut stream = TcpStream::connect(house.plain()).await.unwrap();
        let body = match fields {
            [CHUNKED] => format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len()),
            [_] => long.clone(),
        };
        // Whoever sends before it reads meets no reset while it does.
        stream.write_all(request(line, &fields).as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();

        assert_eq!(status_of(&client::to_end(stream).await), status, "{line} {fields:?}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_stream_is_not_reset_for_what_its_client_still_sends() {
    let house = House::open();
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let long = Bytes::from(vec![b'x'; 8 << 20]);

    for (line, status) in [("POST /small/read", 413), ("POST /app/read", 401)] {
        let answer = client.send(line, &[], long.clone()).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{line}");
        assert!(answer.into_body().collect().await.is_ok(), "{line}");
    }

    // The connection has kept its window: what was thrown away has been given back.
    let whole = client.send("POST /open/read", &[], long.clone()).await.unwrap();
    assert_eq!(whole.into_body().collect().await.unwrap().to_bytes(), long.len().to_string());
    house.close().await;
}

#[tokio::test]
async fn a_refused_client_that_sends_nothing_more_is_not_waited_for_long() {
    let house = House::open();
    let (silent, began) = (request("POST /small/read", &["content-length: 1025"]), Instant::now());

    let waiting = raw(house.plain(), &silent).await;
    let waited = began.elapsed();
    let asks = request("POST /small/read", &["content-length: 1025", "expect: 100-continue"]);
    let asking = raw(house.plain(), asks).await;

    assert_eq!((status_of(&waiting), status_of(&asking)), (413, 413));
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    assert!(began.elapsed() - waited < Duration::from_millis(900), "told without a wait");
    house.close().await;
}

#[tokio::test]
async fn trailers_pass_and_cannot_smuggle_an_identity() {
    let house = House::open();
    let head = request(
        "POST /open/read",
        &[CHUNKED, "trailer: x-checksum, x-forwarded-for, enforcer-identity"],
    );
    let body = "1\r\nx\r\n0\r\nx-checksum: 7\r\nx-forwarded-for: 1.2.3.4\r\n\
                enforcer-identity: root\r\n\r\n";

    let answer = raw(house.plain(), format!("{head}{body}")).await;

    assert_eq!((status_of(&answer), body_of(&answer)), (200, "1"));
    let trailers = house.upstream.seen().remove(0).trailers.unwrap();
    assert_eq!(trailers["x-checksum"], "7");
    assert_eq!(trailers.len(), 1, "{trailers:?}");
    house.close().await;
}

#[tokio::test]
async fn the_trailers_of_an_answer_reach_clients_that_take_them() {
    let house = House::open();
    let client = Http2::connect(house.address("secure"), house.certificate()).await;

    let plain = raw(house.plain(), request("GET /open/trailers", &["te: trailers"])).await;
    let http2 = client.send("GET /open/trailers", &[("te", "trailers")], "").await.unwrap();
    let http2 = http2.into_body().collect().await.unwrap();

    assert!(plain.ends_with("0\r\nx-sum: 7\r\n\r\n"), "{plain}");
    assert_eq!(http2.trailers().unwrap()["x-sum"], "7");
    assert_eq!(http2.to_bytes(), "summed");
    house.close().await;
}

#[tokio::test]
async fn a_client_that_closes_its_half_gets_its_answer() {
    let house = House::open();
    let mut stream = TcpStream::connect(house.plain()).await.unwrap();

    stream.write_all(request("GET /open/slow", &[]).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();

    assert_eq!(body_of(&client::to_end(stream).await), "slow");
    house.close().await;
}

#[tokio::test]
async fn a_client_that_leaves_during_its_answer_is_recorded_and_the_upstream_let_go() {
    let house = House::open();
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let mut stream = TcpStream::connect(house.plain()).await.unwrap();
    stream.write_all(request("GET /open/endless", &[]).as_bytes()).await.unwrap();
    stream.read_exact(&mut [0; 4096]).await.unwrap();
    let mut http2 = client.send("GET /open/endless", &[], "").await.unwrap();
    http2.body_mut().frame().await.unwrap().unwrap();

    drop(stream);
    drop(http2);

    for record in house.records(2).await {
        assert_eq!((record.status, record.reason), (200, None));
        assert!(record.cause.as_ref().unwrap().contains("client left"), "{record:?}");
        assert!(record.bytes_out > 0);
    }
    assert_eq!(house.shared.counters.clients_left.get(), 2);
    house.close().await;
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_is_recorded_as_499() {
    let house = House::open();
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let asking = client.send("GET /open/hang", &[], "");

    tokio::select! {
        _ = asking => panic!("nobody answers"),
        () = house.until(|| !house.upstream.seen().is_empty()) => {}
    }

    let record = house.record().await;
    assert_eq!((record.status, record.reason), (499, None));
    house.close().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_completed() {
    let house = House::open();

    let answer = raw(house.plain(), request("GET /open/break", &[])).await;

    assert!(body_of(&answer).contains("half"), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    let record = house.record().await;
    assert_eq!((record.status, record.reason), (200, Some(Reason::UpstreamBroken)));
    house.close().await;
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_cut_in_the_face_of_drops() {
    let house = House::open();
    let began = Instant::now();
    let mut stream = TcpStream::connect(house.plain()).await.unwrap();
    stream.write_all(request("POST /open/read", &[CHUNKED]).as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let dripping = tokio::spawn(async move {
        while writer.write_all(b"1\r\nx\r\n").await.is_ok() {
            sleep(Duration::from_millis(200)).await;
        }
    });

    let mut answer = String::new();
    reader.read_to_string(&mut answer).await.unwrap_or_default();

    assert_eq!(status_of(&answer), 408);
    assert!((5..8).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(house.record().await.reason, Some(Reason::BodyTooSlow));
    dripping.abort();
    house.close().await;
}

#[tokio::test]
async fn a_broken_chunk_is_the_clients_fault() {
    let house = House::open();
    let head = request("POST /open/read", &[CHUNKED]);

    let answer = raw(house.plain(), format!("{head}zz\r\n")).await;

    assert_eq!(status_of(&answer), 400);
    assert_eq!(house.record().await.reason, Some(Reason::BodyBroken));
    house.close().await;
}

#[tokio::test]
async fn a_durable_record_is_on_disk_before_the_answer_is_complete() {
    let house = House::with(Plan {
        audit: "allowed = \"durable\"\ndenied = \"durable\"",
        ..Plan::default()
    });

    for (count, line) in
        [(1, "GET /open/x"), (2, "HEAD /open/x"), (3, "GET /nowhere"), (4, "GET /app/x")]
    {
        let answer = raw(house.plain(), request(line, &[])).await;
        assert_ne!(status_of(&answer), 503);
        // And one record for all says what the handle of their peer stands for.
        assert_eq!(house.shared.audit.state().size, count + 1, "{line}");
    }
    house.close().await;
}

#[tokio::test]
async fn where_no_record_is_wanted_only_what_goes_wrong_leaves_one() {
    let house =
        House::with(Plan { audit: "allowed = \"none\"\ndenied = \"durable\"", ..Plan::default() });

    let answer = raw(house.plain(), request("GET /open/x", &[])).await;
    assert_eq!(status_of(&answer), 200);
    let answer = raw(house.plain(), request("GET /nowhere", &[])).await;
    assert_eq!(status_of(&answer), 404);

    assert_eq!(house.records(2).await.len(), 2, "detection sees both");
    house.close_with(1).await;
}

#[tokio::test]
async fn nothing_is_served_that_cannot_be_recorded() {
    let house = House::open();
    house.shared.audit.clone().close().await.unwrap();

    let answer = raw(house.plain(), request("GET /open/x", &[])).await;

    assert_eq!(status_of(&answer), 503);
    assert!(answer.contains("retry-after: 1"), "{answer}");
    assert!(house.upstream.seen().is_empty());
    assert_eq!(house.shared.counters.refused(Reason::AuditUnavailable), 1);
    house.records(0).await;
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
