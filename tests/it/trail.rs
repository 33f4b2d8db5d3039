//! From a leaked token to what was done with it, and what was done about it.

use enforcer_tests::lab::{ATTACKER, DEADLINE, Family, wait_until};
use serde_json::Value;

use crate::stage::{Hook, Stage, THRESHOLD, orders};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_leaked_key_is_looked_for_without_being_named() {
    let stage = Stage::new(Hook::Native);
    let leaked = stage.key("client", "reader");
    let other = stage.key("other", "reader");
    for key in [&leaked, &leaked, &other] {
        assert_eq!(stage.client(Family::V4).ask(&orders().key(key)).unwrap().status, 200);
    }
    let all = || stage.offline(&["audit", "search", "--class", "http", "-o", "jsonl"]);
    wait_until("every request is on record", DEADLINE, || all().stdout.lines().count() == 3)
        .unwrap();

    let policy = stage.site.policy();
    let words = ["--policy", policy.to_str().unwrap(), "trail", "--credential", "-", "-o", "json"];
    let told = stage.typing(&words, &leaked);

    assert!(told.is_success(), "{told}");
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    let summary = &told["summary"];
    assert_eq!((&summary["requests"], &summary["served"]), (&2.into(), &2.into()));
    let http = told["records"].as_array().unwrap().iter().filter(|it| it["class"] == "http");
    assert_eq!(http.count(), 2);
    let log = stage.offline(&["audit", "tail", "-n", "1000", "-o", "jsonl"]).stdout;
    assert!(!log.contains(leaked.rsplit('_').next().unwrap()), "no secret is on record");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_trail_tells_which_block_followed_and_a_block_which_requests_it_answers() {
    let stage = Stage::new(Hook::Native);
    stage.guess(Family::V4, THRESHOLD);
    let attacker = ATTACKER.v4.to_string();
    wait_until("the block is there", DEADLINE, || stage.block_of(&attacker).is_some()).unwrap();
    let block = stage.block_of(&attacker).unwrap()["id"].as_str().unwrap().to_owned();
    let search = ["audit", "search", "--who", &attacker, "--verdict", "refused", "-o", "jsonl"];
    let refused = stage.offline(&search);
    let first: Value = serde_json::from_str(refused.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(refused.stdout.lines().count(), THRESHOLD, "{refused}");

    let request = format!("request:{}", first["body"]["id"].as_str().unwrap());
    let of_request = stage.offline(&["trail", &request, "--summary"]);
    let of_block = stage.offline(&["trail", &block, "-o", "jsonl"]);

    assert!(of_request.stdout.contains(&block), "{of_request}");
    let answered = of_block.stdout.lines().filter(|line| line.contains("\"class\":\"http\""));
    assert!(answered.count() > 0, "{of_block}");
    let stats = stage.offline(&["audit", "stats", "-o", "json"]);
    let stats: Value = serde_json::from_str(&stats.stdout).unwrap();
    assert_eq!(stats["refused"], THRESHOLD);
    assert_eq!(stats["missing"], 0);
    let nobody = stage.offline(&["audit", "search", "--status", "599"]);
    assert_eq!(nobody.code, Some(3), "{nobody}");
}
