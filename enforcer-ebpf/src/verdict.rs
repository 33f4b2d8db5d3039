//! The verdict on one packet, shared by every place that it can be asked for.
//!
//! Read [`judge_incoming`] and `weigh` from top to bottom: the order of their lines is the order
//! of the decisions. They reach the maps only through [`Tables`] and [`Lists`], and the time only
//! through the clocks of [`Tables`].

use crate::config::{Config, Mode, flag};
use crate::escalation::{self, Escalation};
use crate::flood::State;
use crate::packet::{self, Ends, Frame};
use crate::quarantine::{self, Position};
use crate::source::{Class, Set};
use crate::table::{Meta, Slots, TICK_NS};
use crate::{
    Address, Direction, Event, Packet, Reason, Shared, V4, V6, Verdict, budget, events, peers,
    transport,
};

/// Everything outside the packet that a verdict depends on or changes.
pub trait Tables {
    /// Lists about IPv4.
    type V4: Lists<V4>;
    /// Lists about IPv6.
    type V6: Lists<V6>;

    /// What is in force; `None` cannot happen and is answered as a bug of ours.
    fn config(&self) -> Option<&Config<Shared>>;
    /// `CLOCK_BOOTTIME`: runs on while the host sleeps, as expiry dates do.
    fn boot_ns(&self) -> u64;
    /// The same, late by some milliseconds, for a fraction of the cost.
    fn boot_coarse_ns(&self) -> u64;
    /// `CLOCK_MONOTONIC`: stands still while the host sleeps.
    fn monotonic_ns(&self) -> u64;
    /// The same, late by some milliseconds, for a fraction of the cost.
    fn coarse_ns(&self) -> u64;
    /// Lists about IPv4.
    fn v4(&self) -> &Self::V4;
    /// Lists about IPv6.
    fn v6(&self) -> &Self::V6;
    /// What sources of this class may send.
    fn class(&self, number: u64) -> Option<&Class<Shared>>;
    /// What all CPUs know of floods and escalations.
    fn state(&self) -> Option<&State<Shared>>;
    /// A counter of the common budget.
    fn common(&self, index: u32) -> Option<&Shared>;
    /// A network whose parts misbehave.
    fn escalation(&self, index: u32) -> Option<&Escalation<Shared>>;
    /// Who was reported when.
    fn reported(&self, index: u32) -> Option<&Shared>;
    /// Counts a packet of `bytes`.
    fn count(&self, direction: Direction, verdict: Verdict, reason: Reason, bytes: u64);
    /// Tells the agent, or counts the loss.
    fn report(&self, event: &Event);
    /// Counts an event that the agent is not told.
    fn lose(&self);
}

/// One family's lists.
pub trait Lists<A: Address> {
    /// A row of the table of blocks with this number.
    fn row(&self, table: u32, index: u32) -> Option<&A::Row>;
    /// A word of the prefilter.
    fn prefilter(&self, word: u32) -> Option<&Shared>;
    /// Whether the allow list covers the address.
    fn allows(&self, address: A) -> bool;
    /// The class that the list of classes gives the address.
    fn class(&self, address: A) -> Option<u32>;
    /// A set of sources.
    fn sources(&self, set: u32) -> Option<&Set<Shared>>;
    /// A set of destinations.
    fn peers(&self, set: u32) -> Option<&Set<Shared>>;

    /// See [`quarantine::walk`].
    #[inline(always)]
    fn walk<T: Tables>(
        &self,
        address: A,
        levels: u64,
        flags: u64,
        config: &Config<Shared>,
        tables: &T,
    ) -> Position
    where
        Self: Sized,
    {
        quarantine::walk(address, levels, flags, config, self, tables)
    }

    /// See [`quarantine::step`].
    #[inline(always)]
    fn step<T: Tables>(
        &self,
        address: A,
        host_bits: u32,
        flags: u64,
        config: &Config<Shared>,
        tables: &T,
    ) -> Position
    where
        Self: Sized,
    {
        quarantine::step(address, host_bits, flags, config, self, tables)
    }
}

/// What is to happen, and why.
type Decision = (Verdict, Reason);

/// Decides about a packet to this host, counts the decision, and returns it; `None` is a bug of
/// ours.
#[inline(always)]
pub fn judge_incoming<P: Packet, T: Tables>(packet: &P, tables: &T) -> Option<Verdict> {
    let config = tables.config()?;
    let bytes = packet.length();
    let (verdict, reason) = match Mode::from_word(config.mode.get()) {
        Mode::Off => (Verdict::Pass, Reason::Off),
        Mode::Observe | Mode::Enforce => match packet::parse(packet) {
            Ok(Frame::V4(Ends { source, .. })) => {
                weigh((packet, bytes), source, config, tables.v4(), tables)
            }
            Ok(Frame::V6(Ends { source, .. })) => {
                weigh((packet, bytes), source, config, tables.v6(), tables)
            }
            Ok(Frame::Other) => (Verdict::Pass, Reason::NotIp),
            Err(_) => (consequence(config, tables), Reason::Unreadable),
        },
    };
    tables.count(Direction::In, verdict, reason, bytes);
    Some(verdict)
}

#[inline(always)]
fn weigh<P: Packet, T: Tables, A: Address, L: Lists<A>>(
    (packet, bytes): (&P, u64),
    source: A,
    config: &Config<Shared>,
    lists: &L,
    tables: &T,
) -> Decision {
    let block = quarantine::find(source, 0, config, lists, tables);
    if block.is_some() {
        return blocked((packet, bytes), source, block, config, lists, tables);
    }
    if let Some(excess) = budget::spend((packet, bytes), source, config, lists, tables) {
        return overspent((packet, bytes), source, &excess, config, lists, tables);
    }
    (Verdict::Pass, Reason::Clean)
}

