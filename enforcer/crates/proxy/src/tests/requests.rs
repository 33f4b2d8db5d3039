//! What becomes of one request: served, refused, redirected; and what each side gets to see.

use enforcer_model::{HttpVersion, Reason, TlsVersion};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::client::{self, body_of, head_of, raw, request, status_of};
use super::house::now;
use super::{House, Http2};

#[tokio::test]
async fn a_request_is_answered_and_recorded_once() {
    let mut house = House::open();
    let (id, key) = house.key(&["reader"]);
    let get = request("GET /app/x?q=1", &[&format!("authorization: Bearer {key}")]);

    let answer = raw(house.plain(), get).await;

    assert_eq!((status_of(&answer), body_of(&answer)), (200, "ok"));
    let record = house.record().await;
    assert_eq!((record.method.as_str(), record.status, record.reason), ("GET", 200, None));
    assert_eq!(record.host.as_deref(), Some("api.test"));
    assert_eq!(record.path.as_deref(), Some("/app/x"));
    assert_eq!(record.route.as_deref(), Some("app"));
    assert_eq!(record.rule.as_deref(), Some("app.allow[1]"));
    let who = record.who.clone().unwrap();
    assert_eq!((who.key, who.role.unwrap().as_str()), (Some(id), "reader"));
    assert!(record.credential.is_some());
    assert_eq!(record.upstream.as_deref(), Some(&*house.upstream.address.to_string()));
    assert_eq!((record.bytes_in, record.bytes_out), (0, 2));
    assert!(record.upstream_wait <= record.duration);
    assert_eq!(&record.policy, house.shared.policy.load().sha256());
    assert!(head_of(&answer).contains(&format!("x-request-id: {}", record.id)), "{answer}");
    assert_eq!(house.shared.counters.allowed.get(), 1);
    house.close().await;
}

#[tokio::test]
async fn many_requests_share_a_connection_and_pipelined_ones_keep_their_order() {
    let house = House::open();
    let mut stream = TcpStream::connect(house.plain()).await.unwrap();
    let get = "GET /open/x HTTP/1.1\r\nhost: api.test\r\n\r\n";
    let post = "POST /open/echo HTTP/1.1\r\nhost: api.test\r\ncontent-length: 4\r\n\r\nbody";

    stream.write_all(format!("{get}{post}{get}").as_bytes()).await.unwrap();
    stream.write_all(request("GET /open/x", &[]).as_bytes()).await.unwrap();
    let answers = client::to_end(stream).await;

    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 4, "{answers}");
    assert!(answers.find("body").unwrap() < answers.rfind("ok").unwrap());
    let lines: Vec<_> = house.upstream.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(lines, ["GET /open/x", "POST /open/echo", "GET /open/x", "GET /open/x"]);
    assert_eq!(house.shared.counters.connections.get(), 1);
    house.records(4).await;
    house.close().await;
}

#[tokio::test]
async fn http2_is_served_over_tls_with_many_streams() {
    let mut house = House::open();
    let (_, key) = house.key(&["reader"]);
    let client = Http2::connect(house.address("secure"), house.certificate()).await;

    let bearer = format!("Bearer {key}");
    let mut slow = JoinSet::new();
    for _ in 0..20 {
        let (client, bearer) = (client.clone(), bearer.clone());
        slow.spawn(
            async move { client.text("GET /app/slow", &[("authorization", &bearer)]).await },
        );
    }
    let answers = slow.join_all().await;

    assert!(answers.iter().all(|answer| *answer == (200, "slow".to_owned())), "{answers:?}");
    for record in house.records(20).await {
        assert_eq!((record.http, record.tls), (HttpVersion::H2, Some(TlsVersion::V1_3)));
    }
    assert_eq!(house.shared.counters.connections.get(), 1);
    house.close().await;
}

