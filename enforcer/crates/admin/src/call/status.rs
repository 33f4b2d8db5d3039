//! How the agent is, and the policy that is in force.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::kernel::KernelStatus;
use super::tokens::IssuerRow;

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
}

/// A named number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counter {
    /// What is counted.
    pub name: String,
    /// Since the start, or since the maps were made.
    pub count: u64,
}
