//! The report of an incident: what the agent knows of it, and what the audit log proves.
//!
//! Records are looked up by the incident's name, by its requests and by whom its decisions hit; each
//! line names the record that it stands on.

use std::collections::BTreeSet;
use std::path::Path;

use enforcer_admin::call::{CaseOrder, IncidentShown, LookVerb};
use enforcer_audit::{Condition, Log, Query, Selector, Stored};
use enforcer_model::{Clock, IncidentId, SystemClock, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::{decision_line, shown};
use crate::cli::audit::{Place, unreadable};
use crate::cli::{Context, Exit, Failure, record};

/// Requests that are counted for what the decisions cost; beyond these it is said that there are more.
const COUNTED_MAX: u64 = 200_000;

/// The report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    shown: IncidentShown,
    /// When it was made.
    made: Timestamp,
    /// Every record of the incident, in order.
    timeline: Vec<Line>,
    /// The records of the requests that were counted.
    requests: Vec<Evidence>,
    /// What the decisions did to requests.
    cost: Cost,
    /// What takes everything back.
    undo: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Line {
    record: u64,
    at: String,
    text: String,
}

#[derive(Debug, Serialize)]
struct Evidence {
    record: u64,
    request: String,
}

/// Requests of those whom decisions hit, while the incident was open.
#[derive(Debug, Default, Serialize)]
struct Cost {
    /// Served all the same.
    permitted: u64,
    /// Refused because of what was decided.
    refused: u64,
    /// Of these, of callers about whom nothing was found.
    refused_of_others: u64,
    /// Of these, before anybody asked who calls, as at a disabled route: whoever that was.
    refused_unnamed: u64,
    /// Who they are.
    others: BTreeSet<String>,
    /// There are more than were counted.
    is_cut: bool,
}

/// What the agent and the log know of `id`.
pub(super) fn gather(context: &Context, place: &Place, id: IncidentId) -> Result<Report, Failure> {
    let shown = shown(context, CaseOrder::Show { incident: id })?;
    let log = place.open(context)?;
    place.look(context, &log, LookVerb::Report, vec![id.to_string()], 0)?;
    let whole = Selector::Case(id.to_string());
    let mut timeline = Vec::new();
    for record in search(&log, vec![Condition::Who(whole)], None, None)? {
        let record = record?;
        let header = record.header().ok();
        let text = record::told(&record);
        timeline.push(Line {
            record: record.index,
            at: header.map(|header| header.time.to_string()).unwrap_or_default(),
            text: text.split_once("Z  ").map_or(text.clone(), |(_, rest)| rest.to_owned()),
        });
    }
    let wanted: Vec<Selector> = shown.evidence.iter().cloned().map(Selector::Request).collect();
    let mut requests = Vec::new();
    if !wanted.is_empty() {
        let conditions = vec![Condition::Any(wanted), Condition::Class(vec!["http".to_owned()])];
        for record in search(&log, conditions, None, None)? {
            let record = record?;
            let json = record.json().unwrap_or_default();
            let request = text(&json, "/body/id").unwrap_or_default();
            requests.push(Evidence { record: record.index, request });
        }
    }
    let cost = cost(&log, &shown)?;
    let undo = undo(&shown);
    Ok(Report { shown, made: SystemClock.now().wall, timeline, requests, cost, undo })
}

fn search(
    log: &Log,
    conditions: Vec<Condition>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<impl Iterator<Item = Result<Stored, Failure>> + use<>, Failure> {
    let query = Query { conditions, since, until, ..Query::default() };
    let found = log.search(query).map_err(|error| unreadable(&error))?;
    Ok(found.map(|record| record.map_err(|error| unreadable(&error))))
}

/// What became of requests of those whom decisions hit.
fn cost(log: &Log, shown: &IncidentShown) -> Result<Cost, Failure> {
    let mut cost = Cost::default();
    let hit: Vec<Selector> =
        shown.decisions.iter().filter_map(|decision| selector(&decision.target)).collect();
    if hit.is_empty() {
        return Ok(cost);
    }
    let found: BTreeSet<&str> = shown
        .findings
        .iter()
        .flat_map(|finding| finding.scene.iter().chain([&finding.about]))
        .filter_map(|entity| entity.strip_prefix("identity:"))
        .collect();
    let conditions = vec![Condition::Any(hit), Condition::Class(vec!["http".to_owned()])];
    let mut counted = 0;
    let (since, until) = (Some(shown.incident.opened), shown.incident.closed);
    for record in search(log, conditions, since, until)? {
        counted += 1;
        if counted > COUNTED_MAX {
            cost.is_cut = true;
            break;
        }
        let json = record?.json().unwrap_or_default();
        match text(&json, "/body/reason") {
            None => cost.permitted += 1,
            Some(reason) if is_ours(&reason) => {
                cost.refused += 1;
                match text(&json, "/body/who/principal") {
                    None => cost.refused_unnamed += 1,
                    Some(who) if !found.contains(who.as_str()) => {
                        cost.refused_of_others += 1;
                        cost.others.insert(who);
                    }
                    Some(_) => {}
                }
            }
            Some(_) => {}
        }
    }
    Ok(cost)
}

/// Whether a refusal follows from what was decided.
fn is_ours(reason: &str) -> bool {
    enforcer_model::Reason::from_name(reason).is_some_and(enforcer_model::Reason::is_own_denial)
}

/// What of the log has to do with the target of a decision.
fn selector(target: &str) -> Option<Selector> {
    let (kind, name) = target.split_once(':')?;
    match kind {
        "source" => name.parse().ok(),
        "identity" => Some(Selector::Principal(name.to_owned())),
        "credential" => Some(Selector::Fingerprint(name.to_owned())),
        "route" => Some(Selector::Route(name.to_owned())),
        _ => None,
    }
}

fn undo(shown: &IncidentShown) -> Vec<String> {
    let acts = |state: &str| matches!(state, "ordered" | "in-force" | "partly");
    let live = shown.decisions.iter().filter(|decision| acts(&decision.state));
    let mut undo: Vec<String> =
        live.map(|decision| format!("enforcer release {}", decision.id)).collect();
    if undo.len() > 1 {
        undo.insert(0, format!("enforcer release {}", shown.incident.id));
    }
    undo
}

fn text(json: &Value, pointer: &str) -> Option<String> {
    json.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
}

impl Report {
    /// Puts it into `file`: JSON where its name says so, else Markdown.
    pub(super) fn write(&self, file: &Path) -> Result<(), Failure> {
        let is_json = file.extension().is_some_and(|end| end.eq_ignore_ascii_case("json"));
        let text = if is_json {
            serde_json::to_string_pretty(self).map_err(|error| Failure::because(&error))?
        } else {
            self.markdown().join("\n")
        };
        std::fs::write(file, text + "\n").map_err(|error| {
            Failure::because(&error).exit(Exit::PartlyApplied).hint(format!(
                "the incident is closed; `enforcer incident report {}` tells again",
                self.shown.incident.id
            ))
        })
    }

    /// For people.
    pub(super) fn markdown(&self) -> Vec<String> {
        let IncidentShown { incident, decisions, findings, .. } = &self.shown;
        let mut lines = vec![
            format!("# {}: {}", incident.id, plain(&incident.title)),
            String::new(),
            format!("- state: {}", incident.state),
            format!("- opened: {} by {}", incident.opened, incident.author),
        ];
        if let (Some(at), Some(by)) = (incident.closed, &incident.closed_by) {
            let why = plain(incident.closed_reason.as_deref().unwrap_or_default());
            lines.push(format!("- closed: {at} by {by}: {why}"));
        }
        lines.push(format!("- findings: {}", incident.findings));
        lines.push(format!("- report made: {}", self.made));
        heading(&mut lines, "What happened");
        for finding in findings {
            let signals = finding.signals.join("; ");
            lines.push(format!(
                "- {} {}: {} about `{}`, {} times: {}",
                finding.at,
                finding.id,
                finding.rule,
                plain(&finding.about),
                finding.times,
                plain(&signals)
            ));
        }
        heading(&mut lines, "Decisions and effects");
        for decision in decisions {
            lines.push(format!("- {}", plain(&decision_line(decision))));
            lines.push(format!("  - because: {}", plain(&decision.reason)));
            lines.extend(
                decision.applied.iter().map(|place| format!("  - in force: {}", plain(place))),
            );
            lines.extend(
                decision.problems.iter().map(|what| format!("  - not done: {}", plain(what))),
            );
        }
        if decisions.is_empty() {
            lines.push("None.".to_owned());
        }
        heading(&mut lines, "Timeline, by audit record");
        lines.extend(
            self.timeline
                .iter()
                .map(|line| format!("- #{} {} {}", line.record, line.at, plain(&line.text))),
        );
        heading(&mut lines, "Evidence");
        for evidence in &self.requests {
            lines.push(format!("- #{} request {}", evidence.record, evidence.request));
        }
        let missing = self.shown.evidence.len().saturating_sub(self.requests.len());
        if missing > 0 {
            lines.push(format!("- {missing} of the counted requests have no record in this log"));
        }
        lines.push(format!(
            "- proof: `enforcer audit export --incident {} --out FOLDER`",
            incident.id
        ));
        heading(&mut lines, "What it cost");
        let Cost { permitted, refused, refused_of_others, refused_unnamed, others, is_cut } =
            &self.cost;
        lines.push(format!("- requests refused by what was decided: {refused}"));
        lines.push(format!(
            "- of these, of callers about whom nothing was found: {refused_of_others}"
        ));
        lines.extend(others.iter().map(|who| format!("  - {}", plain(who))));
        lines.push(format!("- of these, before anybody asked who calls: {refused_unnamed}"));
        lines.push(format!("- requests of those hit that were served: {permitted}"));
        if *is_cut {
            lines.push(format!("- only the first {COUNTED_MAX} requests were counted"));
        }
        heading(&mut lines, "How to undo it");
        lines.extend(self.undo.iter().map(|line| format!("- `{line}`")));
        if self.undo.is_empty() {
            lines.push("Nothing is in force any more.".to_owned());
        }
        lines
    }
}

fn heading(lines: &mut Vec<String>, title: &str) {
    lines.extend([String::new(), format!("## {title}"), String::new()]);
}

/// A stranger's words do not become Markdown or another line.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            _ if letter.is_control() => plain.push(' '),
            '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '\\' | '!' => {
                plain.push('\\');
                plain.push(letter);
            }
            _ => plain.push(letter),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use enforcer_admin::call::{DecisionRow, FindingRow, IncidentRow};
    use enforcer_model::{Author, DecisionId, FindingId};

    use super::*;

    fn report() -> Report {
        let id = IncidentId::from_number(42);
        let at = Timestamp::from_unix_seconds(1_700_000_000);
        let author = Author::Rule("bola".to_owned());
        let decision = DecisionRow {
            id: DecisionId::from_bits(1),
            incident: id,
            finding: Some(FindingId::from_bits(2)),
            rule: "bola".to_owned(),
            action: "deny the identity".to_owned(),
            target: "identity:token:corp/eve".to_owned(),
            mode: "auto".to_owned(),
            state: "in-force".to_owned(),
            author: author.clone(),
            decided: at,
            changed: at,
            until: at,
            ttl_seconds: 60,
            reason: "60 objects".to_owned(),
            applied: vec!["layer 7".to_owned()],
            problems: Vec::new(),
        };
        let finding = FindingRow {
            id: FindingId::from_bits(2),
            incident: id,
            rule: "bola".to_owned(),
            about: "identity:token:corp/eve".to_owned(),
            at,
            times: 3,
            window_seconds: 600,
            signals: vec!["60 objects [x](http://evil)\n# head".to_owned()],
            scene: Vec::new(),
            evidence: Vec::new(),
        };
        let incident = IncidentRow {
            id,
            state: "open".to_owned(),
            title: "bola: identity:token:corp/eve".to_owned(),
            about: Vec::new(),
            rules: Vec::new(),
            author,
            opened: at,
            last: at,
            closed: None,
            closed_by: None,
            closed_reason: None,
            findings: 3,
            decisions: vec![decision.id],
            in_force: 1,
            waiting: 0,
        };
        let shown = IncidentShown {
            incident,
            decisions: vec![decision],
            findings: vec![finding],
            evidence: vec!["00".to_owned()],
            audit: None,
        };
        let undo = undo(&shown);
        Report {
            undo,
            shown,
            made: at,
            timeline: vec![Line { record: 7, at: at.to_string(), text: "opened".to_owned() }],
            requests: vec![Evidence { record: 3, request: "00".to_owned() }],
            cost: Cost { refused: 5, ..Cost::default() },
        }
    }

    #[test]
    fn a_report_tells_what_happened_on_which_evidence_at_what_cost_and_how_to_undo_it() {
        let lines = report().markdown();

        for wanted in [
            "## What happened",
            "- #7 2023-11-14T22:13:20.000000Z opened",
            "- #3 request 00",
            "- requests refused by what was decided: 5",
            "- `enforcer release D-0000001`",
        ] {
            assert!(lines.iter().any(|line| line == wanted), "{wanted}: {lines:#?}");
        }
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json.pointer("/incident/id").unwrap(), "INC-0042");
        assert_eq!(json.pointer("/timeline/0/record").unwrap(), 7);
    }

    #[test]
    fn a_strangers_words_are_no_markdown_and_no_line_of_their_own() {
        let lines = report().markdown();

        assert!(lines.iter().all(|line| !line.contains('\n')));
        assert!(
            lines.iter().any(|line| line.contains(r"\[x\](http://evil) \# head")),
            "{lines:#?}"
        );
    }

    #[test]
    fn whom_a_decision_hit_is_found_in_the_log() {
        assert_eq!(selector("source:203.0.113.0/24"), "203.0.113.0/24".parse().ok());
        assert_eq!(selector("identity:token:corp/eve"), "principal:token:corp/eve".parse().ok());
        assert_eq!(selector("everyone"), None);
    }
}
