//! `enforcer policy check`: everything that is wrong or doubtful, at once.

use std::path::{Path, PathBuf};

use enforcer_policy::Problem;
use serde::Serialize;

use super::load;
use crate::cli::{Context, Exit, Failure, counted};

#[derive(Debug, Serialize)]
struct Checked {
    file: PathBuf,
    sha256: String,
    routes: usize,
    tests: usize,
    warnings: Vec<Warning>,
}

/// A warning, for programs.
#[derive(Debug, Serialize)]
struct Warning {
    code: &'static str,
    line: usize,
    column: usize,
    message: String,
    hint: Option<String>,
}

pub(super) fn check(context: &Context, file: Option<&Path>) -> Result<Exit, Failure> {
    let file = file.map_or_else(|| context.policy_file(), Path::to_owned);
    let policy = load(&file)?;
    let checked = Checked {
        sha256: policy.sha256().to_string(),
        routes: policy.routes().len(),
        tests: policy.tests().len(),
        warnings: policy.warnings().iter().map(Warning::from).collect(),
        file,
    };
    for warning in policy.warnings() {
        context.printer.warning(&warning.to_string());
    }
    let Checked { file, sha256, routes, .. } = &checked;
    let line = format!(
        "{}: good; {}, sha256 {sha256}",
        file.display(),
        counted(u64::try_from(*routes).unwrap_or(u64::MAX), "route")
    );
    context.printer.item(&checked, &[line])?;
    Ok(Exit::Done)
}

impl From<&Problem> for Warning {
    fn from(problem: &Problem) -> Self {
        Self {
            code: problem.code,
            line: problem.line,
            column: problem.column,
            message: problem.message.clone(),
            hint: problem.hint.clone(),
        }
    }
}
