//! Runs the tests that a policy brings along.

use std::collections::BTreeSet;
use std::sync::Arc;

use enforcer_model::Timestamp;

use super::expect::Expected;
use super::judge::{Judgement, Verdict, judge};
use super::request::Request;
use crate::Policy;
use crate::parse::Case;

/// What came of a policy's tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One for each test, in the order of the file.
    pub cases: Vec<CaseReport>,
    /// Which rules the tests made decisive.
    pub coverage: Coverage,
}

/// What came of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseReport {
    /// The test.
    pub case: Case,
    /// Why it failed; none when it passed.
    pub failure: Option<String>,
    /// What to do about a failure.
    pub hint: Option<String>,
    /// The answer; none when the sentence is not understood.
    pub verdict: Option<Verdict>,
    /// The route that decided.
    pub route: Option<Arc<str>>,
}

/// Rules, by whether a test made them decisive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Rules that decided a test.
    pub decisive: Vec<Arc<str>>,
    /// The others, in the order of the file.
    pub idle: Vec<Arc<str>>,
}

/// Runs every `[[test]]` of `policy`. Needs no clock: a test whose answer depends on the hour says
/// which hour it means, or fails.
pub fn run(policy: &Policy) -> Report {
    let mut decisive = BTreeSet::new();
    let cases = policy.tests().iter().map(|case| {
        let (report, rules) = run_case(policy, case);
        decisive.extend(rules);
        report
    });
    let cases = cases.collect();
    let rules = policy.routes().iter().flat_map(|route| {
        route.authz.deny().iter().chain(route.authz.allow()).map(|rule| Arc::clone(rule.name()))
    });
    let (decisive, idle) = rules.partition(|rule| decisive.contains(rule));
    Report { cases, coverage: Coverage { decisive, idle } }
}

fn run_case(policy: &Policy, case: &Case) -> (CaseReport, Vec<Arc<str>>) {
    let mut report =
        CaseReport { case: case.clone(), failure: None, hint: None, verdict: None, route: None };
    let expected = match case.expect.parse::<Expected>() {
        Ok(expected) => expected,
        Err(error) => {
            (report.failure, report.hint) = (Some(error.to_string()), Some(error.hint));
            return (report, Vec::new());
        }
    };
    let request = match case.run.parse::<Request>() {
        Ok(request) => request,
        Err(error) => {
            report.failure = Some(error.to_string());
            return (report, Vec::new());
        }
    };
    let judged = judge(policy, &request, None::<Timestamp>);
    let judgement = match judged {
        Ok(judgement) => judgement,
        Err(ambiguous) => {
            (report.failure, report.hint) = (Some(ambiguous.to_string()), Some(ambiguous.hint));
            return (report, Vec::new());
        }
    };
    if !expected.is_met(&judgement.verdict) {
        report.failure = Some(format!("expected `{expected}`, got `{}`", judgement.verdict));
        report.hint =
            Some(format!("`enforcer policy explain '{request}'` shows what each rule says"));
    }
    report.route = judgement.route.clone();
    let rules = decided_by(&judgement);
    report.verdict = Some(judgement.verdict);
    (report, rules)
}

/// The rules that made the answer what it is: all that allowed on the way, or the one that refused.
fn decided_by(judgement: &Judgement) -> Vec<Arc<str>> {
    use enforcer_authz::{Denied, Outcome};
    let traces = judgement.traces.iter();
    traces
        .filter_map(|trace| match &trace.outcome {
            Outcome::Allowed { rule, .. }
            | Outcome::Denied(Denied::Matched { rule } | Denied::Undecided { rule, .. }) => {
                Some(Arc::clone(rule))
            }
            // What no rule allowed, no rule decided.
            Outcome::Denied(Denied::NoRule | Denied::NotAllowed { .. }) => None,
        })
        .collect()
}

impl Report {
    /// Tests that did not give what they expect.
    pub fn failures(&self) -> impl Iterator<Item = &CaseReport> {
        self.cases.iter().filter(|case| case.failure.is_some())
    }

    /// Whether every test gave what it expects.
    pub fn passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The report in the form that build servers read.
    pub fn junit(&self, file: &str) -> String {
        let failures = self.failures().count();
        let tests = self.cases.len();
        let file = xml(file);
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{tests}\" \
             failures=\"{failures}\">\n  <testsuite name=\"{file}\" tests=\"{tests}\" \
             failures=\"{failures}\" errors=\"0\" skipped=\"0\">\n"
        );
        for CaseReport { case, failure, hint, .. } in &self.cases {
            let name = xml(&case.run);
            text.push_str(&format!(
                "    <testcase classname=\"{file}\" name=\"{name}\" file=\"{file}\" line=\"{}\"",
                case.line
            ));
            match failure {
                None => text.push_str("/>\n"),
                Some(failure) => {
                    let first = xml(failure.lines().next().unwrap_or_default());
                    let hint = hint.as_ref().map_or_else(String::new, |it| format!("\nhint: {it}"));
                    let all = xml(&format!("{failure}{hint}"));
                    text.push_str(&format!(
                        ">\n      <failure message=\"{first}\">{all}</failure>\n    </testcase>\n"
                    ));
                }
            }
        }
        text.push_str("  </testsuite>\n</testsuites>\n");
        text
    }
}

/// Text of a document; what XML 1.0 cannot hold is shown as a question mark in a diamond.
fn xml(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' | '\t' => safe.push(letter),
            '\0'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => safe.push('\u{FFFD}'),
            _ => safe.push(letter),
        }
    }
    safe
}
