//! What it means: events in, findings out.

mod rule;

pub use rule::{Mode, Rule};
