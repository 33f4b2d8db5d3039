//! Answers that are kept: what they cost, who gets them, and what never becomes one.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use enforcer_tests::lab::{
    Ask, CLIENT, Client, DEADLINE, Family, Http, UPSTREAM, Upstream, wait_until,
};
use http::{HeaderName, HeaderValue, Method};
use serde_json::Value;

use crate::stage::{LAYER_7, Stage, orders};

/// Three routes that keep answers: for everybody, for each caller, and for all callers who may ask.
const ROUTES: &str = r#"
[cache]
stale_if_unreachable = "10m"

[limit.few]
by    = "ip"
rate  = "1/m"
burst = 3

[[route]]
name     = "open"
match    = "api.test/open/{**}"
upstream = "orders"
public   = true
cache    = true

[[route]]
name     = "counted"
match    = "api.test/counted/{**}"
upstream = "orders"
public   = true
cache    = true
limits   = ["few"]

[[route]]
name     = "own"
match    = "api.test/own/{**}"
upstream = "orders"
cache    = true

  [[route.allow]]
  method = ["GET", "HEAD"]
  role   = "reader"

[[route]]
name     = "shared"
match    = "api.test/shared/{**}"
upstream = "orders"
cache    = { shared = true }

  [[route.allow]]
  method = ["GET", "HEAD"]
  role   = "reader"

  [[route.allow]]
  method = ["POST"]
  role   = "writer"
"#;

/// Good for an hour.
const HOUR: &str = "say.cache-control=max-age%3D3600";
/// The same, for all callers.
const PUBLIC: &str = "say.cache-control=public,max-age%3D3600";

fn stage() -> Stage {
    Stage::with_policy(&format!("{LAYER_7}{ROUTES}"))
}

fn get(path: &str, query: &str) -> Ask {
    Ask::get(&format!("{path}?{query}"))
}

