//! Endpoints that are disabled, or may be used less.

use std::time::Duration;

use enforcer_tests::lab::{Answer, Ask, DEADLINE, Family, Http, wait_until};
use serde_json::Value;

use super::{aside, bodies};
use crate::stage::{Hook, Stage, orders, policy};

const EXPORT: &str = "POST api.test/v1/export/{**}";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_disabled_endpoint_is_refused_from_the_next_request_on_and_nothing_else() {
    let stage = Stage::new(Hook::Native);
    let writer = stage.key("client", "writer");
    let export = |target: &str| Ask::post(target, "{}").key(&writer);
    let steady = stage.client(Family::V4).steadily(orders().key(&writer), Duration::from_millis(1));
    let mut connection = stage.client(Family::V6).connect(Http::Two).unwrap();
    assert_eq!(connection.ask(&export("/v1/export/7")).unwrap().status, 200);

    let disabled = stage.json(&disable(EXPORT, &["--for", "2h"]));

    assert_eq!(disabled["rule"]["id"], "EP-1");
    assert_eq!(disabled["rule"]["routes"][0], "orders");
    assert_eq!(disabled["applied"], true);
    for target in ["/v1/export/8", "/v1/export", "/v1/export/"] {
        expect_problem(&connection.ask(&export(target)).unwrap(), 503, 7_100..=7_200);
    }
    let seen = stage.upstream.seen();
    let exports = seen.iter().filter(|seen| seen.target.path().starts_with("/v1/export"));
    assert_eq!(exports.count(), 1, "only the one before");
    let other = connection.ask(&Ask::get("/v1/export/7").key(&writer)).unwrap();
    assert_eq!(other.status, 200, "another method is another endpoint");
    assert_eq!(connection.ask(&export("/v1/exports")).unwrap().status, 200);

    let listed = stage.json(&["endpoint", "list"]);
    assert_eq!(listed[0]["refused"], 3, "{listed}");
    assert!(stage.enforcer(&["endpoint", "enable", "EP-1"]).is_success());
    assert_eq!(connection.ask(&export("/v1/export/7")).unwrap().status, 200);
    let tally = steady.finish().unwrap();
    assert!(tally.is_spotless(), "{tally:?}");

    let refused = refusals(&stage, "endpoint-disabled");
    assert_eq!(refused.len(), 3);
    assert_eq!(refused[0]["rule"], "EP-1");
    assert_eq!(refused[0]["status"], 503);
    let changes = changes(&stage);
    assert_eq!(changes[0]["what"], "disabled");
    assert_eq!(changes[0]["endpoint"], EXPORT);
    assert!(changes[0]["before"].is_null());
    assert_eq!(changes[0]["after"], "disabled with 503");
    assert_eq!(changes[0]["author"]["operator"]["name"], "root");
    assert_eq!(changes[0]["reason"], "CVE-2026-1");
    assert_eq!(changes[1]["what"], "enabled");
    assert_eq!(changes[1]["before"], "disabled with 503");
    assert_eq!(changes[1]["refused"], 3);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_disabled_endpoint_stays_so_over_a_reload_a_kill_and_a_restart() {
    let mut stage = Stage::new(Hook::Native);
    let writer = stage.key("client", "writer");
    let ask = |stage: &Stage| {
        let ask = Ask::post("/v1/export/7", "{}").key(&writer);
        stage.client(Family::V4).ask(&ask).unwrap()
    };
    assert!(
        stage.enforcer(&disable(EXPORT, &["--status", "410", "--for", "forever"])).is_success()
    );
    stage.apply(&(policy(Hook::Native) + "\n# another\n"));
    assert_eq!(ask(&stage).status, 410);

    stage.kill();
    stage.start();

    let refused = ask(&stage);
    expect_problem(&refused, 410, 0..=0);
    assert!(refused.text().contains(r#""title":"Gone""#), "{refused:?}");
    let listed = stage.json(&["endpoint", "list"]);
    assert_eq!(listed[0]["id"], "EP-1");
    assert_eq!(listed[0]["until"], "forever");
    assert_eq!(listed[0]["reason"], "CVE-2026-1");
    assert_eq!(listed[0]["author"]["operator"]["name"], "root");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_rule_ends_by_itself_and_the_record_says_so() {
    let stage = Stage::new(Hook::Native);
    let writer = stage.key("client", "writer");
    let mut connection = stage.client(Family::V4).connect(Http::One).unwrap();
    let export = Ask::post("/v1/export/7", "{}").key(&writer);
    assert!(stage.enforcer(&disable(EXPORT, &["--for", "2s"])).is_success());
    assert_eq!(connection.ask(&export).unwrap().status, 503);

    wait_until("the endpoint serves again", DEADLINE, || {
        connection.ask(&export).unwrap().status == 200
    })
    .unwrap();

    wait_until("its end is on record", DEADLINE, || {
        changes(&stage).last().unwrap()["what"] == "expired"
    })
    .unwrap();
    assert_eq!(stage.json(&["endpoint", "list"]).as_array().unwrap().len(), 0);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_tightened_endpoint_admits_its_rate_by_address_or_by_caller() {
    let stage = Stage::new(Hook::Native);
    let (one, two) = (stage.key("one", "reader"), stage.key("two", "reader"));
    let mut connection = stage.client(Family::V4).connect(Http::One).unwrap();
    let mut served = |key: &str, most: usize| {
        let ask = |_| connection.ask(&orders().key(key)).unwrap().status == 200;
        (0..most).map(ask).filter(|served| *served).count()
    };
    let tighten = |by: &str| {
        let words = ["endpoint", "tighten", "GET api.test/v1/orders", "--rate", "3/h", "--by", by];
        stage.json(&[&words[..], &["--reason", "scraping"]].concat())
    };

    assert_eq!(tighten("principal")["rule"]["measure"]["tightened"]["burst"], 3);
    assert_eq!(served(&one, 6), 3);
    assert_eq!(served(&two, 6), 3, "another caller has a bucket of its own");
    assert_eq!(tighten("ip")["before"]["measure"]["tightened"]["by"], "principal");
    assert_eq!(served(&one, 6) + served(&two, 6), 3, "one address has one bucket");

    let refused = stage.client(Family::V4).ask(&orders().key(&one)).unwrap();
    assert_eq!(refused.status, 429);
    let wait: u64 = told(&refused, "retry-after").parse().unwrap();
    assert!((1..=1_200).contains(&wait), "{wait}");
    let record = refusals(&stage, "endpoint-tightened").pop().unwrap();
    assert_eq!(record["rule"], "EP-1");
    assert!(stage.enforcer(&["endpoint", "relax", "EP-1"]).is_success());
    assert_eq!(served(&one, 4), 4);
    let changes: Vec<Value> = changes(&stage).into_iter().map(|one| one["what"].clone()).collect();
    assert_eq!(changes, ["tightened", "tightened", "relaxed"]);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_is_under_way_at_a_disabled_endpoint_ends_when_that_is_asked_for() {
    let stage = Stage::new(Hook::Native);
    let writer = stage.key("client", "writer");
    let steady = stage.client(Family::V6).steadily(orders().key(&writer), Duration::from_millis(1));
    let client = stage.client(Family::V4);
    let endless = Ask::get("/v1/drip/100000/20").key(&writer);
    let hung = Ask::get("/v1/hang").key(&writer);

    let waiting = [endless, hung].map(|ask| aside(&client, ask));
    wait_until("both reach the upstream", DEADLINE, || {
        let seen = stage.upstream.seen();
        let slow = |path: &str| seen.iter().any(|seen| seen.target.path() == path);
        slow("/v1/drip/100000/20") && slow("/v1/hang")
    })
    .unwrap();
    let kept = stage.json(&disable("POST api.test/v1/drip/{**}", &["--cut"]));
    assert_eq!(kept["cut"], 0, "another method is another endpoint");

    let cut = stage.json(&disable("api.test/v1/drip/{**}", &["--cut"]));
    assert_eq!((&cut["cut"], &cut["applied"]), (&1.into(), &true.into()), "{cut}");
    let cut = stage.json(&disable("GET api.test/v1/hang", &["--cut"]));
    assert_eq!(cut["cut"], 1, "{cut}");

    for one in waiting {
        assert!(one.join().unwrap().is_err(), "what was cut never looks whole");
    }

    assert_eq!(refusals(&stage, "endpoint-disabled").len(), 2);
    let cuts: Vec<Value> = changes(&stage).into_iter().map(|one| one["cut"].clone()).collect();
    assert_eq!(cuts, [0, 1, 1]);
    let tally = steady.finish().unwrap();
    assert!(tally.is_spotless(), "{tally:?}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn exit_codes_and_undo_lines_serve_whoever_is_in_a_hurry() {
    let stage = Stage::new(Hook::Native);
    let cases: [(&[&str], i32, &str); 8] = [
        (&["endpoint", "list"], 0, ""),
        (&["endpoint", "disable", EXPORT], 2, "--reason"),
        (&["endpoint", "disable", "post api.test/v1", "--reason", "x"], 2, "POST HOST/PATH"),
        (&["endpoint", "disable", "api.test/v1/*", "--reason", "x"], 2, "{**}"),
        (&["endpoint", "disable", EXPORT, "--status", "200", "--reason", "x"], 2, "503"),
        (&["endpoint", "tighten", EXPORT, "--rate", "0/s", "--reason", "x"], 2, "rate"),
        (&["endpoint", "enable", "EP-7"], 3, "endpoint list"),
        (&["endpoint", "relax", "EP-7"], 3, "endpoint list"),
    ];
    for (words, code, said) in cases {
        let output = stage.enforcer(words);
        assert_eq!(output.code, Some(code), "{words:?}: {output}");
        assert!(output.stderr.contains(said), "{words:?}: {output}");
    }

    let done = stage.enforcer(&disable("DELETE other.test/{**}", &[]));
    assert!(done.stdout.contains("routes  NONE"), "{done}");
    assert!(done.stdout.ends_with("undo: enforcer endpoint enable EP-1\n"), "{done}");
    let near = stage.enforcer(&["endpoint", "enable", "DELETE other.tset/{**}"]);
    assert!(near.stderr.contains("did you mean `DELETE other.test/{**}`?"), "{near}");
    let undone = stage.enforcer(&["endpoint", "enable", "DELETE other.test/{**}"]);
    assert!(undone.stdout.contains("undo: enforcer endpoint disable 'DELETE"), "{undone}");
}

fn disable<'a>(endpoint: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let words = ["endpoint", "disable", endpoint, "--reason", "CVE-2026-1"];
    [&words[..], more].concat()
}

/// A problem document that says when to come back; never, when the range is nothing but zero.
fn expect_problem(answer: &Answer, status: u16, wait: std::ops::RangeInclusive<u64>) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(told(answer, "content-type"), "application/problem+json");
    let document: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(document["status"], status);
    assert_eq!(document["request_id"], told(answer, "x-request-id"));
    let told = answer.headers.get("retry-after").map(|value| value.to_str().unwrap());
    match told {
        Some(seconds) => assert!(wait.contains(&seconds.parse().unwrap()), "{seconds}"),
        None => assert_eq!(wait, 0..=0),
    }
}

fn told<'a>(answer: &'a Answer, header: &str) -> &'a str {
    answer.headers.get(header).unwrap().to_str().unwrap()
}

fn refusals(stage: &Stage, reason: &str) -> Vec<Value> {
    bodies(stage, "http").into_iter().filter(|body| body["reason"] == reason).collect()
}

fn changes(stage: &Stage) -> Vec<Value> {
    bodies(stage, "endpoint")
}
