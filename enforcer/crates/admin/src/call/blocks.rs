//! One block: asked for, in force, read back, ended.

use std::fmt;
use std::net::IpAddr;

use enforcer_model::{Block, BlockId, Target, Timestamp};
use serde::{Deserialize, Serialize};

use super::lists::ListRow;

/// A quarantine as asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// Whom.
    pub target: Target,
    /// For how long; none is for ever.
    pub ttl_seconds: Option<u64>,
    /// Why.
    pub reason: String,
    /// The target typed again by an operator who was warned.
    pub override_guard: Option<Target>,
    /// Say what would happen, do nothing.
    pub dry_run: bool,
    /// The peer of the operator's own SSH session.
    pub ssh_peer: Option<IpAddr>,
}

/// A block by its id or by whom it hits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// `B-7K2Q4XW`.
    Id(BlockId),
    /// `203.0.113.7`, `key:…`.
    Target(Target),
}

/// A block that is in force, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Blocked {
    /// The decision.
    pub block: Block,
    /// An earlier block of the same target that this one replaced.
    pub replaced: Option<BlockId>,
    /// What the kernel map holds, read back; none for a key or when the kernel part is off.
    pub kernel: Option<InKernel>,
    /// Why the kernel does not enforce it, where one might expect that it did.
    pub kernel_off: Option<String>,
    /// Whether the policy has a kernel section, so that without it the block is a partial one.
    pub kernel_wanted: bool,
    /// Whether layer 7 refuses the target, read back.
    pub layer7: bool,
    /// Why the decision is not on disk, and would be forgotten by a restart of the machine.
    pub not_stored: Option<String>,
    /// Connections of the proxy that were closed.
    pub connections_closed: u64,
    /// Other sockets of this host that were closed.
    #[serde(default)]
    pub sockets_closed: u64,
    /// Other blocks and lists that cover the target or lie inside it, one line each.
    #[serde(default)]
    pub overlaps: Vec<String>,
    /// Number of the audit record; none for a dry run.
    pub audit: Option<u64>,
    /// Whether this was a rehearsal.
    pub dry_run: bool,
    /// What the operator overrode.
    pub overridden: Vec<String>,
}

/// One entry of the kernel's block map.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InKernel {
    /// `eth1 xdp-native`, one for each attached interface.
    pub interfaces: Vec<String>,
    /// From the decision to the entry read back.
    pub applied_us: u64,
    /// Until it ends by itself; none is never.
    pub remaining_seconds: Option<u64>,
    /// Packets dropped by this entry.
    pub packets: u64,
    /// Bytes dropped by this entry.
    pub bytes: u64,
    /// Counts only, drops nothing.
    pub observe: bool,
}

/// A block that ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Released {
    /// The decision that ended.
    pub block: Block,
    /// Whether the kernel map still held it.
    pub kernel: bool,
    /// Packets it had dropped.
    pub packets: u64,
    /// Whether layer 7 still held it.
    pub layer7: bool,
    /// What did not work: a layer that may still hold it.
    pub problems: Vec<String>,
    /// Number of the audit record.
    pub audit: Option<u64>,
}

/// A page of blocks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Blocks {
    /// One each, oldest first.
    pub blocks: Vec<BlockRow>,
    /// Every list; on the first page only.
    #[serde(default)]
    pub lists: Vec<ListRow>,
    /// Ask on from here; none: these were the last.
    #[serde(default)]
    pub next: Option<Place>,
}

/// Where a page of blocks ended: behind the one that was decided then, of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// When it was decided.
    pub since: Timestamp,
    /// Its name.
    pub id: BlockId,
}

/// One decision and its effects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BlockRow {
    /// The decision.
    #[serde(flatten)]
    pub block: Block,
    /// What the kernel holds.
    pub kernel: Option<InKernel>,
    /// Whether layer 7 refuses the target.
    pub layer7: bool,
}

/// The verdict on one address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Why {
    /// Asked about.
    pub address: IpAddr,
    /// `pass`, `drop` (in the kernel) or `refuse` (at layer 7).
    pub verdict: String,
    /// In words.
    pub because: String,
    /// The lists that protect it.
    pub protected_by: Vec<String>,
    /// Every block that covers it.
    pub blocks: Vec<BlockRow>,
    /// Every list that covers it, one line each.
    #[serde(default)]
    pub lists: Vec<String>,
    /// What the kernel would do with its next packet, as the maps are now; none: it is off.
    #[serde(default)]
    pub kernel: Option<KernelVerdict>,
}

/// The kernel's verdict on a source, step by step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelVerdict {
    /// `pass`, `drop`.
    pub verdict: String,
    /// `blocked`, `budget`, `allowed`, …
    pub reason: String,
    /// One line each: the map that was asked, what it said, what is left, what it has counted.
    pub steps: Vec<String>,
}

/// The outcome of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verified {
    /// Decisions in the store that are in force.
    pub decisions: u64,
    /// Entries in the kernel maps that have not expired.
    pub kernel_entries: u64,
    /// Entries at layer 7 that have not expired.
    pub layer7_entries: u64,
    /// One line for each difference that was found.
    pub differences: Vec<String>,
    /// One line for each that is left after mending; the same as `differences` without it.
    pub remaining: Vec<String>,
    /// Why the kernel could not be compared.
    pub kernel_off: Option<String>,
    /// Number of the audit record of a repair.
    pub audit: Option<u64>,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Target(target) => target.fmt(f),
        }
    }
}
