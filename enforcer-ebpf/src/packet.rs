//! From bytes to a source address, or to the reason why there is none.
//!
//! Reads at most two VLAN tags and the fixed IP header; that alone decides about a block, so
//! fragments, options and extension headers cannot hide a source. Every read goes through
//! [`Packet::load`], which checks bounds.

use crate::config::{Config, Lengths, Span, TableWord};
use crate::escalation;
use crate::escalation::seed;
use crate::prefilter::{self, Level};
use crate::source::V4_MARK;
use crate::table::{Row4, Row6, Slots};
use crate::{Lists, Shared, Tables, Transport};

/// A frame as the program sees it.
pub trait Packet {
    /// The `N` bytes at `offset`, if the frame has them. Both are even, as headers are.
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Bytes of the whole frame, those that cannot be read in place included.
    fn length(&self) -> u64;

    /// What lies behind the IP header; see [`transport::read`](crate::transport::read).
    fn transport(&self) -> Transport;
}

/// An IPv4 address, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct V4(pub u32);

/// An IPv6 address, as two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct V6 {
    /// The network's half.
    pub high: u64,
    /// The host's half.
    pub low: u64,
}

/// What differs between the two families.
pub trait Address: Copy + Eq + 'static {
    /// Bits of an address.
    const BITS: u32;

    /// Rows of its table of blocks.
    type Row: Slots;

    /// An address as the allow list spells it: network order.
    type Octets: Copy + 'static;

    /// The network of the addresses that differ from this one in the last `host_bits` at most.
    fn network(self, host_bits: u32) -> <Self::Row as Slots>::Key;

    /// The address in network order.
    fn octets(self) -> Self::Octets;

    /// The address in an event: two words whose bytes are in network order, zeros behind an IPv4
    /// address.
    fn padded(self) -> [u64; 2];

    /// Who pays for its packets, and fixed bits of that: an address, a /64 of which every address is
    /// one host's, or a network that answers for its parts.
    fn payer<T: Tables>(self, config: &Config<Shared>, tables: &T, now_ns: u64) -> (u64, u32);

    /// With whom it shares a budget when it has none of its own, and fixed bits of that.
    fn neighbourhood(self) -> (u64, u32);

    /// What is counted as one destination.
    fn peer(self) -> u64;

    /// The part of an address that networks answer for; 0 where they do not.
    fn high(self) -> u64;

    /// What the prefilter says about the neighbourhood, in two bits.
    fn levels<L: Lists<Self>>(self, config: &Config<Shared>, lists: &L) -> u64;

    /// Which prefix lengths that leaves over.
    fn span(levels: u64) -> Span;

    /// Which table of blocks is in force.
    fn table(config: &Config<Shared>) -> TableWord;

    /// The prefix lengths of the family's blocks.
    fn lengths(config: &Config<Shared>) -> &Lengths<Shared>;

    /// Sets of the family's sources, less one.
    fn source_mask(config: &Config<Shared>) -> u64;
}

/// From whom to whom.
pub struct Ends<A> {
    /// Who claims to have sent it.
    pub source: A,
    /// For whom it is.
    pub destination: A,
}

/// A frame by what is in it.
pub enum Frame {
    /// An IPv4 packet.
    V4(Ends<V4>),
    /// An IPv6 packet.
    V6(Ends<V6>),
    /// Nothing that IP knows.
    Other,
}

/// No network stack would accept this frame, so its source cannot be trusted to be one.
pub enum Unreadable {
    /// Ends inside a VLAN tag or the fixed IP header.
    Truncated,
    /// The header says another version or length than an IP header has.
    Header,
    /// More VLAN tags than anybody reads.
    Tags,
}

const ETHERNET_BYTES: usize = 14;
pub(crate) const TYPE_V4: u16 = 0x0800;
pub(crate) const TYPE_V6: u16 = 0x86DD;
const TYPE_TAG: u16 = 0x8100;
const TYPE_SERVICE_TAG: u16 = 0x88A8;
const TYPE_SERVICE_TAG_OLD: u16 = 0x9100;

/// Finds the source.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P) -> Result<Frame, Unreadable> {
    let (kind, at) = locate(packet)?;
    match kind {
        TYPE_V4 => parse_v4(packet, at).map(Frame::V4),
        TYPE_V6 => parse_v6(packet, at).map(Frame::V6),
        _ if is_tag(kind) => Err(Unreadable::Tags),
        _ => Ok(Frame::Other),
    }
}

/// What stands behind the Ethernet header and its tags, and where.
#[inline(always)]
pub(crate) fn locate<P: Packet>(packet: &P) -> Result<(u16, usize), Unreadable> {
    let mut at = ETHERNET_BYTES;
    let mut kind = load_u16(packet, at - 2)?;
    for _ in 0..2 {
        if !is_tag(kind) {
            break;
        }
        kind = load_u16(packet, at + 2)?;
        at += 4;
    }
    Ok((kind, at))
}

#[inline(always)]
fn parse_v4<P: Packet>(packet: &P, at: usize) -> Result<Ends<V4>, Unreadable> {
    let address = |at| packet.load(at).map(u32::from_be_bytes).ok_or(Unreadable::Truncated);
    // The destination ends the fixed header, so all of it is known to be there.
    let (source, destination) = (V4(address(at + 12)?), V4(address(at + 16)?));
    let [first, _] = packet.load(at).ok_or(Unreadable::Truncated)?;
    if first >> 4 != 4 || first & 15 < 5 {
        return Err(Unreadable::Header);
    }
    Ok(Ends { source, destination })
}

