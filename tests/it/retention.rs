//! The log lives, says so, and keeps what it has to keep.

use std::fs;

use enforcer_tests::lab::{DEADLINE, Family, Http, wait_until};
use http::{HeaderName, HeaderValue};

use crate::stage::{LAYER_7, Stage, orders};

/// Everything is older than that.
const LATER: &str = "2100-01-01T00:00:00Z";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn the_log_tells_in_good_time_that_it_lives_and_how_its_clock_does() {
    let stage = Stage::with_policy(&format!("{LAYER_7}\n[audit]\nheartbeat = \"1s\"\n"));
    wait_until("two heartbeats", DEADLINE, || stage.records_of("heartbeat").len() >= 2).unwrap();

    let beats = stage.records_of("heartbeat");
    for beat in &beats {
        let clock = &beat["body"]["clock"];
        assert!(clock["synchronised"].is_boolean(), "{beat}");
        assert!(clock["offset_ns"].is_i64() && clock["error_max_us"].is_u64(), "{beat}");
        assert!(beat["mono_ns"].is_u64() && !beat["boot"].as_str().unwrap().is_empty());
        assert_eq!(beat["body"]["refused"], 0);
        assert!(beat["body"]["records"].as_u64().unwrap() <= beat["index"].as_u64().unwrap());
    }
    let apart = beats[1]["mono_ns"].as_u64().unwrap() - beats[0]["mono_ns"].as_u64().unwrap();
    assert!(apart >= 900_000_000, "{apart}");

    stage.apply(&format!("{LAYER_7}\n[audit]\nheartbeat = \"1h\"\n"));
    let many = stage.records_of("heartbeat").len();
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(stage.records_of("heartbeat").len() <= many + 1, "the policy in force counts");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_request_keeps_its_trace_and_what_its_client_calls_itself() {
    let stage = Stage::with_policy(LAYER_7);
    let name = HeaderName::from_static("traceparent");
    let mut connection = stage.client(Family::V4).connect(Http::Two).unwrap();
    for parent in [format!("00-{TRACE}-b7ad6b7169203331-01"), format!("00-{TRACE}-0-01")] {
        let agent = HeaderValue::from_static("Probe/1.0");
        let ask = orders()
            .header(name.clone(), HeaderValue::from_str(&parent).unwrap())
            .header(http::header::USER_AGENT, agent);
        assert_eq!(connection.ask(&ask).unwrap().status, 401);
    }
    wait_until("both are on record", DEADLINE, || stage.records_of("http").len() == 2).unwrap();

    let records = stage.records_of("http");
    assert_eq!(records[0]["body"]["trace"], TRACE);
    assert!(records[1]["body"].get("trace").is_none(), "{}", records[1]);
    assert!(records.iter().all(|record| record["body"]["user_agent"] == "Probe/1.0"));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_is_pruned_is_gone_on_record_and_the_rest_still_proves_itself() {
    let mut stage = Stage::with_policy(LAYER_7);
    let segments = |stage: &Stage| {
        let folder = stage.site.state().join("audit/segments");
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    for _ in 0..3 {
        for _ in 0..3 {
            assert_eq!(stage.client(Family::V4).ask(&orders()).unwrap().status, 401);
        }
        // Looking for somebody closes the segment.
        let words = ["audit", "erase", "198.51.100.99", "--reason", "r", "--dry-run"];
        assert_eq!(stage.enforcer(&words).code, Some(3));
    }
    let all = segments(&stage);
    assert!(all.len() >= 4, "{all:?}");
    let nothing = stage.enforcer(&["audit", "prune", "--keep", "1d", "--yes"]);
    assert_eq!(nothing.code, Some(3), "{nothing}");
    let rehearsed = stage.json(&["audit", "prune", "--before", LATER, "--dry-run"]);
    assert_eq!(rehearsed["dry_run"], true);
    assert_eq!(segments(&stage), all);

    let pruned = stage.json(&["audit", "prune", "--before", LATER, "--yes"]);

    let end = pruned["end"].as_u64().unwrap();
    assert!(end >= 9, "{pruned}");
    let record = &stage.records_of("prune")[0];
    assert_eq!(record["index"], pruned["audit"]);
    assert_eq!(record["body"]["end"], end);
    assert_eq!(record["body"]["root"], pruned["root"]);
    assert!(segments(&stage).len() < all.len());
    let verified = stage.offline(&["audit", "verify"]);
    assert!(verified.is_success(), "{verified}");
    stage.kill();
    let words = ["audit", "prune", "--before", LATER, "--yes"];
    let alone = stage.offline(&words);
    assert!(alone.is_success() || alone.code == Some(3), "{alone}");
    stage.start();
    assert!(stage.offline(&["audit", "verify"]).is_success());
    assert_eq!(stage.client(Family::V4).ask(&orders()).unwrap().status, 401);
}
