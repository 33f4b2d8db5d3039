//! `when` of a rule: a typed condition over what has happened.
//!
//! The grammar, its bounds and the manner of its errors are those of conditions in a policy; the
//! names are those of an event. What is absent is unknown and stays so through `!`, `&&` and `||`
//! (Kleene); an event counts only when its condition is true. To evaluate one allocates nothing, and
//! takes no longer than its parts are many.

mod check;
mod evaluate;
mod names;
mod needs;

use std::fmt;
use std::sync::Arc;

use enforcer_condition::{CONDITION_BYTES_MAX, ConditionProblem, Dialect, parse};
use enforcer_model::Prefix;

#[cfg(test)]
pub(crate) use names::ATTRIBUTES;
pub(crate) use needs::{Facts, Needs};

use crate::Event;

/// The most problems that are told of one condition.
const PROBLEMS_MAX: usize = 32;

/// What conditions over events name in hints.
const DIALECT: Dialect = Dialect {
    address: "write networks as texts: `source in [\"192.0.2.0/24\"]`",
    mark: "attributes have no mark in front: `status`",
    has: "write `has(ja4)`",
    member: "write an attribute such as `route.has_object_id`, or `.startsWith(\"…\")`",
};

/// A condition that was read and understood.
#[derive(Clone, PartialEq, Eq)]
pub struct When {
    text: Arc<str>,
    pub(crate) expr: Expr,
}

/// What a condition means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expr {
    Constant(bool),
    Not(Box<Self>),
    All(Box<[Self]>),
    Any(Box<[Self]>),
    Test(Test),
}

/// One question about an event; unknown when what it reads is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Flag(Flag),
    /// Never unknown.
    Has(Attribute),
    Equal(Attribute, Box<str>),
    OneOf(Attribute, Box<[Box<str>]>),
    Starts(Attribute, Box<str>),
    Ends(Attribute, Box<str>),
    Contains(Attribute, Box<str>),
    Compare(Numeric, Comparison, i64),
    NumberOneOf(Numeric, Box<[i64]>),
    Inside(Box<[Prefix]>),
}

/// Something that is true or false by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    Anonymous,
    Refused,
    CredentialRefused,
    HasObjectId,
    Proxied,
    Opening,
}

/// A text of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    Method,
    Host,
    Path,
    Route,
    ObjectId,
    Identity,
    Role,
    Credential,
    Reason,
    Region,
    Ja4,
    UserAgent,
    Upstream,
}

/// A whole number of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numeric {
    Status,
    BytesIn,
    BytesOut,
    Secrets,
    Personal,
    Cards,
    DurationMs,
    Incident,
    Hour,
    Weekday,
    Packets,
}

/// How two whole numbers relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// Which events a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    Requests,
    Packets,
}

impl When {
    /// Reads `text`; every problem at once, in the order of their places.
    pub fn parse(text: &str) -> Result<Self, Vec<ConditionProblem>> {
        if text.len() > CONDITION_BYTES_MAX {
            let message = format!("{} bytes are more than {CONDITION_BYTES_MAX}", text.len());
            return Err(vec![ConditionProblem::new(0..text.len(), message, "use several rules")]);
        }
        let mut problems = Vec::new();
        let node = parse(text, &DIALECT, &mut problems);
        let expr = check::check(text, &node, &mut problems);
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

    /// Whether it is true of `event`.
    pub fn holds(&self, event: &Event<'_>) -> bool {
        self.expr.evaluate(event) == Some(true)
    }

    /// What it is about: the kernel's words if it reads one of them.
    pub(crate) fn about(&self) -> About {
        if self.expr.reads_packets() { About::Packets } else { About::Requests }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "When({})", self.text)
    }
}
