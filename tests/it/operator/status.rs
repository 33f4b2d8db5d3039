//! `status`: what is going on at this moment.

use enforcer_tests::lab::{Ask, CLIENT, DEADLINE, Family, Http, wait_until};

use super::aside;
use crate::stage::{Hook, Stage, orders};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn status_tells_who_is_connected_and_what_is_under_way() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    let client = stage.client(Family::V4);
    let mut idle = client.connect(Http::Two).unwrap();
    assert_eq!(idle.ask(&orders().key(&reader)).unwrap().status, 200);

    let slow = aside(&client, Ask::get("/v1/drip/60/50").key(&reader));
    stage.upstream.wait_for_requests(2).unwrap();
    let mut connections = serde_json::Value::Null;
    wait_until("both are told", DEADLINE, || {
        connections = stage.json(&["status"])["connections"].clone();
        connections["active"] == 1 && connections["idle"] == 1
    })
    .unwrap();

    assert_eq!((&connections["open"], &connections["requests"]), (&2.into(), &1.into()));
    assert_eq!(connections["threads_silent"], 0);
    let kinds: Vec<_> = connections["by_listener"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["listener"].as_str().unwrap(), row["protocol"].as_str().unwrap()))
        .collect();
    assert_eq!(kinds, [("public", "http1"), ("public", "http2")]);
    let status = stage.enforcer(&["status", "--sources", "3"]);
    assert!(status.stdout.contains("upstream orders"), "{status}");
    assert!(status.stdout.contains("1 in flight"), "{status}");
    let source = format!("source   {}  2 connections", CLIENT.v4);
    assert!(status.stdout.contains(&source), "{status}");
    assert!(status.stdout.contains("cache    0 answers"), "{status}");
    assert_eq!(slow.join().unwrap().unwrap().status, 200);
}
