//! `enforcer audit anchor`: show the log to its witnesses now, or list what they said.

use std::path::Path;

use clap::Args;
use enforcer_admin::call::{AnchorRound, WitnessSaid};
use enforcer_admin::{Answer, Call};
use enforcer_audit::{Anchors, WitnessPolicy, read_timestamp};
use enforcer_model::Timestamp;
use serde::Serialize;

use super::Place;
use super::anchored::{beside, key_of};
use crate::cli::{Context, Exit, Failure, Table, mismatched, recorded};

/// Show the log to its witnesses and the timestamping authority now, or list what they said
///
/// Without options the agent sends its newest checkpoint to every witness of the policy, and tells
/// which of them cosigned it and which not and why. Exit code 7 when they are not enough.
#[derive(Args, Debug)]
pub(crate) struct Anchor {
    /// What is kept beside the log; needs no agent
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    place: Place,
}

/// One checkpoint that is kept.
#[derive(Debug, Serialize)]
struct Row {
    records: u64,
    /// Why it is none; the log's own signature and every line of a known witness must hold.
    wrong: Option<String>,
    cosigned_by: Vec<String>,
    /// Since when the quorum knows it.
    witnessed_at: Option<Timestamp>,
    stamped_at: Option<Timestamp>,
}

impl Anchor {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        if self.list {
            let folder = self.place.folder(context)?;
            return list(context, &folder);
        }
        let Answer::Anchored(round) = context.ask(&Call::Anchor)? else { return Err(mismatched()) };
        context.printer.item(&round, &told(&round))?;
        if round.quorum_met {
            return Ok(Exit::Done);
        }
        let cosigned = round.witnesses.iter().filter(|said| said.cosigned).count();
        let message = format!(
            "{cosigned} of {} witnesses cosigned, and {} are needed",
            round.witnesses.len(),
            round.quorum
        );
        Err(Failure::failed(message).exit(Exit::VerificationFailed).hint(
            if round.witnesses.iter().any(|said| said.contradicts) {
                "a witness says that the log is not what it was: keep a copy of its directory, and \
                 find out who wrote to it"
            } else {
                "the log goes on; what is not witnessed yet will be when enough of them answer"
            },
        ))
    }
}

fn told(round: &AnchorRound) -> Vec<String> {
    let mut lines = vec![format!("checkpoint of {} records", round.size)];
    lines.extend(round.witnesses.iter().map(|WitnessSaid { name, cosigned, why, .. }| {
        let why = why.as_deref().unwrap_or("no reason given");
        if *cosigned { format!("  {name}  cosigned") } else { format!("  {name}  NOT: {why}") }
    }));
    if let Some(said) = &round.timestamp {
        lines.push(match (&said.at, &said.why) {
            (Some(at), _) => format!("  timestamp  {at}"),
            (None, why) => format!("  timestamp  NONE: {}", why.as_deref().unwrap_or_default()),
        });
    }
    if round.quorum > 0 {
        let met = if round.quorum_met { "met" } else { "NOT met" };
        lines.push(format!("quorum of {}: {met}", round.quorum));
    }
    lines.push(format!("record {}", recorded(round.audit)));
    lines
}

fn list(context: &Context, folder: &Path) -> Result<Exit, Failure> {
    let anchors = Anchors::of(folder);
    let key = key_of(folder)?;
    let none = WitnessPolicy::of(Vec::new(), 0);
    let policy = beside(&anchors)?.unwrap_or(none);
    let failed = |error: enforcer_audit::FileError| Failure::because(&error);
    let mut rows = Vec::new();
    for anchor in anchors.list().map_err(failed)? {
        let Some(note) = anchors.newest_note(anchor.size).map_err(failed)? else { continue };
        let token = anchors.newest_token(anchor.size).map_err(failed)?;
        let checked = key.open(&note).and_then(|_| policy.check(&note));
        let stamped = token.and_then(|token| read_timestamp(&token).ok()?.at());
        let (wrong, by, since) = match checked {
            Ok(cosigned) => (None, cosigned.by, cosigned.since.filter(|_| !policy.needs_nobody())),
            Err(error) => (Some(error.to_string()), Vec::new(), None),
        };
        rows.push(Row {
            records: anchor.size,
            wrong,
            cosigned_by: by,
            witnessed_at: since.map(Timestamp::from_unix_seconds),
            stamped_at: stamped,
        });
    }
    if rows.is_empty() {
        return Err(Failure::nothing("nothing of this log was anchored yet")
            .hint("`[audit.witness.NAME]` in the policy names who cosigns it"));
    }
    let or_none = |at: &Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    let table = Table {
        header: &["RECORDS", "WITNESSED", "BY", "STAMPED"],
        rows: rows
            .iter()
            .map(|row| {
                let by = row
                    .wrong
                    .as_ref()
                    .map_or_else(|| row.cosigned_by.join(","), |why| format!("WRONG: {why}"));
                let (witnessed, stamped) = (or_none(&row.witnessed_at), or_none(&row.stamped_at));
                vec![row.records.to_string(), witnessed, by, stamped]
            })
            .collect(),
    };
    context.printer.list(&rows, &table)?;
    Ok(if rows.iter().any(|row| row.wrong.is_some()) {
        Exit::VerificationFailed
    } else {
        Exit::Done
    })
}
