//! Endpoints that an operator has disabled or tightened: what is refused, and what is cut.

use std::sync::Arc;
use std::time::Duration;

use enforcer_limits::{By, Kind, Limit, Payer};
use enforcer_model::{Expiry, HttpVersion, Reason, Source, Timestamp};
use enforcer_policy::Policy;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{body_of, head_of, raw, request, status_of, to_end};
use super::house::now;
use super::{House, Http2};
use crate::{EndpointRule, Endpoints, Measure, Spoken};

#[tokio::test]
async fn a_disabled_endpoint_is_refused_before_anybody_is_asked_who_they_are() {
    let house = House::open();
    disable(&house, "GET api.test/app/{**}", 410);

    let refused = raw(house.plain(), request("GET /app/x?a=b", &[])).await;
    let head = raw(house.plain(), request("HEAD /app/x/", &[])).await;
    let other = raw(house.plain(), request("POST /app/x", &["content-length: 0"])).await;
    let open = raw(house.plain(), request("GET /open/x", &[])).await;

    assert_eq!((status_of(&refused), status_of(&head)), (410, 410));
    assert_eq!((status_of(&other), status_of(&open)), (401, 200));
    assert!(head_of(&refused).contains("content-type: application/problem+json"), "{refused}");
    assert!(!head_of(&refused).contains("retry-after"), "nobody knows when: {refused}");
    assert!(body_of(&refused).contains(r#""title":"Gone","status":410"#), "{refused}");
    let record = house.seen_at(0).await;
    assert_eq!((record.status, record.reason), (410, Some(Reason::EndpointDisabled)));
    assert_eq!(record.rule.as_deref(), Some("EP-1"));
    assert_eq!(record.cause.as_deref(), Some("`GET api.test/app/{**}` is disabled by EP-1"));
    assert_eq!(house.shared.endpoints.rule("EP-1").unwrap().refused(), 2);
    assert_eq!(house.upstream.seen().len(), 1);
    house.close().await;
}

#[tokio::test]
async fn a_rule_ends_by_the_clock_and_says_when() {
    let house = House::open();
    let soon = now().saturating_add(Duration::from_secs(90));
    publish(&house, "*/{**}", Measure::disable(503).unwrap(), Expiry::At(soon));
    let refused = raw(house.plain(), request("GET /open/x", &[])).await;

    publish(&house, "*/{**}", Measure::disable(503).unwrap(), Expiry::At(now()));
    let served = raw(house.plain(), request("GET /open/x", &[])).await;

    let wait = head_of(&refused).split_once("retry-after: ").unwrap().1;
    let wait: u64 = wait.split_once("\r\n").map_or(wait, |(wait, _)| wait).parse().unwrap();
    assert!((85..=90).contains(&wait), "{refused}");
    assert_eq!((status_of(&refused), status_of(&served)), (503, 200));
    house.close().await;
}

#[tokio::test]
async fn a_tightened_endpoint_counts_callers_or_addresses() {
    let mut house = House::open();
    let (_, one) = house.key(&["reader"]);
    let (_, two) = house.key(&["reader"]);
    let ask = async |key: &str| {
        let key = format!("x-api-key: {key}");
        status_of(&raw(house.plain(), request("GET /app/x", &[&key])).await)
    };

    tighten(&house, "api.test/app/{x}", By::Principal);
    assert_eq!([ask(&one).await, ask(&one).await, ask(&two).await], [200, 429, 200]);
    assert_eq!(ask("nobody's").await, 401, "who is nobody is told so");
    tighten(&house, "api.test/app/{x}", By::Ip);
    assert_eq!([ask(&one).await, ask(&two).await], [200, 429]);

    let records = house.records(6).await;
    assert_eq!(records[1].reason, Some(Reason::EndpointTightened));
    assert_eq!(records[1].rule.as_deref(), Some("EP-1"));
    assert!(records[1].who.is_some() && records[5].who.is_none());
    house.close().await;
}

#[tokio::test]
async fn a_disabled_route_is_refused_whatever_its_pattern_and_others_go_on() {
    let house = House::open();
    disable(&house, "route:app", 503);

    let refused = raw(house.plain(), request("GET /app/x", &[])).await;
    let other = raw(house.plain(), request("GET /open/x", &[])).await;

    assert_eq!((status_of(&refused), status_of(&other)), (503, 200));
    let record = house.seen_at(0).await;
    assert_eq!(record.reason, Some(Reason::EndpointDisabled));
    assert_eq!((record.rule.as_deref(), record.route.as_deref()), (Some("EP-1"), Some("app")));
    house.close().await;
}

#[tokio::test]
async fn limits_of_a_route_or_a_caller_shrink_and_those_of_others_do_not() {
    let mut house = House::open();
    let (_, key) = house.key(&["reader"]);
    let field = format!("x-api-key: {key}");
    let ask = async || status_of(&raw(house.plain(), request("GET /tight/x", &[&field])).await);
    let half = || Measure::shrink(50).unwrap();

    // A burst of two for each key is one now.
    publish(&house, "route:tight", half(), Expiry::Never);
    assert_eq!([ask().await, ask().await], [200, 429]);
    house.close().await;

    let mut house = House::open();
    let keys: Vec<_> = (0..2).map(|_| house.key(&["reader"])).collect();
    let ask = async |house: &House, key: usize| {
        let field = format!("x-api-key: {}", keys[key].1);
        status_of(&raw(house.plain(), request("GET /tight/x", &[&field])).await)
    };
    publish(&house, &format!("key:{}", keys[0].0), half(), Expiry::Never);
    assert_eq!([ask(&house, 0).await, ask(&house, 1).await, ask(&house, 1).await], [200; 3]);
    publish(&house, "source:127.0.0.0/8", half(), Expiry::At(now()));
    assert_eq!(ask(&house, 0).await, 429, "its own burst was one");
    house.close().await;
}

#[tokio::test]
async fn a_route_that_asks_for_stronger_proof_refuses_what_was_good_enough_until_its_time_is_over()
{
    let mut house = House::open();
    let (_, key) = house.key(&["reader"]);
    let ask = async |line: &str| {
        let field = format!("x-api-key: {key}");
        status_of(&raw(house.plain(), request(line, &[&field])).await)
    };
    let mtls = || Measure::require(&["mtls".to_owned()]).unwrap();

    publish(&house, "route:app", mtls(), Expiry::Never);
    assert_eq!([ask("GET /app/x").await, ask("GET /open/x").await], [401, 200]);
    assert_eq!(house.seen_at(0).await.reason, Some(Reason::AuthenticationTooWeak));
    publish(&house, "route:open", mtls(), Expiry::Never);
    assert_eq!([ask("GET /app/x").await, ask("GET /open/x").await], [200, 401]);
    publish(&house, "route:open", mtls(), Expiry::At(now()));
    assert_eq!(ask("GET /open/x").await, 200);
    house.close().await;
}

#[tokio::test]
async fn a_rewrite_does_not_lead_around_a_disabled_endpoint() {
    let house = House::open();
    let text = format!(
        "version = 1\n[listen.plain]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nhosts = [\"{}\"]\n\
         [[route]]\nname = \"alias\"\nmatch = \"api.test/alias/{{**}}\"\nupstream = \"app\"\n\
         public = true\nstrip = \"/alias\"\nrewrite = \"/open\"\n",
        house.upstream.address
    );
    let policy = Policy::parse(&text, std::path::Path::new("policy.toml"));
    house.shared.policy.store(Arc::new(policy.unwrap_or_else(|problems| panic!("{problems}"))));
    let ask = async || status_of(&raw(house.plain(), request("GET /alias/x", &[])).await);
    assert_eq!(ask().await, 200);
    assert_eq!(house.upstream.seen()[0].line, "GET /open/x");

    disable(&house, "api.test/open/{**}", 503);

    assert_eq!(ask().await, 503);
    assert_eq!(house.seen_at(1).await.rule.as_deref(), Some("EP-1"));
    house.close().await;
}

#[tokio::test]
async fn what_is_under_way_at_a_disabled_endpoint_is_cut_and_nothing_else() {
    let house = House::open();
    let mut plain = TcpStream::connect(house.plain()).await.unwrap();
    let get = "GET /open/drip HTTP/1.1\r\nhost: api.test\r\n\r\n";
    plain.write_all(get.as_bytes()).await.unwrap();
    let mut some = [0; 512];
    assert_ne!(plain.read(&mut some).await.unwrap(), 0);
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let ask =
        async |path: &str| client.send(&format!("GET {path}"), &[], "").await.unwrap().into_body();
    let (mut cut, mut kept) = (ask("/open/drip").await, ask("/small/drip").await);
    cut.frame().await.unwrap().unwrap();

    disable(&house, "api.test/open/{**}", 503);
    let (ended, silent) = house.shared.rolls.cut(&"EP-1".into()).await;

    assert_eq!((ended, silent), (2, 0));
    let answer = to_end(plain).await;
    assert!(!answer.ends_with("0\r\n\r\n"), "an answer that was cut never looks whole: {answer}");
    let mut last = Ok(());
    while let Some(frame) = cut.frame().await {
        if let Err(error) = frame {
            last = Err(error);
            break;
        }
    }
    assert!(last.is_err());
    for _ in 0..3 {
        kept.frame().await.unwrap().unwrap();
    }
    assert_eq!(house.shared.rolls.cut(&"EP-1".into()).await, (0, 0), "nothing is cut twice");
    for nth in 0..2 {
        let record = house.seen_at(nth).await;
        assert_eq!((record.status, record.reason), (200, Some(Reason::EndpointDisabled)));
    }
    drop((kept, client));
    house.close().await;
}

#[tokio::test]
async fn a_request_that_waits_for_its_upstream_and_a_tunnel_are_cut_as_well() {
    let mut house = House::open();
    let (_, key) = house.key(&["reader"]);
    let mut waiting = TcpStream::connect(house.plain()).await.unwrap();
    let get = "GET /open/hang HTTP/1.1\r\nhost: api.test\r\n\r\n";
    waiting.write_all(get.as_bytes()).await.unwrap();
    let mut tunnel = TcpStream::connect(house.plain()).await.unwrap();
    let ask = format!(
        "GET /socket/socket HTTP/1.1\r\nhost: api.test\r\nx-api-key: {key}\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    tunnel.write_all(ask.as_bytes()).await.unwrap();
    let mut some = [0; 64];
    tunnel.read_exact(&mut some).await.unwrap();
    house.until(|| house.upstream.seen().len() == 2).await;
    let (counts, _) = house.shared.rolls.count().await;
    let kinds: Vec<_> = counts.iter().map(|one| (one.protocol, one.active)).collect();
    assert_eq!(kinds, [(Spoken::Http1, 1), (Spoken::Tunnel, 1)]);

    disable(&house, "api.test/{**}", 503);

    assert_eq!(house.shared.rolls.cut(&"EP-1".into()).await, (2, 0));
    assert_eq!(to_end(waiting).await, "");
    drop(to_end(tunnel).await);
    for record in house.records(2).await {
        assert_eq!(record.reason, Some(Reason::EndpointDisabled));
        assert_eq!(record.http, HttpVersion::H1);
    }
    house.close().await;
}

#[tokio::test]
async fn the_roll_tells_idle_from_active_by_listener_and_protocol() {
    let house = House::open();
    let idle = TcpStream::connect(house.plain()).await.unwrap();
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let mut body = client.send("GET /open/drip", &[], "").await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    house.until(|| house.shared.connections.open() == 2).await;

    let (counts, silent) = house.shared.rolls.count().await;

    assert_eq!(silent, 0);
    let counts: Vec<_> = counts
        .iter()
        .map(|one| (&*one.listener, one.protocol, one.idle, one.active, one.requests))
        .collect();
    assert_eq!(counts, [("plain", Spoken::Http1, 1, 0, 0), ("secure", Spoken::Http2, 0, 1, 1)]);
    assert_eq!(house.shared.connections.sources(5).len(), 1);
    drop((idle, body, client));
    house.until(|| house.shared.connections.open() == 0).await;
    assert!(house.shared.rolls.count().await.0.is_empty());
    house.close().await;
}

#[test]
fn of_shares_about_one_scope_the_smallest_holds_and_those_of_several_multiply() {
    let shrunk = [
        ("EP-1", "source:203.0.113.0/24", 50),
        ("EP-2", "source:203.0.113.0/24", 10),
        ("EP-3", "source:203.0.113.7", 50),
    ];
    let rules = shrunk.map(|(id, scope, percent)| {
        let (scope, measure) = (scope.parse().unwrap(), Measure::shrink(percent).unwrap());
        Arc::new(EndpointRule::new(id.into(), scope, measure, Expiry::Never))
    });
    let endpoints = Endpoints::default();
    endpoints.publish(rules.into());
    let share = |address: &str| {
        let source = Source::new(address.parse().unwrap());
        let payer = Payer::from_source(source, "orders", None);
        endpoints.share_of(&payer, Timestamp::from_unix_seconds(9)).parts()
    };

    assert_eq!(["203.0.113.7", "203.0.113.8", "203.0.114.8"].map(share), [50, 100, 1_000]);
}

fn disable(house: &House, endpoint: &str, status: u16) {
    publish(house, endpoint, Measure::disable(status).unwrap(), Expiry::Never);
}

fn tighten(house: &House, endpoint: &str, by: By) {
    let kind = Kind::Rate { rate: "1/h".parse().unwrap(), burst: 1.try_into().unwrap() };
    let name = format!("endpoint {by}");
    publish(house, endpoint, Measure::Tighten(Limit::new(name, by, kind)), Expiry::Never);
}

fn publish(house: &House, endpoint: &str, measure: Measure, until: Expiry) {
    let rule = EndpointRule::new("EP-1".into(), endpoint.parse().unwrap(), measure, until);
    house.shared.endpoints.publish(vec![Arc::new(rule)]);
}
