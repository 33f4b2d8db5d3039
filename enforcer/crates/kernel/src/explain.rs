//! The verdict that the kernel would give now, step by step.
//!
//! The same lines that the kernel runs, compiled for this host, over the same memory that the
//! kernel reads; only that nothing is spent, counted or reported.

use enforcer_ebpf::{Reason, Verdict};
use enforcer_model::Prefix;

use crate::{Installed, Mode};

/// What would happen to a packet from an address, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// What would happen.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// What was looked at, in order, in words.
    pub steps: Vec<String>,
    /// The block that names the address, whatever the verdict.
    pub block: Option<Installed>,
    /// What the address may still send; `None`: as much as it likes.
    pub budget: Option<BudgetLeft>,
    /// The network of the allow list that covers it.
    pub allowed_by: Option<Prefix>,
    /// No agent has been heard of for longer than its lease: nothing is dropped.
    pub lease_over: bool,
    /// What a match does.
    pub mode: Mode,
}

/// What is left of a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetLeft {
    /// The name of its class; `None`: everybody's.
    pub class: Option<String>,
    /// Whose budget it is: the address, its /64, or a wider network that answers for it.
    pub payer: Prefix,
    /// Packets that would pass at once; `None`: they are not counted.
    pub packets_left: Option<u64>,
    /// Bytes that would pass at once; `None`: they are not counted.
    pub bytes_left: Option<u64>,
    /// TCP connections that could be opened at once; `None`: they are not counted.
    pub syns_left: Option<u64>,
    /// Packets since it is remembered; `None`: nothing has been heard of it.
    pub packets_seen: Option<u64>,
}
