//! What happened is on record, and the record convinces people who do not trust us.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use enforcer_tests::lab::{ATTACKER, CLIENT, DEADLINE, Family, Http, wait_until};

use crate::stage::{Hook, Stage, THRESHOLD, orders};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn every_request_every_admin_action_and_every_map_change_is_a_record() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    let mut connection = stage.client(Family::V4).connect(Http::Two).unwrap();
    for _ in 0..7 {
        assert_eq!(connection.ask(&orders().key(&reader)).unwrap().status, 200);
    }
    stage.guess(Family::V6, THRESHOLD);
    let attacker = ATTACKER.v6.to_string();
    wait_until("the block is there", DEADLINE, || stage.block_of(&attacker).is_some()).unwrap();
    assert!(stage.enforcer(&["release", &attacker]).is_success());

    let of_class = |class| stage.records_of(class);
    wait_until("every request is on record", DEADLINE, || of_class("http").len() == 7 + THRESHOLD)
        .unwrap();
    let served = of_class("http").into_iter().find(|record| record["body"]["status"] == 200);
    let body = &served.unwrap()["body"];
    assert_eq!(body["path"], "/v1/orders");
    assert_eq!(body["route"], "orders");
    assert_eq!(body["rule"], "orders.allow[1]");
    assert!(body["peer"].as_str().unwrap().starts_with(&CLIENT.v4.to_string()));
    let id = reader.split('_').nth(2).unwrap();
    assert_eq!(body["who"]["principal"], format!("key:{id}"));
    assert_eq!(of_class("finding").len(), 1);
    let changes: Vec<_> =
        of_class("block").iter().map(|record| record["body"]["what"].clone()).collect();
    assert_eq!(changes, ["applied", "released"]);
    let verbs: Vec<_> =
        of_class("admin").iter().map(|record| record["body"]["verb"].clone()).collect();
    assert_eq!(verbs, ["keys issue", "release"]);
    let secret = reader.split('_').next_back().unwrap();
    let everything = read_all(&stage.site.state());
    assert!(!contains(&everything, secret.as_bytes()), "no secret is kept anywhere");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_trail_follows_a_key_a_source_and_a_block() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    assert_eq!(stage.client(Family::V4).ask(&orders().key(&reader)).unwrap().status, 200);
    stage.guess(Family::V4, THRESHOLD);
    let attacker = ATTACKER.v4.to_string();
    wait_until("the block is there", DEADLINE, || stage.block_of(&attacker).is_some()).unwrap();
    let block = stage.block_of(&attacker).unwrap()["id"].as_str().unwrap().to_owned();

    let id = format!("key:{}", reader.split('_').nth(2).unwrap());
    let of_key = stage.offline(&["trail", &id]);
    assert!(of_key.stdout.contains("orders.allow") || of_key.stdout.contains("/v1/orders"));
    assert!(!of_key.stdout.contains(&attacker), "{of_key}");
    let of_source = stage.offline(&["trail", &attacker]);
    assert_eq!(of_source.stdout.matches("401").count(), THRESHOLD, "{of_source}");
    assert!(of_source.stdout.contains(&block), "{of_source}");
    let of_block = stage.offline(&["trail", &block]);
    assert!(of_block.stdout.contains("applied"), "{of_block}");
    let nobody = stage.offline(&["trail", "198.51.100.1"]);
    assert_eq!(nobody.code, Some(3), "{nobody}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_exported_record_convinces_a_shell_script_and_an_altered_one_does_not() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    assert_eq!(stage.client(Family::V4).ask(&orders().key(&reader)).unwrap().status, 200);
    wait_until("the request is on record", DEADLINE, || !stage.records_of("http").is_empty())
        .unwrap();
    let index = stage.records_of("http")[0]["index"].as_u64().unwrap();
    let out = stage.site.folder().join("evidence");

    let exported =
        stage.offline(&["audit", "export", &index.to_string(), "--out", out.to_str().unwrap()]);
    assert!(exported.is_success(), "{exported}");
    let key = fs::read_to_string(out.join("key.pub")).unwrap();
    assert!(verify_sh(&out, key.trim()), "the untouched record convinces");

    let record = fs::read(out.join("record.json")).unwrap();
    for place in [0, record.len() / 2, record.len() - 1] {
        let mut altered = record.clone();
        altered[place] ^= 1;
        fs::write(out.join("record.json"), &altered).unwrap();
        assert!(!verify_sh(&out, key.trim()), "byte {place}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn nothing_that_was_answered_is_lost_by_kill_9() {
    let mut stage = Stage::new(Hook::Native);
    for round in 0..5 {
        let mut connection = stage.client(Family::V4).connect(Http::One).unwrap();
        let mut ids = Vec::new();
        for _ in 0..20 {
            // A refusal is durable: its answer means that its record is on disk.
            let answer = connection.ask(&orders()).unwrap();
            ids.push(answer.headers["x-request-id"].to_str().unwrap().to_owned());
        }
        stage.kill();

        let kept = stage.offline(&["audit", "tail", "-n", "100000", "-o", "jsonl"]).stdout;
        stage.start();
        let kept_after = stage.offline(&["audit", "tail", "-n", "100000", "-o", "jsonl"]).stdout;
        for id in ids {
            assert!(kept_after.contains(&id), "round {round}: {id} is lost");
        }
        assert!(kept_after.len() >= kept.len());
        let verified = stage.offline(&["audit", "verify"]);
        assert!(verified.is_success(), "round {round}: {verified}");
    }
}

fn verify_sh(folder: &Path, key: &str) -> bool {
    let file = |name| folder.join(name);
    let mut verify = Command::new("sh");
    verify.args([file("verify.sh"), file("record.json"), file("record.tlog-proof")]).arg(key);
    verify.output().unwrap().status.success()
}

fn read_all(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            bytes.extend(read_all(&path));
        } else {
            bytes.extend(fs::read(path).unwrap());
        }
    }
    bytes
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
