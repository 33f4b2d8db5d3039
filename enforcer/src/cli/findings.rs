//! `enforcer findings`: what rules and profiles have found, and what is not to be heard of.

use clap::{Args, Subcommand};
use enforcer_admin::call::{CaseAnswer, CaseOrder, FindingRow, MuteRow, Mutes};
use enforcer_admin::{Answer, Call};
use enforcer_model::{FindingId, Timestamp};

use super::quarantine::{Ttl, parse_ttl};
use super::trail::parse_begin;
use super::{Context, Exit, Failure, Table, mismatched, recorded};

/// What rules and profiles have found
#[derive(Debug, Subcommand)]
pub(crate) enum Findings {
    /// The findings that are kept, the latest first
    List(List),
    /// One finding, with its reasons and its evidence
    Show(Show),
    /// Hear nothing of a rule or an entity for a while
    Mute(Mute),
    /// Hear of it again
    Unmute(Unmute),
    /// What is muted
    Mutes(NoArguments),
}

/// The findings that are kept, the latest first
#[derive(Args, Debug)]
pub(crate) struct List {
    /// From then on: `24h` ago, or a time such as `2026-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = parse_begin)]
    since: Option<Timestamp>,
    /// Only those of this rule
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// Only those about an entity, or where it was there: `source:203.0.113.0/24`,
    /// `identity:token:corp/alice`, `route:orders`, …
    #[arg(long, value_name = "ENTITY")]
    about: Option<String>,
}

/// One finding, with its reasons and its evidence
#[derive(Args, Debug)]
pub(crate) struct Show {
    /// Such as `F-7K2Q4XW`
    id: FindingId,
}

/// Hear nothing of a rule or an entity for a while
///
/// Its findings are counted; they open no incident, and nothing is decided about them.
#[derive(Args, Debug)]
pub(crate) struct Mute {
    /// A rule's name, or an entity such as `source:203.0.113.7` or `identity:token:corp/alice`
    what: String,
    /// How long: `15m`, `1h30m`, `7d`
    #[arg(long = "for", value_name = "TIME", value_parser = parse_ttl)]
    ttl: Ttl,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Hear of it again
#[derive(Args, Debug)]
pub(crate) struct Unmute {
    /// As it was muted
    what: String,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// What is muted
#[derive(Args, Debug)]
pub(crate) struct NoArguments {}

impl Findings {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::List(verb) => verb.execute(context),
            Self::Show(Show { id }) => {
                let order = CaseOrder::Finding { finding: *id };
                let CaseAnswer::Finding(finding) = asked(context, order)? else {
                    return Err(mismatched());
                };
                context.printer.item(&finding, &told(&finding))?;
                Ok(Exit::Done)
            }
            Self::Mute(Mute { what, ttl, reason }) => {
                let ttl_seconds = ttl.seconds().ok_or_else(|| {
                    Failure::usage("nothing is muted for ever")
                        .hint("take the rule out of the policy, or set its mode to `observe`")
                })?;
                let (what, reason) = (what.clone(), reason.clone());
                change(context, CaseOrder::Mute { what, ttl_seconds, reason })
            }
            Self::Unmute(Unmute { what, reason }) => {
                let (what, reason) = (what.clone(), reason.clone());
                change(context, CaseOrder::Unmute { what, reason })
            }
            Self::Mutes(NoArguments {}) => {
                let CaseAnswer::Mutes(mutes) = asked(context, CaseOrder::Mutes)? else {
                    return Err(mismatched());
                };
                context.printer.list(&mutes.mutes, &table(&mutes))?;
                Ok(Exit::Done)
            }
        }
    }
}

impl List {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let mut rows: Vec<FindingRow> = Vec::new();
        let mut after = None;
        loop {
            let order = CaseOrder::Findings {
                since: self.since,
                rule: self.rule.clone(),
                about: self.about.clone(),
                after,
            };
            let CaseAnswer::Findings(page) = asked(context, order)? else {
                return Err(mismatched());
            };
            rows.extend(page.findings);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let table = Table {
            header: &["FINDING", "AT", "INCIDENT", "RULE", "ABOUT", "TIMES", "WHY"],
            rows: rows.iter().map(cells).collect(),
        };
        context.printer.list(&rows, &table)?;
        Ok(Exit::Done)
    }
}

fn asked(context: &Context, order: CaseOrder) -> Result<CaseAnswer, Failure> {
    let Answer::Case(answer) = context.ask(&Call::Case { order })? else {
        return Err(mismatched());
    };
    Ok(*answer)
}

fn change(context: &Context, order: CaseOrder) -> Result<Exit, Failure> {
    let CaseAnswer::Mutes(mutes) = asked(context, order)? else { return Err(mismatched()) };
    let mut lines: Vec<String> = mutes
        .mutes
        .iter()
        .map(|mute| format!("muted  {} until {} ({})", mute.what, mute.until, mute.reason))
        .collect();
    if lines.is_empty() {
        lines.push("nothing is muted".to_owned());
    }
    lines.push(format!("  audit   {}", recorded(mutes.audit)));
    context.printer.item(&mutes, &lines)?;
    Ok(if mutes.audit.is_some() { Exit::Done } else { Exit::PartlyApplied })
}

fn table(mutes: &Mutes) -> Table {
    let cells = |mute: &MuteRow| {
        let by = mute.author.to_string();
        vec![mute.what.clone(), mute.until.to_string(), by, mute.reason.clone()]
    };
    Table {
        header: &["MUTED", "UNTIL", "BY", "REASON"],
        rows: mutes.mutes.iter().map(cells).collect(),
    }
}

fn cells(row: &FindingRow) -> Vec<String> {
    vec![
        row.id.to_string(),
        row.at.to_string(),
        row.incident.to_string(),
        row.rule.clone(),
        row.about.clone(),
        row.times.to_string(),
        row.signals.join("; "),
    ]
}

fn told(finding: &FindingRow) -> Vec<String> {
    let mut lines = vec![
        format!("{}  {}  {}  {}", finding.id, finding.at, finding.rule, finding.about),
        format!("  incident  {}", finding.incident),
        format!("  times     {}, inside {} s", finding.times, finding.window_seconds),
    ];
    lines.extend(finding.signals.iter().map(|signal| format!("  because   {signal}")));
    lines.extend(finding.scene.iter().map(|entity| format!("  there     {entity}")));
    lines.extend(finding.evidence.iter().map(|request| format!("  request   {request}")));
    lines
}
