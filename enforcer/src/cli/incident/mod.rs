//! `enforcer incident`: what was found together, what was decided about it, and the level.

mod level;
mod report;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use enforcer_admin::call::{
    CaseAnswer, CaseName, CaseOrder, DecisionRow, DecisionsChanged, EndpointOrder, IncidentRow,
    IncidentShown, TightenBy,
};
use enforcer_admin::{Answer, Call};
use enforcer_model::{DecisionId, IncidentId};

use super::audit::Place;
use super::quarantine::{Ttl, parse_ttl};
use super::{Context, Exit, Failure, Table, endpoint, mismatched, recorded};

/// Incidents: what was found, what was decided about it; and the incident level
#[derive(Debug, Subcommand)]
pub(crate) enum Incident {
    /// Open an incident by hand, and raise the level with it
    Open(Open),
    /// The open incidents, and the decisions that wait for an operator
    List(List),
    /// One incident with its findings and decisions; without an id, the level in force
    Show(Show),
    /// Carry out a decision that waits
    Approve(Word),
    /// Do not carry out a decision that waits
    Reject(Word),
    /// Let a route be used less for a while
    Tighten(Tighten),
    /// End what `tighten` began
    Relax(Relax),
    /// Close an incident; what it has in force runs on to its end
    Close(Close),
    /// What happened, who did what, on which evidence, what it cost, how to undo it
    Report(Report),
    /// Set the incident level, in force from the next request on
    Level(level::Level),
}

/// Open an incident by hand, and raise the level with it
#[derive(Args, Debug)]
pub(crate) struct Open {
    /// Also set the incident level: 1 to 5
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(1..=5))]
    level: Option<u8>,
    /// How long the level holds: `15m`, `1h30m`, `7d`, or `forever`
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = parse_ttl)]
    ttl: Ttl,
    /// Why; its title, and goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// The open incidents, and the decisions that wait for an operator
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Closed ones too, as long as they are kept
    #[arg(long)]
    all: bool,
}

/// One incident with its findings and decisions; without an id, the level in force
#[derive(Args, Debug)]
pub(crate) struct Show {
    /// Such as `INC-0042`
    id: Option<IncidentId>,
}

/// A word about a decision that waits
#[derive(Args, Debug)]
pub(crate) struct Word {
    /// Such as `D-7K2Q4XW`; `incident list` shows which wait
    decision: DecisionId,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Let a route be used less for a while
///
/// Requests over the rate are refused, whoever sends them: each address, or each caller, has the rate
/// for itself. In force at once, over reloads and restarts, until its time is over.
#[derive(Args, Debug)]
pub(crate) struct Tighten {
    /// A route of the policy, by name
    #[arg(long, value_name = "NAME")]
    route: String,
    /// How many: `5/m`, `100/s`, `50/h`
    #[arg(long, value_name = "RATE")]
    rate: String,
    /// How many at once; by default what the rate says before its `/`
    #[arg(long, value_name = "COUNT")]
    burst: Option<u32>,
    /// Whose requests count together
    #[arg(long, value_enum, default_value_t = By::Ip)]
    by: By,
    /// How long: `15m`, `1h30m`, `7d`, or `forever`
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = parse_ttl)]
    ttl: Ttl,
    /// The incident that it belongs to; stands before the reason
    #[arg(long, value_name = "INCIDENT")]
    incident: Option<IncidentId>,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT", default_value = "an incident")]
    reason: String,
}

/// Whose requests count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// Those of one address; of IPv6, those of one /64
    Ip,
    /// Those of one caller; where nobody is identified, those of one address
    Principal,
}

