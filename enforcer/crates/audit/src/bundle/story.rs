//! What the records of a bundle say about clock, program and policy, one JSON object a line.
//!
//! All of it can be read out of the records as well: it saves a reader the search.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::stored::Stored;

/// The clock of each boot: what the first and the last record of it say.
///
/// Wall time follows the monotonic clock unless somebody sets it: `stepped_us` is how far it went
/// its own way between the two.
pub(super) fn clock(records: &[&Stored]) -> String {
    let mut boots: Vec<(String, Vec<Value>)> = Vec::new();
    for record in records {
        let Ok(header) = record.header() else { continue };
        let seen = json!({
            "index": record.index, "time": header.time.to_string(), "mono_ns": header.mono_ns,
            "unix_us": header.time.unix_ns() / 1_000,
        });
        match boots.iter_mut().find(|(boot, _)| *boot == header.boot) {
            Some((_, moments)) => moments.push(seen),
            None => boots.push((header.boot, vec![seen])),
        }
    }
    let lines = boots.iter().map(|(boot, moments)| {
        let (first, last) = (moments.first(), moments.last());
        json!({
            "boot": boot, "records": moments.len(), "first": first, "last": last,
            "stepped_us": largest_step(moments),
        })
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// The largest difference between what both clocks say passed from one record to the next.
fn largest_step(moments: &[Value]) -> i64 {
    let number = |moment: &Value, name| moment.get(name).and_then(Value::as_i64).unwrap_or(0);
    let ahead = |moment: &Value| number(moment, "unix_us") - number(moment, "mono_ns") / 1_000;
    let steps = moments.windows(2).filter_map(|pair| match pair {
        [one, next] => Some(ahead(next) - ahead(one)),
        _ => None,
    });
    steps.max_by_key(|step| step.abs()).unwrap_or(0)
}

/// What ran: program, packet program and policy, as each record of class `config` has it.
pub(super) fn programs(records: &[&Stored]) -> String {
    let configs = records.iter().filter_map(|record| {
        let json = record.json().ok()?;
        (json.get("class")?.as_str()? == "config").then_some(())?;
        let body = json.get("body")?;
        let field = |name| body.get(name).cloned().unwrap_or(Value::Null);
        Some(json!({
            "index": record.index, "time": json.get("time"), "what": field("what"),
            "program": field("program"), "kernel_program": field("kernel_program"),
            "policy": field("policy"),
        }))
    });
    configs.map(|line| format!("{line}\n")).collect()
}

/// Each policy that a record names, by its SHA-256: how many do, first and last.
pub(super) fn policies(records: &[&Stored]) -> BTreeMap<String, (u64, u64, u64)> {
    let mut policies = BTreeMap::new();
    for record in records {
        let Ok(json) = record.json() else { continue };
        let Some(policy) = json.pointer("/body/policy").and_then(Value::as_str) else { continue };
        let seen = policies.entry(policy.to_owned()).or_insert((0, record.index, record.index));
        seen.0 += 1;
        seen.2 = record.index;
    }
    policies
}
