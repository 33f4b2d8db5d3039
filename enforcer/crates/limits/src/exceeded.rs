//! A limit is reached: which, why, and when to come back.

use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Reason, Rejection};

use crate::{By, Level};

/// A limit is reached; nothing was taken from any bucket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limit `{limit}`: {why}, try again in {retry_after:?}")]
pub struct Exceeded {
    /// Its name: of several that are reached the one with the longest wait. Of a gate, the upstream.
    pub limit: Arc<str>,
    /// Whom it counts; none for a gate.
    pub by: Option<By>,
    /// What there is too much of.
    pub why: Why,
    /// After this time, if nobody else draws on it, the request will be admitted; for what depends
    /// on others alone, when it is worth asking.
    pub retry_after: Duration,
    /// What is left of it, where the policy wants callers to be told.
    pub level: Option<Box<Level>>,
}

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Why {
    /// The upstream has as many requests as the policy admits.
    #[error("the upstream has all the requests it admits")]
    Busy,
    /// As many as are admitted are under way.
    #[error("as many requests as it admits are under way")]
    Concurrent,
    /// The quota of the period.
    #[error("the quota of this period is used up")]
    Quota,
    /// Rate and burst.
    #[error("used up")]
    Rate,
    /// The upstream is nearly full, and the caller is of a kind that is turned away first.
    #[error("the upstream is nearly full")]
    Shed,
    /// Whether there is room cannot be told.
    #[error("whether there is room cannot be told: {0}")]
    Unavailable(Unavailable),
}

/// Why it cannot be told whether there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unavailable {
    /// More demands than a request may have.
    #[error("too many limits at once")]
    Demands,
    /// No room for another subject.
    #[error("the table of subjects is full")]
    Full,
    /// The disk did not take, or not in time, what a strict quota has to write before it is spent.
    #[error("the quota cannot be written to disk")]
    Unwritten,
}

impl From<Exceeded> for Rejection {
    fn from(exceeded: Exceeded) -> Self {
        let reason = match (exceeded.why, &exceeded.by) {
            (Why::Busy, _) => Reason::UpstreamBusy,
            (Why::Concurrent, _) => Reason::LimitConcurrent,
            (Why::Quota, _) => Reason::QuotaUsed,
            (Why::Rate, Some(By::Ip | By::Prefix { .. })) => Reason::LimitSource,
            (Why::Rate, Some(By::Key | By::Principal)) => Reason::LimitKey,
            (
                Why::Rate,
                Some(
                    By::Application | By::Claim(_) | By::Global | By::Region | By::Role | By::Route,
                )
                | None,
            ) => Reason::LimitShared,
            (Why::Shed, _) => Reason::Shed,
            (Why::Unavailable(_), _) => Reason::LimitUnavailable,
        };
        reason.because(exceeded)
    }
}