/// End what `tighten` began
#[derive(Args, Debug)]
pub(crate) struct Relax {
    /// The route, by name
    #[arg(long, value_name = "NAME")]
    route: String,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Close an incident; what it has in force runs on to its end
///
/// What waits for an operator is rejected. `enforcer release INC-0042` takes back what is in force.
#[derive(Args, Debug)]
pub(crate) struct Close {
    /// Such as `INC-0042`
    id: IncidentId,
    /// Also write the report to this file: JSON where its name ends in `.json`, else Markdown
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT", default_value = "dealt with")]
    reason: String,
    #[command(flatten)]
    place: Place,
}

/// What happened, who did what, on which evidence, what it cost, how to undo it
///
/// Markdown, or JSON with `-o json`. The records that it names are looked up in the audit log, which
/// is itself put on record.
#[derive(Args, Debug)]
pub(crate) struct Report {
    /// Such as `INC-0042`
    id: IncidentId,
    #[command(flatten)]
    place: Place,
}

impl Incident {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Open(verb) => verb.execute(context),
            Self::List(verb) => verb.execute(context),
            Self::Show(Show { id: None }) => level::show(context),
            Self::Show(Show { id: Some(id) }) => {
                let shown = shown(context, CaseOrder::Show { incident: *id })?;
                context.printer.item(&shown, &told(&shown))?;
                Ok(Exit::Done)
            }
            Self::Approve(Word { decision, reason }) => {
                let (decision, reason) = (*decision, reason.clone());
                change(context, CaseOrder::Approve { decision, reason })
            }
            Self::Reject(Word { decision, reason }) => {
                let (decision, reason) = (*decision, reason.clone());
                change(context, CaseOrder::Reject { decision, reason })
            }
            Self::Tighten(verb) => verb.execute(context),
            Self::Relax(verb) => {
                let which = format!("route:{}", verb.route);
                let order = EndpointOrder::Relax { which, reason: verb.reason.clone() };
                endpoint::change(context, order)
            }
            Self::Close(verb) => verb.execute(context),
            Self::Report(verb) => {
                let report = report::gather(context, &verb.place, verb.id)?;
                context.printer.item(&report, &report.markdown())?;
                Ok(Exit::Done)
            }
            Self::Level(verb) => verb.execute(context),
        }
    }
}

impl Open {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let order = CaseOrder::Open { reason: self.reason.clone() };
        let shown = shown(context, order)?;
        context.printer.item(&shown, &told(&shown))?;
        let is_recorded = shown.audit.is_some();
        if let Some(level) = self.level {
            let reason = format!("{}: {}", shown.incident.id, self.reason);
            let call = enforcer_admin::call::IncidentLevel {
                level,
                ttl_seconds: self.ttl.seconds(),
                reason,
            };
            let Answer::Incident(status) = context.ask(&Call::Incident { set: Some(call) })? else {
                return Err(mismatched());
            };
            context.printer.say(&format!(
                "incident level {} (was {})",
                status.level,
                status.before.unwrap_or_default()
            ));
        }
        Ok(if is_recorded { Exit::Done } else { Exit::PartlyApplied })
    }
}

impl List {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let call = Call::Case { order: CaseOrder::List { closed: self.all } };
        let Answer::Case(answer) = context.ask(&call)? else { return Err(mismatched()) };
        let CaseAnswer::Incidents(listed) = *answer else { return Err(mismatched()) };
        let table = Table {
            header: &["INCIDENT", "STATE", "OPENED", "LAST", "FINDINGS", "FORCE", "WAIT", "TITLE"],
            rows: listed.incidents.iter().map(cells).collect(),
        };
        context.printer.list(&listed.incidents, &table)?;
        for decision in &listed.waiting {
            context.printer.say(&format!(
                "{} waits until {}: {} {}; `enforcer incident approve {}`",
                decision.id, decision.until, decision.action, decision.target, decision.id
            ));
        }
        Ok(Exit::Done)
    }
}

impl Tighten {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let incident = self.incident.map(|id| format!("{id}: ")).unwrap_or_default();
        let order = EndpointOrder::Tighten {
            endpoint: format!("route:{}", self.route),
            rate: self.rate.clone(),
            burst: self.burst,
            by: match self.by {
                By::Ip => TightenBy::Ip,
                By::Principal => TightenBy::Principal,
            },
            ttl_seconds: self.ttl.seconds(),
            reason: format!("{incident}{}", self.reason),
        };
        endpoint::change(context, order)
    }
}

