//! What a policy limits, whom it charges, and what a refusal says.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Principal, Rate, Reason, Rejection, Source};

/// "At most `burst` at once and `rate` in the long run", for each subject on its own.
///
/// Two limits with one name are one: routes that share a name share the buckets behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// As the policy names it.
    pub name: Arc<str>,
    /// Whom it counts.
    pub by: By,
    /// How fast a used-up bucket fills again.
    pub rate: Rate,
    /// How many requests a full bucket admits at once.
    pub burst: NonZeroU32,
}

/// Whom a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The source address; IPv6 by its /64, which one host can fill at will.
    Ip,
    /// The authenticated caller.
    Key,
}

/// One cell of one limit, asked for one subject.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The limit.
    pub limit: &'a Limit,
    /// Whose bucket pays.
    pub subject: Subject<'a>,
}

/// Whose bucket pays.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// An authenticated caller.
    Principal(&'a Principal),
    /// A source address; IPv6 by its /64.
    Source(Source),
}

/// A limit is used up; nothing was taken from any bucket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limit `{limit}` is used up for another {retry_after:?}")]
pub struct Exceeded {
    /// Its name: of several used-up limits the one with the longest wait.
    pub limit: Arc<str>,
    /// Whose bucket is empty.
    pub by: By,
    /// After this time, if nobody else draws on the bucket, the request will be admitted.
    pub retry_after: Duration,
}

impl Limit {
    /// The demand of one request: by key the caller pays, and where there is none the source does.
    pub const fn demand<'a>(&'a self, source: Source, caller: Option<&'a Principal>) -> Demand<'a> {
        let subject = match (self.by, caller) {
            (By::Key, Some(principal)) => Subject::Principal(principal),
            (By::Key, None) | (By::Ip, _) => Subject::Source(source),
        };
        Demand { limit: self, subject }
    }
}

impl Subject<'_> {
    /// Which kind it is.
    pub const fn by(&self) -> By {
        match self {
            Self::Principal(_) => By::Key,
            Self::Source(_) => By::Ip,
        }
    }
}

impl From<Exceeded> for Rejection {
    fn from(exceeded: Exceeded) -> Self {
        let reason = match exceeded.by {
            By::Ip => Reason::LimitSource,
            By::Key => Reason::LimitKey,
        };
        reason.because(exceeded)
    }
}
