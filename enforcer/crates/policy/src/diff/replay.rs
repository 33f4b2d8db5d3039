//! Recorded requests, decided by two policies.

use crate::Policy;
use crate::trial::{Past, Verdict};

/// What recorded requests would meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Requests that were decided by both policies.
    pub decided: u64,
    /// Those of them that change their answer.
    pub flips: u64,
    /// Some of the flips, the first of each route, method and direction.
    pub samples: Vec<Flip>,
    /// Requests whose answer did not come from a policy: limits, credentials, malformed heads.
    pub not_by_policy: u64,
    /// Requests that the first policy decides otherwise than was recorded, because rules read what a
    /// record does not hold, or because another policy was in force: they prove nothing.
    pub not_reproduced: u64,
}

/// A recorded request that changes its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// The request, with its record.
    pub past: Past,
    /// The answer of the first policy, which is the recorded one.
    pub before: Verdict,
    /// The answer of the second policy.
    pub after: Verdict,
}

/// Samples that are kept.
const SAMPLES_MAX: usize = 100;

/// What `pasts` would meet under `second`, of those that `first` decides as was recorded.
pub fn replay(first: &Policy, second: &Policy, pasts: impl Iterator<Item = Past>) -> Replay {
    let mut replay = Replay::default();
    for past in pasts {
        if !past.was_allowed() && !past.was_decided_by_policy() {
            replay.not_by_policy += 1;
            continue;
        }
        let judged = |policy| past.judge(policy).ok().map(|judged| judged.verdict);
        let (Some(before), Some(after)) = (judged(first), judged(second)) else {
            replay.not_reproduced += 1;
            continue;
        };
        if before.is_allowed() != past.was_allowed() {
            replay.not_reproduced += 1;
            continue;
        }
        replay.decided += 1;
        if before.is_allowed() != after.is_allowed() {
            replay.flips += 1;
            let is_known = replay.samples.iter().any(|flip| {
                flip.past.route == past.route
                    && flip.past.request.method == past.request.method
                    && flip.after.is_allowed() == after.is_allowed()
            });
            if !is_known && replay.samples.len() < SAMPLES_MAX {
                replay.samples.push(Flip { past, before, after });
            }
        }
    }
    replay
}
