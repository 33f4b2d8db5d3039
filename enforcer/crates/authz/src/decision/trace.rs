//! Why a decision is what it is: every rule, every part, and what they saw.
//!
//! For people, so it may allocate. It asks the same functions that [`super::decide`] asks.

use std::sync::Arc;

use enforcer_model::Role;

use super::{Denied, judge};
use crate::methods::Asked;
use crate::plan::Match;
use crate::{Expr, Facts, Plan, Rule, Tri};

/// A decision with everything that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// What [`super::decide`] says.
    pub outcome: Outcome,
    /// Every rule that denies, in the order of the policy.
    pub deny: Vec<RuleTrace>,
    /// Every rule that allows, in the order of the policy.
    pub allow: Vec<RuleTrace>,
}

/// What was decided, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It may happen.
    Allowed {
        /// The rule that allowed it, or `public`.
        rule: Arc<str>,
        /// The role that the rule asked for.
        role: Option<Role>,
    },
    /// It may not.
    Denied(Denied),
}

/// What one rule says of a request. Every part is told, also behind one that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTrace {
    /// The rule's name.
    pub rule: Arc<str>,
    /// Whether the rule matches.
    pub matches: Tri,
    /// Whether the method is one of the rule's.
    pub method: bool,
    /// Whether the caller has the role; none if the rule asks for none.
    pub role: Option<bool>,
    /// Whether the condition holds; none if the rule has none.
    pub when: Option<Tri>,
    /// Every test of the condition, once, in the order written.
    pub tests: Vec<Seen>,
}

/// One test of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The test as a condition would write it.
    pub test: String,
    /// What it says.
    pub holds: Tri,
    /// What it read: the attribute, and its value if it is known.
    pub values: Vec<(String, Option<String>)>,
}

/// What every rule of `plan` says of `facts`, and what [`super::decide`] makes of it.
pub fn trace(plan: &Plan, facts: &Facts<'_>) -> Trace {
    let outcome = match judge(plan, facts) {
        Ok(permit) => Outcome::Allowed { rule: permit.rule().into(), role: permit.role().cloned() },
        Err(denied) => Outcome::Denied(denied),
    };
    let each = |rules: &[Rule]| rules.iter().map(|rule| RuleTrace::of(rule, facts)).collect();
    Trace { outcome, deny: each(plan.deny()), allow: each(plan.allow()) }
}

impl RuleTrace {
    fn of(rule: &Rule, facts: &Facts<'_>) -> Self {
        let asked = Asked::new(facts.method);
        let mut tests: Vec<Seen> = Vec::new();
        if let Some(when) = rule.when() {
            collect(when.expr(), facts, &mut tests);
        }
        Self {
            rule: Arc::clone(rule.name()),
            matches: match rule.take(asked, facts) {
                Match::Whole => Tri::True,
                Match::Fails(_) => Tri::False,
                Match::Unknown => Tri::Unknown,
            },
            method: rule.methods().has(asked),
            role: rule.role().map(|_| rule.is_held(facts)),
            when: rule.when().map(|when| when.holds(facts)),
            tests,
        }
    }
}

fn collect(expr: &Expr, facts: &Facts<'_>, seen: &mut Vec<Seen>) {
    match expr {
        Expr::Constant(_) => {}
        Expr::Not(inner) => collect(inner, facts, seen),
        Expr::All(parts) | Expr::Any(parts) => {
            parts.iter().for_each(|part| collect(part, facts, seen));
        }
        Expr::Same(sides) => sides.iter().for_each(|side| collect(side, facts, seen)),
        Expr::Test(test) => {
            let text = test.to_string();
            if !seen.iter().any(|known| known.test == text) {
                let (holds, values) = (test.evaluate(facts), test.seen(facts));
                seen.push(Seen { test: text, holds, values });
            }
        }
    }
}