fn field(ask: Ask, name: &'static str, value: &str) -> Ask {
    ask.header(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
}

/// What the records of finished requests say of the cache, in their order.
fn uses(stage: &Stage) -> Vec<String> {
    let requests = stage.records_of("http");
    let used =
        |record: &Value| record.pointer("/body/cache").and_then(Value::as_str).map(Into::into);
    requests.iter().filter_map(used).collect()
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_answer_that_is_kept_costs_the_service_nothing_and_leaves_its_record() {
    let stage = stage();
    let ask = get("/open/bytes/100000", HOUR);

    let first = stage.client(Family::V4).ask(&ask).unwrap();
    let mut ids = vec![first.headers["x-request-id"].clone()];
    for http in [Http::One, Http::Two] {
        let hit = stage.client(Family::V6).connect(http).unwrap().ask(&ask).unwrap();
        assert_eq!((hit.status, hit.body.len()), (first.status, 100_000), "{http:?}");
        assert!(hit.headers["cache-status"].to_str().unwrap().starts_with("enforcer; hit; ttl="));
        assert!(hit.headers.contains_key("age") && !hit.headers.contains_key("connection"));
        assert_eq!(hit.headers["date"], first.headers["date"]);
        ids.push(hit.headers["x-request-id"].clone());
    }

    assert_eq!(stage.upstream.requests(), 1);
    assert_eq!(first.headers["cache-status"], "enforcer; fwd=uri-miss; fwd-status=200; stored");
    ids.dedup();
    assert_eq!(ids.len(), 3, "each request has a name of its own");
    wait_until("all records are there", DEADLINE, || uses(&stage).len() == 3).unwrap();
    assert_eq!(uses(&stage), ["miss", "hit", "hit"]);
    let last = stage.records_of("http").pop().unwrap();
    assert_eq!(last["body"]["bytes_out"], 100_000);
    assert_eq!(last["body"]["upstream"], Value::Null);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn routes_keep_nothing_unless_they_say_so() {
    let stage = stage();
    let reader = stage.key("client", "reader");
    for _ in 0..2 {
        let answer = stage.client(Family::V4).ask(&get("/v1/orders", PUBLIC).key(&reader)).unwrap();
        assert!(!answer.headers.contains_key("cache-status"));
    }
    assert_eq!(stage.upstream.requests(), 2);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn callers_have_their_own_unless_route_and_answer_both_say_otherwise() {
    let stage = stage();
    let (alice, bob) = (stage.key("alice", "reader"), stage.key("bob", "reader"));
    let client = stage.client(Family::V4);
    let asked_after = |path: &str, query: &str, key: &str| {
        let before = stage.upstream.requests();
        let answer = client.ask(&get(path, query).key(key)).unwrap();
        assert_eq!(answer.status, 200);
        stage.upstream.requests() > before
    };

    for (path, query, shares) in [
        ("/own/a", HOUR, false),
        ("/own/b", PUBLIC, false),
        ("/own/account/x.css", HOUR, false),
        ("/shared/a", HOUR, false),
        ("/shared/b", PUBLIC, true),
        ("/shared/c", "say.cache-control=s-maxage%3D60", true),
        ("/shared/d", "say.cache-control=max-age%3D60,must-revalidate", true),
    ] {
        assert!(asked_after(path, query, &alice), "{path}");
        assert!(!asked_after(path, query, &alice), "{path}: she has it");
        assert_eq!(asked_after(path, query, &bob), !shares, "{path}");
    }
    for query in ["say.cache-control=private,max-age%3D60", "say.cache-control=no-store", "x"] {
        assert!(asked_after("/shared/e", query, &alice) && asked_after("/shared/e", query, &alice));
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn who_may_not_ask_gets_nothing_that_is_kept() {
    let stage = stage();
    let (alice, gone) = (stage.key("alice", "reader"), stage.key("gone", "reader"));
    let client = stage.client(Family::V4);
    let ask = get("/shared/a", PUBLIC);
    for key in [&alice, &gone] {
        assert_eq!(client.ask(&ask.clone().key(key)).unwrap().status, 200);
    }
    assert!(stage.enforcer(&["keys", "revoke", "gone", "--reason", "test"]).is_success());

    assert_eq!(client.ask(&ask).unwrap().status, 401, "without a credential");
    assert_eq!(client.ask(&ask.clone().key("nonsense")).unwrap().status, 401);
    assert_eq!(client.ask(&ask.clone().key(&gone)).unwrap().status, 401, "taken back");
    assert_eq!(client.ask(&ask.clone().key(&alice)).unwrap().status, 200);
    stage.quarantine(&[&CLIENT.v4.to_string()]);
    let shut_out = client.ask(&ask.key(&alice));
    assert!(shut_out.map_or(true, |answer| answer.status == 403), "under quarantine");
    assert_eq!(stage.upstream.requests(), 1);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_is_kept_is_paid_for_like_anything_else() {
    let stage = stage();
    let client = stage.client(Family::V4);
    let statuses: Vec<u16> =
        (0..4).map(|_| client.ask(&get("/counted/a", HOUR)).unwrap().status.as_u16()).collect();

    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(stage.upstream.requests(), 1);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn of_many_who_ask_at_once_one_asks_the_service() {
    let stage = stage();
    // Three quarters of a second, so that all of them come while it is arriving.
    let ask = get("/open/drip/50/15", HOUR);
    let clients: Vec<_> = (0..16)
        .map(|n| {
            let client = stage.client(if n % 2 == 0 { Family::V4 } else { Family::V6 });
            let ask = ask.clone();
            thread::spawn(move || client.ask(&ask).unwrap().body.len())
        })
        .collect();

    let lengths: Vec<usize> = clients.into_iter().map(|client| client.join().unwrap()).collect();

    assert_eq!(lengths, [50; 16]);
    assert_eq!(stage.upstream.requests(), 1);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_answer_that_comes_to_be_kept_reaches_its_client_without_waiting_for_the_end() {
    let stage = stage();
    let began = Instant::now();
    let mut raw = stage.client(Family::V4).tls_socket(&[b"http/1.1"]).unwrap();
    raw.write_all(
        format!("GET /open/drip/100/50?{HOUR} HTTP/1.1\r\nHost: api.test\r\n\r\n").as_bytes(),
    )
    .unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n000") {
        let mut byte = [0];
        raw.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    drop(raw);

    // It was left before its end, so nothing of it is kept, and nobody waits for it.
    let again = stage.client(Family::V4).ask(&get("/open/drip/100/5", HOUR)).unwrap();
    assert_eq!(again.headers["cache-status"], "enforcer; fwd=uri-miss; fwd-status=200; stored");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_broke_off_sets_a_cookie_or_is_too_long_is_not_kept() {
    let stage = stage();
    let client = stage.client(Family::V4);
    for target in [
        format!("/open/break/10?{HOUR}"),
        format!("/open/a?{HOUR}&say.set-cookie=a%3Db"),
        format!("/open/b?{HOUR}&say.vary=*"),
        format!("/open/bytes/1048577?{HOUR}"),
        "/open/c".to_owned(),
    ] {
        let before = stage.upstream.requests();
        for _ in 0..2 {
            // The one that breaks off is no answer.
            drop(client.ask(&Ask::get(&target)));
        }
        let asked = stage.upstream.requests() - before;
        // One that broke off before its head was there has been sent once more.
        assert!(asked == 2 || asked > 2 && target.contains("break"), "{target}: {asked}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_old_answer_is_asked_about_and_used_again() {
    let stage = stage();
    let client = stage.client(Family::V4);
    let ask = get("/open/a", "say.cache-control=no-cache&say.etag=%22v1%22");
    client.ask(&ask).unwrap();

    let again = client.ask(&ask).unwrap();

    assert_eq!((again.status.as_u16(), again.text().starts_with("GET /open/a")), (200, true));
    assert_eq!(again.headers["cache-status"], "enforcer; fwd=stale; fwd-status=304");
    assert_eq!(stage.upstream.seen()[1].headers["if-none-match"], "\"v1\"");
    wait_until("both records are there", DEADLINE, || uses(&stage).len() == 2).unwrap();
    assert_eq!(uses(&stage), ["miss", "revalidated"]);
    let known = client.ask(&field(ask, "if-none-match", "\"v1\"")).unwrap();
    assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn conditions_ranges_and_head_are_answered_from_what_is_kept() {
    let stage = stage();
    let client = stage.client(Family::V4);
    let ask = get("/open/bytes/1000", &format!("{HOUR}&say.etag=%22v1%22"));
    client.ask(&ask).unwrap();

    let known = client.ask(&field(ask.clone(), "if-none-match", "\"x\", W/\"v1\"")).unwrap();
    let part = client.ask(&field(ask.clone(), "range", "bytes=-10")).unwrap();
    let beyond = client.ask(&field(ask, "range", "bytes=1000-")).unwrap();
    let head = Ask::new(Method::HEAD, &format!("/open/bytes/1000?{HOUR}&say.etag=%22v1%22"));
    let head = client.ask(&head).unwrap();
    let only = client.ask(&field(Ask::get("/open/z"), "cache-control", "only-if-cached")).unwrap();

    assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));
    assert_eq!((part.status.as_u16(), part.body.len()), (206, 10));
    assert_eq!(part.headers["content-range"], "bytes 990-999/1000");
    assert_eq!(
        (beyond.status.as_u16(), &beyond.headers["content-range"]),
        (416, &HeaderValue::from_static("bytes */1000"))
    );
    assert_eq!(
        (head.status.as_u16(), head.body.len(), &head.headers["content-length"]),
        (200, 0, &HeaderValue::from_static("1000"))
    );
    assert_eq!(only.status, 504);
    assert_eq!(stage.upstream.requests(), 1);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_write_makes_old_what_every_caller_has() {
    let stage = stage();
    let (reader, writer) = (stage.key("reads", "reader"), stage.key("writes", "writer"));
    let client = stage.client(Family::V4);
    let ask = get("/shared/a", HOUR).key(&reader);
    client.ask(&ask).unwrap();
    client.ask(&ask).unwrap();
    assert_eq!(stage.upstream.requests(), 1);

    let write = Ask::post(&format!("/shared/a?{HOUR}"), "new").key(&writer);
    assert_eq!(client.ask(&write).unwrap().status, 200);
    client.ask(&ask).unwrap();

    assert_eq!(stage.upstream.requests(), 3);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_is_kept_stands_in_for_a_service_that_is_gone_where_it_allows_that() {
    let mut stage = stage();
    let client = stage.client(Family::V4);
    let (may, must) = (
        get("/open/may", "say.cache-control=max-age%3D0,stale-if-error%3D600"),
        get("/open/must", "say.cache-control=max-age%3D1,must-revalidate"),
    );
    client.ask(&may).unwrap();
    client.ask(&must).unwrap();
    thread::sleep(Duration::from_secs(2));
    let host = stage.lab.host.clone();
    let idle = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    drop(std::mem::replace(&mut stage.upstream, Upstream::serve(idle).unwrap()));

    let stale = client.ask(&may).unwrap();
    assert_eq!(stale.status, 200);
    assert!(stale.headers["cache-status"].to_str().unwrap().starts_with("enforcer; hit; ttl=-"));
    assert_eq!(client.ask(&must).unwrap().status, 502);
    wait_until("it is on record", DEADLINE, || uses(&stage).iter().any(|used| used == "stale"))
        .unwrap();

    stage.upstream = Upstream::start(&host, UPSTREAM).unwrap();
    wait_until("the service is asked again", Duration::from_secs(30), || {
        client.ask(&must).is_ok_and(|answer| answer.status == 200)
    })
    .unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_newer_answer_is_asked_for_while_the_old_one_is_used_and_that_is_on_record() {
    let stage = stage();
    let client = stage.client(Family::V4);
    let said = "say.cache-control=max-age%3D0,stale-while-revalidate%3D600&say.etag=%22v1%22";
    let ask = get("/open/a", said);
    client.ask(&ask).unwrap();

    let stale = client.ask(&field(ask, "range", "bytes=0-2")).unwrap();
    stage.upstream.wait_for_requests(2).unwrap();

    assert_eq!((stale.status.as_u16(), &*stale.text()), (206, "GET"));
    let asked = stage.upstream.seen().pop().unwrap();
    assert_eq!(
        (asked.method, &asked.headers["if-none-match"]),
        (Method::GET, &HeaderValue::from_static("\"v1\""))
    );
    assert!(!asked.headers.contains_key("range"));
    assert_ne!(asked.headers["x-request-id"], stale.headers["x-request-id"]);
    wait_until("its record is there", DEADLINE, || uses(&stage).len() == 3).unwrap();
    let mut used = uses(&stage);
    used.sort();
    assert_eq!(used, ["miss", "revalidated", "stale"]);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn nothing_that_a_client_makes_up_comes_to_be_what_others_get() {
    let stage = stage();
    let (attacker, client) = (stage.attacker(Family::V4), stage.client(Family::V4));
    let ask = get("/open/a", HOUR);
    let fresh = |ask: &Ask, by: &Client| {
        let before = stage.upstream.requests();
        by.ask(ask).unwrap();
        stage.upstream.requests() > before
    };
    let forged = [
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-proto", "http"),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("forwarded", "host=evil.test"),
    ];
    let poison = forged.iter().fold(ask.clone(), |ask, (name, value)| field(ask, name, value));

    // Fields that are no part of the key do not reach the service, so they change no answer.
    assert!(fresh(&poison, &attacker));
    let seen = stage.upstream.seen().pop().unwrap();
    assert_eq!(seen.headers["x-forwarded-host"], "api.test");
    assert!(
        !seen.headers.contains_key("x-original-url") && !seen.headers.contains_key("forwarded")
    );
    assert!(!fresh(&ask, &client), "it is the same answer");

    // What does reach it is told apart, or not kept.
    assert!(fresh(&field(get("/open/b", HOUR), "cookie", "s=1"), &attacker));
    assert!(fresh(&get("/open/b", HOUR), &client), "an answer to a cookie is nobody else's");
    assert!(fresh(&field(get("/open/c", HOUR), "authorization", "Basic QTpC"), &attacker));
    assert!(fresh(&get("/open/c", HOUR), &client), "nor one to a credential");
    assert!(fresh(&Ask::new(Method::GET, &format!("/open/d?{HOUR}")).body("fat"), &attacker));
    assert!(fresh(&get("/open/d", HOUR), &client), "nor one to a body");
    assert!(fresh(&field(get("/open/e", HOUR), "range", "bytes=0-0"), &attacker));
    assert!(fresh(&get("/open/e", HOUR), &client), "nor a part");

    // Two spellings of one target are two targets.
    assert!(fresh(&get("/open/f", &format!("{HOUR}&a=%31")), &attacker));
    assert!(fresh(&get("/open/f", &format!("{HOUR}&a=1")), &client));
    // And one host is one host, with its port or without, in any case.
    let mut raw = attacker.tls_socket(&[b"http/1.1"]).unwrap();
    let head =
        format!("GET /open/g?{HOUR} HTTP/1.1\r\nHost: API.test:8443\r\nConnection: close\r\n\r\n");
    raw.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    raw.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    // To its end, or it would not be kept.
    drop(raw.read_to_end(&mut Vec::new()));
    assert!(!fresh(&get("/open/g", HOUR), &client));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_restart_forgets_and_a_reload_does_not_unless_it_changes_the_way() {
    let mut stage = stage();
    let client = stage.client(Family::V4);
    let ask = get("/open/a", HOUR);
    let policy = format!("{LAYER_7}{ROUTES}");
    client.ask(&ask).unwrap();

    stage.apply(&policy.replace("burst = 3", "burst = 4"));
    client.ask(&ask).unwrap();
    assert_eq!(stage.upstream.requests(), 1, "it is still good");
    stage.apply(&policy.replace(
        "match    = \"api.test/open/{**}\"",
        "match    = \"api.test/open/{**}\"\nstrip = \"/open\"",
    ));
    client.ask(&ask).unwrap();
    assert_eq!(stage.upstream.requests(), 2, "another way is another answer");
    stage.kill();
    stage.start();
    client.ask(&ask).unwrap();
    assert_eq!(stage.upstream.requests(), 3);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_is_not_kept_costs_what_it_did() {
    let stage = stage();
    let reader = stage.key("client", "reader");
    let answer = stage.client(Family::V4).ask(&orders().key(&reader)).unwrap();

    assert_eq!(answer.status, 200);
    assert!(uses(&stage).is_empty(), "a route without a cache has nothing to say of it");
}
