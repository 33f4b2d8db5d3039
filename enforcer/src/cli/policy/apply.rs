//! `enforcer policy apply`: a policy in force, without dropping a request.

use std::path::PathBuf;

use enforcer_admin::call::{Begin, PolicyApplied};
use enforcer_admin::{Answer, Call};

use super::Apply;
use super::check::check;
use crate::cli::quarantine::micros;
use crate::cli::{Context, Exit, Failure, mismatched, recorded};

impl Apply {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        if self.dry_run {
            return check(context, self.file.as_deref());
        }
        let read = |file: &PathBuf| {
            std::fs::read_to_string(file).map_err(|error| {
                Failure::failed(format!("cannot read {}: {error}", file.display()))
            })
        };
        let text = self.file.as_ref().map(read).transpose()?;
        let Answer::PolicyApplied(applied) =
            context.ask(&Call::PolicyApply { text, begin: Begin::Now })?
        else {
            return Err(mismatched());
        };
        for warning in &applied.warnings {
            context.printer.warning(warning);
        }
        context.printer.item(&applied, &told(&applied))?;
        let whole = applied.needs_restart.is_empty() && applied.problems.is_empty();
        Ok(if whole { Exit::Done } else { Exit::PartlyApplied })
    }
}

fn told(applied: &PolicyApplied) -> Vec<String> {
    let short = |sha: &str| sha.get(..12).unwrap_or(sha).to_owned();
    let mut lines = vec![format!(
        "in force  {}  {} (was {})  in {}",
        applied.file.display(),
        short(&applied.sha256),
        short(&applied.previous_sha256),
        micros(applied.took_us)
    )];
    lines.extend(
        applied
            .needs_restart
            .iter()
            .map(|section| format!("  {section}: changed, and waits for a restart of the agent")),
    );
    lines.extend(applied.problems.iter().map(|problem| format!("  NOT in force: {problem}")));
    lines.push(format!("  audit   {}", recorded(applied.audit)));
    let undo = |file: &PathBuf| format!("undo: enforcer policy apply {}", file.display());
    lines.extend(applied.previous.as_ref().map(undo));
    lines
}
