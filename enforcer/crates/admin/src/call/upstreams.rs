//! Upstreams and their hosts: how they do, and what operators make of them.

use enforcer_model::{Author, DecisionId, Expiry, Timestamp};
use serde::{Deserialize, Serialize};

/// What becomes of upstreams, or how they do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum UpstreamOrder {
    /// How they do.
    List {
        /// One of them, by its name.
        upstream: Option<String>,
    },
    /// Takes hosts out, or puts them back.
    Change {
        /// `orders`, or `orders/10.0.4.2:8443`.
        target: String,
        /// What is to become of it.
        wish: HostWish,
        /// How long; none: until it is taken back.
        ttl_seconds: Option<u64>,
        /// The operator's words.
        reason: Option<String>,
        /// Also where no host would be left that is well.
        #[serde(default)]
        force: bool,
        /// The decision that it carries out or takes back; none: an operator's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decision: Option<DecisionId>,
    },
}

/// What is to become of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostWish {
    /// No new requests; those under way finish.
    Drain,
    /// The end of a drain.
    Undrain,
    /// No new requests; those under way are cut.
    Isolate,
    /// The end of a drain or an isolation.
    Restore,
}

/// Every upstream that was asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Upstreams {
    /// In the order of the policy.
    pub upstreams: Vec<UpstreamRow>,
    /// What operators have decided about hosts that the policy in force does not name.
    pub waiting: Vec<HostOrder>,
}

/// One upstream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpstreamRow {
    /// As the policy names it.
    pub name: String,
    /// Which of its tiers is asked: 0 is the policy's `hosts`, 1 its first `backup`.
    pub tier: u64,
    /// Whether its breaker keeps requests away.
    pub breaker_open: bool,
    /// Until one request is let through to see.
    pub breaker_left_ms: Option<u64>,
    /// Why another tier is asked, or the breaker is open.
    pub cause: Option<String>,
    /// Requests that have come to an end.
    pub requests: u64,
    /// Of those, the ones that it failed.
    pub failures: u64,
    /// Requests that were sent once more.
    pub retries: u64,
    /// Retries that were wanted and not within the budget.
    pub retries_refused: u64,
    /// Those in front first.
    pub hosts: Vec<HostRow>,
}

/// One host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostRow {
    /// As the policy writes it.
    pub name: String,
    /// Where its name leads.
    pub address: Option<String>,
    /// 0 for the policy's `hosts`.
    pub tier: u64,
    /// Its share.
    pub weight: u16,
    /// Whether it is asked.
    pub state: HostState,
    /// Why it is not.
    pub cause: Option<String>,
    /// For how long it is not, as far as that is known.
    pub left_ms: Option<u64>,
    /// Requests that it has.
    pub in_flight: u64,
    /// Requests that have come to an end.
    pub requests: u64,
    /// Of those, the ones that it failed.
    pub failures: u64,
    /// How long the head of an answer takes, as a moving average.
    pub latency_us: Option<u64>,
    /// Open connections.
    pub connections: u64,
    /// What an operator has decided about it.
    pub order: Option<HostOrder>,
}

/// Whether a host is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostState {
    /// An operator takes it out; what it has goes on.
    Draining,
    /// It failed too often and rests.
    Ejected,
    /// An operator has taken it out.
    Isolated,
    /// It has just come (back) and does not have its full share yet.
    Starting,
    /// Its health checks fail.
    Unhealthy,
    /// Its name leads nowhere.
    Unresolved,
    /// It is asked.
    Up,
}

/// What an operator has decided about a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostOrder {
    /// As the policy names it.
    pub upstream: String,
    /// As the policy writes it, or its address.
    pub host: String,
    /// Drain or isolate.
    pub wish: HostWish,
    /// When it was decided.
    pub since: Timestamp,
    /// When it ends.
    pub until: Expiry,
    /// Who decided.
    pub author: Author,
    /// The operator's words.
    pub reason: Option<String>,
    /// The decision that it carries out; none: an operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionId>,
    /// An operator's own that holds again when the decision is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<Self>>,
}

/// What became of hosts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpstreamChanged {
    /// As it was named.
    pub target: String,
    /// What was asked for.
    pub wish: HostWish,
    /// The hosts that are meant, read back afterwards.
    pub hosts: Vec<HostRow>,
    /// How each of them was, in the same order.
    pub before: Vec<HostState>,
    /// Requests under way that were cut.
    pub cut: u64,
    /// When it ends by itself.
    pub until: Option<Expiry>,
    /// Whether it was so before, by somebody else's word and for as long: nothing was changed.
    #[serde(default)]
    pub stood: bool,
    /// Why a restart would forget the change.
    pub not_stored: Option<String>,
    /// Number of the audit record.
    #[serde(default)]
    pub audit: Option<u64>,
}

impl HostOrder {
    /// Whether what `decision` wishes until then is so already, by another word than its own.
    pub fn outlasts(&self, wish: HostWish, until: Expiry, decision: Option<DecisionId>) -> bool {
        let is_long = match (self.until, until) {
            (Expiry::Never, _) => true,
            (Expiry::At(_), Expiry::Never) => false,
            (Expiry::At(own), Expiry::At(other)) => own >= other,
        };
        self.decision != decision && self.wish == wish && is_long
    }
}

impl HostState {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Ejected => "ejected",
            Self::Isolated => "isolated",
            Self::Starting => "starting",
            Self::Unhealthy => "unhealthy",
            Self::Unresolved => "unresolved",
            Self::Up => "up",
        }
    }

    /// Whether it takes requests.
    pub const fn is_well(self) -> bool {
        match self {
            Self::Starting | Self::Up => true,
            Self::Draining
            | Self::Ejected
            | Self::Isolated
            | Self::Unhealthy
            | Self::Unresolved => false,
        }
    }
}

impl HostWish {
    /// The verb of the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::Isolate => "isolate",
            Self::Restore => "restore",
        }
    }

    /// Whether it takes a host out.
    pub const fn takes_out(self) -> bool {
        matches!(self, Self::Drain | Self::Isolate)
    }
}
