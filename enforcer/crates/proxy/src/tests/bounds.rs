//! What a connection and a request may take: time, requests, an upstream; and how each ends.

use std::time::Duration;

use enforcer_model::Reason;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{self, body_of, head_of, raw, request, status_of};
use super::house::Plan;
use super::{House, Http2};

const ASK: &str = "GET /open/x HTTP/1.1\r\nhost: api.test\r\n\r\n";

#[tokio::test]
async fn a_connection_closes_after_so_many_requests_and_loses_none() {
    let house = House::with(Plan { connections: "requests = 3", ..Plan::default() });

    let answers = raw(house.plain(), ASK.repeat(3)).await;
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    for _ in 0..3 {
        assert_eq!(client.text("GET /open/x", &[]).await, (200, "ok".to_owned()));
    }
    house.until(|| house.shared.connections.open() == 0).await;

    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    assert_eq!(answers.matches("connection: close").count(), 1, "{answers}");
    assert!(client.send("GET /open/x", &[], "").await.is_err(), "it was asked to leave");
    house.records(6).await;
    house.close().await;
}

#[tokio::test]
async fn an_old_connection_closes_behind_an_answer() {
    let house = House::with(Plan {
        connections: "age = \"1s\"",
        timeouts: "head = \"200ms\"",
        ..Plan::default()
    });
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let mut plain = TcpStream::connect(house.plain()).await.unwrap();
    plain.write_all(ASK.as_bytes()).await.unwrap();
    assert!(plain.read(&mut [0; 4096]).await.unwrap() > 0);
    let drip = client.send("GET /open/drip", &[], "").await.unwrap();

    // HTTP/2 is told by itself, and what is under way goes on.
    while client.send("GET /open/x", &[], "").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut drip = drip.into_body();
    for _ in 0..10 {
        assert!(drip.frame().await.unwrap().is_ok());
    }
    plain.write_all(ASK.as_bytes()).await.unwrap();
    let answer = client::to_end(plain).await;

    assert!(head_of(&answer).contains("connection: close"), "{answer}");
    drop(drip);
    house.until(|| house.shared.connections.open() == 0).await;
    house.close().await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_as_a_whole_is_answered_or_broken_off() {
    let house = House::with(Plan { timeouts: "request = \"300ms\"", ..Plan::default() });
    let client = Http2::connect(house.address("secure"), house.certificate()).await;

    let hangs = raw(house.plain(), request("GET /open/hang", &[])).await;
    let drips = raw(house.plain(), request("GET /open/drip", &[])).await;
    let mut http2 = client.send("GET /open/drip", &[], "").await.unwrap().into_body();
    while http2.frame().await.is_some_and(|frame| frame.is_ok()) {}
    let untaken = client.send("GET /open/endless", &[], "").await.unwrap();

    assert_eq!((status_of(&hangs), status_of(&drips)), (504, 200));
    assert!(body_of(&drips).contains("drip"));
    let records = house.records(4).await;
    assert!(
        records.iter().all(|record| record.reason == Some(Reason::RequestTimeout)),
        "{records:#?}"
    );
    // One stream was reset, and the connection lives.
    assert_eq!(client.text("GET /open/x", &[]).await, (200, "ok".to_owned()));
    drop(untaken);
    house.close().await;
}

#[tokio::test]
async fn a_short_body_is_complete_before_the_upstream_hears_of_it() {
    let house = House::open();
    let mut slow = TcpStream::connect(house.plain()).await.unwrap();
    let head = request("POST /open/echo", &["content-length: 6"]);
    slow.write_all(format!("{head}abc").as_bytes()).await.unwrap();

    let other = raw(house.plain(), request("GET /open/x", &[])).await;
    assert_eq!(status_of(&other), 200);
    assert_eq!(house.upstream.seen().len(), 1, "the other one's");
    slow.write_all(b"def").await.unwrap();
    let answer = client::to_end(slow).await;

    assert_eq!((status_of(&answer), body_of(&answer)), (200, "abcdef"));
    assert_eq!(house.upstream.seen().len(), 2);
    house.close().await;
}

#[tokio::test]
async fn chunks_are_gathered_into_a_length_and_trailers_stay_behind_chunks() {
    let house = House::open();
    let chunks = "3\r\nabc\r\n3\r\ndef\r\n0\r\n";
    let head = request("POST /open/read", &["transfer-encoding: chunked", "trailer: x-sum"]);

    let plain = raw(house.plain(), format!("{head}{chunks}\r\n")).await;
    let trailed = raw(house.plain(), format!("{head}{chunks}x-sum: 7\r\n\r\n")).await;

    assert_eq!((status_of(&plain), status_of(&trailed)), (200, 200));
    let seen = house.upstream.seen();
    assert_eq!(seen[0].headers["content-length"], "6");
    assert_eq!(seen[1].headers["transfer-encoding"], "chunked");
    assert_eq!(seen[1].read, Some(6));
    assert_eq!(seen[1].trailers.as_ref().unwrap()["x-sum"], "7");
    house.close().await;
}

#[tokio::test]
async fn a_client_that_talks_with_the_upstream_is_not_kept_waiting_for_its_end() {
    let house = House::open();
    let mut stream = TcpStream::connect(house.plain()).await.unwrap();
    let head = request("POST /open/echo", &["transfer-encoding: chunked"]);

    // It says how it goes on only after it has heard something.
    stream.write_all(format!("{head}3\r\nabc\r\n").as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"abc\r\n") {
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).await.unwrap();
        assert_ne!(count, 0);
        heard.extend_from_slice(&buffer[..count]);
    }
    stream.write_all(b"3\r\ndef\r\n0\r\n\r\n").await.unwrap();

    assert!(client::to_end(stream).await.contains("def"));
    house.close().await;
}

#[tokio::test]
async fn what_stands_before_an_unsound_request_is_served_and_nothing_behind_it() {
    let house = House::open();
    let unsound = "GET /open/y HTTP/1.1\nhost: api.test\r\n\r\n";

    let answer = raw(house.plain(), format!("{ASK}{ASK}{unsound}{ASK}")).await;

    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 400 ").count(), 1, "{answer}");
    let last = answer.rsplit("HTTP/1.1 ").next().unwrap();
    assert!(last.contains("application/problem+json") && last.contains("connection: close"));
    assert!(last.contains("x-request-id: "), "{last}");
    assert_eq!(house.upstream.seen().len(), 2);
    let records = house.records(3).await;
    assert_eq!(records[2].reason, Some(Reason::FramingAmbiguous));
    house.close().await;
}

#[tokio::test]
async fn a_question_about_the_server_is_answered_here() {
    let house = House::open();

    let answer = raw(house.plain(), request("OPTIONS *", &[])).await;
    let other = raw(house.plain(), request("GET *", &[])).await;

    assert_eq!((status_of(&answer), status_of(&other)), (204, 400));
    assert!(house.upstream.seen().is_empty());
    house.records(2).await;
    house.close().await;
}
