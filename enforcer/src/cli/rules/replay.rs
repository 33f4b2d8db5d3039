//! `enforcer rules replay`: what would this have blocked last week?

use std::sync::Arc;

use clap::Args;
use enforcer_admin::call::LookVerb;
use enforcer_detect::rules::{Past, Replay as Running, Report, RulePlan, RuleReport, chosen};
use enforcer_model::Timestamp;

use super::named;
use crate::cli::audit::{Place, unreadable};
use crate::cli::trail::parse_begin;
use crate::cli::{Context, Exit, Failure, counted};

/// Those of each rule that are told to people.
const TOLD: usize = 10;

/// What rules would have found, and whom they would have refused, from the audit log
///
/// Nothing is done. Profiles and packets are not in the log, so what they alone would have found is
/// missing; and whoever was refused then may have gone on otherwise.
#[derive(Args, Debug)]
pub(crate) struct Replay {
    /// The id of a rule in use, or a file of rules; every rule in use by default
    #[arg(value_name = "RULE|FILE")]
    what: Option<String>,
    /// From then on: `7d` ago, or a time such as `2026-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = parse_begin, default_value = "7d")]
    since: Timestamp,
    #[command(flatten)]
    place: Place,
}

impl Replay {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let plans: Vec<Arc<RulePlan>> = match &self.what {
            None => super::in_use(context)?,
            Some(what) => {
                let (plans, ids) = named(context, what)?;
                chosen(&plans, &ids)
            }
        };
        let log = self.place.open(context)?;
        let arguments = self.what.iter().cloned().chain([format!("since {}", self.since)]);
        self.place.look(context, &log, LookVerb::Replay, arguments.collect(), log.size())?;
        let mut running = Running::new(&plans);
        for record in log.records(0..log.size()).map_err(|error| unreadable(&error))? {
            let stored = record.map_err(|error| unreadable(&error))?;
            let Some(past) = stored.json().ok().and_then(|json| Past::from_record(&json)) else {
                continue;
            };
            if past.event().at() >= self.since {
                running.observe(&past);
            }
        }
        let report = running.finish();
        if report.events == 0 {
            return Err(Failure::nothing("the log has no request since then")
                .hint("`--since` takes a longer time; `enforcer audit stats` counts records"));
        }
        context.printer.item(&report, &lines(&report))?;
        Ok(Exit::Done)
    }
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines = vec![format!(
        "{} of {}",
        counted(report.events, "request"),
        counted(u64::try_from(report.identities).unwrap_or(u64::MAX), "caller"),
    )];
    if let (Some(from), Some(until)) = (report.from, report.until) {
        lines.push(format!("  from {from} to {until}"));
    }
    let quiet = report.rules.iter().filter(|rule| rule.findings == 0).count();
    for rule in report.rules.iter().filter(|rule| rule.findings > 0) {
        lines.extend(told(rule));
    }
    lines.push(match (quiet, report.rules.len()) {
        (quiet, all) if quiet == all => "no rule would have found anything".to_owned(),
        (quiet, all) => format!("{quiet} of {all} rules would have found nothing"),
    });
    lines
}

fn told(rule: &RuleReport) -> Vec<String> {
    let mode = match rule.mode {
        enforcer_detect::Mode::Observe => "observe",
        enforcer_detect::Mode::Approve => "approve",
        enforcer_detect::Mode::Auto => "auto",
    };
    let entities = u64::try_from(rule.entity_count).unwrap_or(u64::MAX);
    let mut lines = vec![
        format!("{} ({mode}): {}", rule.rule, counted(rule.findings, "finding")),
        format!(
            "  would have blocked {}, and refused {} that were served, of {} ({} % of all)",
            counted(rule.would_have_blocked, "time"),
            counted(rule.would_have_refused, "request"),
            counted(u64::try_from(rule.identities_refused).unwrap_or(u64::MAX), "caller"),
            rule.share_of_identities,
        ),
    ];
    for entity in rule.entities.iter().take(TOLD) {
        lines.push(format!(
            "  {}  {}, {} to {}",
            entity.entity,
            counted(entity.findings, "finding"),
            entity.first,
            entity.last
        ));
        lines.push(format!("    {}", entity.why));
    }
    if rule.entity_count > TOLD {
        lines.push(format!("  … {entities} in all; `-o json` has more"));
    }
    lines
}
