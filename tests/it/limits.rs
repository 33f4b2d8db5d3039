//! What callers may ask for: refused with a wait, kept over crashes, changed by operators, and what
//! becomes of a source that does not listen.

use std::time::Duration;

use enforcer_tests::lab::{
    ATTACKER, Answer, Ask, CLIENT, DEADLINE, Family, Flood, HOST_FOR_ATTACKER, Http, Sink,
    wait_until,
};
use serde_json::Value;

use crate::stage::{Hook, Stage, orders, policy};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn more_than_a_limit_is_refused_with_a_wait_and_served_after_it() {
    let limit = r#"per_ip = { by = "ip", rate = "1/s", burst = 5, headers = true }"#;
    let stage = Stage::with_policy(&limited(&[("per_ip", limit)]));
    let reader = stage.key("client", "reader");
    for family in Family::BOTH {
        let mut connection = stage.client(family).connect(Http::Two).unwrap();
        let mut ask = || connection.ask(&orders().key(&reader)).unwrap();

        let served: Vec<Answer> = (0..5).map(|_| ask()).collect();
        let refused = ask();

        assert!(served.iter().all(|answer| answer.status == 200), "{family:?}");
        assert_eq!(told(&served[0], "ratelimit-policy"), "\"per_ip\";q=5;w=5");
        assert!(told(&served[0], "ratelimit").starts_with("\"per_ip\";r=4;t="), "{served:?}");
        assert_eq!(refused.status, 429);
        assert_eq!(told(&refused, "retry-after"), "1");
        wait_until("the wait is over", DEADLINE, || ask().status == 200).unwrap();
    }
    let record = stage
        .records_of("http")
        .into_iter()
        .find(|record| record["body"]["reason"] == "limit-source");
    assert_eq!(record.unwrap()["body"]["rule"], "per_ip");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn guessing_keys_costs_the_address_as_much_as_using_them() {
    let limit = r#"per_ip = { by = "ip", rate = "1/m", burst = 3 }"#;
    let stage = Stage::with_policy(&limited(&[("per_ip", limit)]));
    let mut connection = stage.attacker(Family::V4).connect(Http::One).unwrap();

    let answers: Vec<u16> = (0..5)
        .map(|_| connection.ask(&orders().key("nonsense")).unwrap().status.as_u16())
        .collect();

    assert_eq!(answers, [401, 401, 401, 429, 429]);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_strict_quota_is_never_overspent_however_often_the_agent_is_killed() {
    let limit = r#"daily = { by = "key", quota = "40/day", strict = true }"#;
    let mut stage = Stage::with_policy(&limited(&[("daily", limit)]));
    let reader = stage.key("client", "reader");
    let mut served = 0;
    for _ in 0..4 {
        let mut connection = stage.client(Family::V4).connect(Http::One).unwrap();
        for _ in 0..6 {
            let answer = connection.ask(&orders().key(&reader)).unwrap();
            served += u32::from(answer.status == 200);
        }
        stage.kill();
        stage.start();
    }
    assert!((20..=24).contains(&served), "{served}");

    let mut connection = stage.client(Family::V4).connect(Http::One).unwrap();
    let refused = loop {
        let answer = connection.ask(&orders().key(&reader)).unwrap();
        match answer.status.as_u16() {
            200 => served += 1,
            429 => break answer,
            other => panic!("{other}"),
        }
    };

    // Of each crash a block or two were set aside and not spent.
    assert!((30..=40).contains(&served), "{served}");
    let wait: u64 = told(&refused, "retry-after").parse().unwrap();
    assert!((1..=86_400).contains(&wait), "{wait}");
    // Another key has a quota of its own.
    let other = stage.key("other", "reader");
    assert_eq!(connection.ask(&orders().key(&other)).unwrap().status, 200);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_orderly_restart_keeps_a_quota_to_the_last_unit() {
    let limit = r#"daily = { by = "key", quota = "10/day" }"#;
    let mut stage = Stage::with_policy(&limited(&[("daily", limit)]));
    let reader = stage.key("client", "reader");
    let spend = |stage: &Stage, times: usize| {
        let mut connection = stage.client(Family::V4).connect(Http::One).unwrap();
        let ask = |_| connection.ask(&orders().key(&reader)).unwrap().status == 200;
        (0..times).map(ask).filter(|served| *served).count()
    };
    assert_eq!(spend(&stage, 7), 7);

    assert!(stage.agent.take().unwrap().terminate().unwrap().success());
    stage.start();

    let shown = stage.json(&["limits", "show", "daily"]);
    assert_eq!(shown["limits"][0]["spent"][0]["used"], 7, "{shown}");
    assert_eq!(spend(&stage, 7), 3);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_operator_gives_a_limit_other_numbers_and_takes_them_back() {
    let limit = r#"per_ip = { by = "ip", rate = "1/h", burst = 2 }"#;
    let limits = limited(&[("per_ip", limit)]);
    let stage = Stage::with_policy(&limits);
    let reader = stage.key("client", "reader");
    let mut connection = stage.client(Family::V4).connect(Http::One).unwrap();
    let mut served = |most: usize| {
        let ask = |_| connection.ask(&orders().key(&reader)).unwrap().status == 200;
        (0..most).map(ask).take_while(|served| *served).count()
    };
    assert_eq!(served(9), 2);

    let set = ["limits", "set", "per_ip", "--burst", "5", "--for", "10m", "--reason", "launch"];
    let changed = stage.enforcer(&set);
    assert!(changed.is_success(), "{changed}");
    assert!(changed.stdout.contains("undo: enforcer limits set per_ip --reset"), "{changed}");
    assert_eq!(served(9), 3, "the bucket keeps what was drawn from it");
    stage.apply(&(limits + "\n# another\n"));
    let row = stage.json(&["limits", "show", "per_ip"])["limits"][0].clone();
    assert_eq!(row["override"]["burst"], 5, "a reload leaves it in force: {row}");
    assert_eq!(row["override"]["reason"], "launch");
    let client = stage.json(&["limits", "show", &CLIENT.v4.to_string()]);
    assert!(client["standings"].as_array().is_some_and(|all| all.len() == 1), "{client}");

    assert!(stage.enforcer(&["limits", "set", "per_ip", "--reset"]).is_success());
    assert!(stage.json(&["limits", "show", "per_ip"])["limits"][0]["override"].is_null());
    assert_eq!(stage.enforcer(&["limits", "set", "per_ip", "--reset"]).code, Some(3));
    let unknown = ["limits", "set", "nothing", "--rate", "1/s", "--reason", "x"];
    assert_eq!(stage.enforcer(&unknown).code, Some(3));
    let unfit = ["limits", "set", "per_ip", "--quota", "5", "--reason", "x"];
    assert_eq!(stage.enforcer(&unfit).code, Some(2));
    let asked = stage.records_of("admin");
    let asked = asked.iter().filter(|record| record["body"]["verb"] == "limits set");
    assert_eq!(asked.count(), 5);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_source_that_does_not_listen_gets_fewer_packets_and_then_none() {
    let limit = r#"per_ip = { by = "ip", rate = "1/s", burst = 1 }"#;
    let stage = Stage::with_policy(&(limited(&[("per_ip", limit)]) + THROTTLE));
    let sink = Sink::open(&stage.lab.host, HOST_FOR_ATTACKER.at(Family::V4, 0)).unwrap();
    let own = ATTACKER.v4.to_string();
    let mut connection = stage.attacker(Family::V4).connect(Http::One).unwrap();
    for _ in 0..25 {
        connection.ask(&orders()).unwrap();
    }

    wait_until("the kernel holds a smaller budget", DEADLINE, || {
        sources(&stage.json(&["limits", "show"])) == [own.clone()]
    })
    .unwrap();
    let why = stage.json(&["blocks", "--why", &own]).to_string();
    assert!(why.contains("throttled sources"), "{why}");
    let before = stage.packets("drop budget");
    let many = Flood { packets: 400, payload: 100 };
    many.send(&stage.lab.attacker, sink.address()).unwrap();
    let dropped = || stage.packets("drop budget") - before;
    wait_until("packets over the budget are dropped", DEADLINE, || dropped() > 100).unwrap();
    assert!(stage.block_of(&own).is_none(), "a budget is no block");

    let mut attacker = stage.attacker(Family::V4).connect(Http::One).ok();
    wait_until("who goes on is blocked", DEADLINE, || {
        match attacker.as_mut().map(|connection| connection.ask(&orders())) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => attacker = stage.attacker(Family::V4).connect(Http::One).ok(),
        }
        stage.block_of(&own).is_some()
    })
    .unwrap();
    let block = stage.block_of(&own).unwrap();
    assert_eq!(block["author"]["rule"], "throttle", "{block}");
    assert!(block["reason"].as_str().unwrap().contains("refusals by limits"), "{block}");
    let findings = stage.records_of("finding");
    assert!(findings.iter().any(|record| record["body"]["block"].is_string()), "{findings:?}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_address_that_several_callers_share_is_never_throttled() {
    let limit = r#"per_key = { by = "key", rate = "1/s", burst = 1 }"#;
    let stage = Stage::with_policy(&(limited(&[("per_key", limit)]) + THROTTLE));
    let keys: Vec<String> = (0..4).map(|n| stage.key(&format!("client{n}"), "reader")).collect();
    let mut connection = stage.client(Family::V4).connect(Http::One).unwrap();
    for _ in 0..50 {
        for key in &keys {
            connection.ask(&orders().key(key)).unwrap();
        }
    }
    // Requests are judged in their order: when somebody behind them is throttled, they are judged.
    let mut attacker = stage.attacker(Family::V4).connect(Http::One).unwrap();
    let own = stage.key("attacker", "reader");
    for _ in 0..25 {
        attacker.ask(&orders().key(&own)).unwrap();
    }

    wait_until("the one behind them is throttled", DEADLINE, || {
        !sources(&stage.json(&["limits", "show"])).is_empty()
    })
    .unwrap();
    assert_eq!(sources(&stage.json(&["limits", "show"])), [ATTACKER.v4.to_string()]);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn bytes_of_answers_are_a_debt_that_the_next_request_pays() {
    let limit = r#"bytes = { by = "key", rate = "10/s", burst = 10, cost = "response.bytes" }"#;
    let stage = Stage::with_policy(&limited(&[("bytes", limit)]));
    let reader = stage.key("client", "reader");
    let mut connection = stage.client(Family::V4).connect(Http::One).unwrap();

    let first = connection.ask(&orders().key(&reader)).unwrap();
    let second = connection.ask(&orders().key(&reader)).unwrap();

    assert_eq!(first.text(), "GET /v1/orders\n");
    assert_eq!(second.status, 429, "fifteen bytes of ten were used");
    wait_until("the debt is paid", DEADLINE, || {
        std::thread::sleep(Duration::from_millis(50));
        connection.ask(&Ask::get("/v1/orders").key(&reader)).unwrap().status == 200
    })
    .unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn requests_under_way_are_counted_until_their_last_byte() {
    let limit = r#"busy = { by = "ip", concurrent = 2 }"#;
    let stage = Stage::with_policy(&limited(&[("busy", limit)]));
    let reader = stage.key("client", "reader");
    let client = stage.client(Family::V4);
    // Twenty bytes in two seconds.
    let slow = Ask::get("/v1/drip/20/100").key(&reader);
    let quick = orders().key(&reader);
    std::thread::scope(|scope| {
        let under_way = [(); 2].map(|()| scope.spawn(|| client.ask(&slow).unwrap().status));
        stage.upstream.wait_for_requests(2).unwrap();

        let refused = client.ask(&quick).unwrap();

        assert_eq!(refused.status, 429);
        assert_eq!(told(&refused, "retry-after"), "1");
        assert_eq!(under_way.map(|thread| thread.join().unwrap()), [200, 200]);
    });
    wait_until("places are free again", DEADLINE, || client.ask(&quick).unwrap().status == 200)
        .unwrap();
}

/// Twenty refusals in ten seconds shrink the budget to fifty packets a second; two seconds of going
/// on block.
const THROTTLE: &str = "\n[throttle]\nrefusals = 20\nwithin = \"10s\"\nbudget = \"50/s\"\n\
                        for = \"1m\"\nblock_after = \"2s\"\nblock_for = \"5m\"\n";

/// The usual policy with these limits on its route; their addresses are limited before a key is
/// looked at, so that no key is needed.
fn limited(limits: &[(&str, &str)]) -> String {
    let names: Vec<_> = limits.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let route = "match    = \"api.test/v1/{**}\"\n";
    let with = format!("{route}limits   = [{}]\n", names.join(", "));
    let policy = policy(Hook::Native).replace(route, &with);
    // Guesses are not what is tried here.
    let policy = policy.replace("failures = 5", "failures = 500");
    let limits: Vec<_> = limits.iter().map(|(_, limit)| *limit).collect();
    format!("{policy}\n[limit]\n{}\n", limits.join("\n"))
}

fn told<'a>(answer: &'a Answer, header: &str) -> &'a str {
    answer.headers[header].to_str().unwrap()
}

fn sources(shown: &Value) -> Vec<String> {
    let sources = shown["throttled"]["sources"].as_array().unwrap();
    sources.iter().map(|source| source.as_str().unwrap().to_owned()).collect()
}