impl Close {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let order = CaseOrder::Close { incident: self.id, reason: self.reason.clone() };
        let shown = shown(context, order)?;
        let mut lines = told(&shown);
        if let Some(file) = &self.report {
            let report = report::gather(context, &self.place, self.id)?;
            report.write(file)?;
            lines.push(format!("  report  {}", file.display()));
        }
        context.printer.item(&shown, &lines)?;
        Ok(if shown.audit.is_some() { Exit::Done } else { Exit::PartlyApplied })
    }
}

/// Takes back a decision, or everything that an incident has in force.
pub(crate) fn take_back(
    context: &Context,
    what: CaseName,
    reason: Option<String>,
) -> Result<Exit, Failure> {
    change(context, CaseOrder::TakeBack { what, reason })
}

fn shown(context: &Context, order: CaseOrder) -> Result<IncidentShown, Failure> {
    let Answer::Case(answer) = context.ask(&Call::Case { order })? else {
        return Err(mismatched());
    };
    let CaseAnswer::Incident(shown) = *answer else { return Err(mismatched()) };
    Ok(*shown)
}

fn change(context: &Context, order: CaseOrder) -> Result<Exit, Failure> {
    let Answer::Case(answer) = context.ask(&Call::Case { order })? else {
        return Err(mismatched());
    };
    let CaseAnswer::Decisions(changed) = *answer else { return Err(mismatched()) };
    context.printer.item(&changed, &changed_lines(&changed))?;
    Ok(if changed.audit.is_some() { Exit::Done } else { Exit::PartlyApplied })
}

fn changed_lines(changed: &DecisionsChanged) -> Vec<String> {
    let mut lines: Vec<String> = changed
        .decisions
        .iter()
        .map(|one| {
            format!("{}  {}  {} {} ({})", changed.done, one.id, one.action, one.target, one.state)
        })
        .collect();
    lines.push(format!("  audit   {}", recorded(changed.audit)));
    if changed.done == "approved" {
        lines.extend(
            changed.decisions.iter().map(|one| format!("undo: enforcer release {}", one.id)),
        );
    }
    lines
}

fn cells(row: &IncidentRow) -> Vec<String> {
    vec![
        row.id.to_string(),
        row.state.clone(),
        row.opened.to_string(),
        row.last.to_string(),
        row.findings.to_string(),
        row.in_force.to_string(),
        row.waiting.to_string(),
        row.title.clone(),
    ]
}

fn told(shown: &IncidentShown) -> Vec<String> {
    let IncidentShown { incident, decisions, findings, evidence, audit } = shown;
    let mut lines = vec![
        format!("{}  {}  {}", incident.id, incident.state, incident.title),
        format!("  opened  {} by {}", incident.opened, incident.author),
    ];
    if let (Some(at), Some(by)) = (incident.closed, &incident.closed_by) {
        let why = incident.closed_reason.as_deref().unwrap_or_default();
        lines.push(format!("  closed  {at} by {by}: {why}"));
    }
    lines.extend(incident.about.iter().map(|about| format!("  about   {about}")));
    for finding in findings {
        lines.push(format!(
            "  {}  {}  {} {} ({} times): {}",
            finding.id,
            finding.at,
            finding.rule,
            finding.about,
            finding.times,
            finding.signals.join("; ")
        ));
    }
    for decision in decisions {
        lines.push(format!("  {}", decision_line(decision)));
        lines.extend(decision.applied.iter().map(|place| format!("      in force: {place}")));
        lines.extend(decision.problems.iter().map(|what| format!("      NOT done: {what}")));
    }
    if !evidence.is_empty() {
        lines.push(format!(
            "  evidence  {} requests: enforcer trail {}",
            evidence.len(),
            incident.id
        ));
    }
    if audit.is_some() {
        lines.push(format!("  audit   {}", recorded(*audit)));
    }
    if incident.in_force > 0 {
        lines.push(format!("undo: enforcer release {}", incident.id));
    }
    lines
}

fn decision_line(one: &DecisionRow) -> String {
    format!(
        "{}  {}  {} {} {} until {} by {}",
        one.id, one.decided, one.state, one.action, one.target, one.until, one.author
    )
}
