//! The kernel half: what it shares with the agent, and the verdict on a packet.
//!
//! This file and [`table`], [`source`] and [`prefilter`] are the contract: the name of every map,
//! the layout of every key and value. Change a layout, change [`ABI`]; maps of two layouts never
//! share a folder of pins. The other modules are the verdict core, plain Rust over three traits
//! ([`Packet`], [`Tables`], [`Lists`]): `main.rs` compiles it for the kernel with maps behind the
//! traits, tests and `blocks --why` compile the same lines for the host.
//!
//! Nothing here allocates, panics, or knows aya. Values that the kernel and the agent touch at the
//! same time are made of whole 64-bit words, so that no reader ever sees half of a change.

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod budget;
pub mod config;
pub mod escalation;
pub mod events;
pub mod flood;
pub mod packet;
pub mod peers;
pub mod prefilter;
pub mod quarantine;
mod shared;
pub mod source;
pub mod table;
pub mod transport;
pub mod verdict;

use core::fmt;

pub use config::{Config, Lengths, Mode, Ports, Span, TableWord, flag};
pub use events::Event;
pub use packet::{Address, Packet, V4, V6};
pub use shared::Shared;
pub use source::{Class, Set};
pub use table::{Meta, Row, Row4, Row6};
pub use transport::Transport;
pub use verdict::{Lists, Tables, judge_incoming, judge_outgoing};

/// The number of this layout; part of the name of the folder that holds the pins.
pub const ABI: u32 = 2;

/// An expiry that never comes.
pub const NEVER_NS: u64 = u64::MAX;

/// Networks in one family's allow list, and in one family's list of budget classes.
pub const MAX_NETWORKS: u32 = 4096;

/// Bytes of the ring buffer: 3,640 events of 64 bytes and their headers.
pub const EVENT_BYTES: u32 = 256 * 1024;

/// Programs by name.
pub mod program {
    /// XDP: packets that come in.
    pub const XDP: &str = "enforcer_xdp";
    /// Traffic control: packets that come in, where XDP has no place.
    pub const INGRESS: &str = "enforcer_in";
    /// Traffic control: packets that go out.
    pub const EGRESS: &str = "enforcer_out";

    /// All of them.
    pub const ALL: [&str; 3] = [XDP, INGRESS, EGRESS];
}

/// Names of the maps: symbols in the object, files in the folder of pins.
pub mod map {
    /// LPM trie, address in network order → `u32`: networks that are never dropped.
    pub const ALLOW4: &str = "ALLOW4";
    /// LPM trie, address in network order → `u32`: networks that are never dropped.
    pub const ALLOW6: &str = "ALLOW6";
    /// Array of two tables, each an array of [`Row4`](crate::Row4); `CONFIG` says which is in force.
    pub const BLOCK4: &str = "BLOCK4";
    /// Array of two tables, each an array of [`Row6`](crate::Row6); `CONFIG` says which is in force.
    pub const BLOCK6: &str = "BLOCK6";
    /// Array of [`Class`](crate::Class): what a source may send.
    pub const CLASS: &str = "CLASS";
    /// LPM trie, address in network order → number of a class.
    pub const CLASS4: &str = "CLASS4";
    /// LPM trie, address in network order → number of a class.
    pub const CLASS6: &str = "CLASS6";
    /// Array of one [`Config`](crate::Config).
    pub const CONFIG: &str = "CONFIG";
    /// Array of [`Escalation`](crate::escalation::Escalation).
    pub const ESCALATED: &str = "ESCALATED";
    /// Ring buffer of [`Event`](crate::Event).
    pub const EVENTS: &str = "EVENTS";
    /// Array of words: what sources without a place of their own have spent together.
    pub const FLOOD: &str = "FLOOD";
    /// Array of [`Set`](crate::Set): destinations, IPv4 addresses.
    pub const PEER4: &str = "PEER4";
    /// Array of [`Set`](crate::Set): destinations, IPv6 /64s.
    pub const PEER6: &str = "PEER6";
    /// Array of words: which /24s any block touches.
    pub const PREFILTER4: &str = "PREFILTER4";
    /// Array of words: which /48s and /32s any block touches.
    pub const PREFILTER6: &str = "PREFILTER6";
    /// Array of words: who was reported when.
    pub const REPORTED: &str = "REPORTED";
    /// Array of [`Set`](crate::Set): sources, IPv4 addresses.
    pub const SOURCE4: &str = "SOURCE4";
    /// Array of [`Set`](crate::Set): sources, IPv6 /64s.
    pub const SOURCE6: &str = "SOURCE6";
    /// Array of one [`State`](crate::flood::State).
    pub const STATE: &str = "STATE";
    /// Per-CPU array of [`Counter`](crate::Counter) at [`counter_index`](crate::counter_index).
    pub const STATS: &str = "STATS";

