//! `enforcer policy diff`: which requests change their answer from one policy to another.

use std::path::PathBuf;

use clap::Args;
use enforcer_model::Timestamp;
use enforcer_policy::diff::{Change, Diff as Differences, Flip, Replay, diff, replay};
use serde_json::{Value, json};

use super::replay::past;
use super::understood;
use crate::cli::audit::{Place, unreadable};
use crate::cli::trail::parse_begin;
use crate::cli::{Context, Exit, Failure, counted};

/// Which requests change their answer from one policy to another, each with a sample
#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// The policy that is or was in force
    first: PathBuf,
    /// The policy that is to take its place
    second: PathBuf,
    /// Decide recorded requests by both, and count those that change their answer
    #[arg(long)]
    replay: bool,
    /// With `--replay`: from then on, `7d` or a time such as `2026-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = parse_begin, requires = "replay")]
    since: Option<Timestamp>,
    #[command(flatten)]
    place: Place,
}

impl Diff {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let (first, second) =
            (understood(context, &self.first)?, understood(context, &self.second)?);
        let differences = diff(&first, &second);
        let replayed = if self.replay {
            let log = self.place.open(context)?;
            let mut broken = None;
            let records = log.records(0..log.size()).map_err(|error| unreadable(&error))?;
            let pasts = records
                .map_while(|record| record.map_err(|error| broken = Some(error)).ok())
                .filter_map(|stored| past(&stored))
                .filter(|past| self.since.is_none_or(|since| past.request.at >= Some(since)));
            let replayed = replay(&first, &second, pasts);
            if let Some(error) = broken {
                return Err(unreadable(&error));
            }
            Some(replayed)
        } else {
            None
        };
        let lines = lines(&differences, replayed.as_ref());
        context.printer.item(&document(&differences, replayed.as_ref()), &lines)?;
        Ok(Exit::Done)
    }
}

fn lines(differences: &Differences, replayed: Option<&Replay>) -> Vec<String> {
    let mut lines = Vec::new();
    for Change { route, method, sample, before, after } in &differences.changes {
        lines.push(format!("{route} {method}: {before} -> {after}"));
        lines.push(format!("  {sample}"));
    }
    lines.extend(differences.listed.iter().cloned());
    lines.extend(differences.undecided.iter().map(|what| format!("not decided: {what}")));
    if differences.is_empty() {
        lines.push("nothing changes".to_owned());
    } else if differences.changes.is_empty() && differences.undecided.is_empty() {
        lines.push("no request changes between allowed and refused".to_owned());
    }
    if let Some(Replay { decided, flips, samples, not_by_policy, not_reproduced }) = replayed {
        lines.push(format!(
            "replay: {} decided by both, {flips} change their answer",
            counted(*decided, "recorded request")
        ));
        for Flip { past, before, after } in samples {
            lines.push(format!("  #{} {before} -> {after}", past.index));
            lines.push(format!("    {}", past.request));
        }
        if *not_reproduced > 0 {
            lines.push(format!(
                "  {not_reproduced} left out: the first policy does not give the recorded answer, \
                 because rules read what is not recorded or another policy was in force"
            ));
        }
        if *not_by_policy > 0 {
            lines.push(format!(
                "  {not_by_policy} left out: a limit, a credential or a malformed head decided"
            ));
        }
    }
    lines
}

fn document(differences: &Differences, replayed: Option<&Replay>) -> Value {
    let changes = differences.changes.iter().map(|change| {
        json!({
            "route": &*change.route,
            "method": change.method,
            "sample": change.sample.to_string(),
            "before": change.before.to_string(),
            "after": change.after.to_string(),
            "becomes": if change.after.is_allowed() { "allowed" } else { "refused" },
        })
    });
    let replay = replayed.map(|replayed| {
        let samples = replayed.samples.iter().map(|flip| {
            json!({
                "record": flip.past.index,
                "request": flip.past.request.to_string(),
                "before": flip.before.to_string(),
                "after": flip.after.to_string(),
            })
        });
        json!({
            "decided": replayed.decided,
            "flips": replayed.flips,
            "not_by_policy": replayed.not_by_policy,
            "not_reproduced": replayed.not_reproduced,
            "samples": samples.collect::<Vec<_>>(),
        })
    });
    json!({
        "changes": changes.collect::<Vec<_>>(),
        "listed": differences.listed,
        "undecided": differences.undecided,
        "replay": replay,
    })
}
