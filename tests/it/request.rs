//! What a request must be to reach the service, and what the service gets to see of it.

use std::io::{Read, Write};

use enforcer_tests::lab::{Ask, CLIENT, Family, Http};
use http::{HeaderName, HeaderValue, Method};

use crate::stage::{Hook, LAYER_7, Stage, orders, policy};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_key_is_served_over_both_versions_of_http_and_of_ip() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");

    for family in Family::BOTH {
        for http in [Http::One, Http::Two] {
            let mut connection = stage.client(family).connect(http).unwrap();
            for _ in 0..3 {
                let answer = connection.ask(&orders().key(&reader)).unwrap();
                assert_eq!(answer.status, 200, "{family:?} {http:?}");
                assert_eq!(answer.text(), "GET /v1/orders\n");
                assert!(answer.headers.contains_key("x-request-id"));
            }
        }
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn roles_decide_per_method_and_what_no_rule_allows_is_refused() {
    let stage = Stage::new(Hook::Native);
    let (reader, writer) = (stage.key("reads", "reader"), stage.key("writes", "writer"));
    let client = stage.client(Family::V4);
    let ask = |method: Method, key: &str| {
        client.ask(&Ask::new(method, "/v1/orders").key(key)).unwrap().status.as_u16()
    };

    assert_eq!(ask(Method::GET, &reader), 200);
    assert_eq!(ask(Method::POST, &reader), 403);
    assert_eq!(ask(Method::GET, &writer), 200, "a role includes another");
    assert_eq!(ask(Method::POST, &writer), 200);
    assert_eq!(ask(Method::PATCH, &writer), 403, "no rule speaks of it");
    assert_eq!(client.ask(&Ask::get("/elsewhere").key(&writer)).unwrap().status, 404);
    assert_eq!(client.ask(&Ask::get("/healthz")).unwrap().status, 200, "public");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn every_refused_credential_gets_one_and_the_same_answer() {
    let stage = Stage::with_policy(&policy(Hook::Native).replace("failures = 5", "failures = 500"));
    let revoked = stage.key("gone", "reader");
    assert!(stage.enforcer(&["keys", "revoke", "gone", "--reason", "test"]).is_success());
    let words =
        ["keys", "issue", "--name", "far", "--role", "reader", "--network", "198.51.100.0/24"];
    let elsewhere = stage.json(&words)["credential"].as_str().unwrap().to_owned();
    let good = stage.key("good", "reader");
    let unknown = good.replace(good.split('_').nth(2).unwrap(), "000000000000");
    let mut connection = stage.client(Family::V4).connect(Http::One).unwrap();

    let mut seen = Vec::new();
    for key in [
        revoked.as_str(),
        &elsewhere,
        &unknown,
        "nonsense",
        good.strip_suffix(|_: char| true).unwrap(),
    ] {
        let answer = connection.ask(&orders().key(key)).unwrap();
        let mut body: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
        let id = answer.headers["x-request-id"].to_str().unwrap();
        let text = serde_json::to_string(&body).unwrap();
        assert!(text.contains(id), "{text}");
        body = serde_json::from_str(&text.replace(id, "ID")).unwrap();
        let mut headers = answer.headers.clone();
        headers.remove("x-request-id");
        headers.remove("date");
        seen.push((answer.status, headers, body));
    }

    assert_eq!(seen[0].0, 401);
    assert!(seen[0].1.contains_key("www-authenticate"));
    assert_eq!(seen[0].1["content-type"], "application/problem+json");
    assert!(seen.iter().all(|answer| *answer == seen[0]), "{seen:#?}");
    assert_eq!(stage.upstream.requests(), 0);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn forged_headers_and_credentials_never_reach_the_service() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    let forged = [
        ("x-forwarded-for", "203.0.113.66"),
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-proto", "gopher"),
        ("forwarded", "for=203.0.113.66"),
        ("x-real-ip", "203.0.113.66"),
        ("enforcer-identity", "root"),
        ("x-request-id", "mine"),
    ];
    let mut ask = orders().key(&reader);
    for (name, value) in forged {
        ask = ask.header(HeaderName::from_static(name), HeaderValue::from_static(value));
    }

    let answer = stage.client(Family::V4).ask(&ask).unwrap();

    assert_eq!(answer.status, 200);
    let seen = stage.upstream.seen().pop().unwrap();
    assert_eq!(seen.headers["x-forwarded-for"], CLIENT.v4.to_string());
    assert_eq!(seen.headers["x-forwarded-host"], "api.test");
    assert_eq!(seen.headers["x-forwarded-proto"], "https");
    assert_eq!(seen.headers["x-request-id"], answer.headers["x-request-id"]);
    for name in ["authorization", "forwarded", "x-real-ip", "x-api-key"] {
        assert!(!seen.headers.contains_key(name), "{name}");
    }
    // The one that it gets is ours.
    let words: Vec<_> = seen.headers.get_all("enforcer-identity").iter().collect();
    assert_eq!(words.len(), 1);
    assert_eq!(words[0].to_str().unwrap().split('.').count(), 3);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_can_be_read_two_ways_is_refused_before_the_service() {
    let stage = Stage::new(Hook::Native);
    // A key that may do everything: whatever is refused here is refused for its form.
    let writer = stage.key("client", "writer");
    let raw = |line: &str, more: &str, body: &str| {
        format!("{line}\r\nHost: api.test\r\nAuthorization: Bearer {writer}\r\n{more}\r\n{body}")
    };
    let get = |target: &str| raw(&format!("GET {target} HTTP/1.1"), "", "");
    let post = |more: &str, body: &str| raw("POST /v1/a HTTP/1.1", more, body);
    let with = |more: &str| raw("GET /v1/a HTTP/1.1", more, "");

    let sound = [
        get("/v1/a"),
        get("/v1/a%20b"),
        get("https://api.test/v1/a"),
        with("X-Anything: x\r\n"),
        with("Connection: x-anything\r\n"),
        post("Content-Length: 4\r\n", "aaaa"),
        post("Transfer-Encoding: chunked\r\n", "4\r\naaaa\r\n0\r\n\r\n"),
    ];
    let two_ways = [
        (400, post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        (400, post("Content-Length: 4\r\nContent-Length: 5\r\n", "aaaaa")),
        (400, post("Content-Length: +4\r\n", "aaaa")),
        (400, post("Content-Length: 04\r\n", "aaaa")),
        (400, post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")),
        (400, post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n")),
        (400, post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n")),
        (400, post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")),
        (400, get("http://evil.test/v1/a")),
        (400, get("/v1/../healthz")),
        (400, get("/v1/%2e%2e/healthz")),
        (400, get("/v1//a")),
        (400, get("/v1/a%2fb")),
        (400, get("/v1/a\\b")),
        (400, get("/v1/a%5cb")),
        (400, get("/v1/a%252fb")),
        (400, get("/v1/a;b=c")),
        (400, get("/v1/a%00")),
        (400, get("/v1/%c0%af")),
        (400, get("/v1/%zz")),
        (400, with("Host: evil.test\r\n")),
        (400, with("X-HTTP-Method-Override: DELETE\r\n")),
        (400, with("X_Forwarded_For: 203.0.113.66\r\n")),
        (400, with("Connection: authorization\r\n")),
        (400, with("Connection: Upgrade\r\nUpgrade: h2c\r\n")),
        (400, with(" folded: line\r\n")),
        (400, with("Na me: x\r\n")),
        (400, raw("GET /v1/a HTTP/1.1\n", "", "")),
        (400, get("/v1/a").replace("Host: api.test\r\n", "")),
        (401, with(&format!("X-Api-Key: {writer}\r\n"))),
        (405, raw("CONNECT api.test:443 HTTP/1.1", "", "")),
        (405, raw("TRACE /v1/a HTTP/1.1", "", "")),
    ];

    for request in &sound {
        assert_eq!(status_of(&stage, request), Some(200), "{request:?}");
    }
    for (status, request) in &two_ways {
        assert_eq!(status_of(&stage, request), Some(*status), "{request:?}");
    }
    let seen = stage.upstream.seen();
    assert_eq!(seen.len(), sound.len(), "{seen:#?}");
}

/// The status of the answer to these bytes; none when the connection ends without one.
fn status_of(stage: &Stage, request: &str) -> Option<u16> {
    let mut stream = stage.client(Family::V4).tls_socket(&[b"http/1.1"]).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut line = [0; 12];
    stream.read_exact(&mut line).ok()?;
    std::str::from_utf8(&line).ok()?.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn bodies_stream_both_ways_and_have_their_limit() {
    let stage = Stage::new(Hook::Native);
    let writer = stage.key("client", "writer");

    for http in [Http::One, Http::Two] {
        let mut connection = stage.client(Family::V4).connect(http).unwrap();
        let body = vec![b'x'; 1 << 20];
        let echoed = connection.ask(&Ask::post("/v1/echo", body.clone()).key(&writer)).unwrap();
        assert_eq!(echoed.body.len(), body.len(), "{http:?}");
        let large = connection.ask(&Ask::get("/v1/bytes/30000000").key(&writer)).unwrap();
        assert_eq!(large.body.len(), 30_000_000, "{http:?}");
        let over = vec![b'x'; (1 << 20) + 1];
        let refused = connection.ask(&Ask::post("/v1/echo", over).key(&writer)).unwrap();
        assert_eq!(refused.status, 413, "{http:?}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn limits_hold_per_address_and_per_key_and_say_when_to_come_back() {
    let limited = policy(Hook::Native)
        .replace("public   = true", "public   = true\nlimits   = [\"per_ip\"]")
        + "\n[limit]\nper_ip  = { by = \"ip\", rate = \"1/m\", burst = 3 }\n\
         per_key = { by = \"key\", rate = \"1/m\", burst = 2 }\n";
    let limited = limited.replacen(
        "upstream = \"orders\"\n",
        "upstream = \"orders\"\nlimits = [\"per_key\"]\n",
        1,
    );
    let stage = Stage::with_policy(&limited);
    let (one, two) = (stage.key("one", "reader"), stage.key("two", "reader"));
    let mut connection = stage.client(Family::V4).connect(Http::One).unwrap();
    let mut status = |ask: Ask| connection.ask(&ask).unwrap();

    for expected in [200, 200, 200, 429] {
        assert_eq!(status(Ask::get("/healthz")).status, expected);
    }
    for expected in [200, 200, 429] {
        assert_eq!(status(orders().key(&one)).status, expected);
    }
    let refused = status(orders().key(&one));
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(status(orders().key(&two)).status, 200, "another key has its own");
    let attacker = stage.attacker(Family::V4).ask(&Ask::get("/healthz")).unwrap();
    assert_eq!(attacker.status, 200, "another address has its own");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_revoked_key_is_refused_from_the_next_request_on_an_open_connection() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    let mut connection = stage.client(Family::V4).connect(Http::Two).unwrap();
    assert_eq!(connection.ask(&orders().key(&reader)).unwrap().status, 200);

    assert!(stage.enforcer(&["keys", "revoke", "client", "--reason", "leaked"]).is_success());

    assert_eq!(connection.ask(&orders().key(&reader)).unwrap().status, 401);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_plain_listener_only_redirects_to_the_host_that_was_asked() {
    let with_redirect = LAYER_7.to_owned()
        + "\n[listen.plain]\naddress = [\"0.0.0.0:8080\"]\nredirect = \"https\"\n";
    let stage = Stage::with_policy(&with_redirect);
    let target = enforcer_tests::lab::HOST_FOR_CLIENT.at(Family::V4, 8080);
    let client =
        enforcer_tests::lab::Client::new(&stage.lab.client, target, crate::stage::NAME, None);

    let answer = client.ask(&Ask::get("/v1/orders?a=1")).unwrap();

    assert_eq!(answer.status, 308);
    let location = answer.headers["location"].to_str().unwrap();
    assert!(location.starts_with("https://api.test"), "{location}");
    assert!(location.ends_with("/v1/orders?a=1"), "{location}");
    assert_eq!(stage.upstream.requests(), 0);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_broken_upstream_is_a_problem_document_and_not_a_hang() {
    let stage = Stage::with_policy(
        &policy(Hook::Native).replace("first_byte = \"5s\"", "first_byte = \"300ms\""),
    );
    let reader = stage.key("client", "reader");
    let client = stage.client(Family::V4);

    let hangs = client.ask(&Ask::get("/v1/hang").key(&reader)).unwrap();
    assert_eq!(hangs.status, 504);
    assert_eq!(hangs.headers["content-type"], "application/problem+json");
    let broken = client.ask(&Ask::get("/v1/break/200000").key(&reader));
    let told = broken.as_ref().map_or(true, |answer| answer.status == 502);
    assert!(told, "a broken answer never looks whole: {broken:?}");

    let mut stage = stage;
    stage.upstream = enforcer_tests::lab::Upstream::start(
        &stage.lab.host,
        std::net::SocketAddr::new(Family::V4.loopback(), 9001),
    )
    .unwrap();
    let gone = client.ask(&orders().key(&reader)).unwrap();
    assert_eq!(gone.status, 502);
}
