//! `enforcer policy apply`, `promote`, `rollback`, `state`: from one policy to the next and back,
//! without dropping a request.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use enforcer_admin::call::{Begin, PolicyApplied, PolicyState, ShadowStatus};
use enforcer_admin::{Answer, Call};

use super::check::check;
use crate::cli::quarantine::{micros, parse_span};
use crate::cli::{Context, Exit, Failure, counted, mismatched, recorded};

/// Put a policy in force without dropping a request; a bad file never replaces a good one
#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// Replaces the agent's policy file; without it the agent reads its own file again
    file: Option<PathBuf>,
    /// Only check
    #[arg(long, conflicts_with_all = ["shadow", "confirm_within"])]
    dry_run: bool,
    /// Let it watch for so long: it decides nothing, and what it would have decided otherwise is
    /// counted; `policy state` tells, `policy promote` puts it in force
    #[arg(long, value_name = "TIME", value_parser = span, conflicts_with = "confirm_within")]
    shadow: Option<Duration>,
    /// Unless `policy promote` comes within this time, the policy before comes back by itself
    #[arg(long, value_name = "TIME", value_parser = span)]
    confirm_within: Option<Duration>,
}

/// Confirm the policy on probation, or put the one that watches in force
#[derive(Args, Debug)]
pub(crate) struct Promote {}

/// Take back the last step: the policy on probation, else the one that watches, else the one in
/// force, for the one before
#[derive(Args, Debug)]
pub(crate) struct Rollback {}

/// Which policy is in force, which waits to be confirmed, and what the one that watches has seen
#[derive(Args, Debug)]
pub(crate) struct State {}

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
        let begin = match (self.shadow, self.confirm_within) {
            (Some(span), _) => Begin::Shadow { for_seconds: span.as_secs() },
            (None, Some(span)) => Begin::Confirm { within_seconds: span.as_secs() },
            (None, None) => Begin::Now,
        };
        answered(context, &Call::PolicyApply { text, begin })
    }
}

impl Promote {
    pub(super) fn execute(context: &Context) -> Result<Exit, Failure> {
        answered(context, &Call::PolicyPromote)
    }
}

impl Rollback {
    pub(super) fn execute(context: &Context) -> Result<Exit, Failure> {
        answered(context, &Call::PolicyRollback)
    }
}

impl State {
    pub(super) fn execute(context: &Context) -> Result<Exit, Failure> {
        answered(context, &Call::PolicyState)
    }
}

fn answered(context: &Context, call: &Call) -> Result<Exit, Failure> {
    let answer = context.ask(call)?;
    if let Answer::PolicyApplied(applied) = &answer {
        for warning in &applied.warnings {
            context.printer.warning(warning);
        }
        context.printer.item(applied, &applied_told(applied))?;
        let whole = applied.needs_restart.is_empty() && applied.problems.is_empty();
        return Ok(if whole { Exit::Done } else { Exit::PartlyApplied });
    }
    let Answer::PolicyState(state) = answer else { return Err(mismatched()) };
    context.printer.item(&state, &state_told(&state))?;
    Ok(Exit::Done)
}

/// A time of at least a second.
fn span(text: &str) -> Result<Duration, String> {
    let span = parse_span(text).filter(|span| span.as_secs() > 0);
    span.ok_or_else(|| "write a time such as `60s`, `15m` or `24h`".to_owned())
}

fn applied_told(applied: &PolicyApplied) -> Vec<String> {
    let mut lines = vec![format!(
        "in force  {}  {} (was {})  in {}",
        applied.file.display(),
        short(&applied.sha256),
        short(&applied.previous_sha256),
        micros(applied.took_us)
    )];
    if let Some(until) = applied.confirm_until {
        lines.push(format!("  until {until}, unless `enforcer policy promote` confirms it"));
    }
    lines.extend(
        applied
            .needs_restart
            .iter()
            .map(|section| format!("  {section}: changed, and waits for a restart of the agent")),
    );
    lines.extend(applied.problems.iter().map(|problem| format!("  NOT in force: {problem}")));
    lines.push(format!("  audit   {}", recorded(applied.audit)));
    lines.extend(applied.previous.as_ref().map(|_| "undo: enforcer policy rollback".to_owned()));
    lines
}

fn state_told(state: &PolicyState) -> Vec<String> {
    let mut lines = vec![format!("in force  {}  {}", state.file.display(), short(&state.sha256))];
    if let Some(until) = state.confirm_until {
        lines.push(format!("  until {until}, unless `enforcer policy promote` confirms it"));
    }
    if let Some(previous) = &state.previous {
        lines.push(format!("  before it  {}", previous.display()));
    }
    lines.extend(state.shadow.iter().flat_map(shadow_told));
    lines.extend(state.audit.map(|record| format!("  audit   {}", recorded(Some(record)))));
    lines
}

fn shadow_told(shadow: &ShadowStatus) -> Vec<String> {
    let mut lines = vec![format!(
        "watching  {}  until {}: {} of {} would differ",
        short(&shadow.sha256),
        shadow.until,
        shadow.flipped,
        counted(shadow.compared, "decision"),
    )];
    lines.extend(shadow.flips.iter().map(|flip| {
        format!(
            "  {} × {}: {} would become {}, such as `{}`",
            flip.count, flip.route, flip.from, flip.to, flip.sample
        )
    }));
    lines
}

fn short(sha: &str) -> &str {
    sha.get(..12).unwrap_or(sha)
}
