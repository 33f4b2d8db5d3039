//! The command line: exit codes, forms of output, and what works without an agent.

use crate::stage::{Hook, Stage};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn exit_codes_tell_scripts_what_happened() {
    let mut stage = Stage::new(Hook::Native);
    let cases: [(&[&str], i32); 9] = [
        (&["status"], 0),
        (&["blocks", "--verify"], 0),
        (&["quarantine", "203.0.113.7", "--reason", ""], 2),
        (&["quarantine", "203.0.113.7/8", "--reason", "x"], 2),
        (&["quarantine", "203.0.113.7"], 2),
        (&["release", "203.0.113.7"], 3),
        (&["release", "B-0000000"], 3),
        (&["keys", "show", "nobody"], 3),
        (&["quarantine", "127.0.0.1", "--reason", "x"], 4),
    ];
    for (words, code) in cases {
        let output = stage.enforcer(words);
        assert_eq!(output.code, Some(code), "{words:?}: {output}");
        if code != 0 {
            assert!(output.stdout.is_empty(), "talk goes to stderr: {words:?}: {output}");
            assert!(!output.stderr.is_empty(), "{words:?}");
        }
    }

    stage.kill();
    let gone = stage.enforcer(&["status"]);
    assert_eq!(gone.code, Some(5), "{gone}");
    assert!(gone.stderr.contains("enforcer run"), "{gone}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn every_form_of_output_says_the_same() {
    let stage = Stage::new(Hook::Native);
    let words = ["quarantine", "203.0.113.7", "--for", "forever", "--reason", "test"];
    assert!(stage.enforcer(&words).is_success());

    let plain = stage.enforcer(&["blocks"]).stdout;
    assert_eq!(plain.lines().count(), 1, "{plain}");
    assert_eq!(plain.split('\t').nth(1), Some("203.0.113.7"));
    let table = stage.enforcer(&["blocks", "-o", "table"]).stdout;
    assert!(table.lines().next().unwrap().contains("TARGET"), "{table}");
    let json: serde_json::Value =
        serde_json::from_str(&stage.enforcer(&["blocks", "-o", "json"]).stdout).unwrap();
    assert_eq!(json[0]["target"], "203.0.113.7");
    assert_eq!(json[0]["until"], "forever");
    let line: serde_json::Value =
        serde_json::from_str(stage.enforcer(&["blocks", "-o", "jsonl"]).stdout.trim()).unwrap();
    assert_eq!(line, json[0]);
    let yaml = stage.enforcer(&["blocks", "-o", "yaml"]).stdout;
    assert!(yaml.contains("target: 203.0.113.7"), "{yaml}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn records_are_one_document_or_one_line_each_as_asked() {
    let stage = Stage::new(Hook::Native);

    let one = stage.offline(&["audit", "tail", "-o", "json"]).stdout;
    let records: serde_json::Value = serde_json::from_str(&one).unwrap();
    assert_eq!(records[0]["class"], "config", "{one}");
    let lines = stage.offline(&["audit", "tail", "-o", "jsonl"]).stdout;
    for line in lines.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    let yaml = stage.offline(&["audit", "tail", "-o", "yaml"]).stdout;
    assert!(yaml.starts_with("- "), "{yaml}");
    let none = stage.offline(&["audit", "tail", "-n", "0", "-o", "json"]).stdout;
    assert_eq!(none.trim(), "[]");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_refusal_for_programs_is_json_too() {
    let stage = Stage::new(Hook::Native);

    let refused = stage.enforcer(&["quarantine", "127.0.0.1", "--reason", "x", "--json"]);

    let error: serde_json::Value = serde_json::from_str(refused.stderr.trim()).unwrap();
    assert_eq!(error["error"]["exit"], 4);
    assert!(error["error"]["hint"].as_str().unwrap().contains("--override-guard"));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn the_credential_alone_goes_to_stdout() {
    let stage = Stage::new(Hook::Native);

    let issued = stage.enforcer(&["keys", "issue", "--name", "ci", "--role", "reader"]);

    assert!(issued.is_success(), "{issued}");
    assert_eq!(issued.stdout.lines().count(), 1);
    assert!(issued.stdout.starts_with("enf_live_"), "{issued}");
    assert!(issued.stderr.contains("shown this once"), "{issued}");
    let listed = stage.enforcer(&["keys", "list", "--json"]).stdout;
    assert!(!listed.contains(issued.stdout.trim()));
    let unknown = stage.enforcer(&["keys", "issue", "--name", "x", "--role", "emperor"]);
    assert_eq!(unknown.code, Some(2), "{unknown}");
    assert!(unknown.stderr.contains("reader"), "{unknown}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn doctor_names_each_finding_with_its_fix() {
    let stage = Stage::new(Hook::Native);

    let well = stage.offline(&["doctor"]);
    assert!(well.is_success(), "{well}");

    let broken = crate::stage::policy(Hook::Native).replace("enf-attacker", "enf-nowhere");
    stage.site.write_policy(&broken).unwrap();
    let sick = stage.offline(&["doctor"]);
    assert_eq!(sick.code, Some(1), "{sick}");
    assert!(sick.stdout.contains("no interface `enf-nowhere`"), "{sick}");
    assert!(sick.stdout.contains("fix: name one of:"), "{sick}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn codes_and_reasons_are_explained() {
    let stage = Stage::without_agent(&crate::stage::policy(Hook::Native));
    stage.site.write_policy("version = 1\n").unwrap();

    let refused = stage.offline(&["policy", "check"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    let code = refused.stderr.split(['[', ']']).find(|word| word.starts_with("E-")).unwrap();
    assert!(stage.site.program(&["explain", code]).unwrap().is_success());
    let reason = stage.site.program(&["explain", "key-unknown"]).unwrap();
    assert!(reason.stdout.contains("401"), "{reason}");
    assert_eq!(stage.site.program(&["explain", "E-NONE"]).unwrap().code, Some(3));
}