    /// All of them.
    pub const ALL: [&str; 20] = [
        ALLOW4, ALLOW6, BLOCK4, BLOCK6, CLASS, CLASS4, CLASS6, CONFIG, ESCALATED, EVENTS, FLOOD,
        PEER4, PEER6, PREFILTER4, PREFILTER6, REPORTED, SOURCE4, SOURCE6, STATE, STATS,
    ];

    /// `BPF_F_MMAPABLE`: the agent reads and writes the values in place.
    pub const MMAPABLE: u32 = 1 << 10;
    /// `BPF_F_INNER_MAP`: tables of different sizes may take each other's place.
    pub const INNER: u32 = 1 << 12;
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Direction {
    /// To this host: its source is judged.
    In = 0,
    /// From this host: its destination is judged.
    Out = 1,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Verdict {
    /// On to the network stack.
    Pass = 0,
    /// Gone.
    Drop = 1,
}

/// Why. With [`Verdict::Pass`], every reason that [`Reason::drops`] means "was only observed".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Reason {
    /// Nothing speaks against it.
    Clean = 0,
    /// The mode is off: nobody looked.
    Off = 1,
    /// Neither IPv4 nor IPv6: ARP, LLDP and the like.
    NotIp = 2,
    /// A block names its source.
    Blocked = 3,
    /// Its source sent more packets than its budget.
    Budget = 4,
    /// Not a packet that a network stack could accept.
    Unreadable = 5,
    /// Would be dropped, but the allow list names its source.
    Allowed = 6,
    /// Would be dropped, but a network breaks without it: neighbour discovery, path MTU, DHCP.
    Essential = 7,
    /// Its source sent more bytes than its budget.
    ByteBudget = 8,
    /// Its source opened more TCP connections than its budget.
    SynBudget = 9,
    /// Its source has no place of its own, and such sources spent their common budget.
    Flood = 10,
    /// It goes to a blocked peer.
    Contained = 11,
}

/// One CPU's count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counter<W = u64> {
    /// Frames.
    pub packets: W,
    /// Their bytes.
    pub bytes: W,
}

const _: () = assert!(size_of::<Counter>() == 16);

/// Counters in `STATS`: one for each direction, verdict and reason, and the last for lost events.
pub const COUNTERS: u32 = 4 * Reason::COUNT + 1;

/// Where `STATS` counts events that found the ring buffer full.
pub const LOST_EVENTS: u32 = COUNTERS - 1;

/// Where `STATS` counts packets that go this way with this verdict for this reason.
#[expect(clippy::as_conversions, reason = "the discriminants of repr(u32) enums")]
pub const fn counter_index(direction: Direction, verdict: Verdict, reason: Reason) -> u32 {
    (direction as u32 * 2 + verdict as u32) * Reason::COUNT + reason as u32
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::In, Self::Out];

    /// Its word in counters and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

impl Verdict {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Pass, Self::Drop];

    /// Its word in counters and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
        }
    }
}

impl Reason {
    const COUNT: u32 = 12;

    /// All, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Clean,
        Self::Off,
        Self::NotIp,
        Self::Blocked,
        Self::Budget,
        Self::Unreadable,
        Self::Allowed,
        Self::Essential,
        Self::ByteBudget,
        Self::SynBudget,
        Self::Flood,
        Self::Contained,
    ];

    /// Whether a packet is dropped for it when nothing saves it.
    pub const fn drops(self) -> bool {
        match self {
            Self::Blocked
            | Self::Budget
            | Self::Unreadable
            | Self::ByteBudget
            | Self::SynBudget
            | Self::Flood
            | Self::Contained => true,
            Self::Clean | Self::Off | Self::NotIp | Self::Allowed | Self::Essential => false,
        }
    }

    /// Its word in counters and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Off => "off",
            Self::NotIp => "not-ip",
            Self::Blocked => "blocked",
            Self::Budget => "budget",
            Self::Unreadable => "unreadable",
            Self::Allowed => "allowed",
            Self::Essential => "essential",
            Self::ByteBudget => "byte-budget",
            Self::SynBudget => "syn-budget",
            Self::Flood => "flood",
            Self::Contained => "contained",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
