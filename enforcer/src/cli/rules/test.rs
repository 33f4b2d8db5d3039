//! `enforcer rules test`: the tests that stand in rules.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use enforcer_detect::rules::{Expected, RulePlan, Tried, pack_events, test};
use serde_json::json;

use super::{file, shipped};
use crate::cli::{Context, Exit, Failure, counted};

/// The largest file of events.
const EVENTS_MAX: u64 = 256 << 20;

/// Run the tests that stand in rules; exit code 7 when one fails; needs no agent
///
/// Each test is a file of events, one JSON value a line, and whether the rule must find something in
/// it. Files are relative to the file of the rule. Without a file, the pack is tested.
#[derive(Args, Debug)]
pub(crate) struct Test {
    /// Files of rules
    files: Vec<PathBuf>,
    /// Read the files by themselves, as with `pack = "none"`
    #[arg(long)]
    no_pack: bool,
}

impl Test {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let mut known: Vec<Arc<RulePlan>> = if self.no_pack { Vec::new() } else { shipped()? };
        let mut all: Vec<Tried> = Vec::new();
        if self.files.is_empty() {
            for plan in &known {
                all.extend(test(plan, &known, &pack_events));
            }
        }
        for path in &self.files {
            let plans = file(path, &known)?;
            let before = known.len();
            known.extend(plans);
            let folder = path.parent().unwrap_or(Path::new("."));
            for plan in known.get(before..).unwrap_or_default() {
                all.extend(test(plan, &known, &|name: &str| events(&folder.join(name))));
            }
        }
        if all.is_empty() {
            return Err(Failure::nothing("the rules have no tests")
                .hint("write `tests: [{events: FILE.jsonl, expect: fire}]` in a rule"));
        }
        let mut lines: Vec<String> = all.iter().map(told).collect();
        let failed = all.iter().filter(|tried| tried.wrong.is_some()).count();
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        lines.push(format!("{}, {failed} failed", counted(number(all.len()), "test")));
        let values: Vec<_> = all
            .iter()
            .map(|tried| {
                json!({
                    "rule": tried.rule,
                    "events_file": tried.test.events,
                    "expect": expected(tried.test.expect),
                    "events": tried.events,
                    "passed": tried.wrong.is_none(),
                    "why": tried.wrong,
                })
            })
            .collect();
        context.printer.item(&json!({ "tests": values, "failed": failed }), &lines)?;
        Ok(if failed == 0 { Exit::Done } else { Exit::VerificationFailed })
    }
}

fn told(tried: &Tried) -> String {
    let (rule, file) = (&tried.rule, &tried.test.events);
    match &tried.wrong {
        None => format!("ok      {rule}  {file}  {}", expected(tried.test.expect)),
        Some(why) => format!("FAILED  {rule}  {file}  {}: {why}", expected(tried.test.expect)),
    }
}

fn expected(expect: Expected) -> String {
    match expect {
        Expected::Fire(None) => "fire".to_owned(),
        Expected::Fire(Some(within)) => format!("fire within {}", counted(within, "event")),
        Expected::Quiet => "quiet".to_owned(),
    }
}

fn events(path: &Path) -> Result<String, String> {
    let told = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let length = std::fs::metadata(path).map_err(told)?.len();
    if length > EVENTS_MAX {
        return Err(format!("{} has more than {EVENTS_MAX} bytes", path.display()));
    }
    std::fs::read_to_string(path).map_err(told)
}
