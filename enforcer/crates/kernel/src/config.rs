//! What the policy may say about the kernel part.
//!
//! Plain data, checked by whoever parses the policy; [`Kernel`](crate::Kernel) puts it in force.
//! Rates below what a kernel can tell from nothing are raised to it, never the other way round: a
//! budget is at most more generous than it says.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{PerSecond, Prefix};

/// The checked `[kernel]` section of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Interfaces to guard, by name.
    pub interfaces: Vec<String>,
    /// Where in the receive path to sit.
    pub attach: Attach,
    /// What is done with packets that go out.
    pub egress: Egress,
    /// What a match does.
    pub mode: Mode,
    /// What sources may send.
    pub budgets: Budgets,
    /// Blocks that the kernel may hold, for each address family.
    pub blocks: u32,
    /// Sources whose budget is remembered: so many IPv4 addresses, and a quarter as many IPv6 /64s.
    pub sources: u32,
    /// What a match does when no agent has been heard of for a while.
    pub on_agent_loss: OnAgentLoss,
    /// Folder on a bpf file system that keeps maps and links alive without the agent.
    pub pins: PathBuf,
}

/// Where in the receive path to sit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// The first that the interface has, in the order of the others.
    Auto,
    /// Only in the driver.
    Native,
    /// Only in the generic path: after the kernel made its packet buffer, before anybody else.
    Generic,
    /// Only at traffic control, beside other programs: kernel 6.6 or newer.
    Tcx,
    /// Only at traffic control, as a filter of its `clsact` queueing discipline.
    Clsact,
}

/// What is done with packets that go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// Those to blocked peers are dropped, all are counted by destination.
    Contain,
    /// Counted by destination.
    Count,
    /// Nothing.
    Off,
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

/// What a match does when no agent has been heard of for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAgentLoss {
    /// What it did.
    Keep,
    /// Count and report, and let pass.
    Observe {
        /// After this time without a sign of life.
        lease: Duration,
    },
}

/// What sources may send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// Everybody who is in no class; `None`: as much as they like.
    pub default: Option<Budget>,
    /// Networks with a budget of their own; the longest network wins.
    pub classes: Vec<BudgetClass>,
    /// Only what goes to these ports is paid for, at most eight; empty: everything.
    pub ports: Vec<u16>,
    /// From so many new sources per second on, newcomers share a budget.
    pub flood: Option<PerSecond>,
    /// When a network answers for its parts.
    pub escalate: Option<Escalate>,
}

/// Networks with a budget of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetClass {
    /// What the policy calls it.
    pub name: Arc<str>,
    /// Whose it is.
    pub networks: Vec<Prefix>,
    /// What each source in them may send; `None`: as much as it likes.
    pub budget: Option<Budget>,
}

/// What one source may send: an IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Frames.
    pub packets: Option<Packets>,
    /// Their bytes.
    pub bytes: Option<Bytes>,
    /// New TCP connections.
    pub syns: Option<Packets>,
    /// Who exceeds it has none for this long; zero: only what is over is lost.
    pub penalty: Duration,
    /// Count and report, and let pass.
    pub observe: bool,
}

/// A rate of frames and how many may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packets {
    /// Refilled at this rate.
    pub rate: PerSecond,
    /// The most that can be saved up.
    pub burst: NonZeroU32,
}

/// A rate of bytes and how many may come at once; both at least 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Refilled at this rate, per second.
    pub rate: u64,
    /// The most that can be saved up.
    pub burst: u64,
}

/// When an IPv6 network answers for its parts: /64s make their /56, /56s their /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escalate {
    /// So many parts exceed their budgets,
    pub sources: NonZeroU32,
    /// within this time.
    pub within: Duration,
    /// It answers for this long.
    pub for_: Duration,
}
