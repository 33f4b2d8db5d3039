//! More blocks than the kernel's table holds: nobody who is blocked gets in, and nothing is silent.

use std::fmt::Write as _;
use std::time::Duration;

use enforcer_tests::lab::{ATTACKER, Family, wait_until};
use serde_json::Value;

use crate::stage::{Hook, SILENCE, Stage, orders, policy};

/// The smallest table that a policy can ask for.
const BLOCKS: usize = 64;

/// Ticks go by each second; what is put back needs a few of them.
const A_FEW_TICKS: Duration = Duration::from_secs(5);

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn neighbours_become_one_entry_that_is_told_and_part_again_when_there_is_room() {
    let stage = full(Hook::Native, "aggregate");
    // Elsewhere, so that nothing can be put together.
    let elsewhere = apart(44);
    quarantine_all(&stage, &elsewhere, "1h");
    let neighbours: Vec<_> = (1..=30).map(|host| format!("10.88.7.{host}")).collect();

    let told = quarantine_all(&stage, &neighbours, "1h");

    assert!(told.iter().all(|(code, _)| *code == Some(0)), "one entry holds them: {told:?}");
    let row = stage.block_of("10.88.7.0/24").unwrap();
    assert_eq!(row["author"], "agent", "{row}");
    assert!(row["reason"].as_str().unwrap().contains("the kernel map was full"), "{row}");
    let (_, last) = told.last().unwrap();
    assert!(last["overlaps"].to_string().contains("10.88.7.0/24"), "the answer tells: {last}");
    let problem = stage.problem().unwrap();
    assert!(problem.contains("entries that stand for several: 1"), "{problem}");
    assert!(["10.88.7.1", "10.88.7.30", &elsewhere[0]].iter().all(|source| !stage.reaches(source)));
    assert!(!stage.reaches("10.88.7.31"), "the price of a full table, and no more than a /24:");
    assert!(stage.reaches("10.88.8.1"));
    assert!(records(&stage, "aggregated") >= 1);
    stage.expect_verified();

    // Whoever is let in by hand is not dropped for the sake of neighbours.
    assert!(stage.enforcer(&["release", "10.88.7.30"]).is_success());
    assert!(stage.reaches("10.88.7.30"));
    assert!(!stage.reaches("10.88.7.1"));
    for target in &elsewhere {
        assert!(stage.enforcer(&["release", target]).is_success());
    }
    wait_until("each has its own entry again", A_FEW_TICKS, || stage.problem().is_none()).unwrap();
    let own = |target: &String| !stage.block_of(target).unwrap()["kernel"].is_null();
    assert!(neighbours[..29].iter().all(own));
    assert!(stage.block_of("10.88.7.0/24").is_none());
    assert!(stage.reaches("10.88.7.31") && !stage.reaches("10.88.7.29"));
    stage.expect_verified();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn who_ends_soonest_leaves_the_kernel_is_refused_at_layer_7_and_comes_back() {
    let stage = full(Hook::Native, "evict");
    let attacker = ATTACKER.of(Family::V4).to_string();
    quarantine_all(&stage, std::slice::from_ref(&attacker), "20m");
    assert!(stage.attacker_ping(Family::V4).once(SILENCE).unwrap().is_none());

    let told = quarantine_all(&stage, &apart(BLOCKS), "2h");

    assert!(told.iter().all(|(code, _)| *code == Some(0)), "the newest is in: {told:?}");
    let row = stage.block_of(&attacker).unwrap();
    assert_eq!((&row["kernel"], &row["layer7"]), (&Value::Null, &Value::Bool(true)), "{row}");
    stage.attacker_ping(Family::V4).until_answered().unwrap();
    assert!(stage.attacker(Family::V4).ask(&orders()).is_err(), "layer 7 refuses it");
    let why = stage.json(&["blocks", "--why", &attacker]);
    assert_eq!(why["verdict"], "refuse", "{why}");
    let problem = stage.problem().unwrap();
    assert!(problem.contains("the kernel map is full"), "{problem}");
    assert!(problem.contains("raise `blocks`"), "{problem}");
    assert!(records(&stage, "evicted") >= 1);
    // Who would end sooner than everybody else finds no room, and the answer says so.
    let told = stage.enforcer(&["quarantine", "10.88.250.1", "--for", "1m", "--reason", "test"]);
    assert_eq!(told.code, Some(6), "{told}");
    assert!(told.stdout.contains("the kernel map is full; layer 7 refuses it"), "{told}");
    stage.expect_verified();

    for target in &apart(BLOCKS)[..8] {
        assert!(stage.enforcer(&["release", target]).is_success());
    }
    wait_until("all are in the kernel again", A_FEW_TICKS, || stage.problem().is_none()).unwrap();
    stage.expect_dropped(&stage.attacker_ping(Family::V4), &attacker);
    assert!(records(&stage, "restored") >= 1);
    stage.expect_verified();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn where_nobody_gives_way_the_newest_stays_at_layer_7_and_a_list_is_refused_whole() {
    let mut stage = full(Hook::Native, "refuse");
    quarantine_all(&stage, &apart(BLOCKS - 1), "1h");
    let attacker = ATTACKER.of(Family::V4).to_string();

    let told = stage.enforcer(&["quarantine", &attacker, "--for", "2h", "--reason", "test"]);

    assert_eq!(told.code, Some(6), "{told}");
    assert!(told.stdout.contains("kernel  NOT applied: the kernel map is full"), "{told}");
    assert!(told.stdout.contains("layer 7                   applied"), "{told}");
    assert!(stage.attacker(Family::V4).ask(&orders()).is_err(), "layer 7 refuses it");
    assert!(stage.problem().unwrap().contains("the kernel map is full"));
    let list = stage.file("feed.txt", "198.51.100.1\n198.51.100.2\n");
    let refused = stage.enforcer(&["blocks", "import", &list, "--reason", "test"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stderr.contains("do not fit"), "{refused}");
    // The other family has a table of its own.
    stage.quarantine(&[&ATTACKER.of(Family::V6).to_string()]);

    stage.kill();
    stage.start();

    assert!(stage.problem().unwrap().contains("the kernel map is full"), "after a restart too");
    stage.expect_verified();
    assert!(stage.enforcer(&["release", &apart(1)[0]]).is_success());
    wait_until("there is room for it", A_FEW_TICKS, || stage.problem().is_none()).unwrap();
    stage.expect_dropped(&stage.attacker_ping(Family::V4), &attacker);
    stage.expect_verified();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_list_takes_the_room_of_nobody_who_was_quarantined_and_one_too_long_is_refused() {
    let stage = full(Hook::Native, "evict");
    let quarantined = apart(40);
    quarantine_all(&stage, &quarantined, "10m");
    let lines = (0..BLOCKS - 4).fold(String::new(), |mut lines, number| {
        writeln!(lines, "10.88.{}.77", 100 + number).unwrap();
        lines
    });
    let file = stage.file("feed.txt", &lines);

    let told = stage.enforcer(&["blocks", "import", &file, "--for", "forever", "--reason", "test"]);

    let row = |target: &String| !stage.block_of(target).unwrap()["kernel"].is_null();
    assert!(quarantined.iter().all(row), "an operator's word counts for more: {told}");
    assert!(stage.problem().unwrap().contains("the kernel map is full"), "{told}");
    let list = stage.json(&["blocks", "lists"])[0].clone();
    let in_kernel = list["in_kernel"].as_u64().unwrap();
    assert!((1..60).contains(&in_kernel), "{list}");
    assert_eq!(list["layer7"], true);
    stage.expect_verified();

    let long = (0..=BLOCKS).fold(String::new(), |mut lines, number| {
        writeln!(lines, "198.51.100.{number}").unwrap();
        lines
    });
    let file = stage.file("long.txt", &long);
    let refused = stage.enforcer(&["blocks", "import", &file, "--reason", "test"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stderr.contains("set `blocks` in [kernel]"), "{refused}");
}

/// An agent whose table holds [`BLOCKS`].
fn full(hook: Hook, when_full: &str) -> Stage {
    let more = format!("blocks = {BLOCKS}\nwhen_full = \"{when_full}\"\n");
    let stage = Stage::with_policy(&(policy(hook) + &more));
    stage.crowd();
    stage
}

/// So many addresses of the crowd, no two in one /24.
fn apart(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("10.88.{}.9", 100 + number)).collect()
}

/// Quarantines each; exit code and answer.
fn quarantine_all(stage: &Stage, targets: &[String], ttl: &str) -> Vec<(Option<i32>, Value)> {
    let quarantine = |target: &String| {
        let words = ["quarantine", target, "--for", ttl, "--reason", "test", "--json"];
        let told = stage.enforcer(&words);
        let answer = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{told}"));
        (told.code, answer)
    };
    targets.iter().map(quarantine).collect()
}

/// Records of blocks to which this happened.
fn records(stage: &Stage, what: &str) -> usize {
    let records = stage.records_of("block");
    records.iter().filter(|record| record["body"]["what"] == what).count()
}
