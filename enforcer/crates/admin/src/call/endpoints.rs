//! Endpoints, routes and callers that are disabled, or may be used less, for a while.

use enforcer_model::{Author, DecisionId, Expiry, Timestamp};
use serde::{Deserialize, Serialize};

/// What becomes of an endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum EndpointOrder {
    /// Every request is refused.
    Disable {
        /// `DELETE api.example.com/v1/export/{**}`.
        endpoint: String,
        /// What clients are told.
        status: u16,
        /// How long; none: until it is enabled.
        ttl_seconds: Option<u64>,
        /// Ends requests under way, too.
        #[serde(default)]
        cut: bool,
        /// The operator's words.
        reason: String,
        /// The decision that it carries out; none: an operator's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decision: Option<DecisionId>,
    },
    /// It serves again.
    Enable {
        /// A rule's id, or the endpoint as it was disabled.
        which: String,
        /// For the record.
        reason: Option<String>,
    },
    /// Everything that an operator has decided and that still holds.
    List,
    /// The limit of an operator's ends.
    Relax {
        /// A rule's id, or the endpoint as it was tightened.
        which: String,
        /// For the record.
        reason: Option<String>,
    },
    /// Callers must show more than the policy asks for.
    Require {
        /// `route:orders`.
        endpoint: String,
        /// `mtls`, `dpop`, `bound`, `token`, `key`; empty: what the policy requires of the route at the
        /// next higher incident level, else a client certificate.
        what: Vec<String>,
        /// How long; none: until it is relaxed.
        ttl_seconds: Option<u64>,
        /// The operator's words.
        reason: String,
        /// The decision that it carries out; none: an operator's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decision: Option<DecisionId>,
    },
    /// The rates that requests are counted by shrink to a share of themselves.
    Shrink {
        /// `route:orders`, `user:token:corp/alice`, `key:k7Qx2mP9aB3c` or `source:203.0.113.0/24`.
        endpoint: String,
        /// 1 to 99.
        percent: u8,
        /// How long; none: until it is relaxed.
        ttl_seconds: Option<u64>,
        /// The operator's words.
        reason: String,
        /// The decision that it carries out; none: an operator's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decision: Option<DecisionId>,
    },
    /// Requests over this rate are refused.
    Tighten {
        /// `POST api.example.com/v1/login`.
        endpoint: String,
        /// `5/m`.
        rate: String,
        /// How many at once; none: what the rate's count says.
        burst: Option<u32>,
        /// Whose requests count together.
        by: TightenBy,
        /// How long; none: until it is relaxed.
        ttl_seconds: Option<u64>,
        /// The operator's words.
        reason: String,
    },
}

/// Whose requests count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TightenBy {
    /// Those of one address; of IPv6, those of one /64.
    Ip,
    /// Those of one caller; where nobody is identified, those of one address.
    Principal,
}

/// What an operator has decided about an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRow {
    /// Such as `EP-3`.
    pub id: String,
    /// Method and pattern.
    pub endpoint: String,
    /// What holds.
    pub measure: EndpointMeasure,
    /// When it was decided.
    pub since: Timestamp,
    /// When it ends.
    pub until: Expiry,
    /// Who decided.
    pub author: Author,
    /// The operator's words.
    pub reason: String,
    /// The decision that it carries out; none: an operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionId>,
    /// Requests that it has refused since it was decided, or since the agent started.
    pub refused: u64,
    /// Routes of the policy in force whose requests it may meet.
    pub routes: Vec<String>,
}

/// What holds for an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum EndpointMeasure {
    /// Every request is refused.
    Disabled {
        /// What clients are told.
        status: u16,
    },
    /// Callers must show this as well.
    Required {
        /// `mtls`, `dpop`, `bound`, `token`, `key`.
        what: Vec<String>,
    },
    /// The rates that requests are counted by are this share of themselves.
    Shrunk {
        /// 1 to 99.
        percent: u8,
    },
    /// Requests over this rate are refused.
    Tightened {
        /// `5/m`.
        rate: String,
        /// How many at once.
        burst: u32,
        /// Whose requests count together.
        by: TightenBy,
    },
}

/// Everything that holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoints {
    /// Oldest first.
    pub endpoints: Vec<EndpointRow>,
}

/// What became of an endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointChanged {
    /// The rule, as it is or as it ended.
    pub rule: EndpointRow,
    /// Whether it has ended.
    pub ended: bool,
    /// What the rule said before.
    pub before: Option<EndpointRow>,
    /// Whether requests meet it, read back.
    pub applied: bool,
    /// Requests under way that were cut.
    pub cut: u64,
    /// Why a restart would forget the change.
    pub not_stored: Option<String>,
    /// Number of the audit record.
    #[serde(default)]
    pub audit: Option<u64>,
}

impl std::fmt::Display for TightenBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::Principal => "principal",
        })
    }
}

impl std::fmt::Display for EndpointMeasure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disabled { status } => write!(f, "disabled with {status}"),
            Self::Required { what } => write!(f, "requires {}", what.join(" and ")),
            Self::Shrunk { percent } => write!(f, "limits at {percent} %"),
            Self::Tightened { rate, burst, by } => write!(f, "{rate} burst {burst} by {by}"),
        }
    }
}
