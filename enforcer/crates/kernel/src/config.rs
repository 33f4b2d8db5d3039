//! What the policy may say about the kernel part.

use std::num::NonZeroU32;
use std::path::PathBuf;

use enforcer_model::PerSecond;

/// The checked `[kernel]` section of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Interfaces to guard, by name.
    pub interfaces: Vec<String>,
    /// Where in the receive path to sit.
    pub attach: Attach,
    /// What a match does.
    pub mode: Mode,
    /// What one source may send; `None`: as much as it likes.
    pub budget: Option<Budget>,
    /// Blocks that fit into the kernel, for each address family.
    pub blocks: u32,
    /// Sources whose budget is remembered, for each address family.
    pub sources: u32,
    /// Folder on a bpf file system that keeps maps and links alive without the agent.
    pub pins: PathBuf,
}

/// A packet budget for each source: an IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Refilled at this rate.
    pub packets: PerSecond,
    /// The most that can be saved up.
    pub burst: NonZeroU32,
}

/// Where in the receive path to sit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// In the driver where it can, else in the generic path.
    Auto,
    /// Only in the generic path: works on every interface, after the kernel made its packet buffer.
    Generic,
    /// Only in the driver.
    Native,
}

/// What a match does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Drop.
    Enforce,
    /// Count and report, and let pass.
    Observe,
    /// Look at nothing.
    Off,
}
