//! The decision, and the proof that it was made.
//!
//! Default deny. Rules that deny are asked first: one that matches refuses, and so does one that
//! cannot be ruled out because something that it reads is unknown. Then the first rule that allows
//! decides, and unknown does not allow. Nothing is allocated unless the request is refused.

#[cfg(test)]
mod tests;
mod trace;

use std::fmt;
use std::sync::Arc;

use enforcer_model::{Reason, Rejection, Role};

pub use trace::{Outcome, RuleTrace, Seen, Trace, trace};

use crate::methods::Asked;
use crate::plan::Match;
use crate::{Attribute, Facts, Part, Plan, Rule};

/// Proof that a plan allowed a request; only [`decide`] makes one.
#[derive(Debug)]
pub struct Permit<'p>(Option<&'p Rule>);

/// Why a request was not allowed, for the audit record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The plan has no rule that allows.
    NoRule,
    /// No rule allowed it; this is the last of those that got furthest.
    NotAllowed {
        /// Its name.
        rule: Arc<str>,
        /// The part that does not hold.
        part: Part,
        /// What keeps the condition from being told, if it is unknown rather than false.
        unknown: Option<Attribute>,
    },
    /// A rule that denies matched.
    Matched {
        /// Its name.
        rule: Arc<str>,
    },
    /// Whether a rule that denies matches cannot be told.
    Undecided {
        /// Its name.
        rule: Arc<str>,
        /// What is unknown.
        unknown: Option<Attribute>,
    },
}

/// Whether what `facts` describe may happen under `plan`; what no rule allows is refused.
pub fn decide<'p>(plan: &'p Plan, facts: &Facts<'_>) -> Result<Permit<'p>, Rejection> {
    judge(plan, facts).map_err(Rejection::from)
}

fn judge<'p>(plan: &'p Plan, facts: &Facts<'_>) -> Result<Permit<'p>, Denied> {
    let asked = Asked::new(facts.method);
    for rule in plan.deny() {
        match rule.take(asked, facts) {
            Match::Fails(_) => {}
            Match::Whole => return Err(Denied::Matched { rule: Arc::clone(rule.name()) }),
            Match::Unknown => {
                let (rule, unknown) = (Arc::clone(rule.name()), rule.unknown(facts));
                return Err(Denied::Undecided { rule, unknown });
            }
        }
    }
    if plan.is_public() {
        return Ok(Permit(None));
    }

    let mut furthest: Option<(&Rule, Match, Part)> = None;
    for rule in plan.allow() {
        let taken = rule.take(asked, facts);
        let part = match taken {
            Match::Whole => return Ok(Permit(Some(rule))),
            Match::Fails(part) => part,
            Match::Unknown => Part::When,
        };
        if furthest.is_none_or(|(.., other)| other <= part) {
            furthest = Some((rule, taken, part));
        }
    }
    let Some((rule, taken, part)) = furthest else { return Err(Denied::NoRule) };
    let unknown = if taken == Match::Unknown { rule.unknown(facts) } else { None };
    Err(Denied::NotAllowed { rule: Arc::clone(rule.name()), part, unknown })
}

impl Denied {
    /// The reason that the caller may know.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::NoRule | Self::NotAllowed { .. } => Reason::NotAllowed,
            Self::Matched { .. } | Self::Undecided { .. } => Reason::DeniedByRule,
        }
    }
}

impl From<Denied> for Rejection {
    fn from(denied: Denied) -> Self {
        denied.reason().because(denied)
    }
}

impl std::error::Error for Denied {}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("no allow rule matched"),
            Self::NotAllowed { rule, part, .. } => {
                write!(f, "no allow rule matched ({rule}.{})", part.as_str())
            }
            Self::Matched { rule } => write!(f, "{rule} matched"),
            Self::Undecided { rule, unknown: Some(unknown) } => {
                write!(f, "{rule} cannot be ruled out ({unknown} is unknown)")
            }
            Self::Undecided { rule, unknown: None } => write!(f, "{rule} cannot be ruled out"),
        }
    }
}

impl<'p> Permit<'p> {
    /// The rule that allowed it, such as `orders.allow[1]`; `public` on a public route.
    pub fn rule(&self) -> &'p str {
        self.0.map_or("public", |rule| rule.name())
    }

    /// The role that the rule asked for, which the caller has or includes; none if it asked for none.
    pub fn role(&self) -> Option<&'p Role> {
        self.0?.role()
    }
}
