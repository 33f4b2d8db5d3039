//! `enforcer limits`: what callers may ask for, who draws most on it, and other numbers for a while.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use enforcer_admin::call::{
    LimitChange, LimitChanged, LimitOverride, LimitRow, LimitSet, LimitsShown,
};
use enforcer_admin::{Answer, Call};
use enforcer_model::{Clock, SystemClock};

use super::quarantine::{exact_span, parse_span, span};
use super::{Context, Exit, Failure, mismatched, recorded};

/// Limits of callers
#[derive(Debug, Subcommand)]
pub(crate) enum Limits {
    /// Every limit, one of them, or where a caller stands
    Show(Show),
    /// Give a limit other numbers for a while, or its own again
    Set(Set),
}

/// Every limit, one of them, or where a caller stands
#[derive(Args, Debug)]
pub(crate) struct Show {
    /// A limit's name, or a caller: an address, `key:ID`, `token:ISSUER/SUBJECT`, `spiffe://…`,
    /// `application:NAME`, `role:NAME`, `route:NAME`, `region:CODE`, `claim:VALUE`
    #[arg(value_name = "LIMIT|CALLER")]
    what: Option<String>,
    /// So many of those who draw most
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    most: u32,
}

/// Give a limit other numbers for a while, or its own again
///
/// In force from the next request on, over reloads of the policy, until the time is over or the agent
/// restarts. Buckets keep what is drawn from them.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("change").required(true).multiple(true)
    .args(["rate", "burst", "quota", "concurrent", "reset"]))]
pub(crate) struct Set {
    /// As the policy names it
    name: String,
    /// How fast a bucket fills: `100/s`, `6/m`, `50/h`
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// How much a full bucket holds
    #[arg(long, value_name = "COUNT")]
    burst: Option<u32>,
    /// How much a period holds
    #[arg(long, value_name = "COUNT")]
    quota: Option<u64>,
    /// Requests at once
    #[arg(long, value_name = "COUNT")]
    concurrent: Option<u32>,
    /// How long: `15m`, `1h30m`, at most 30 days
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = parse_ttl)]
    ttl: Duration,
    /// What the policy says, at once
    #[arg(long, conflicts_with_all = ["rate", "burst", "quota", "concurrent", "ttl"])]
    reset: bool,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT", required_unless_present = "reset")]
    reason: Option<String>,
}

impl Limits {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Show(verb) => verb.execute(context),
            Self::Set(verb) => verb.execute(context),
        }
    }
}

impl Show {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let call = Call::Limits { what: self.what.clone(), most: self.most };
        let Answer::Limits(shown) = context.ask(&call)? else { return Err(mismatched()) };
        context.printer.item(&shown, &told(&shown))?;
        Ok(Exit::Done)
    }
}

impl Set {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let change = if self.reset {
            LimitChange::Reset
        } else {
            LimitChange::Numbers {
                rate: self.rate.clone(),
                burst: self.burst,
                quota: self.quota,
                concurrent: self.concurrent,
                ttl_seconds: self.ttl.as_secs(),
            }
        };
        let (name, reason) = (self.name.clone(), self.reason.clone());
        let call = Call::LimitSet(LimitSet { name, change, reason });
        let Answer::LimitChanged(changed) = context.ask(&call)? else { return Err(mismatched()) };
        context.printer.item(&changed, &told_change(&changed))?;
        Ok(if changed.audit.is_none() { Exit::PartlyApplied } else { Exit::Done })
    }
}