#[tokio::test]
async fn tls_1_2_and_clients_without_alpn_are_served_http1() {
    let house = House::open();
    let (address, certificate) = (house.address("secure"), house.certificate());

    let version = &rustls::version::TLS12;
    let mut stream = client::tls(address, certificate, &[], version).await.unwrap();
    stream.write_all(request("GET /open/x", &[]).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap_or_default();

    assert_eq!(status_of(&answer), 200);
    let record = house.record().await;
    assert_eq!((record.http, record.tls), (HttpVersion::H1, Some(TlsVersion::V1_2)));
    assert_eq!(house.upstream.seen()[0].headers["x-forwarded-proto"], "https");
    house.close().await;
}

#[tokio::test]
async fn refused_credentials_look_alike_and_are_told_apart_in_the_log() {
    let mut house = House::open();
    let (_, good) = house.key(&["reader"]);
    let (_, gone) = house.key(&["reader"]);
    let unknown = house.key_of_another_house();
    house.keys.revoke("key-1", "test", now()).unwrap();
    let bearer = |key: &str| vec![format!("authorization: Bearer {key}")];
    let cases = [
        (vec![], Reason::CredentialMissing),
        (bearer("nonsense"), Reason::KeyMalformed),
        (vec!["authorization: Basic eDp5".to_owned()], Reason::KeyMalformed),
        (bearer(&unknown), Reason::KeyUnknown),
        (bearer(&gone), Reason::KeyRevoked),
        (
            vec![format!("authorization: Bearer {good}"), format!("x-api-key: {good}")],
            Reason::CredentialDuplicate,
        ),
    ];

    let mut answers = Vec::new();
    for (fields, _) in &cases {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        answers.push(raw(house.plain(), request("GET /app/x", &fields)).await);
    }

    let records = house.records(cases.len()).await;
    for (((_, reason), record), answer) in cases.iter().zip(&records).zip(&answers) {
        assert_eq!(record.reason, Some(*reason));
        assert_eq!((record.status, record.who.as_ref()), (401, None));
        assert_eq!(without_id(answer), without_id(&answers[0]));
    }
    assert!(answers[0].contains("www-authenticate: Bearer\r\n"));
    assert!(records[4].cause.as_ref().unwrap().contains("revoked"), "{:?}", records[4]);
    assert!(house.upstream.seen().is_empty());
    house.close().await;
}

#[tokio::test]
async fn what_is_not_allowed_reaches_no_upstream_and_tells_nothing_of_routes() {
    let mut house = House::open();
    let (_, reader) = house.key(&["reader"]);
    let (_, stranger) = house.key(&["nobody"]);
    let post = |key: &str| request("POST /app/x", &[&format!("x-api-key: {key}")]);

    let wrong_role = raw(house.plain(), post(&reader)).await;
    let no_role = raw(house.plain(), post(&stranger)).await;
    let no_route = raw(house.plain(), request("GET /admin", &[])).await;
    let no_host = "GET /app/x HTTP/1.1\r\nhost: other.test\r\nconnection: close\r\n\r\n";
    let no_host = raw(house.plain(), no_host).await;

    assert_eq!((status_of(&wrong_role), status_of(&no_route)), (403, 404));
    assert_eq!(without_id(&wrong_role), without_id(&no_role));
    assert_eq!(without_id(&no_route), without_id(&no_host));
    assert!(!wrong_role.contains("allow") && !wrong_role.contains("role"), "{wrong_role}");
    assert!(house.upstream.seen().is_empty());
    let records = house.records(4).await;
    assert_eq!(records[0].reason, Some(Reason::NotAllowed));
    assert!(records[0].who.is_some());
    assert_eq!(records[2].reason, Some(Reason::NoRoute));
    house.close().await;
}

#[tokio::test]
async fn an_address_is_limited_before_its_credential_is_looked_at() {
    let mut house = House::open();
    let (_, key) = house.key(&["reader"]);
    let guess = request("GET /tight/x", &["x-api-key: guess"]);

    for _ in 0..3 {
        assert_eq!(status_of(&raw(house.plain(), &guess).await), 401);
    }
    let throttled = raw(house.plain(), &guess).await;
    let even_with_key = format!("x-api-key: {key}");
    let even_with_key = raw(house.plain(), request("GET /tight/x", &[&even_with_key])).await;

    assert_eq!((status_of(&throttled), status_of(&even_with_key)), (429, 429));
    assert!(head_of(&throttled).contains("retry-after: "), "{throttled}");
    let records = house.records(5).await;
    assert_eq!(records[4].reason, Some(Reason::LimitSource));
    assert_eq!(records[4].rule.as_deref(), Some("ip"));
    assert_eq!(records[4].credential, None);
    house.close().await;
}

#[tokio::test]
async fn a_caller_is_limited_after_it_was_permitted() {
    let mut house = House::open();
    let (_, key) = house.key(&["reader"]);
    let field = format!("x-api-key: {key}");

    let not_allowed = raw(house.plain(), request("POST /tight/x", &[&field])).await;
    let mut answers = Vec::new();
    for _ in 0..2 {
        answers.push(raw(house.plain(), request("GET /tight/x", &[&field])).await);
    }

    assert_eq!(status_of(&not_allowed), 403);
    // The refusal did not cost the key anything: its burst of two is left.
    assert!(answers.iter().all(|answer| status_of(answer) == 200), "{answers:?}");
    house.records(3).await;
    house.close().await;
}

#[tokio::test]
async fn the_upstream_sees_what_we_know_and_nothing_that_the_client_claims() {
    let mut house = House::open();
    let (_, key) = house.key(&["reader"]);
    let claims = [
        &format!("authorization: Bearer {key}"),
        "x-forwarded-for: 1.2.3.4",
        "forwarded: for=1.2.3.4",
        "x-real-ip: 1.2.3.4",
        "enforcer-identity: root",
        "x-request-id: mine",
        "expect: 100-continue",
        "te: trailers",
        "accept: text/plain",
    ];

    let answer = raw(house.plain(), request("GET /app/x?a=%20b", &claims)).await;

    assert_eq!(status_of(&answer), 200);
    let seen = house.upstream.seen().remove(0);
    assert_eq!(seen.line, "GET /app/x?a=%20b");
    for gone in ["authorization", "forwarded", "x-real-ip", "expect"] {
        assert!(!seen.headers.contains_key(gone), "{gone}");
    }
    // Ours, and nobody else's.
    let ours: Vec<_> = seen.headers.get_all("enforcer-identity").iter().collect();
    assert!(
        matches!(ours[..], [only] if only.to_str().unwrap().split('.').count() == 3),
        "{ours:?}"
    );
    assert!(!seen.headers.contains_key("connection"));
    assert_eq!(seen.headers["host"], "api.test");
    assert_eq!(seen.headers["accept"], "text/plain");
    assert_eq!(seen.headers["te"], "trailers");
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen.headers["x-forwarded-proto"], "http");
    let record = house.record().await;
    assert_eq!(seen.headers["x-request-id"], record.id.to_string());
    assert!(!head_of(&answer).contains("server:"), "{answer}");
    house.close().await;
}

