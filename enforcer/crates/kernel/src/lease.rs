//! The agent's sign of life: without one for long enough, the program observes instead of dropping.
//!
//! The time is on `CLOCK_MONOTONIC`, which stands still while the host sleeps, and the program
//! judges it by itself: an agent that is gone cannot be asked.

use std::time::Duration;

/// How the program stands towards its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It enforces with or without one.
    Unlimited,
    /// It enforces for this long, unless the agent renews.
    Left(Duration),
    /// It has only observed since this long ago.
    Over(Duration),
}
