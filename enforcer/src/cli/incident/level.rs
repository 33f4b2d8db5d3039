//! `enforcer incident level`: how serious the situation is, which a policy can make decisions by.

use clap::Args;
use enforcer_admin::call::{IncidentLevel, IncidentStatus};
use enforcer_admin::{Answer, Call};

use crate::cli::quarantine::{Ttl, parse_ttl};
use crate::cli::{Context, Exit, Failure, mismatched, recorded};

/// Set the level, in force from the next request on
#[derive(Args, Debug)]
pub(crate) struct Level {
    /// 0 (none) to 5; `[incident.N]` of the policy and `incident` in conditions say what it means
    level: u8,
    /// How long: `15m`, `1h30m`, `7d`, or `forever`
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = parse_ttl)]
    ttl: Ttl,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

impl Level {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        set(context, self.level, self.ttl, &self.reason)
    }
}

/// Sets the level.
pub(super) fn set(context: &Context, level: u8, ttl: Ttl, reason: &str) -> Result<Exit, Failure> {
    // No incident needs no end.
    let ttl_seconds = if level == 0 { None } else { ttl.seconds() };
    asked(context, Some(IncidentLevel { level, ttl_seconds, reason: reason.to_owned() }))
}

/// Tells the level.
pub(super) fn show(context: &Context) -> Result<Exit, Failure> {
    asked(context, None)
}

fn asked(context: &Context, set: Option<IncidentLevel>) -> Result<Exit, Failure> {
    let sets = set.is_some();
    let Answer::Incident(status) = context.ask(&Call::Incident { set })? else {
        return Err(mismatched());
    };
    context.printer.item(&status, &told(&status))?;
    let unrecorded = sets && status.audit.is_none();
    Ok(if unrecorded { Exit::PartlyApplied } else { Exit::Done })
}

fn told(status: &IncidentStatus) -> Vec<String> {
    let was = status.before.map(|before| format!(" (was {before})")).unwrap_or_default();
    let until = match (status.level, status.until) {
        (0, _) => String::new(),
        (_, Some(until)) => format!("  until {until}"),
        (_, None) => "  until it is set again".to_owned(),
    };
    let mut lines = vec![format!("incident level  {}{was}{until}", status.level)];
    if status.level > 0 {
        lines.extend(status.reason.as_ref().map(|reason| format!("  reason  {reason}")));
        lines.extend(status.since.map(|since| format!("  since   {since}")));
    }
    if let Some(before) = status.before {
        lines.push(format!("  audit   {}", recorded(status.audit)));
        if before != status.level {
            lines.push(format!("undo: enforcer incident level {before} --reason …"));
        }
    }
    lines
}
