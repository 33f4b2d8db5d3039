//! Rules in files: what is counted, by whom, and what follows.
//!
//! A file of rules is read once, against every name that an event has, into [`RulePlan`]s that
//! cannot fail; [`Rules`] counts. Time comes with events, so a rule finds in the audit log what it
//! would have found live.

mod engine;
mod pack;
mod past;
mod plan;
mod problem;
mod read;
mod replay;
#[cfg(test)]
mod tests;
mod trial;
mod when;
mod words;
mod yaml;

pub use enforcer_condition::suggest;
pub use engine::{Counters, KEYS_MAX, RING, Rules, TABLE_BYTES_MAX};
pub use pack::{PACK, PACK_EVENTS, pack, pack_events};
pub use past::{Past, PastError, PastRequest, events};
pub use plan::{
    Expected, Field, KeyBy, OrProfile, Pattern, RulePlan, RuleTest, STEPS_MAX, Severity, Step,
    Summed, Threshold,
};
pub use problem::RuleProblem;
pub use read::{PROFILE_SIGNALS, RULES_MAX, read};
pub use replay::{ENTITIES_MAX, EntityReport, Replay, Report, RuleReport, replay};
pub use trial::{Tried, chosen, test};
pub use when::When;
pub use words::words;
pub use yaml::FILE_BYTES_MAX;