fn told(shown: &LimitsShown) -> Vec<String> {
    let mut lines: Vec<_> = shown.limits.iter().flat_map(row).collect();
    for one in &shown.standings {
        let back = one.full_in_ms.map(|ms| match ms {
            0 => "  nothing used".to_owned(),
            ms => format!("  all of it back in {}", span(Duration::from_millis(ms))),
        });
        lines.push(format!(
            "limit    {:<20} {}: {} used of {}{}",
            one.name,
            one.subject,
            one.used,
            one.limit,
            back.unwrap_or_default()
        ));
    }
    for one in &shown.consumers {
        lines.push(format!(
            "draws    {:<20} {}: about {} in the last minutes, {} refused",
            one.name, one.subject, one.draws, one.refused
        ));
    }
    lines.extend(shown.shrunk.iter().map(|one| {
        format!(
            "less     {:<20} {} until {} by {} ({}): {}",
            one.endpoint, one.measure, one.until, one.author, one.id, one.reason
        )
    }));
    if !shown.throttled.sources.is_empty() {
        let sources: Vec<_> = shown.throttled.sources.iter().map(ToString::to_string).collect();
        let budget = shown.throttled.budget.as_deref().unwrap_or("unknown");
        lines.push(format!(
            "throttle {} at {budget} packets: {}",
            sources.len(),
            sources.join(", ")
        ));
    }
    if let Some(problem) = &shown.throttled.problem {
        lines.push(format!("throttle NOT in the kernel: {problem}"));
    }
    if let Some(problem) = &shown.quota_problem {
        lines.push(format!("quotas   NOT written: {problem}"));
    }
    let tables = &shown.tables;
    lines.push(format!(
        "tables   {} of {} buckets, {} forgotten early; {} of {} quotas; {} of {} under way",
        tables.buckets,
        tables.buckets_max,
        tables.lossy_evictions,
        tables.quotas,
        tables.quotas_max,
        tables.concurrent,
        tables.concurrent_max
    ));
    lines
}

fn row(limit: &LimitRow) -> Vec<String> {
    let when = if limit.conditional { " when its condition holds" } else { "" };
    let cost = if limit.cost == "1" { String::new() } else { format!(" cost {}", limit.cost) };
    let mut lines =
        vec![format!("limit    {:<20} {} by {}{cost}{when}", limit.name, limit.limit, limit.by)];
    if let Some(changed) = &limit.changed {
        lines.push(format!(
            "         now {} until {} by {}: {}",
            changed.limit, changed.until, changed.by, changed.reason
        ));
    }
    for spent in &limit.spent {
        lines.push(format!("         {}: {} used until {}", spent.subject, spent.used, spent.ends));
    }
    lines
}

fn told_change(changed: &LimitChanged) -> Vec<String> {
    let mut lines = row(&changed.limit);
    lines.push(format!("  audit   {}", recorded(changed.audit)));
    let undo = match &changed.before {
        Some(before) => again(&changed.limit.name, before),
        None => format!("enforcer limits set {} --reset", changed.limit.name),
    };
    lines.push(format!("undo: {undo}"));
    lines
}

/// The command that gives a limit the numbers it had.
fn again(name: &str, before: &LimitOverride) -> String {
    let left = before.until.since(SystemClock.now().wall);
    let numbers = [
        before.rate.as_ref().map(|rate| format!("--rate {rate}")),
        before.burst.map(|burst| format!("--burst {burst}")),
        before.quota.map(|quota| format!("--quota {quota}")),
        before.concurrent.map(|most| format!("--concurrent {most}")),
    ];
    let numbers: Vec<_> = numbers.into_iter().flatten().collect();
    format!(
        "enforcer limits set {name} {} --for {} --reason …",
        numbers.join(" "),
        exact_span(left)
    )
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    parse_span(text)
        .filter(|span| !span.is_zero())
        .ok_or_else(|| format!("`{text}` is not a time; write it as `15m`, `1h30m` or `7d`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_told_with_the_way_back() {
        let limit = LimitRow {
            name: "per_ip".to_owned(),
            by: "ip".to_owned(),
            limit: "20/s burst 40".to_owned(),
            cost: "1".to_owned(),
            conditional: false,
            changed: Some(numbers("5/s burst 40", Some("5/s"), None)),
            spent: Vec::new(),
        };
        let fresh = LimitChanged { limit, before: None, audit: Some(7) };

        let lines = told_change(&fresh);
        assert!(lines[1].contains("now 5/s burst 40 until 2554"), "{lines:?}");
        assert_eq!(lines.last().unwrap(), "undo: enforcer limits set per_ip --reset");

        let before = Some(numbers("9/s burst 3", Some("9/s"), Some(3)));
        let lines = told_change(&LimitChanged { before, ..fresh });
        let undo = lines.last().unwrap();
        assert!(undo.contains("set per_ip --rate 9/s --burst 3 --for "), "{undo}");
    }

    fn numbers(limit: &str, rate: Option<&str>, burst: Option<u32>) -> LimitOverride {
        LimitOverride {
            limit: limit.to_owned(),
            rate: rate.map(str::to_owned),
            burst,
            quota: None,
            concurrent: None,
            until: "2554-01-01T00:00:00Z".parse().unwrap(),
            reason: "incident".to_owned(),
            by: "root".to_owned(),
        }
    }
}