#[inline(always)]
fn parse_v6<P: Packet>(packet: &P, at: usize) -> Result<Ends<V6>, Unreadable> {
    let half = |at| packet.load(at).map(u64::from_be_bytes).ok_or(Unreadable::Truncated);
    let source = V6 { high: half(at + 8)?, low: half(at + 16)? };
    let destination = V6 { high: half(at + 24)?, low: half(at + 32)? };
    let [first, _] = packet.load(at).ok_or(Unreadable::Truncated)?;
    if first >> 4 != 6 {
        return Err(Unreadable::Header);
    }
    Ok(Ends { source, destination })
}

impl Address for V4 {
    const BITS: u32 = 32;
    type Row = Row4<Shared>;
    type Octets = [u8; 4];

    #[inline(always)]
    fn network(self, host_bits: u32) -> [u64; 1] {
        // In 64 bits, where clearing all 32 is not a shift by the width.
        [clear(u64::from(self.0), host_bits)]
    }

    #[inline(always)]
    fn octets(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    #[inline(always)]
    fn padded(self) -> [u64; 2] {
        [u64::from(self.0).wrapping_shl(32).to_be(), 0]
    }

    #[inline(always)]
    fn payer<T: Tables>(self, _: &Config<Shared>, _: &T, _: u64) -> (u64, u32) {
        (self.peer(), 32)
    }

    #[inline(always)]
    fn neighbourhood(self) -> (u64, u32) {
        (V4_MARK | clear(u64::from(self.0), 8), 24)
    }

    #[inline(always)]
    fn peer(self) -> u64 {
        V4_MARK | u64::from(self.0)
    }

    #[inline(always)]
    fn high(self) -> u64 {
        0
    }

    #[inline(always)]
    fn levels<L: Lists<Self>>(self, _: &Config<Shared>, lists: &L) -> u64 {
        let (word, shift) = prefilter::place4(self.0);
        lists.prefilter(word).map_or(0, |bits| bits.get().wrapping_shr(shift) & 3)
    }

    #[inline(always)]
    fn span(levels: u64) -> Span {
        prefilter::span4(levels)
    }

    #[inline(always)]
    fn table(config: &Config<Shared>) -> TableWord {
        TableWord::from_word(config.table4.get())
    }

    #[inline(always)]
    fn lengths(config: &Config<Shared>) -> &Lengths<Shared> {
        &config.lengths4
    }

    #[inline(always)]
    fn source_mask(config: &Config<Shared>) -> u64 {
        config.source4_mask.get()
    }
}

impl Address for V6 {
    const BITS: u32 = 128;
    type Row = Row6<Shared>;
    type Octets = [u8; 16];

    #[inline(always)]
    fn network(self, host_bits: u32) -> [u64; 2] {
        let Self { high, low } = self;
        match host_bits {
            0..64 => [high, clear(low, host_bits)],
            64..128 => [clear(high, host_bits.wrapping_sub(64)), 0],
            _ => [0, 0],
        }
    }

    #[inline(always)]
    fn octets(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.high.to_be_bytes();
        let [i, j, k, l, m, n, o, p] = self.low.to_be_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    #[inline(always)]
    fn padded(self) -> [u64; 2] {
        [self.high.to_be(), self.low.to_be()]
    }

    #[inline(always)]
    fn payer<T: Tables>(self, config: &Config<Shared>, tables: &T, now_ns: u64) -> (u64, u32) {
        escalation::payer(self.high, config, tables, now_ns)
    }

    #[inline(always)]
    fn neighbourhood(self) -> (u64, u32) {
        (clear(self.high, 16), 48)
    }

    #[inline(always)]
    fn peer(self) -> u64 {
        self.high
    }

    #[inline(always)]
    fn high(self) -> u64 {
        self.high
    }

    #[inline(always)]
    fn levels<L: Lists<Self>>(self, config: &Config<Shared>, lists: &L) -> u64 {
        let seed = seed(config);
        let bit = |level: Level| {
            let (word, shift) = level.place(self.high, seed);
            lists.prefilter(word).map_or(0, |bits| bits.get().wrapping_shr(shift) & 1)
        };
        let kept = prefilter::levels(Self::lengths(config));
        let site = if kept.site { bit(Level::Site) } else { 0 };
        let provider = if kept.provider { bit(Level::Provider) } else { 0 };
        site | provider << 1
    }

    #[inline(always)]
    fn span(levels: u64) -> Span {
        prefilter::span6(levels & 1 != 0, levels & 2 != 0)
    }

    #[inline(always)]
    fn table(config: &Config<Shared>) -> TableWord {
        TableWord::from_word(config.table6.get())
    }

    #[inline(always)]
    fn lengths(config: &Config<Shared>) -> &Lengths<Shared> {
        &config.lengths6
    }

    #[inline(always)]
    fn source_mask(config: &Config<Shared>) -> u64 {
        config.source6_mask.get()
    }
}

#[inline(always)]
fn is_tag(kind: u16) -> bool {
    matches!(kind, TYPE_TAG | TYPE_SERVICE_TAG | TYPE_SERVICE_TAG_OLD)
}

#[inline(always)]
pub(crate) fn load_u16<P: Packet>(packet: &P, at: usize) -> Result<u16, Unreadable> {
    packet.load(at).map(u16::from_be_bytes).ok_or(Unreadable::Truncated)
}

/// The word without its last bits; fewer than 64 of them.
#[inline(always)]
const fn clear(word: u64, bits: u32) -> u64 {
    word.wrapping_shr(bits).wrapping_shl(bits)
}
