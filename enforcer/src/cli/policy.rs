//! `enforcer policy`: check a file without an agent, put it in force with one.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use enforcer_admin::call::{Begin, PolicyApplied};
use enforcer_admin::{Answer, Call};
use enforcer_policy::LoadError;
use serde::Serialize;

use super::quarantine::micros;
use super::{Context, Exit, Failure, mismatched, recorded};

/// Check a policy, or put it in force
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Everything that is wrong with a policy file, at once; needs no agent
    Check(Check),
    /// Put a policy in force without dropping a request; a bad file never replaces a good one
    Apply(Apply),
    /// The JSON Schema of policy files
    Schema(Schema),
}

/// Everything that is wrong with a policy file, at once; needs no agent
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The file; the one in use by default
    file: Option<PathBuf>,
}

/// Put a policy in force without dropping a request; a bad file never replaces a good one
#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// Replaces the agent's policy file; without it the agent reads its own file again
    file: Option<PathBuf>,
    /// Only check
    #[arg(long)]
    dry_run: bool,
}

/// The JSON Schema of policy files
#[derive(Args, Debug)]
pub(crate) struct Schema {}

#[derive(Debug, Serialize)]
struct Checked {
    file: PathBuf,
    sha256: String,
    routes: usize,
    warnings: Vec<String>,
}

impl Policy {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Check(Check { file }) => check(context, file.as_deref()),
            Self::Apply(verb) => verb.execute(context),
            Self::Schema(Schema {}) => {
                context.printer.data(enforcer_policy::schema().trim_end())?;
                Ok(Exit::Done)
            }
        }
    }
}

fn check(context: &Context, file: Option<&Path>) -> Result<Exit, Failure> {
    let file = file.map_or_else(|| context.policy_file(), Path::to_owned);
    let policy = load(&file)?;
    let checked = Checked {
        sha256: policy.sha256().to_string(),
        routes: policy.routes().len(),
        warnings: policy.warnings().iter().map(ToString::to_string).collect(),
        file,
    };
    for warning in &checked.warnings {
        context.printer.warning(warning);
    }
    let Checked { file, sha256, routes, .. } = &checked;
    let line = format!("{}: good; {routes} routes, sha256 {sha256}", file.display());
    context.printer.item(&checked, &[line])?;
    Ok(Exit::Done)
}

/// The policy in `file`, or everything that is wrong with it.
pub(crate) fn load(file: &Path) -> Result<enforcer_policy::Policy, Failure> {
    enforcer_policy::Policy::load(file).map_err(|error| refused(&error))
}

/// Everything that is wrong with a policy file.
pub(crate) fn refused(error: &LoadError) -> Failure {
    Failure::advised(error, error.hint())
}

impl Apply {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        if self.dry_run {
            return check(context, self.file.as_deref());
        }
        let read = |file: &PathBuf| {
            std::fs::read_to_string(file).map_err(|error| {
                Failure::failed(format!("cannot read {}: {error}", file.display()))
            })
        };
        let text = self.file.as_ref().map(read).transpose()?;
        let Answer::PolicyApplied(applied) = context.ask(&Call::PolicyApply { text, begin: Begin::Now })? else {
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
