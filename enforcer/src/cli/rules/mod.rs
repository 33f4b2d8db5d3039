//! `enforcer rules`: rules of detection, without an agent as far as files can tell.

mod check;
mod explain;
mod list;
mod mode;
mod replay;
mod test;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use enforcer_detect::rules::{FILE_BYTES_MAX, RulePlan, RuleProblem, pack, read};

use super::{Context, Exit, Failure};

/// Rules of detection: which, what they do, what they would have done
#[derive(Debug, Subcommand)]
pub(crate) enum Rules {
    /// Every rule in force, with what it has found
    List(list::List),
    /// Everything that is wrong with files of rules, at once; needs no agent
    Check(check::Check),
    /// Run the tests that stand in rules; exit code 7 when one fails; needs no agent
    Test(test::Test),
    /// What a rule looks for, by whom it counts, and what follows
    Explain(explain::Explain),
    /// What rules would have found, and whom they would have refused, from the audit log
    Replay(replay::Replay),
    /// Set what a rule may do, at once
    Mode(mode::SetMode),
}

impl Rules {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::List(verb) => verb.execute(context),
            Self::Check(verb) => verb.execute(context),
            Self::Test(verb) => verb.execute(context),
            Self::Explain(verb) => verb.execute(context),
            Self::Replay(verb) => verb.execute(context),
            Self::Mode(verb) => verb.execute(context),
        }
    }
}

/// The rules of the policy in use; those of the pack where none is, or where it has no `[detect]`.
fn in_use(context: &Context) -> Result<Vec<Arc<RulePlan>>, Failure> {
    let file = context.policy_file();
    if context.options.policy.is_some() || file.exists() {
        let policy = super::policy::load(&file)?;
        if !policy.detection().rules.is_empty() {
            return Ok(policy.detection().rules.clone());
        }
    }
    shipped()
}

/// The rules of the pack.
fn shipped() -> Result<Vec<Arc<RulePlan>>, Failure> {
    pack().map_err(|(file, problems)| wrong(&told(Path::new(file), &problems), problems.len()))
}

/// The text of a file of rules.
fn text(file: &Path) -> Result<String, Failure> {
    let unreadable =
        |why: String| Failure::failed(format!("cannot read {}: {why}", file.display()));
    let length = std::fs::metadata(file).map_err(|error| unreadable(error.to_string()))?.len();
    if length > u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX) {
        return Err(unreadable(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))
}

/// The rules of `file`, behind `known`.
fn file(file: &Path, known: &[Arc<RulePlan>]) -> Result<Vec<Arc<RulePlan>>, Failure> {
    let text = text(file)?;
    read(&text, known).map_err(|problems| wrong(&told(file, &problems), problems.len()))
}

/// Each problem with its line and a caret.
fn told(file: &Path, problems: &[RuleProblem]) -> Vec<String> {
    let name = file.display().to_string();
    problems.iter().map(|problem| problem.shown(&name)).collect()
}

fn wrong(told: &[String], count: usize) -> Failure {
    let count = super::counted(u64::try_from(count).unwrap_or(u64::MAX), "problem");
    let mut failure = Failure::failed(format!("the rules have {count}"));
    failure.details = told.iter().flat_map(|told| told.lines().map(str::to_owned)).collect();
    failure.hint("`enforcer/docs/rules.md` describes every key")
}

/// Rules, and the ids of those that are meant.
type Named = (Vec<Arc<RulePlan>>, Vec<Arc<str>>);

/// A rule by its name, and all that stand beside it; or the rules of a file.
fn named(context: &Context, what: &str) -> Result<Named, Failure> {
    let mut plans = in_use(context)?;
    if plans.iter().any(|plan| *plan.id == *what) {
        return Ok((plans, vec![what.into()]));
    }
    let path = PathBuf::from(what);
    if path.is_file() {
        let own = file(&path, &plans)
            // A draft may replace rules that are in force.
            .or_else(|failure| {
                plans.clear();
                file(&path, &[]).map_err(|_worse| failure)
            })?;
        let ids = own.iter().map(|plan| Arc::clone(&plan.id)).collect();
        plans.extend(own);
        return Ok((plans, ids));
    }
    let ids = plans.iter().map(|plan| &*plan.id);
    let failure = Failure::nothing(format!("no rule and no file is called `{what}`"));
    Err(match nearest(what, ids) {
        Some(meant) => failure.hint(format!("did you mean `{meant}`?")),
        None => failure.hint("`enforcer rules list` shows the rules"),
    })
}

/// The name that was probably meant.
fn nearest<'n>(what: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    enforcer_detect::rules::suggest(what, names)
}
