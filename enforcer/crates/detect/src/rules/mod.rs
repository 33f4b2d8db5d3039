//! Rules in files: what is counted, by whom, and what follows.
//!
//! A file of rules is read once, against every name that an event has, into [`RulePlan`]s that
//! cannot fail; [`Rules`] counts. Time comes with events, so a rule finds in the audit log what it
//! would have found live.

mod engine;
mod plan;
mod when;

pub use engine::{Counters, KEYS_MAX, RING, Rules, TABLE_BYTES_MAX};
pub use plan::{
    Expected, Field, KeyBy, OrProfile, Pattern, RulePlan, RuleTest, STEPS_MAX, Severity, Step,
    Summed, Threshold,
};
pub use when::When;