#[tokio::test]
async fn what_an_upstream_says_of_its_failures_is_not_for_clients() {
    let house = House::open();

    let answer = raw(house.plain(), request("GET /open/trace", &[])).await;
    let head = raw(house.plain(), request("HEAD /open/trace", &[])).await;
    let spoken = raw(house.plain(), request("GET /open/problem", &[])).await;

    assert_eq!((status_of(&answer), status_of(&head), status_of(&spoken)), (503, 503, 503));
    assert!(!answer.contains("secret") && !head.contains("secret"), "{answer}\n{head}");
    assert!(head_of(&answer).contains("content-type: application/problem+json"), "{answer}");
    assert!(head_of(&answer).contains("retry-after: 7"), "{answer}");
    let records = house.records(3).await;
    assert!(body_of(&answer).contains(&records[0].id.to_string()), "{answer}");
    assert_eq!(body_of(&head), "");
    assert_eq!(body_of(&spoken), "{\"title\":\"sold out\"}");
    assert_eq!((records[0].status, records[0].reason), (503, None));
    house.close().await;
}

#[tokio::test]
async fn a_head_request_gets_a_head_in_both_versions() {
    let house = House::open();
    let client = Http2::connect(house.address("secure"), house.certificate()).await;

    let plain = raw(house.plain(), request("HEAD /open/x", &[])).await;
    let refused = raw(house.plain(), request("HEAD /app/x", &[])).await;
    let http2 = client.send("HEAD /open/x", &[], "").await.unwrap();
    let http2_refused = client.send("HEAD /app/x", &[], "").await.unwrap();

    assert_eq!((status_of(&plain), body_of(&plain)), (200, ""));
    assert!(head_of(&plain).contains("content-length: 2"), "{plain}");
    assert_eq!((status_of(&refused), body_of(&refused)), (401, ""));
    assert_eq!(http2.status(), 200);
    assert!(http2.into_body().collect().await.unwrap().to_bytes().is_empty());
    assert_eq!(http2_refused.status(), 401);
    assert!(http2_refused.into_body().collect().await.unwrap().to_bytes().is_empty());
    let records = house.records(4).await;
    assert!(records.iter().all(|record| record.bytes_out == 0), "{records:#?}");
    house.close().await;
}

