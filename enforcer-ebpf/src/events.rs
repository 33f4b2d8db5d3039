//! What the agent hears of: transitions, never every packet.
//!
//! The first packet in a second that meets a block, the first in a second that a budget refuses,
//! the first that is kept from a blocked peer; each with what its headers say. An attacker can make
//! one event per second and source, up to [`EVENTS_PER_TICK`] in all; when there are more, or the
//! agent reads too slowly and the ring buffer fills, the event is lost, and the loss is counted.

use crate::escalation::seed;
use crate::shared::{Shared, low};
use crate::table::hash;
use crate::{Address, Config, Direction, Reason, Tables, Transport, Verdict};

/// Places where it is remembered who was reported when, for each [`Direction`].
pub const REPORTS: u32 = 4096;

/// Events in a tick; more are counted as lost. Nobody reads a million a second, and whoever has a
/// million blocked addresses could ask for as many.
pub const EVENTS_PER_TICK: u64 = 2048;

/// A transition, for the agent. A [`Reason`] that [drops](Reason::drops).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// On `CLOCK_BOOTTIME`.
    pub at_ns: u64,
    /// The block's id; 0 for a budget.
    pub id: u64,
    /// A [`Reason`].
    pub reason: u32,
    /// A [`Verdict`].
    pub verdict: u32,
    /// Bits of an address: 32 or 128.
    pub bits: u32,
    /// Fixed bits of the network that matched: the block's, or what a budget is kept for.
    pub length: u32,
    /// Who was judged: the sender, or where the packet was to go. Bytes in network order, IPv4 in
    /// the first four, then zeros.
    pub peer: [u64; 2],
    /// A [`Direction`].
    pub direction: u32,
    /// The protocol behind the IP header; 0 where it could not be told.
    pub protocol: u16,
    /// Source port, where there is one.
    pub source_port: u16,
    /// Destination port, where there is one.
    pub port: u16,
    /// Flags of a TCP header.
    pub flags: u16,
    /// Bytes of the frame.
    pub bytes: u32,
}

const _: () = assert!(size_of::<Event>() == Event::SIZE && align_of::<Event>() == 8);

/// Whether the agent was not told of `peer` in this tick; the next caller is refused.
///
/// One place for each hash: two peers that share one are both told of more often, none less.
#[inline(always)]
#[expect(clippy::as_conversions, reason = "the discriminant of a repr(u32) enum")]
pub fn is_first<T: Tables>(
    peer: u64,
    direction: Direction,
    tick: u64,
    config: &Config<Shared>,
    tables: &T,
) -> bool {
    let hash = hash(&[peer], 3, seed(config));
    let column = hash.wrapping_shr(20) & u64::from(REPORTS - 1);
    let index = direction as u32 * REPORTS + low(column);
    let Some(place) = tables.reported(index) else { return false };
    let mark = hash & !0xffff_ffff | tick & 0xffff_ffff;
    if place.get() == mark {
        return false;
    }
    place.set(mark);
    true
}

/// Whether the agent may be told of one more event; one that it is not told is counted.
#[inline(always)]
pub fn has_room<T: Tables>(tables: &T, now_ns: u64) -> bool {
    let Some(state) = tables.state() else { return false };
    let tick = now_ns.wrapping_shr(30) & 0xffff_ffff;
    let told = state.told.get();
    let before = if told.wrapping_shr(32) == tick { told & 0xffff_ffff } else { 0 };
    if before >= EVENTS_PER_TICK {
        tables.lose();
        return false;
    }
    state.told.set(tick << 32 | (before + 1));
    true
}

impl Event {
    /// Bytes of one.
    pub const SIZE: usize = 64;

    /// What the agent is told.
    #[inline(always)]
    #[expect(clippy::as_conversions, reason = "the discriminants of repr(u32) enums")]
    pub fn new<A: Address>(
        peer: A,
        (direction, verdict, reason): (Direction, Verdict, Reason),
        (id, length): (u64, u32),
        transport: Transport,
        bytes: u64,
        at_ns: u64,
    ) -> Self {
        Self {
            at_ns,
            id,
            reason: reason as u32,
            verdict: verdict as u32,
            bits: A::BITS,
            length,
            peer: peer.padded(),
            direction: direction as u32,
            protocol: u16::from(transport.protocol()),
            source_port: transport.source_port(),
            port: transport.port(),
            flags: u16::from(transport.flags()),
            bytes: low(bytes),
        }
    }

    /// Whether this is what happened to the packet.
    #[expect(clippy::as_conversions, reason = "the discriminant of a repr(u32) enum")]
    pub const fn is(&self, verdict: Verdict) -> bool {
        self.verdict == verdict as u32
    }

    /// Whether this is why.
    #[expect(clippy::as_conversions, reason = "the discriminant of a repr(u32) enum")]
    pub const fn because(&self, reason: Reason) -> bool {
        self.reason == reason as u32
    }

    /// Whether the packet went this way.
    #[expect(clippy::as_conversions, reason = "the discriminant of a repr(u32) enum")]
    pub const fn went(&self, direction: Direction) -> bool {
        self.direction == direction as u32
    }

    /// Who was judged, in network order.
    pub fn octets(&self) -> [u8; 16] {
        let [high, low] = self.peer.map(u64::to_ne_bytes);
        let mut octets = [0; 16];
        for (octet, byte) in octets.iter_mut().zip(high.iter().chain(&low)) {
            *octet = *byte;
        }
        octets
    }

    /// From what the ring buffer holds; `None` when that is not as long as an event.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::SIZE {
            return None;
        }
        let (at_ns, rest) = bytes.split_first_chunk()?;
        let (id, rest) = rest.split_first_chunk()?;
        let (reason, rest) = rest.split_first_chunk()?;
        let (verdict, rest) = rest.split_first_chunk()?;
        let (bits, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (high, rest) = rest.split_first_chunk()?;
        let (low, rest) = rest.split_first_chunk()?;
        let (direction, rest) = rest.split_first_chunk()?;
        let (protocol, rest) = rest.split_first_chunk()?;
        let (source_port, rest) = rest.split_first_chunk()?;
        let (port, rest) = rest.split_first_chunk()?;
        let (flags, rest) = rest.split_first_chunk()?;
        Some(Self {
            at_ns: u64::from_ne_bytes(*at_ns),
            id: u64::from_ne_bytes(*id),
            reason: u32::from_ne_bytes(*reason),
            verdict: u32::from_ne_bytes(*verdict),
            bits: u32::from_ne_bytes(*bits),
            length: u32::from_ne_bytes(*length),
            peer: [u64::from_ne_bytes(*high), u64::from_ne_bytes(*low)],
            direction: u32::from_ne_bytes(*direction),
            protocol: u16::from_ne_bytes(*protocol),
            source_port: u16::from_ne_bytes(*source_port),
            port: u16::from_ne_bytes(*port),
            flags: u16::from_ne_bytes(*flags),
            bytes: u32::from_ne_bytes(rest.try_into().ok()?),
        })
    }
}
