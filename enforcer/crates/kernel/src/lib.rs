//! The kernel half's loader: attaches the program, keeps its maps, and is the only user of aya.
//!
//! [`Kernel`] owns the program and the maps of one host. What it puts in force outlives the
//! process: maps and links are pinned, and the next agent adopts them without a gap in which a
//! blocked packet passes. Every write is read back before it is reported. What this crate does not
//! do: decide whom to block, remember why, or retry on its own.

mod attach;
mod blocks;
mod bpf;
mod budgets;
mod config;
mod counters;
mod detach;
mod error;
mod events;
mod explain;
mod family;
mod interface;
mod kernel;
mod ladder;
mod lease;
mod links;
mod lists;
mod mapped;
mod maps;
mod netlink;
mod newcomers;
mod object;
mod pins;
mod program;
mod qdisc;
mod ring;
mod selftest;
mod shapes;
mod sockets;
mod sources;
mod switch;
mod system;
mod table;
mod time;
mod upgrade;

pub use enforcer_ebpf::{Direction, Reason, Verdict};

pub use config::{
    Attach, Budget, BudgetClass, Budgets, Bytes, Config, Egress, Escalate, Mode, OnAgentLoss,
    Packets,
};
pub use counters::{Counter, Counters};
pub use error::{AttachError, BlockError, DetachError, MapError, OpenError};
pub use events::{Event, Events, Sample};
pub use explain::{BudgetLeft, Explained};
pub use interface::{Attachment, Hook, Interface, Program};
pub use kernel::{Cursor, Entry, Installed, Kernel, Loaded, Occupancy, Swept};
pub use lease::Lease;
pub use newcomers::refuse_newcomers;
pub use object::object_sha256;
pub use sockets::{Closed, close_sockets};
pub use sources::{Flood, PeerTraffic, Talker};
pub use time::{ClockSync, clock_sync};
pub use upgrade::Upgraded;