#[tokio::test]
async fn clear_text_from_outside_is_redirected_and_nothing_else() {
    let mut house = House::open();
    let (_, key) = house.key(&["writer"]);
    let door = house.address("door");

    let fields = [format!("x-api-key: {key}")];
    let moved = raw(door, request("POST /app/x?q=%2f", &[&fields[0]])).await;
    let bad_host = "GET / HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n";
    let bad_host = raw(door, bad_host).await;
    let bad_path = raw(door, request("GET /a/../b", &[])).await;

    assert_eq!(status_of(&moved), 308);
    assert!(head_of(&moved).contains("location: https://api.test/app/x?q=%2f"), "{moved}");
    assert_eq!((status_of(&bad_host), status_of(&bad_path)), (400, 400));
    assert!(house.upstream.seen().is_empty());
    let records = house.records(3).await;
    assert_eq!((records[0].status, records[0].route.as_ref()), (308, None));
    house.close().await;
}

#[tokio::test]
async fn a_public_route_needs_no_key_and_forwards_none() {
    let mut house = House::open();
    let (_, key) = house.key(&["reader"]);

    let field = format!("authorization: Bearer {key}");
    let answer = raw(house.plain(), request("DELETE /open/x", &[&field])).await;

    assert_eq!(status_of(&answer), 200);
    assert!(!house.upstream.seen()[0].headers.contains_key("authorization"));
    assert_eq!(house.record().await.rule.as_deref(), Some("public"));
    house.close().await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_refused_before_it_sends_its_body() {
    let mut house = House::open();
    let (_, key) = house.key(&["writer"]);
    let waits = ["expect: 100-continue", "content-length: 4"];
    let permitted = [waits[0], waits[1], &format!("x-api-key: {key}")];

    let refused = raw(house.plain(), request("POST /app/echo", &waits)).await;
    let mut stream = TcpStream::connect(house.plain()).await.unwrap();
    stream.write_all(request("POST /app/echo", &permitted).as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    stream.write_all(b"body").await.unwrap();
    let answer = client::to_end(stream).await;

    assert_eq!(status_of(&refused), 401);
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!((status_of(&answer), body_of(&answer)), (200, "body"));
    house.records(2).await;
    house.close().await;
}

fn without_id(answer: &str) -> String {
    let id = answer.split_once("x-request-id: ").unwrap().1.get(..32).unwrap();
    let answer = answer.replace(id, "ID");
    let date = answer.split_once("date: ").unwrap().1.split_once("\r\n").unwrap().0;
    answer.replace(date, "DATE")
}
