//! Answers that are kept: how many, and which are to go.

use serde::{Deserialize, Serialize};

/// What is wanted of the cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CacheOrder {
    /// Answers go.
    Purge {
        /// Which.
        what: CacheWhat,
        /// The operator's words.
        reason: Option<String>,
    },
    /// How it does.
    Stats,
}

/// Which answers are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CacheWhat {
    /// Everything.
    All,
    /// Those to one host.
    Host(String),
    /// Those of a host whose path is this one or lies below it: `api.example.com/v1`.
    Prefix(String),
    /// Those of one route of the policy.
    Route(String),
    /// Those to one URL, with its query: `https://api.example.com/v1/items?page=2`.
    Url(String),
}

/// How the cache does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheStats {
    /// Answers that are kept.
    pub entries: u64,
    /// What they take in memory.
    pub bytes: u64,
    /// What they may take.
    pub memory: u64,
    /// What answers take that are still arriving.
    pub arriving: u64,
    /// Requests answered from the cache while the answer was fresh.
    pub hits: u64,
    /// Requests answered with one that was not fresh, because it may stand in.
    pub stale: u64,
    /// Requests answered after the upstream said that nothing has changed.
    pub revalidated: u64,
    /// Requests that the upstream has answered.
    pub misses: u64,
    /// Requests that waited for another one which asked for the same.
    pub waited: u64,
    /// Answers that came to be kept.
    pub stored: u64,
    /// Answers that gave way to others.
    pub evicted: u64,
    /// Answers that operators removed.
    pub purged: u64,
    /// By route; only those of which something is kept.
    pub routes: Vec<CacheRoute>,
}

/// What is kept of one route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRoute {
    /// As the policy names it.
    pub route: String,
    /// Answers.
    pub entries: u64,
    /// What they take in memory.
    pub bytes: u64,
}

/// What went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CachePurged {
    /// Which were meant, as it is on record: `route orders`.
    pub purged: String,
    /// How many there were.
    pub entries: u64,
    /// Answers that are left.
    pub left: u64,
    /// Number of the audit record.
    #[serde(default)]
    pub audit: Option<u64>,
}

impl std::fmt::Display for CacheWhat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Host(host) => write!(f, "host {host}"),
            Self::Prefix(prefix) => write!(f, "prefix {prefix}"),
            Self::Route(route) => write!(f, "route {route}"),
            Self::Url(url) => write!(f, "url {url}"),
        }
    }
}
