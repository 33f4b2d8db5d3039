//! A person is erased from the log: every look into it shows a handle, every proof holds, and
//! nothing on the disk leads back.

use std::fs;
use std::path::Path;

use enforcer_tests::lab::{CLIENT, DEADLINE, Family, Http, wait_until};
use http::{HeaderValue, header};
use serde_json::Value;

use crate::stage::{LAYER_7, Stage, orders};

const SOFTWARE: &str = "Probe/1.0 (of mallory@example.com)";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_erased_address_is_nowhere_and_every_proof_holds() {
    let stage = visited();
    let (gone, stays) = (CLIENT.v4.to_string(), CLIENT.v6.to_string());
    let exported = stage.site.folder().join("before");
    let index = stage.records_of("http")[0]["index"].as_u64().unwrap().to_string();
    let export = |out: &Path| {
        let out = out.to_str().unwrap();
        assert!(stage.offline(&["audit", "export", &index, "--out", out]).is_success());
    };
    export(&exported);
    assert!(stage.offline(&["trail", &gone]).is_success());

    let erased = stage.json(&["audit", "erase", &gone, "--reason", "request 17", "--yes"]);

    assert_eq!(erased["kind"], "address");
    assert!(erased["handles"].as_u64().unwrap() >= 1, "{erased}");
    let receipt = &stage.records_of("erasure")[0];
    assert_eq!(receipt["index"], erased["audit"]);
    assert_eq!(receipt["body"]["handles"], erased["handles"]);
    assert_eq!(receipt["body"]["reason"], "request 17");
    for words in
        [&["audit", "tail", "-n", "1000", "-o", "jsonl"][..], &["trail", &gone], &["trail", &stays]]
    {
        let told = stage.offline(words);
        assert!(!told.stdout.contains(&gone), "{told}");
    }
    assert!(stage.offline(&["trail", &stays]).is_success(), "others stay");
    let visits = stage.records_of("http");
    let peers: Vec<_> = visits.iter().map(|it| it["body"]["peer"].as_str().unwrap()).collect();
    assert!(peers.iter().any(|peer| peer.starts_with('~')), "{peers:?}");
    assert!(peers.iter().any(|peer| peer.contains(&stays)), "{peers:?}");
    let verified = stage.offline(&["audit", "verify"]);
    assert!(verified.is_success(), "{verified}");
    let after = stage.site.folder().join("after");
    export(&after);
    assert_eq!(
        fs::read(after.join("record.json")).unwrap(),
        fs::read(exported.join("record.json")).unwrap(),
        "no stored byte was changed"
    );
    assert!(!contains(&stage.site.state(), gone.as_bytes()), "it is on the disk");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_erased_person_stays_erased_over_a_crash_and_comes_again_under_another_handle() {
    let mut stage = visited();
    let gone = CLIENT.v4.to_string();
    let erased = stage.json(&["audit", "erase", &gone, "--reason", "request 17", "--yes"]);
    let receipt = erased["audit"].as_u64().unwrap();
    let before = stage.records_of("http").len();

    stage.kill();
    stage.start();
    assert_eq!(stage.client(Family::V4).ask(&orders()).unwrap().status, 401);
    wait_until("the visit is on record", DEADLINE, || stage.records_of("http").len() > before)
        .unwrap();

    let seen = stage.offline(&["trail", &gone, "-o", "jsonl"]);
    // Looking for somebody is on record too.
    let records: Vec<Value> = seen
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|record: &Value| record["class"] == "http")
        .collect();
    assert_eq!(records.len(), 1, "{seen}");
    assert!(records[0]["index"].as_u64().unwrap() > receipt);
    assert!(stage.offline(&["audit", "verify"]).is_success());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn erasing_asks_first_tells_what_is_not_there_and_never_repeats_the_value() {
    let stage = visited();
    let gone = CLIENT.v4.to_string();
    let ask = ["audit", "erase", &gone, "--reason", "request 17"];

    let refused = stage.typing(&ask, "no\n");
    assert_eq!(refused.code, Some(2), "{refused}");
    let rehearsed = stage.json(&[&ask[..], &["--dry-run"]].concat());
    assert_eq!(rehearsed["dry_run"], true);
    assert!(stage.offline(&["trail", &gone]).is_success(), "nothing was erased");

    for (value, code) in [("198.51.100.99", 3), ("10.77.0.0/16", 2), ("key:k7Qx2mP9aB3c", 2)] {
        let words = ["audit", "erase", value, "--reason", "request 18", "--yes"];
        let answer = stage.enforcer(&words);
        assert_eq!(answer.code, Some(code), "{answer}");
    }
    let named = ["audit", "erase", &gone, "--reason", &format!("for {gone}"), "--yes"];
    assert_eq!(stage.enforcer(&named).code, Some(2));

    let erased = stage.typing(&ask, "erase\n");
    assert!(erased.is_success(), "{erased}");
    assert_eq!(stage.enforcer(&[&ask[..], &["--yes"]].concat()).code, Some(3), "it is gone");
    let verbs = stage.records_of("admin");
    let erasures = verbs.iter().filter(|it| it["body"]["verb"] == "audit erase");
    for record in erasures {
        let text = record.to_string();
        assert!(!text.contains("198.51.100.99") && !text.contains(&gone), "{text}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_a_client_calls_itself_and_words_that_name_a_person_are_erased_too() {
    let stage = visited();
    let mail = "mallory@example.com";
    let agents = |stage: &Stage| {
        let visits = stage.records_of("http");
        let agents = visits.iter().map(|it| it["body"]["user_agent"].as_str().unwrap().to_owned());
        agents.collect::<Vec<_>>()
    };
    assert!(agents(&stage).iter().all(|agent| agent == SOFTWARE));
    let reason = format!("asked by {mail}");
    let blocked = stage.enforcer(&["quarantine", "198.51.100.7", "--reason", &reason]);
    assert!(blocked.is_success(), "{blocked}");
    assert!(stage.enforcer(&["release", "198.51.100.7"]).is_success());

    let words = ["audit", "erase", SOFTWARE, "--kind", "user-agent", "--reason", "r 1", "--yes"];
    assert!(stage.enforcer(&words).is_success());
    let words = ["audit", "erase", mail, "--reason", "r 2", "--yes"];
    assert!(stage.enforcer(&words).is_success());

    assert!(agents(&stage).iter().all(|agent| agent.starts_with('~')));
    let everything = stage.offline(&["audit", "tail", "-n", "1000", "-o", "jsonl"]);
    assert!(!everything.stdout.contains(mail), "{everything}");
    assert!(stage.offline(&["audit", "verify"]).is_success());
}

/// A stage that a client has visited over both families.
fn visited() -> Stage {
    let stage = Stage::with_policy(LAYER_7);
    for family in Family::BOTH {
        let ask = orders().header(header::USER_AGENT, HeaderValue::from_static(SOFTWARE));
        let mut connection = stage.client(family).connect(Http::One).unwrap();
        assert_eq!(connection.ask(&ask).unwrap().status, 401);
    }
    wait_until("both are on record", DEADLINE, || stage.records_of("http").len() == 2).unwrap();
    stage
}

fn contains(folder: &Path, text: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            contains(&path, text)
        } else if path.is_file() {
            fs::read(&path).unwrap().windows(text.len()).any(|window| window == text)
        } else {
            false
        }
    })
}
