//! What becomes of a source that goes on after it was refused, as the policy says it.
//!
//! Only plain words live here: who counts, shrinks and blocks is the program.

use std::num::NonZeroU32;
use std::time::Duration;

use enforcer_model::PerSecond;

/// `[throttle]`: refusals by limits shrink a source's packet budget in the kernel; going on blocks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// So many refusals by limits …
    pub refusals: NonZeroU32,
    /// … in this time shrink the budget; at most [`Self::WITHIN_MAX`].
    pub within: Duration,
    /// To so many packets a second.
    pub budget: PerSecond,
    /// For so long since the last time the threshold was crossed (`for`).
    pub penalty: Duration,
    /// Crossing the threshold again and again for so long under the smaller budget blocks.
    pub block_after: Duration,
    /// How long such a block lasts.
    pub block_for: Duration,
}

impl Throttle {
    /// The longest window in which refusals are counted.
    pub const WITHIN_MAX: Duration = Duration::from_secs(600);

    /// The longest penalty, and the longest block that nobody decided on.
    pub const PENALTY_MAX: Duration = Duration::from_secs(86_400);
}

/// `refusals = 50, within = "10s", budget = "100/s", for = "5m", block_after = "1m", block_for = "15m"`.
impl Default for Throttle {
    fn default() -> Self {
        const REFUSALS: NonZeroU32 = NonZeroU32::new(50).unwrap();
        const BUDGET: NonZeroU32 = NonZeroU32::new(100).unwrap();
        Self {
            refusals: REFUSALS,
            within: Duration::from_secs(10),
            budget: PerSecond::new(BUDGET),
            penalty: Duration::from_secs(300),
            block_after: Duration::from_secs(60),
            block_for: Duration::from_secs(900),
        }
    }
}
