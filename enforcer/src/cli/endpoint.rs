//! `enforcer endpoint`: take an endpoint out of service, or let it be used less, for a while.

use clap::{Args, Subcommand, ValueEnum};
use enforcer_admin::call::{
    EndpointChanged, EndpointMeasure, EndpointOrder, EndpointRow, TightenBy,
};
use enforcer_admin::{Answer, Call};
use enforcer_model::{Clock, Expiry, SystemClock, Timestamp};

use super::quarantine::{Ttl, exact_span, parse_ttl, until};
use super::{Context, Exit, Failure, Table, counted, mismatched, recorded};

/// Disable endpoints, or let them be used less, for a while
#[derive(Debug, Subcommand)]
pub(crate) enum Endpoint {
    /// Every endpoint that is disabled or tightened
    List(List),
    /// Refuse every request to an endpoint, from the next one on
    Disable(Disable),
    /// End what `disable` began
    Enable(End),
    /// Refuse requests to an endpoint that are over a rate
    Tighten(Tighten),
    /// Make the limits of a route or a caller a share of themselves
    Shrink(Shrink),
    /// Ask callers of a route for stronger proof of who they are
    Require(Require),
    /// End what `tighten`, `shrink` or `require` began
    Relax(End),
}

/// Every endpoint that is disabled or tightened
#[derive(Args, Debug)]
pub(crate) struct List {}

/// Refuse every request to an endpoint, from the next one on
///
/// In force over reloads of the policy and restarts of the agent, until its time is over. A slash at
/// the end of a path and the names in braces make no difference, and `GET` is also `HEAD`.
#[derive(Args, Debug)]
pub(crate) struct Disable {
    /// A pattern as routes have it, with or without a method before it, such as
    /// `DELETE api.example.com/v1/export/{**}` or `*/debug/{**}`; or `route:NAME`
    endpoint: String,
    /// How long: `15m`, `1h30m`, `7d`, or `forever`
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = parse_ttl)]
    ttl: Ttl,
    /// What clients are told: 503, 410, 403, 404, …
    #[arg(long, value_name = "STATUS", default_value_t = 503)]
    status: u16,
    /// Also end the requests to it that are under way
    #[arg(long)]
    cut: bool,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Refuse requests to an endpoint that are over a rate
///
/// In force over reloads of the policy and restarts of the agent, until its time is over; beside the
/// limits of the policy.
#[derive(Args, Debug)]
pub(crate) struct Tighten {
    /// A pattern as routes have it, with or without a method before it, such as
    /// `POST api.example.com/v1/login`; or `route:NAME`
    endpoint: String,
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
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Make the limits of a route or a caller a share of themselves
///
/// Rates and bursts of the policy's limits, from the next request on, over reloads and restarts, until
/// its time is over. Several shares multiply.
#[derive(Args, Debug)]
pub(crate) struct Shrink {
    /// `route:NAME`, `user:token:corp/alice`, `key:k7Qx2mP9aB3c` or `source:203.0.113.0/24`
    scope: String,
    /// What is left, in percent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..100))]
    to: u8,
    /// How long: `15m`, `1h30m`, `7d`, or `forever`
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = parse_ttl)]
    ttl: Ttl,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Ask callers of a route for stronger proof of who they are
///
/// Beside what the policy requires, from the next request on, over reloads and restarts, until its time
/// is over. Without `--proof`: what the policy requires of the route at the next higher incident level,
/// else a client certificate, where listeners take them.
#[derive(Args, Debug)]
pub(crate) struct Require {
    /// `route:NAME`
    scope: String,
    /// `mtls`, `dpop`, `bound`, `token` or `key`; more than one with commas
    #[arg(long, value_name = "PROOF", value_delimiter = ',')]
    proof: Vec<String>,
    /// How long: `15m`, `1h30m`, `7d`, or `forever`
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = parse_ttl)]
    ttl: Ttl,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Which rule ends
