//! The kernel half: its state, what is done to it, and who sends what.

use enforcer_model::Prefix;
use serde::{Deserialize, Serialize};

use super::status::Counter;

/// What becomes of the kernel half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelVerb {
    /// Put it in force on the policy's interfaces, with every decision.
    Attach,
    /// Take it off this host; decisions stay at layer 7 and in the store.
    Detach,
    /// Put this program in the place of the one that runs, on the same maps.
    Upgrade,
    /// Nothing.
    Status,
}

/// What was done to the kernel half, and how it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KernelReport {
    /// What was asked.
    pub verb: KernelVerb,
    /// One line for each thing that was done.
    pub done: Vec<String>,
    /// One line for each thing that was not.
    pub problems: Vec<String>,
    /// Afterwards, read back.
    pub kernel: KernelStatus,
    /// Number of the audit record, where something was changed.
    pub audit: Option<u64>,
}

/// The kernel half.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct KernelStatus {
    /// `enforce`, `observe`, `off`.
    pub mode: String,
    /// Why it is off or weaker than the policy asks.
    pub problem: Option<String>,
    /// `eth1 xdp-native` each.
    pub interfaces: Vec<String>,
    /// SHA-256 of the embedded object.
    pub object: Option<String>,
    /// Packets by verdict and reason.
    pub packets: Vec<Counter>,
    /// The same interfaces in detail.
    #[serde(default)]
    pub hooks: Vec<HookStatus>,
    /// What outgoing packets meet: `contain`, `count`, `off`.
    #[serde(default)]
    pub egress: String,
    /// What happens when the agent is gone; none: what is in force stays.
    #[serde(default)]
    pub lease: Option<LeaseStatus>,
    /// None: the policy has no `flood`, and nothing has escalated.
    #[serde(default)]
    pub flood: Option<FloodStatus>,
    /// How full the block tables are.
    #[serde(default)]
    pub occupancy: Option<OccupancyStatus>,
    /// Of all maps as created, in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
}

/// One guarded interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// Its name.
    pub interface: String,
    /// Where incoming packets are judged: `xdp-native`, `xdp-generic`, `tcx`, `clsact`.
    pub ingress: String,
    /// Where outgoing packets are; none: nowhere.
    pub egress: Option<String>,
    /// Longest packet.
    pub mtu: u32,
    /// Programs of others: `xdp 17 (name)`.
    pub foreign: Vec<String>,
}

/// A right to drop that ends when the agent does not renew it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// Its full length.
    pub length_ms: u64,
    /// What is left; 0: over, so that matches are only counted.
    pub remaining_ms: u64,
}

/// More newcomers than anybody has clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloodStatus {
    /// Whether newcomers share a budget now.
    pub active: bool,
    /// In the last full or the current second.
    pub newcomers: u64,
    /// Newcomers in a second from which on it is a flood; none: never.
    pub threshold: Option<u64>,
    /// Networks that answer for their parts.
    pub escalated: Vec<Prefix>,
}

/// How full the block tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OccupancyStatus {
    /// IPv4 entries.
    pub v4: u64,
    /// IPv6 entries.
    pub v6: u64,
    /// The most of each family.
    pub capacity: u64,
}

/// Who sends most, and where most goes to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Talkers {
    /// Most packets first.
    pub sources: Vec<Talker>,
    /// Most bytes first; empty unless outgoing packets are counted.
    pub destinations: Vec<Peer>,
    /// See [`KernelStatus::flood`].
    pub flood: Option<FloodStatus>,
    /// Why there is nothing to tell.
    pub kernel_off: Option<String>,
}

/// A source that the kernel keeps a budget for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Talker {
    /// An IPv4 address, an IPv6 /64, or a network that answers for its parts.
    pub source: Prefix,
    /// Since it was first heard of.
    pub packets: u64,
    /// Since it was last heard of.
    pub idle_ms: u64,
    /// Whether it is over its budget.
    pub over: bool,
}

/// A destination of this host's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// An IPv4 address or an IPv6 /64.
    pub destination: Prefix,
    /// Since the first one.
    pub packets: u64,
    /// Since the first one.
    pub bytes: u64,
    /// Since the last one.
    pub idle_ms: u64,
}
