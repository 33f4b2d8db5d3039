//! What is remembered of sources and of destinations, and what a source may send.
//!
//! Sets of four slots, one for each pair of cache lines, in an array that the agent reads in place.
//! A seeded hash names the set, so nobody can choose whom to push out, and the cost of a packet is
//! the same whoever sends it. A slot whose owner was heard of in the last [`KEEP_NS`] is never
//! given away.

use crate::Shared;
use crate::shared::{low, opaque, pick, wide};
use crate::table::hash;

/// Slots of a set.
pub const WAYS: usize = 4;

/// Sets of `PEER4` and of `PEER6`.
pub const PEER_SETS: u32 = 16_384;

/// Budget classes; the first is everybody's who has no other.
pub const CLASSES: u32 = 64;

/// A source that was heard of within this time keeps its slot.
pub const KEEP_NS: u64 = 10_000_000_000;

/// Four neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Set<W = u64> {
    /// Who: an IPv4 address above [`V4_MARK`], the first half of an IPv6 address, or a network that
    /// [answers for its parts](crate::escalation::network_key). 0: free.
    pub key: [W; WAYS],
    /// Of a source: [`Spent`]. Of a destination: when the last packet went, on `CLOCK_MONOTONIC`.
    pub spent: [W; WAYS],
    /// Of a source: until when its bytes are spent, on `CLOCK_MONOTONIC`. Of a destination: packets.
    pub bytes: [W; WAYS],
    /// Of a source: [`Tally`]. Of a destination: bytes.
    pub tally: [W; WAYS],
}

/// Above every IPv4 address in a key, so that 0.0.0.0 has one, too.
pub const V4_MARK: u64 = 1 << 32;

/// Until when a source's packets are spent, on `CLOCK_MONOTONIC` in [`SPENT_NS`], and its class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent(pub u64);

/// The unit of [`Spent`].
pub const SPENT_NS: u64 = 8;

/// How many packets a source has sent since it has its slot, and until when its TCP connections are
/// spent, in [`SYN_NS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally(pub u64);

/// The unit of a [`Tally`]'s time.
pub const SYN_NS: u64 = 1 << 12;

/// What a source may send.
///
/// Token buckets as times: a packet moves "spent until" on by what it costs, and one that would move
/// it further ahead of the clock than the tolerance is over the budget and costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Class<W = u64> {
    /// What a packet costs, in [`SPENT_NS`]; 0: nothing.
    pub packet_cost: W,
    /// How far ahead, in [`SPENT_NS`].
    pub packet_tolerance: W,
    /// What 65,536 bytes cost, in ns; 0: nothing.
    pub byte_cost: W,
    /// How far ahead, in ns.
    pub byte_tolerance: W,
    /// What a new TCP connection costs, in [`SYN_NS`]; 0: nothing.
    pub syn_cost: W,
    /// How far ahead, in [`SYN_NS`].
    pub syn_tolerance: W,
    /// Who exceeds a budget has none for this long, in [`SPENT_NS`]; 0: only what is over is lost.
    pub penalty: W,
    /// Not zero: count and report, and let pass.
    pub observe: W,
}

const _: () = assert!(size_of::<Set>() == 128 && size_of::<Set<Shared>>() == 128);
const _: () = assert!(size_of::<Class>() == 64 && size_of::<Class<Shared>>() == 64);

/// The set of a key.
#[inline(always)]
pub fn set_of(key: u64, seed: [u64; 2], mask: u64) -> u32 {
    low(hash(&[key], 0, seed).wrapping_shr(32) & mask)
}

impl Spent {
    /// Spent until `until` in [`SPENT_NS`], by a source of this class.
    #[inline(always)]
    pub const fn new(until: u64, class: u64) -> Self {
        Self(until << 8 | class & 0xff)
    }

    /// Until when, in [`SPENT_NS`].
    #[inline(always)]
    pub const fn until(self) -> u64 {
        self.0 >> 8
    }

    /// The class, and in the upper two of eight bits the generation that it is of.
    #[inline(always)]
    pub const fn class(self) -> u64 {
        self.0 & 0xff
    }
}

impl Tally {
    /// So many packets, and connections spent until then.
    #[inline(always)]
    pub const fn new(packets: u64, syn_until: u64) -> Self {
        Self((syn_until & 0xffff_ffff) << 32 | packets & 0xffff_ffff)
    }

    /// Packets, modulo 2^32.
    #[inline(always)]
    pub const fn packets(self) -> u64 {
        self.0 & 0xffff_ffff
    }

    /// Until when connections are spent, in [`SYN_NS`], modulo 2^32.
    #[inline(always)]
    pub const fn syn_until(self) -> u64 {
        self.0 >> 32
    }
}

/// A neighbour in its slot.
pub struct Place<'t> {
    set: &'t Set<Shared>,
    way: u64,
}