#[derive(Args, Debug)]
pub(crate) struct End {
    /// Its id, such as `EP-3`, or the endpoint as it was named
    which: String,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Whose requests count together
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum By {
    /// Those of one address; of IPv6, those of one /64
    Ip,
    /// Those of one caller; where nobody is identified, those of one address
    Principal,
}

const HEADER: &[&str] = &["ID", "ENDPOINT", "HOLDS", "UNTIL", "REFUSED", "BY", "REASON"];

impl Endpoint {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let order = match self {
            Self::List(List {}) => return list(context),
            Self::Disable(verb) => EndpointOrder::Disable {
                endpoint: verb.endpoint.clone(),
                status: verb.status,
                ttl_seconds: verb.ttl.seconds(),
                cut: verb.cut,
                reason: verb.reason.clone(),
                decision: None,
            },
            Self::Tighten(verb) => EndpointOrder::Tighten {
                endpoint: verb.endpoint.clone(),
                rate: verb.rate.clone(),
                burst: verb.burst,
                by: match verb.by {
                    By::Ip => TightenBy::Ip,
                    By::Principal => TightenBy::Principal,
                },
                ttl_seconds: verb.ttl.seconds(),
                reason: verb.reason.clone(),
            },
            Self::Enable(End { which, reason }) => {
                EndpointOrder::Enable { which: which.clone(), reason: reason.clone() }
            }
            Self::Shrink(verb) => EndpointOrder::Shrink {
                endpoint: verb.scope.clone(),
                percent: verb.to,
                ttl_seconds: verb.ttl.seconds(),
                reason: verb.reason.clone(),
                decision: None,
            },
            Self::Require(verb) => EndpointOrder::Require {
                endpoint: verb.scope.clone(),
                what: verb.proof.clone(),
                ttl_seconds: verb.ttl.seconds(),
                reason: verb.reason.clone(),
                decision: None,
            },
            Self::Relax(End { which, reason }) => {
                EndpointOrder::Relax { which: which.clone(), reason: reason.clone() }
            }
        };
        change(context, order)
    }
}

/// Has the agent carry out `order`, and tells what came of it.
pub(super) fn change(context: &Context, order: EndpointOrder) -> Result<Exit, Failure> {
    let Answer::EndpointChanged(changed) = context.ask(&Call::Endpoint { order })? else {
        return Err(mismatched());
    };
    context.printer.item(&changed, &told(&changed, SystemClock.now().wall))?;
    Ok(if is_whole(&changed) { Exit::Done } else { Exit::PartlyApplied })
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let call = Call::Endpoint { order: EndpointOrder::List };
    let Answer::Endpoints(all) = context.ask(&call)? else { return Err(mismatched()) };
    let rows = all.endpoints.iter().map(cells).collect();
    context.printer.list(&all.endpoints, &Table { header: HEADER, rows })?;
    if all.endpoints.is_empty() && !context.printer.is_for_programs() {
        context.printer.say("no endpoint is disabled or tightened");
    }
    Ok(Exit::Done)
}

/// Whether the change holds, will hold after a restart, and is on record.
fn is_whole(changed: &EndpointChanged) -> bool {
    changed.applied && changed.not_stored.is_none() && changed.audit.is_some()
}

fn cells(row: &EndpointRow) -> Vec<String> {
    vec![
        row.id.clone(),
        row.endpoint.clone(),
        row.measure.to_string(),
        until(row.until, row.since),
        row.refused.to_string(),
        row.author.to_string(),
        row.reason.clone(),
    ]
}

fn told(changed: &EndpointChanged, now: Timestamp) -> Vec<String> {
    let rule = &changed.rule;
    let word = match (&rule.measure, changed.ended) {
        (EndpointMeasure::Disabled { .. }, false) => "disabled",
        (EndpointMeasure::Disabled { .. }, true) => "enabled",
        (EndpointMeasure::Required { .. }, false) => "required",
        (EndpointMeasure::Shrunk { .. }, false) => "shrunk",
        (EndpointMeasure::Tightened { .. }, false) => "tightened",
        (
            EndpointMeasure::Required { .. }
            | EndpointMeasure::Shrunk { .. }
            | EndpointMeasure::Tightened { .. },
            true,
        ) => "relaxed",
    };
    let time = if changed.ended { String::new() } else { until(rule.until, rule.since) };
    let mut lines = vec![format!("{word}  {}  {time}   {}", rule.endpoint, rule.id)];
    if !changed.ended {
        lines.push(match &rule.measure {
            EndpointMeasure::Disabled { status } => format!("  answers {status}"),
            EndpointMeasure::Required { what } => format!("  asks    for {}", what.join(" and ")),
            EndpointMeasure::Shrunk { percent } => format!("  limits  at {percent} %"),
            EndpointMeasure::Tightened { rate, burst, by } => {
                format!("  admits  {rate}, {burst} at once, by {by}")
            }
        });
        if let Some(before) = &changed.before {
            lines.push(format!("  before  {}", before.measure));
        }
        let is_somebody = ["user:", "key:", "source:"].iter().any(|k| rule.endpoint.starts_with(k));
        lines.push(match &*rule.routes {
            [] if is_somebody => "  routes  all that count by a rate".to_owned(),
            [] => "  routes  NONE of the policy has such requests: is it spelled right?".to_owned(),
            routes => format!("  routes  {}", routes.join(", ")),
        });
    }
    let (cut, refused) = (changed.cut, counted(rule.refused, "request"));
    let cut = if cut == 0 { String::new() } else { format!("   {} cut", counted(cut, "request")) };
    lines.push(match changed.applied {
        true => format!("  layer 7 applied{cut}"),
        false => "  layer 7 NOT applied".to_owned(),
    });
    if changed.ended || changed.before.is_some() {
        lines.push(format!("  refused {refused}"));
    }
    if let Some(why) = &changed.not_stored {
        lines.push(format!("  store   NOT written: {why}"));
    }
    lines.push(format!("  audit   {}", recorded(changed.audit)));
    lines.push(format!("undo: {}", undo(changed, now)));
    lines
}

