//! What the policy says about keeping answers.

use std::sync::Arc;
use std::time::Duration;

use enforcer_model::Bytes;

/// How much is kept, and how long anybody waits for it: `[cache]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What all kept answers may take together, heads and keys included.
    pub memory: Bytes,
    /// The longest body that is kept.
    pub entry: Bytes,
    /// How long a request waits for another one that asks the upstream for the same.
    pub wait: Duration,
    /// How long after its freshness an answer stands in for an upstream that cannot be reached,
    /// where the answer itself says nothing about that.
    pub unreachable: Duration,
}

/// What one route does: `[[route]] cache`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The route's name.
    pub route: Arc<str>,
    /// All that the policy says about the way to the upstream and back: answers that came another
    /// way are never used.
    pub via: Arc<str>,
    /// Answers that say so themselves are used for every caller that the route allows; without it
    /// each caller has its own.
    pub shared: bool,
}

impl Default for Bounds {
    /// What holds where a policy says nothing.
    fn default() -> Self {
        Self {
            memory: Bytes(64 << 20),
            entry: Bytes(1 << 20),
            wait: Duration::from_secs(5),
            unreachable: Duration::from_secs(60),
        }
    }
}
