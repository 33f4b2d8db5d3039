//! Who sends, where to, and whether it is a flood: read from the tables that the program fills.

use std::time::Duration;

use enforcer_model::Prefix;

/// A source that the program remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Talker {
    /// An IPv4 address, an IPv6 /64, or a wider network that answers for its parts.
    pub source: Prefix,
    /// Packets since it is remembered.
    pub packets: u64,
    /// Since when nothing has been heard of it.
    pub idle: Duration,
    /// Its budget would not cover another packet now.
    pub over: bool,
}

/// What goes to one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerTraffic {
    /// An IPv4 address or an IPv6 /64.
    pub destination: Prefix,
    /// Packets since it is remembered.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Since when nothing has gone there.
    pub idle: Duration,
}

/// Whether more new sources come than anybody has clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flood {
    /// Newcomers share a budget now.
    pub active: bool,
    /// Newcomers in the last second, about.
    pub newcomers: u64,
    /// Networks that answer for their parts now.
    pub escalated: Vec<Prefix>,
}
