//! `enforcer policy`: check, test, explain and compare files without an agent, put one in force with
//! one.

mod apply;
mod check;
mod diff;
mod explain;
mod replay;
mod test;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use enforcer_policy::LoadError;

use super::{Context, Exit, Failure};

pub(crate) use replay::explain_record;

/// Check, test, explain and compare policies, or put one in force
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Everything that is wrong with a policy file, at once; needs no agent
    Check(Check),
    /// Run the `[[test]]` entries of a policy; exit code 7 when one fails
    Test(test::Test),
    /// What a policy answers to one request, and why: every rule with what it saw
    Explain(explain::Explain),
    /// Which requests change their answer from one policy to another, each with a sample
    Diff(diff::Diff),
    /// Put a policy in force without dropping a request; a bad file never replaces a good one
    Apply(apply::Apply),
    /// Confirm the policy on probation, or put the one that watches in force
    Promote(apply::Promote),
    /// Take back the last step: the policy on probation, the one that watches, or the one in force
    Rollback(apply::Rollback),
    /// Which policy is in force, and what the one that watches has seen
    State(apply::State),
    /// The JSON Schema of policy files
    Schema(Schema),
}

/// Everything that is wrong with a policy file, at once; needs no agent
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The file; the one in use by default
    file: Option<PathBuf>,
}

/// The JSON Schema of policy files
#[derive(Args, Debug)]
pub(crate) struct Schema {}

impl Policy {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Check(Check { file }) => check::check(context, file.as_deref()),
            Self::Test(verb) => verb.execute(context),
            Self::Explain(verb) => verb.execute(context),
            Self::Diff(verb) => verb.execute(context),
            Self::Apply(verb) => verb.execute(context),
            Self::Promote(apply::Promote {}) => apply::Promote::execute(context),
            Self::Rollback(apply::Rollback {}) => apply::Rollback::execute(context),
            Self::State(apply::State {}) => apply::State::execute(context),
            Self::Schema(Schema {}) => {
                context.printer.data(enforcer_policy::schema().trim_end())?;
                Ok(Exit::Done)
            }
        }
    }
}

/// The policy in `file`, or everything that is wrong with it.
pub(crate) fn load(file: &Path) -> Result<enforcer_policy::Policy, Failure> {
    enforcer_policy::Policy::load(file).map_err(|error| refused(&error))
}

/// The policy in `file`, to be asked about: files that it names and nobody can read here, such as
/// private keys, do not matter for that.
fn understood(context: &Context, file: &Path) -> Result<enforcer_policy::Policy, Failure> {
    let error = match enforcer_policy::Policy::load(file) {
        Ok(policy) => return Ok(policy),
        Err(error) => error,
    };
    let text = std::fs::read_to_string(file).ok().ok_or_else(|| refused(&error))?;
    let policy = enforcer_policy::Policy::parse(&text, file).ok().ok_or_else(|| refused(&error))?;
    context.printer.warning(&format!(
        "{}: not every file that it names could be read, so regions are unknown here",
        file.display()
    ));
    Ok(policy)
}

/// Everything that is wrong with a policy file.
pub(crate) fn refused(error: &LoadError) -> Failure {
    Failure::advised(error, error.hint())
}
