//! `enforcer policy test`: the tests that a policy brings along.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use enforcer_policy::trial::{CaseReport, Report, run};
use serde::Serialize;

use super::understood;
use crate::cli::{Context, Exit, Failure};

/// Run the `[[test]]` entries of a policy; exit code 7 when one fails
#[derive(Args, Debug)]
pub(crate) struct Test {
    /// The file; the one in use by default
    file: Option<PathBuf>,
    /// List the rules that no test made decisive
    #[arg(long)]
    coverage: bool,
    /// Write the results as `JUnit` XML; `-` prints them instead of anything else
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// What came of the tests, for programs.
#[derive(Debug, Serialize)]
struct Tested {
    file: PathBuf,
    sha256: String,
    passed: usize,
    failed: usize,
    tests: Vec<Case>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<Coverage>,
}

#[derive(Debug, Serialize)]
struct Case {
    line: usize,
    r#do: String,
    expect: String,
    passed: bool,
    answer: Option<String>,
    route: Option<String>,
    failure: Option<String>,
    hint: Option<String>,
}

#[derive(Debug, Serialize)]
struct Coverage {
    decisive: Vec<String>,
    not_decisive: Vec<String>,
}

impl Test {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let file = self.file.clone().unwrap_or_else(|| context.policy_file());
        let policy = understood(context, &file)?;
        let report = run(&policy);
        let name = file.display().to_string();
        match &self.junit {
            Some(path) if path.as_os_str() == "-" => {
                context.printer.data(report.junit(&name).trim_end())?;
                return Ok(exit(&report));
            }
            Some(path) => fs::write(path, report.junit(&name)).map_err(|error| {
                Failure::failed(format!("cannot write {}: {error}", path.display()))
            })?,
            None => {}
        }
        let lines = self.lines(&name, &report);
        context.printer.item(&self.tested(file, policy.sha256(), &report), &lines)?;
        Ok(exit(&report))
    }

    fn lines(&self, file: &str, report: &Report) -> Vec<String> {
        let mut lines = Vec::new();
        for CaseReport { case, failure, hint, .. } in report.failures() {
            lines.push(format!("FAILED {file}:{}: {}", case.line, case.run));
            let failure = failure.as_deref().unwrap_or_default();
            lines.extend(failure.lines().map(|line| format!("  {line}")));
            lines.extend(hint.iter().map(|hint| format!("  = hint: {hint}")));
        }
        if self.coverage {
            let coverage = &report.coverage;
            let idle = coverage.idle.len();
            let all = idle + coverage.decisive.len();
            lines.push(format!("{} of {all} rules decided a test", all - idle));
            lines.extend(coverage.idle.iter().map(|rule| format!("  no test for {rule}")));
        }
        let failed = report.failures().count();
        lines.push(match (report.cases.len(), failed) {
            (0, _) => format!("{file}: no `[[test]]` in it"),
            (all, 0) => format!("{file}: {all} passed"),
            (all, failed) => format!("{file}: {} passed, {failed} failed", all - failed),
        });
        lines
    }

    fn tested(&self, file: PathBuf, sha256: &str, report: &Report) -> Tested {
        let failed = report.failures().count();
        let texts = |rules: &[std::sync::Arc<str>]| rules.iter().map(ToString::to_string).collect();
        let coverage = self.coverage.then(|| Coverage {
            decisive: texts(&report.coverage.decisive),
            not_decisive: texts(&report.coverage.idle),
        });
        Tested {
            file,
            sha256: sha256.to_owned(),
            passed: report.cases.len() - failed,
            failed,
            tests: report.cases.iter().map(Case::from).collect(),
            coverage,
        }
    }
}

impl From<&CaseReport> for Case {
    fn from(report: &CaseReport) -> Self {
        Self {
            line: report.case.line,
            r#do: report.case.run.to_string(),
            expect: report.case.expect.to_string(),
            passed: report.failure.is_none(),
            answer: report.verdict.as_ref().map(ToString::to_string),
            route: report.route.as_ref().map(ToString::to_string),
            failure: report.failure.clone(),
            hint: report.hint.clone(),
        }
    }
}

fn exit(report: &Report) -> Exit {
    if report.passed() { Exit::Done } else { Exit::VerificationFailed }
}