/// The command that brings back what was before.
fn undo(changed: &EndpointChanged, now: Timestamp) -> String {
    let id = &changed.rule.id;
    match (&changed.before, &changed.rule.measure) {
        (Some(before), _) => again(before, now),
        (None, EndpointMeasure::Disabled { .. }) => format!("enforcer endpoint enable {id}"),
        (
            None,
            EndpointMeasure::Required { .. }
            | EndpointMeasure::Shrunk { .. }
            | EndpointMeasure::Tightened { .. },
        ) => format!("enforcer endpoint relax {id}"),
    }
}

/// The command that makes a rule what it was.
fn again(row: &EndpointRow, now: Timestamp) -> String {
    let left = match row.until {
        Expiry::At(end) => exact_span(end.since(now)),
        Expiry::Never => "forever".to_owned(),
    };
    let endpoint = &row.endpoint;
    match &row.measure {
        EndpointMeasure::Disabled { status } => format!(
            "enforcer endpoint disable '{endpoint}' --status {status} --for {left} --reason …"
        ),
        EndpointMeasure::Required { what } => format!(
            "enforcer endpoint require '{endpoint}' --proof {} --for {left} --reason …",
            what.join(",")
        ),
        EndpointMeasure::Shrunk { percent } => {
            format!("enforcer endpoint shrink '{endpoint}' --to {percent} --for {left} --reason …")
        }
        EndpointMeasure::Tightened { rate, burst, by } => format!(
            "enforcer endpoint tighten '{endpoint}' --rate {rate} --burst {burst} --by {by} --for \
             {left} --reason …"
        ),
    }
}

/// What `status` says of endpoints, if there is anything to say.
pub(super) fn summary(disabled: u64, tightened: u64) -> Option<String> {
    (disabled + tightened > 0).then(|| {
        format!(
            "endpoint {disabled} disabled, {tightened} tightened; `enforcer endpoint list` tells \
             which"
        )
    })
}

#[cfg(test)]
mod tests {
    use enforcer_model::Author;

    use super::*;

    #[test]
    fn a_change_tells_what_holds_where_and_the_way_back() {
        let changed = changed(EndpointMeasure::Disabled { status: 503 });

        assert_eq!(
            told(&changed, at(0)).join("\n"),
            "disabled  DELETE api.test/v1/export/{**}  until 1970-01-01T02:00:00Z (2h)   EP-3\n  \
             answers 503\n  \
             routes  exports\n  \
             layer 7 applied   2 requests cut\n  \
             audit   #7\n\
             undo: enforcer endpoint enable EP-3"
        );
    }

    #[test]
    fn what_was_before_comes_back_by_the_undo_line_with_the_time_that_is_left() {
        let tightened =
            EndpointMeasure::Tightened { rate: "5/m".to_owned(), burst: 5, by: TightenBy::Ip };
        let mut changed = changed(tightened);
        changed.ended = true;
        changed.before = Some(changed.rule.clone());

        let lines = told(&changed, at(3_600));

        assert_eq!(lines[0], "relaxed  DELETE api.test/v1/export/{**}     EP-3");
        assert!(lines.contains(&"  refused 41 requests".to_owned()), "{lines:#?}");
        assert_eq!(
            lines.last().unwrap(),
            "undo: enforcer endpoint tighten 'DELETE api.test/v1/export/{**}' --rate 5/m --burst 5 \
             --by ip --for 1h --reason …"
        );
    }

    #[test]
    fn a_change_that_is_not_whole_is_told_and_has_an_exit_code_of_its_own() {
        let mut changed = changed(EndpointMeasure::Disabled { status: 410 });
        assert!(is_whole(&changed));

        changed.not_stored = Some("no space left".to_owned());
        changed.rule.routes.clear();

        assert!(!is_whole(&changed));
        let lines = told(&changed, at(0));
        assert!(lines.contains(&"  store   NOT written: no space left".to_owned()), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("is it spelled right?")), "{lines:#?}");
    }

    fn changed(measure: EndpointMeasure) -> EndpointChanged {
        EndpointChanged {
            rule: EndpointRow {
                id: "EP-3".to_owned(),
                endpoint: "DELETE api.test/v1/export/{**}".to_owned(),
                measure,
                since: at(0),
                until: Expiry::At(at(7_200)),
                author: Author::Agent,
                reason: "CVE-2026-1".to_owned(),
                decision: None,
                refused: 41,
                routes: vec!["exports".to_owned()],
            },
            ended: false,
            before: None,
            applied: true,
            cut: 2,
            not_stored: None,
            audit: Some(7),
        }
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_unix_seconds(second)
    }
}
