//! More blocks than the kernel's table holds: nobody who is blocked gets in, and nothing is silent.

use std::fmt::Write as _;
use std::time::Duration;

use enforcer_admin::call::{Blocked, Quarantine, Which};
use enforcer_admin::{Answer, Call, ask};
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
    quarantine_all(&stage, &elsewhere, 60);
    let neighbours: Vec<_> = (1..=30).map(|host| format!("10.88.7.{host}")).collect();

    let told = quarantine_all(&stage, &neighbours, 60);

    assert!(told.iter().all(|one| one.kernel.is_some()), "one entry holds them: {told:?}");
    let row = stage.block_of("10.88.7.0/24").unwrap();
    assert_eq!(row["author"], "agent", "{row}");
    assert!(row["reason"].as_str().unwrap().contains("the kernel map was full"), "{row}");
    let last = told.last().unwrap();
    let tells = |line: &String| line.contains("covered by") && line.contains("10.88.7.0/24");
    assert!(last.overlaps.iter().any(tells), "{last:?}");
    let problem = stage.problem().unwrap();
    assert!(problem.contains("entries that stand for several: 1"), "{problem}");
    // The price of a full table is a neighbour who did nothing, and nobody behind the /24.
    assert!(!stage.reaches(&["10.88.7.1", "10.88.7.30", "10.88.7.31", &elsewhere[0]]));
    assert!(stage.reaches(&["10.88.8.1"]));
    assert!(records(&stage, "aggregated") >= 1);
    stage.expect_verified();

    // Whoever is let in by hand is not dropped for the sake of neighbours.
    assert!(stage.enforcer(&["release", "10.88.7.30"]).is_success());
    assert!(stage.reaches(&["10.88.7.30"]));
    assert!(!stage.reaches(&["10.88.7.1"]));
    release_all(&stage, &elsewhere);
    wait_until("each has its own entry again", A_FEW_TICKS, || stage.problem().is_none()).unwrap();
    let rows = stage.json(&["blocks"]);
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 29, "the one that stood for them is gone: {rows:?}");
    assert!(rows.iter().all(|row| !row["kernel"].is_null()), "{rows:?}");
    assert!(stage.reaches(&["10.88.7.31"]) && !stage.reaches(&["10.88.7.29"]));
    stage.expect_verified();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn who_ends_soonest_leaves_the_kernel_is_refused_at_layer_7_and_comes_back() {
    let stage = full(Hook::Native, "evict");
    let attacker = ATTACKER.of(Family::V4).to_string();
    quarantine_all(&stage, std::slice::from_ref(&attacker), 20);
    assert!(stage.attacker_ping(Family::V4).once(SILENCE).unwrap().is_none());

    let told = quarantine_all(&stage, &apart(BLOCKS), 120);

    assert!(told.iter().all(|one| one.kernel.is_some()), "the newest is in: {told:?}");
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

    release_all(&stage, &apart(8));
    wait_until("all are in the kernel again", A_FEW_TICKS, || stage.problem().is_none()).unwrap();
    stage.expect_dropped(&stage.attacker_ping(Family::V4), &attacker);
    assert!(records(&stage, "restored") >= 1);
    stage.expect_verified();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn where_nobody_gives_way_the_newest_stays_at_layer_7_and_a_list_is_refused_whole() {
    let mut stage = full(Hook::Native, "refuse");
    quarantine_all(&stage, &apart(BLOCKS - 1), 60);
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
    quarantine_all(&stage, &quarantined, 10);
    let lines = (0..BLOCKS - 4).fold(String::new(), |mut lines, number| {
        writeln!(lines, "10.88.{}.77", 100 + number).unwrap();
        lines
    });
    let file = stage.file("feed.txt", &lines);

    let told = stage.enforcer(&["blocks", "import", &file, "--for", "forever", "--reason", "test"]);

    let rows = stage.json(&["blocks"]);
    let singles = rows.as_array().unwrap().iter().filter(|row| row["target"] != "list:feed");
    let in_kernel = singles.filter(|row| !row["kernel"].is_null()).count();
    assert_eq!(in_kernel, quarantined.len(), "an operator's word counts for more: {told}");
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

/// Quarantines each for so many minutes, as the command does.
fn quarantine_all(stage: &Stage, targets: &[String], minutes: u64) -> Vec<Blocked> {
    let quarantine = |target: &String| {
        let asked = Quarantine {
            target: target.parse().unwrap(),
            ttl_seconds: Some(minutes * 60),
            reason: "test".to_owned(),
            override_guard: None,
            dry_run: false,
            ssh_peer: None,
        };
        let answer = ask(&stage.site.socket(), &Call::Quarantine(asked)).unwrap();
        let blocked = if let Answer::Blocked(blocked) = answer { Some(*blocked) } else { None };
        blocked.unwrap()
    };
    targets.iter().map(quarantine).collect()
}

fn release_all(stage: &Stage, targets: &[String]) {
    for target in targets {
        let call = Call::Release { what: Which::Target(target.parse().unwrap()), reason: None };
        ask(&stage.site.socket(), &call).unwrap();
    }
}

/// Records of blocks to which this happened.
fn records(stage: &Stage, what: &str) -> usize {
    let records = stage.records_of("block");
    records.iter().filter(|record| record["body"]["what"] == what).count()
}