impl Set<Shared> {
    /// The slot of `key`.
    #[inline(always)]
    pub fn find(&self, key: u64) -> Option<Place<'_>> {
        let mut ways = (0..).zip(&self.key);
        let (way, _) = ways.find(|(_, slot)| slot.get() == key)?;
        Some(Place { set: self, way: opaque(way) })
    }

    /// A slot that may be given to somebody new: free, or else the one heard of longest ago, when
    /// that is before `stale`. The unit is that of `spent` shifted right by `shift`.
    #[inline(always)]
    pub fn room(&self, stale: u64, shift: u32) -> Option<Place<'_>> {
        let mut oldest = u64::MAX;
        let mut way = 0;
        for (at, (key, spent)) in (0..).zip(self.key.iter().zip(&self.spent)) {
            let heard = if key.get() == 0 { 0 } else { spent.get().wrapping_shr(shift) };
            if heard < oldest {
                (oldest, way) = (heard, at);
            }
        }
        (oldest < stale || oldest == 0).then(|| Place { set: self, way: opaque(way) })
    }
}

impl<'t> Place<'t> {
    /// Whose it is.
    #[inline(always)]
    pub fn key(&self) -> &'t Shared {
        pick(&self.set.key, self.way)
    }

    /// See [`Set::spent`].
    #[inline(always)]
    pub fn spent(&self) -> &'t Shared {
        pick(&self.set.spent, self.way)
    }

    /// See [`Set::bytes`].
    #[inline(always)]
    pub fn bytes(&self) -> &'t Shared {
        pick(&self.set.bytes, self.way)
    }

    /// See [`Set::tally`].
    #[inline(always)]
    pub fn tally(&self) -> &'t Shared {
        pick(&self.set.tally, self.way)
    }
}

impl Class {
    /// No budget at all.
    pub const NONE: Self = Self {
        packet_cost: 0,
        packet_tolerance: 0,
        byte_cost: 0,
        byte_tolerance: 0,
        syn_cost: 0,
        syn_tolerance: 0,
        penalty: 0,
        observe: 0,
    };

    /// With `rate` packets per second, `burst` of them at once; never stricter than that.
    #[must_use]
    pub const fn packets(self, rate: u32, burst: u32) -> Self {
        let cost = at_least_one(1_000_000_000 / SPENT_NS / at_least_one(wide(rate)));
        Self { packet_cost: cost, packet_tolerance: cost * wide(burst).saturating_sub(1), ..self }
    }

    /// With `rate` bytes per second, `burst` of them at once. Both at least 65,536.
    #[must_use]
    pub const fn bytes(self, rate: u64, burst: u64) -> Self {
        let cost = at_least_one((1_000_000_000 << 16) / at_least_one(rate));
        let rest = ((burst & 0xffff) * cost) >> 16;
        let tolerance = (burst >> 16).saturating_mul(cost).saturating_add(rest);
        Self { byte_cost: cost, byte_tolerance: tolerance, ..self }
    }

    /// With `rate` TCP connections per second, `burst` of them at once; at most [`MAX_SYNS`].
    #[must_use]
    pub const fn syns(self, rate: u32, burst: u32) -> Self {
        let cost = at_least_one(1_000_000_000 / SYN_NS / at_least_one(wide(rate)));
        let tolerance = cost * wide(burst).saturating_sub(1);
        // The clock of connections goes round in five hours: what lies further ahead looks past.
        let tolerance = if tolerance > SYN_AHEAD { SYN_AHEAD } else { tolerance };
        Self { syn_cost: cost, syn_tolerance: tolerance, ..self }
    }

    /// As the map holds it.
    pub const fn to_words(self) -> [u64; 8] {
        [
            self.packet_cost,
            self.packet_tolerance,
            self.byte_cost,
            self.byte_tolerance,
            self.syn_cost,
            self.syn_tolerance,
            self.penalty,
            self.observe,
        ]
    }

    /// From what the map holds.
    pub const fn from_words(words: [u64; 8]) -> Self {
        let [
            packet_cost,
            packet_tolerance,
            byte_cost,
            byte_tolerance,
            syn_cost,
            syn_tolerance,
            penalty,
            observe,
        ] = words;
        Self {
            packet_cost,
            packet_tolerance,
            byte_cost,
            byte_tolerance,
            syn_cost,
            syn_tolerance,
            penalty,
            observe,
        }
    }
}

/// TCP connections per second that a budget can tell from more.
pub const MAX_SYNS: u32 = 100_000;

/// How far ahead of the clock "spent" may lie: a quarter of the circle.
const SYN_AHEAD: u64 = 1 << 30;

/// In [`SYN_NS`]: so much earlier, at most, is a clock asked for one packet than for the one before.
pub const SYN_LATE: u64 = 1 << 12;

/// Half of the circle, in [`SPENT_NS`]: who was away for longer has no connections to pay for.
pub(crate) const SYN_AWAY: u64 = (1 << 31) * SYN_NS / SPENT_NS;

const fn at_least_one(number: u64) -> u64 {
    if number == 0 { 1 } else { number }
}
