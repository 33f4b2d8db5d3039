//! `when`: a condition over the facts of a request.
//!
//! The language looks like CEL and is much smaller: it cannot loop, allocate or call anything. A text
//! is read once, against the names of its policy, into an [`Expr`] that cannot fail. What is absent
//! is unknown and stays so through `!`, `&&` and `||` (Kleene): a rule that allows needs a condition
//! that is true, a rule that denies holds unless its condition is false.

mod check;
mod display;
mod domain;
mod evaluate;
mod expr;
mod names;
#[cfg(test)]
pub(crate) mod tests;
mod vocabulary;

use std::fmt;
use std::sync::Arc;

pub use enforcer_condition::{CONDITION_BYTES_MAX, ConditionProblem};
use enforcer_condition::{Dialect, parse};
pub use expr::{
    Attribute, ClaimPath, Comparison, Expr, Flag, Held, Network, Number, Numbers, Numeric, Test,
    Text, Texts, Time,
};
pub use vocabulary::Vocabulary;

use crate::Facts;

/// A condition that was read and understood.
#[derive(Clone, PartialEq, Eq)]
pub struct Condition {
    text: Arc<str>,
    expr: Expr,
}

/// True, false, or not to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tri {
    /// It does not hold.
    False,
    /// Something that it reads is absent.
    Unknown,
    /// It holds.
    True,
}

/// The most problems that are told of one condition.
const PROBLEMS_MAX: usize = 32;

/// What conditions over requests name in hints.
const DIALECT: Dialect = Dialect {
    address: "name it in `[net]`, and write `ip in net.NAME`",
    mark: "attributes have no mark in front: `claims.tenant`",
    has: "write `has(claims.tenant)`",
    member: "write an attribute such as `claims.tenant`, or `.startsWith(\"…\")`",
};

impl Condition {
    /// Reads `text`, with the names of the policy and of the parameters in the route's pattern; every
    /// problem at once, in the order of their places.
    pub fn parse(
        text: &str,
        vocabulary: &Vocabulary<'_>,
        params: &[&str],
    ) -> Result<Self, Vec<ConditionProblem>> {
        if text.len() > CONDITION_BYTES_MAX {
            let message = format!("{} bytes are more than {CONDITION_BYTES_MAX}", text.len());
            let hint = "use several rules, or name networks and times in their own sections";
            return Err(vec![ConditionProblem::new(0..text.len(), message, hint)]);
        }
        let mut problems = Vec::new();
        let node = parse(text, &DIALECT, &mut problems);
        let expr = check::check(text, &node, vocabulary, params, &mut problems);
        match expr {
            Some(expr) if problems.is_empty() => Ok(Self { text: text.into(), expr }),
            _ => {
                problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
                problems.dedup();
                problems.truncate(PROBLEMS_MAX);
                Err(problems)
            }
        }
    }

    /// As written.
    pub const fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// What it means.
    pub const fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Whether it holds of `facts`. Never allocates, and takes no longer than its nodes are many.
    pub fn holds(&self, facts: &Facts<'_>) -> Tri {
        self.expr.evaluate(facts)
    }
}

impl Tri {
    /// Unknown without a value.
    pub(crate) fn of(known: Option<bool>) -> Self {
        known.map_or(Self::Unknown, Self::from)
    }

    /// The opposite; unknown stays unknown.
    #[must_use]
    pub const fn not(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
            Self::True => Self::False,
        }
    }
}

impl From<bool> for Tri {
    fn from(known: bool) -> Self {
        if known { Self::True } else { Self::False }
    }
}

impl fmt::Display for Tri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::False => "false",
            Self::Unknown => "unknown",
            Self::True => "true",
        })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condition({})", self.text)
    }
}
