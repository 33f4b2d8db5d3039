//! Requests that are under way when their caller is shut out.

use std::time::Duration;

use enforcer_model::{HttpVersion, Reason};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::client::{request, to_end};
use super::{House, Http2};

#[tokio::test]
async fn whoever_is_named_by_what_he_is_loses_his_streams_and_nobody_else_does() {
    let mut house = House::open();
    let (id, bad) = house.key(&["reader"]);
    let (_, good) = house.key(&["reader"]);
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let ask = async |path: &str, key: &str| {
        client.send(&format!("GET {path}"), &[("x-api-key", key)], "").await.unwrap().into_body()
    };
    let mut cut = ask("/app/drip", &bad).await;
    let mut kept = ask("/app/drip", &good).await;
    cut.frame().await.unwrap().unwrap();

    let hit = house
        .shared
        .connections
        .close_where(Reason::KeyRevoked, &|caller| caller.key_id() == Some(id));
    let mut last = Ok(());
    while let Some(frame) = cut.frame().await {
        if let Err(error) = frame {
            last = Err(error);
            break;
        }
    }

    assert_eq!(hit, 1);
    assert!(last.is_err(), "an answer that was cut never looks whole");
    for _ in 0..5 {
        kept.frame().await.unwrap().unwrap();
    }
    assert_eq!(client.text("GET /app/x", &[("x-api-key", &good)]).await.0, 200);
    let record = house.seen_at(0).await;
    assert_eq!((record.reason, record.http), (Some(Reason::KeyRevoked), HttpVersion::H2));
    drop((kept, client));
    house.close().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_cannot_sit_out_a_cut() {
    let mut house = House::open();
    let (id, key) = house.key(&["reader"]);
    let get = request("GET /app/endless", &[&format!("x-api-key: {key}")]);
    let mut plain = TcpStream::connect(house.plain()).await.unwrap();
    plain.write_all(get.as_bytes()).await.unwrap();
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let stalled = client.send("GET /app/endless", &[("x-api-key", &key)], "").await.unwrap();
    house.until(|| house.upstream.seen().len() == 2).await;
    // Until every buffer on the way is full.
    sleep(Duration::from_millis(500)).await;

    let began = Instant::now();
    assert_eq!(house.shared.connections.close_key(id, Reason::Quarantined), 2);
    let records = house.records(2).await;

    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    for record in records {
        assert_eq!((record.status, record.reason), (200, Some(Reason::Quarantined)));
    }
    assert_eq!(client.text("GET /open/x", &[]).await.0, 200, "the connection goes on");
    drop(stalled);
    to_end_of_bytes(plain).await;
    drop(client);
    house.close().await;
}

#[tokio::test]
async fn a_request_over_http1_ends_with_its_connection_when_it_is_cut() {
    let mut house = House::open();
    let (id, key) = house.key(&["reader"]);
    let get = format!("GET /app/drip HTTP/1.1\r\nhost: api.test\r\nx-api-key: {key}\r\n\r\n");
    let mut stream = TcpStream::connect(house.plain()).await.unwrap();
    stream.write_all(get.as_bytes()).await.unwrap();
    // Into the body: a cut before it is told by a refusal.
    let mut some = [0; 512];
    for _ in 0..2 {
        assert_ne!(stream.read(&mut some).await.unwrap(), 0);
    }

    house.shared.connections.close_key(id, Reason::KeyRevoked);
    let answer = to_end(stream).await;

    assert!(!answer.ends_with("0\r\n\r\n"), "an answer that was cut never looks whole: {answer}");
    assert_eq!(house.record().await.reason, Some(Reason::KeyRevoked));
    house.close().await;
}

async fn to_end_of_bytes(mut stream: TcpStream) {
    let mut all = Vec::new();
    drop(stream.read_to_end(&mut all).await);
}