/// The packet would be dropped. What can still save it costs a normal one nothing.
#[inline(always)]
fn spared<P: Packet, A: Address, L: Lists<A>>(packet: &P, peer: A, lists: &L) -> Option<Decision> {
    if lists.allows(peer) {
        return Some((Verdict::Pass, Reason::Allowed));
    }
    if transport::may_be_essential(packet) && packet.transport().is_essential() {
        return Some((Verdict::Pass, Reason::Essential));
    }
    None
}

#[inline(always)]
fn blocked<P: Packet, T: Tables, A: Address, L: Lists<A>>(
    (packet, bytes): (&P, u64),
    source: A,
    block: Position,
    config: &Config<Shared>,
    lists: &L,
    tables: &T,
) -> Decision {
    if let Some(decision) = spared(packet, source, lists) {
        return decision;
    }
    let verdict = if block.observes() { Verdict::Pass } else { consequence(config, tables) };
    let now_ns = tables.boot_coarse_ns();
    let ((table, row), slot) = (block.row(), block.slot());
    if let Some(row) = lists.row(table, row)
        && row.count(slot, bytes, now_ns)
        && events::has_room(tables, now_ns)
    {
        let what = (Direction::In, verdict, Reason::Blocked);
        let whose = (row.id(slot), block.length());
        let header = packet.transport();
        tables.report(&Event::new(source, what, whose, header, bytes, now_ns));
    }
    (verdict, Reason::Blocked)
}

#[inline(always)]
fn overspent<P: Packet, T: Tables, A: Address, L: Lists<A>>(
    (packet, bytes): (&P, u64),
    source: A,
    excess: &budget::Excess,
    config: &Config<Shared>,
    lists: &L,
    tables: &T,
) -> Decision {
    if let Some(decision) = spared(packet, source, lists) {
        return decision;
    }
    let verdict = if excess.observe { Verdict::Pass } else { consequence(config, tables) };
    let now_ns = tables.boot_coarse_ns();
    if events::is_first(excess.payer, Direction::In, now_ns / TICK_NS, config, tables) {
        if events::has_room(tables, now_ns) {
            let what = (Direction::In, verdict, excess.reason);
            let header = packet.transport();
            tables.report(&Event::new(source, what, (0, excess.length), header, bytes, now_ns));
        }
        let part = (source.high(), excess.payer, excess.length);
        escalation::blame(part, config, tables, tables.coarse_ns());
    }
    (verdict, excess.reason)
}

/// Decides about a packet from this host, counts the decision, and returns it; `None` is a bug of
/// ours. What cannot be read is our own doing and passes.
#[inline(always)]
pub fn judge_outgoing<P: Packet, T: Tables>(packet: &P, tables: &T) -> Option<Verdict> {
    let config = tables.config()?;
    let bytes = packet.length();
    let (verdict, reason) = match Mode::from_word(config.mode.get()) {
        Mode::Off => (Verdict::Pass, Reason::Off),
        Mode::Observe | Mode::Enforce => match packet::parse(packet) {
            Ok(Frame::V4(Ends { destination, .. })) => {
                contain((packet, bytes), destination, config, tables.v4(), tables)
            }
            Ok(Frame::V6(Ends { destination, .. })) => {
                contain((packet, bytes), destination, config, tables.v6(), tables)
            }
            Ok(Frame::Other) => (Verdict::Pass, Reason::NotIp),
            Err(_) => (Verdict::Pass, Reason::Unreadable),
        },
    };
    tables.count(Direction::Out, verdict, reason, bytes);
    Some(verdict)
}

#[inline(always)]
fn contain<P: Packet, T: Tables, A: Address, L: Lists<A>>(
    (packet, bytes): (&P, u64),
    destination: A,
    config: &Config<Shared>,
    lists: &L,
    tables: &T,
) -> Decision {
    if config.has(flag::PEERS) {
        peers::count(destination, bytes, config, lists, tables.coarse_ns());
    }
    if !config.has(flag::CONTAIN) {
        return (Verdict::Pass, Reason::Clean);
    }
    let block = quarantine::find(destination, Meta::CONTAIN, config, lists, tables);
    if !block.is_some() {
        return (Verdict::Pass, Reason::Clean);
    }
    if let Some(decision) = spared(packet, destination, lists) {
        return decision;
    }
    let header = packet.transport();
    // The other side may know that its connections are no more.
    if header.resets() {
        return (Verdict::Pass, Reason::Essential);
    }
    let verdict = if block.observes() { Verdict::Pass } else { consequence(config, tables) };
    let now_ns = tables.boot_coarse_ns();
    if events::is_first(destination.peer(), Direction::Out, now_ns / TICK_NS, config, tables)
        && events::has_room(tables, now_ns)
    {
        let what = (Direction::Out, verdict, Reason::Contained);
        let (table, row) = block.row();
        let id = lists.row(table, row).map_or(0, |row| row.id(block.slot()));
        let whose = (id, block.length());
        tables.report(&Event::new(destination, what, whose, header, bytes, now_ns));
    }
    (verdict, Reason::Contained)
}

/// What a charge leads to: the mode, as long as the agent's lease runs.
#[inline(always)]
fn consequence<T: Tables>(config: &Config<Shared>, tables: &T) -> Verdict {
    if Mode::from_word(config.mode.get()) != Mode::Enforce {
        return Verdict::Pass;
    }
    let lease_ns = config.lease_ns.get();
    if lease_ns != 0 && tables.coarse_ns() >= lease_ns {
        return Verdict::Pass;
    }
    Verdict::Drop
}
