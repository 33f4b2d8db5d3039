//! Tests that stand in a rule: files of events, and whether it must find something in them.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::engine::Rules;
use super::past::events;
use super::plan::{Expected, Pattern, RulePlan, RuleTest, Step};

/// What came of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The rule.
    pub rule: Arc<str>,
    /// The test.
    pub test: RuleTest,
    /// Events that were read.
    pub events: u64,
    /// What is wrong; none: it is as expected.
    pub wrong: Option<String>,
}

/// Asks every test of `plan`, which stands among `plans`; `read` gives the text of a file.
pub fn test(
    plan: &RulePlan,
    plans: &[Arc<RulePlan>],
    read: &dyn Fn(&str) -> Result<String, String>,
) -> Vec<Tried> {
    let mut needed = chosen(plans, &[Arc::clone(&plan.id)]);
    // Its tests want to see what a silent rule finds.
    for needed in needed.iter_mut().filter(|needed| needed.id == plan.id) {
        *needed = Arc::new(RulePlan { silent: false, ..plan.clone() });
    }
    plan.tests.iter().map(|test| one(plan, &needed, test, read)).collect()
}

fn one(
    plan: &RulePlan,
    needed: &[Arc<RulePlan>],
    test: &RuleTest,
    read: &dyn Fn(&str) -> Result<String, String>,
) -> Tried {
    let mut tried =
        Tried { rule: Arc::clone(&plan.id), test: test.clone(), events: 0, wrong: None };
    let lines = match read(&test.events) {
        Ok(lines) => lines,
        Err(error) => {
            tried.wrong = Some(error);
            return tried;
        }
    };
    let mut rules = Rules::new(needed);
    let mut found = Vec::new();
    let mut fired = None;
    let outcome = events(&lines, |past| {
        tried.events += 1;
        found.clear();
        rules.observe(&past.event(), &mut found);
        if let Some(finding) = found.iter().find(|finding| finding.rule == plan.id) {
            fired = Some((tried.events, finding.explanation()));
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    tried.wrong = match (outcome, test.expect, fired) {
        (Err(error), ..) => Some(error.to_string()),
        (Ok(()), Expected::Fire(_), None) => {
            Some(format!("nothing was found in {} events", tried.events))
        }
        (Ok(()), Expected::Fire(Some(within)), Some((at, _))) if at > within => {
            Some(format!("it was found with event {at}, not within {within}"))
        }
        (Ok(()), Expected::Quiet, Some((at, why))) => Some(format!("event {at} was found: {why}")),
        (Ok(()), Expected::Fire(_), Some(_)) | (Ok(()), Expected::Quiet, None) => None,
    };
    tried
}

/// The rules called `ids`, behind those that are their steps.
pub fn chosen(plans: &[Arc<RulePlan>], ids: &[Arc<str>]) -> Vec<Arc<RulePlan>> {
    let mut wanted = ids.to_vec();
    // A step stands before its rule, so one pass from behind finds them all.
    for earlier in plans.iter().rev() {
        if wanted.contains(&earlier.id)
            && let Pattern::Temporal { steps, .. } = &earlier.pattern
        {
            wanted.extend(steps.iter().filter_map(|step| match step {
                Step::Rule(id) => Some(Arc::clone(id)),
                Step::When(_) => None,
            }));
        }
    }
    plans.iter().filter(|plan| wanted.contains(&plan.id)).cloned().collect()
}
