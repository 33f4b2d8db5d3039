//! How the agent is, and the policy that is in force.

use std::path::PathBuf;

use enforcer_model::Prefix;
use serde::{Deserialize, Serialize};

use super::anchors::AnchorStatus;
use super::cache::CacheStats;
use super::certificates::CertificateRow;
use super::kernel::KernelStatus;
use super::tokens::IssuerRow;
use super::upstreams::UpstreamRow;

/// How the agent is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Since it serves.
    pub uptime_seconds: u64,
    /// Policy in force.
    pub policy: PolicyStatus,
    /// One line each: `public 0.0.0.0:8443 tls`.
    pub listeners: Vec<String>,
    /// The incident level in force.
    #[serde(default)]
    pub incident: u8,
    /// Whose tokens are believed, and whether they can be checked.
    #[serde(default)]
    pub issuers: Vec<IssuerRow>,
    /// Connections of clients, and what they have under way.
    #[serde(default)]
    pub connections: ConnectionsStatus,
    /// The upstreams, in the order of the policy.
    #[serde(default)]
    pub upstreams: Vec<UpstreamRow>,
    /// The answers that are kept.
    #[serde(default)]
    pub cache: CacheStats,
    /// Certificates that somebody has to see to.
    #[serde(default)]
    pub certificates: Vec<CertificateRow>,
    /// Endpoints that are disabled.
    #[serde(default)]
    pub endpoints_disabled: u64,
    /// Endpoints that may be used less.
    #[serde(default)]
    pub endpoints_tightened: u64,
    /// The kernel half.
    pub kernel: KernelStatus,
    /// Decisions in force, lists aside.
    pub blocks: u64,
    /// Lists in force.
    #[serde(default)]
    pub lists: u64,
    /// Networks of these lists.
    #[serde(default)]
    pub listed_networks: u64,
    /// Of the audit log.
    pub audit: AuditStatus,
    /// Counters of the proxy since the start, by name.
    pub requests: Vec<Counter>,
    /// Capabilities that the agent still holds, such as `CAP_NET_ADMIN`.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// Connections of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionsStatus {
    /// All that are open.
    pub open: u64,
    /// As many as there may be.
    pub total: u64,
    /// Those without a request under way.
    pub idle: u64,
    /// Those with one.
    pub active: u64,
    /// Those of which it is not known yet what they are, such as TLS handshakes.
    pub handshakes: u64,
    /// Requests under way.
    pub requests: u64,
    /// By listener and protocol.
    pub by_listener: Vec<ConnectionRow>,
    /// Threads that did not tell in time what they have.
    pub threads_silent: u64,
}

/// Connections of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRow {
    /// As the policy names it.
    pub listener: String,
    /// What is spoken.
    pub protocol: ConnectionProtocol,
    /// Those without a request under way.
    pub idle: u64,
    /// Those with one.
    pub active: u64,
    /// Requests under way.
    pub requests: u64,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectionProtocol {
    /// HTTP/1.1.
    #[serde(rename = "http1")]
    Http1,
    /// HTTP/2.
    #[serde(rename = "http2")]
    Http2,
    /// Something else, by way of an upgrade.
    #[serde(rename = "tunnel")]
    Tunnel,
}

/// Who has most connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sources {
    /// Those with most first.
    pub sources: Vec<SourceRow>,
}

/// The connections of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRow {
    /// An address; of IPv6, a /64.
    pub source: Prefix,
    /// Open ones.
    pub connections: u64,
    /// Of those, TLS handshakes.
    pub handshakes: u64,
}

impl ConnectionProtocol {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tunnel => "tunnel",
        }
    }
}

/// Policy in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Its file.
    pub file: PathBuf,
    /// Of the file's bytes, hex.
    pub sha256: String,
    /// Routes, roles, rules.
    pub summary: String,
}

/// The audit log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditStatus {
    /// Where it lies.
    pub directory: PathBuf,
    /// Records under a signed checkpoint.
    pub records: u64,
    /// Root hash, hex.
    pub root: String,
    /// Why it does not take records.
    pub failed: Option<String>,
    /// How far others know it.
    #[serde(default)]
    pub anchors: AnchorStatus,
}

/// A named number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counter {
    /// What is counted.
    pub name: String,
    /// Since the start, or since the maps were made.
    pub count: u64,
}
