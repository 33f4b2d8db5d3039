//! What operators see of upstreams, what they can ask for, and what they are told.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One upstream at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamView {
    /// As the policy names it.
    pub name: Arc<str>,
    /// Which of its tiers is asked: 0 is the policy's `hosts`, 1 its first `backup`.
    pub tier: usize,
    /// Whether it is asked at all.
    pub breaker: BreakerState,
    /// Requests that have come to an end, well or not.
    pub requests: u64,
    /// Of those, the ones that it failed.
    pub failures: u64,
    /// Requests that were sent once more.
    pub retries: u64,
    /// Retries that were wanted and not within the budget.
    pub retries_refused: u64,
    /// Its hosts, those in front first; a name has one for every address.
    pub hosts: Vec<HostView>,
}

/// One host at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// As the policy writes it.
    pub name: Arc<str>,
    /// Where it is; none for a name that has led nowhere so far.
    pub address: Option<Arc<str>>,
    /// 0 for the policy's `hosts`.
    pub tier: usize,
    /// As the policy says.
    pub weight: u16,
    /// Whether it is asked.
    pub state: State,
    /// Requests that it has.
    pub in_flight: u64,
    /// Requests that have come to an end, well or not.
    pub requests: u64,
    /// Of those, the ones that it failed.
    pub failures: u64,
    /// How long the head of an answer takes, as a moving average; none before the first.
    pub latency: Option<Duration>,
    /// Open connections, in use or not, over all threads.
    pub connections: u64,
}

/// Whether a host is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It failed too many requests.
    Ejected {
        /// What it did.
        why: Why,
        /// Until it is asked again.
        left: Duration,
    },
    /// The operator took it out, and its requests were cut.
    Isolated,
    /// The operator takes it out; what it has goes on.
    Draining {
        /// Requests that it still has.
        left: u64,
    },
    /// It has just come (back) and does not have its full share yet.
    Starting,
    /// Its name has led nowhere so far.
    Unresolved,
    /// It does not answer the question for its health as it should.
    Unhealthy {
        /// What it answered last.
        why: Arc<str>,
        /// For how long.
        lasting: Duration,
    },
    /// It is asked.
    Up,
}

/// Why a host was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// So many failures in a row.
    InARow(u32),
    /// Too many of its requests.
    Rate {
        /// Failed.
        failures: u64,
        /// In the same time.
        requests: u64,
    },
}

/// Whether an upstream is asked at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// It is.
    Closed,
    /// It is not.
    Open {
        /// Until one request is let through to see; zero when that is under way.
        left: Duration,
    },
}

/// What an operator can ask of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// No new requests; what they have goes on.
    Drain,
    /// The end of [`Self::Drain`].
    Undrain,
    /// No new requests, and what they have is cut.
    Isolate,
    /// The end of everything that an operator wished.
    Restore,
}

/// There is no such upstream or host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// No such host.
    #[error("upstream `{upstream}` has no host `{host}`{}", meant.hint())]
    Host {
        /// Where it was looked for.
        upstream: Arc<str>,
        /// What was asked for.
        host: String,
        /// What may have been meant.
        meant: Meant,
    },
    /// No such upstream.
    #[error("no upstream is called `{upstream}`{}", meant.hint())]
    Upstream {
        /// What was asked for.
        upstream: String,
        /// What may have been meant.
        meant: Meant,
    },
}

/// What may have been meant by a name that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meant(pub Option<Arc<str>>);

/// Something changed at an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// As the policy names it.
    pub upstream: Arc<str>,
    /// The host, where it is one host's matter: as the policy writes it, and its address if that
    /// says more.
    pub host: Option<Arc<str>>,
    /// What.
    pub what: Happening,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// It is asked again, after the breaker was open.
    BreakerClosed,
    /// It is not asked for a while.
    BreakerOpened {
        /// Requests that failed.
        failures: u64,
        /// In the same time.
        requests: u64,
    },
    /// The host is left out for a while.
    Ejected {
        /// What it did.
        why: Why,
        /// For how long.
        period: Duration,
    },
    /// Others are asked from here on.
    FailedOver {
        /// The tier that was asked.
        from: usize,
        /// The tier that is asked.
        to: usize,
        /// How many of the former are well.
        why: Few,
    },
    /// The host answers as it should.
    Healthy,
    /// The operator's wish is in force.
    Ordered(Wish),
    /// The name leads elsewhere.
    Resolved {
        /// Addresses that are new.
        added: Vec<std::net::SocketAddr>,
        /// Addresses that are gone.
        removed: Vec<std::net::SocketAddr>,
    },
    /// The name could not be looked up; what it led to last is kept.
    ResolveFailed {
        /// The system's words.
        why: Arc<str>,
    },
    /// The host is asked again, after it was ejected.
    Returned,
    /// The host does not answer the question for its health as it should.
    Unhealthy {
        /// What it answered.
        why: Arc<str>,
    },
}

/// How many hosts of a tier are well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Few {
    /// So many.
    pub well: usize,
    /// Of so many that the operator lets be asked.
    pub of: usize,
}

impl Meant {
    fn hint(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InARow(count) => write!(f, "{count} failures in a row"),
            Self::Rate { failures, requests } => write!(f, "{failures} of {requests} failed"),
        }
    }
}

impl fmt::Display for Few {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} hosts are well", self.well, self.of)
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::Isolate => "isolate",
            Self::Restore => "restore",
        })
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BreakerClosed => f.write_str("asked again"),
            Self::BreakerOpened { failures, requests } => {
                write!(f, "not asked for a while: {failures} of {requests} requests failed")
            }
            Self::Ejected { why, period } => write!(f, "ejected for {period:?}: {why}"),
            Self::FailedOver { from, to, why } => {
                write!(f, "tier {to} is asked instead of tier {from}, where {why}")
            }
            Self::Healthy => f.write_str("healthy"),
            Self::Ordered(wish) => write!(f, "{wish}, as ordered"),
            Self::Resolved { added, removed } => {
                write!(f, "resolved anew: {} added, {} removed", added.len(), removed.len())
            }
            Self::ResolveFailed { why } => {
                write!(f, "not resolved, the last addresses are kept: {why}")
            }
            Self::Returned => f.write_str("returned"),
            Self::Unhealthy { why } => write!(f, "unhealthy: {why}"),
        }
    }
}
