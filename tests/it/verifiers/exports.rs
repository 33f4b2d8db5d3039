//! Exports in the forms of others hold against what these published.

#![expect(clippy::panic, reason = "what helpers of tests find wrong fails the test")]

use std::collections::BTreeMap;

use serde_json::Value;

use super::{busy, fed, python};
use crate::stage::Stage;

/// Names of ECS 9.4.0 that our events use, with their types, as the published `ecs_flat.yml` has them.
const ECS: &str = include_str!("ecs-9.4.0.txt");

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn ocsf_events_hold_against_the_published_schema() {
    let stage = busy();
    let events = exported(&stage, "ocsf");

    let said = fed(&mut python("ocsf.py"), &events);

    assert_eq!(said.lines().count(), events.lines().count());
    let mut classes = BTreeMap::<String, usize>::new();
    for (line, event) in said.lines().zip(events.lines()) {
        let verdict: Value = serde_json::from_str(line).unwrap();
        assert_eq!(verdict["problems"], serde_json::json!([]), "{event}");
        *classes.entry(verdict["class"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    for class in [
        "api_activity",
        "application_lifecycle",
        "authentication",
        "detection_finding",
        "http_activity",
        "network_activity",
    ] {
        assert!(classes.contains_key(class), "no {class} among {classes:?}");
    }
    // What is wrong is seen: the schema is not empty.
    let broken = events.lines().next().unwrap().replacen("\"severity_id\":", "\"severity\":", 1);
    let said = fed(&mut python("ocsf.py"), &format!("{broken}\n"));
    assert!(said.contains("severity"), "{said}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn ecs_events_use_names_and_types_that_were_published() {
    let stage = busy();
    let events = exported(&stage, "ecs");
    let types: BTreeMap<&str, &str> = ECS.lines().filter_map(|line| line.split_once(' ')).collect();

    for line in events.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        check(&types, "", &event);
        assert!(event["@timestamp"].is_string() && event["ecs"]["version"] == "9.4.0", "{line}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_table_has_a_row_for_each_record_and_the_lines_are_the_records() {
    let stage = busy();
    let records: Vec<Value> =
        exported(&stage, "jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let table = exported(&stage, "csv");

    let script = "import csv, json, sys\n\
                  print(json.dumps(list(csv.DictReader(sys.stdin, strict=True))))";
    let mut command = std::process::Command::new("python3");
    let rows: Vec<Value> =
        serde_json::from_str(&fed(command.args(["-c", script]), &table)).unwrap();
    assert_eq!(rows.len(), records.len());
    for (row, record) in rows.iter().zip(&records) {
        assert_eq!(row["index"], record["index"].to_string());
        assert_eq!(row["class"], record["class"]);
        let whole: Value = serde_json::from_str(row["record"].as_str().unwrap()).unwrap();
        assert_eq!(whole, *record);
    }
}

/// Everything, in this form, but what the exports themselves leave.
fn exported(stage: &Stage, form: &str) -> String {
    let log = stage.site.state().join("audit");
    let words = ["audit", "export", "--since", "1h", "--format", form, "--out", "-", "--log"];
    let output = stage.offline(&[&words[..], &[log.to_str().unwrap()]].concat());
    assert!(output.is_success(), "{output}");
    output.stdout
}

/// Every field of `value` is in `types`, with a value of its type.
fn check(types: &BTreeMap<&str, &str>, path: &str, value: &Value) {
    if let (Value::Object(fields), None) = (value, types.get(path)) {
        for (name, value) in fields {
            let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            check(types, &inner, value);
        }
        return;
    }
    let kind = types.get(path).unwrap_or_else(|| panic!("ECS has no {path}"));
    let one = |value: &Value| match *kind {
        "long" => value.is_u64(),
        "boolean" => value.is_boolean(),
        "ip" => value.as_str().is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok()),
        "date" | "keyword" | "wildcard" | "match_only_text" => value.is_string(),
        "object" => value.is_object(),
        other => panic!("{path} has the unknown type {other}"),
    };
    let fits = match value {
        Value::Array(values) => values.iter().all(one),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            one(value)
        }
    };
    assert!(fits, "{path} is no {kind}: {value}");
}
