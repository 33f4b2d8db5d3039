//! Who looks into the log is in it; what leaves it convinces others.

use std::fs;
use std::path::Path;
use std::process::Command;

use enforcer_tests::lab::{DEADLINE, Family, wait_until};
use serde_json::Value;

use crate::stage::{Hook, Stage, orders};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn who_looks_into_the_log_is_in_it_with_and_without_an_agent() {
    let mut stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    assert_eq!(stage.client(Family::V4).ask(&orders().key(&reader)).unwrap().status, 200);
    let id = format!("key:{}", reader.split('_').nth(2).unwrap());
    let looks = |stage: &Stage| -> Vec<Vec<String>> {
        let admin = stage.records_of("admin");
        let looks = admin.iter().filter(|record| {
            let verb = record["body"]["verb"].as_str().unwrap();
            verb.starts_with("audit ") || verb == "trail"
        });
        looks.map(|record| words(&record["body"])).collect()
    };
    assert_eq!(looks(&stage), Vec::<Vec<String>>::new());

    assert!(stage.offline(&["audit", "tail", "-n", "2"]).is_success());
    assert!(stage.offline(&["trail", &id]).is_success());
    let exported = ["audit", "export", "--who", &id, "--format", "jsonl"];
    let seen = stage.offline(&exported).stdout.lines().count();
    let found = looks(&stage);
    assert_eq!(found[0], ["audit tail", "the newest 2", "and no more", "2 records"]);
    assert_eq!(found[1][..2], ["trail".to_owned(), id.clone()]);
    let records = format!("{seen} records");
    assert_eq!(found[2], ["audit export".to_owned(), id.clone(), records]);

    stage.kill();
    assert!(stage.offline(&["audit", "tail", "-n", "1"]).is_success());
    assert_eq!(looks(&stage).len(), 3, "nobody could append it yet");
    stage.start();
    wait_until("the look is on record", DEADLINE, || looks(&stage).len() == 4).unwrap();
    assert_eq!(looks(&stage)[3], ["audit tail", "the newest 1", "and no more", "1 record"]);

    // A copy that is named is nobody's business; where nothing can be recorded, nothing is shown.
    let copy = stage.site.state().join("audit");
    let named = ["audit", "tail", "--log", copy.to_str().unwrap()];
    assert!(stage.offline(&named).is_success());
    assert_eq!(looks(&stage).len(), 4);
    stage.kill();
    let aside = stage.site.state().join("audit-spill");
    drop(fs::remove_dir_all(&aside));
    fs::write(&aside, "in the way").unwrap();
    let refused = stage.offline(&["audit", "tail"]);
    assert!(!refused.is_success() && refused.stdout.is_empty(), "{refused}");
    assert!(refused.stderr.contains("is itself recorded"), "{refused}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_trail_that_left_a_running_agent_is_proven_complete_and_cannot_be_thinned_out() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    for _ in 0..5 {
        assert_eq!(stage.client(Family::V4).ask(&orders().key(&reader)).unwrap().status, 200);
    }
    wait_until("on record", DEADLINE, || stage.records_of("http").len() == 5).unwrap();
    let id = format!("key:{}", reader.split('_').nth(2).unwrap());
    let out = stage.site.folder().join("evidence");

    let proven = stage.offline(&["trail", &id, "--prove", "--out", out.to_str().unwrap()]);
    assert!(proven.is_success(), "{proven}");

    let (code, said) = script(&out);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("COMPLETE"), "{said}");
    let checked = stage.offline(&["audit", "check-bundle", out.to_str().unwrap()]);
    assert!(checked.is_success(), "{checked}");
    let lines = fs::read_to_string(out.join("records.jsonl")).unwrap();
    let first: Value = serde_json::from_str(
        lines.lines().find(|line| line.contains("\"class\":\"http\"")).unwrap(),
    )
    .unwrap();
    let index = first["index"].as_u64().unwrap();
    for name in ["leaf", "tlog-proof"] {
        fs::remove_file(out.join(format!("records/{index:020}.{name}"))).unwrap();
    }
    let list = fs::read_to_string(out.join("MANIFEST")).unwrap();
    let kept = |line: &&str| !line.contains(&format!("records/{index:020}."));
    let list: String = list.lines().filter(kept).map(|line| format!("{line}\n")).collect();
    fs::write(out.join("MANIFEST"), list).unwrap();
    assert_eq!(script(&out).0, Some(7));
    let checked = stage.offline(&["audit", "check-bundle", out.to_str().unwrap()]);
    assert_eq!(checked.code, Some(7), "{checked}");
}

fn words(body: &Value) -> Vec<String> {
    let arguments = body["arguments"].as_array().unwrap().iter();
    std::iter::once(&body["verb"])
        .chain(arguments)
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

fn script(folder: &Path) -> (Option<i32>, String) {
    let output = Command::new("sh").arg(folder.join("verify.sh")).arg(folder).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}
