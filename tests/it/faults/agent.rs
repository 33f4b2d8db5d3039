//! The real agent, killed while it answers.

use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use enforcer_tests::lab::{Family, Http};

use crate::stage::{LAYER_7, Stage, orders};

/// Every answer waits until its record is on disk.
const DURABLE: &str = "\n[audit]\nallowed = \"durable\"\ndenied = \"durable\"\n";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn every_request_that_an_agent_answered_before_it_was_killed_is_on_record() {
    let mut stage = Stage::with_policy(&format!("{LAYER_7}{DURABLE}"));
    let reader = stage.key("client", "reader");
    let mut answered = BTreeSet::new();
    for run in 0..if super::is_long() { 100 } else { 5 } {
        let client = stage.client(Family::V4);
        let id = stage.agent.as_ref().unwrap().pid();
        let (told, heard) = channel();
        let killer = thread::spawn(move || {
            heard.iter().take(10 + run).for_each(drop);
            // The next request is under way.
            thread::sleep(Duration::from_micros(u64::try_from(run).unwrap() * 377 % 3_000));
            rustix::process::kill_process(
                rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap(),
                rustix::process::Signal::KILL,
            )
        });
        let mut connection = client.connect(Http::One).unwrap();
        while let Ok(answer) = connection.ask(&orders().key(&reader)) {
            assert_eq!(answer.status, 200);
            // Once it has been killed, nobody counts any more.
            told.send(()).unwrap_or_default();
            answered.insert(answer.headers["x-request-id"].to_str().unwrap().to_owned());
        }
        killer.join().unwrap().unwrap();
        drop(stage.agent.take());

        stage.start();
        let verified = stage.offline(&["audit", "verify"]);
        assert!(verified.is_success(), "run {run}: {verified}");
    }
    let records = stage.records_of("http");
    let ids: BTreeSet<String> =
        records.iter().map(|record| record["body"]["id"].as_str().unwrap().to_owned()).collect();
    assert!(answered.len() >= 50, "only {} answers", answered.len());
    let missing: Vec<_> = answered.difference(&ids).collect();
    assert!(missing.is_empty(), "answered and not on record: {missing:?}");
}
