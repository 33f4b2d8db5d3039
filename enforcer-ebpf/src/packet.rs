//! From bytes to a source address, or to the reason why there is none.
//!
//! Reads at most two VLAN tags and the fixed IP header; that alone decides about a block, so
//! fragments, options and extension headers cannot hide a source. What lies behind the fixed header
//! is read only for a packet that is about to be dropped, to spare those that a network breaks
//! without. Every read goes through [`Packet::load`], which checks bounds.

use crate::{Config, Lengths, Shared};

/// A frame as the program sees it.
pub trait Packet {
    /// The `N` bytes at `offset`, if the frame has them.
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Bytes of the whole frame, those that cannot be read in place included.
    fn length(&self) -> u64;
}

/// An IPv4 address in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct V4(pub [u8; 4]);

/// An IPv6 address in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C, align(4))]
pub struct V6(pub [u8; 16]);

/// What differs between the two families.
pub trait Address: Copy + Eq + 'static {
    /// Bits of an address.
    const BITS: u32;

    /// Bits of what a budget is kept for.
    const BUDGET_BITS: u32;

    /// What a budget is kept for: an address, or a /64 of which every address is one host's.
    type Payer: Copy + 'static;

    /// The address with its last `host_bits` cleared; at most [`Self::BITS`] of them.
    fn network(self, host_bits: u32) -> Self;

    /// Who pays for its packets.
    fn payer(self) -> Self::Payer;

    /// The prefix lengths of the family's blocks.
    fn lengths(config: &Config<Shared>) -> Lengths;

    /// The address in an event: sixteen bytes, zeros behind an IPv4 address.
    fn octets(self) -> [u8; 16];

    /// Whether a network breaks when this packet is dropped.
    fn essential<P: Packet>(packet: &P, header: &Header<Self>) -> bool;
}

/// What a frame carries.
pub enum Frame {
    /// IPv4.
    V4(Header<V4>),
    /// IPv6.
    V6(Header<V6>),
    /// Neither.
    Other,
}

/// The fixed part of an IP header.
#[derive(Clone, Copy)]
pub struct Header<A> {
    /// Who claims to have sent it.
    pub source: A,
    /// What follows the header.
    pub protocol: u8,
    /// How far it may still go; 255 proves that it comes from this link.
    pub hop_limit: u8,
    /// Part of a larger packet.
    pub fragment: bool,
    /// Where what follows begins.
    pub payload: usize,
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
const TYPE_V4: u16 = 0x0800;
const TYPE_V6: u16 = 0x86DD;
const TYPE_TAG: u16 = 0x8100;
const TYPE_SERVICE_TAG: u16 = 0x88A8;
const TYPE_SERVICE_TAG_OLD: u16 = 0x9100;

const HOP_BY_HOP: u8 = 0;
const ICMP4: u8 = 1;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const ICMP6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;
const MAX_EXTENSIONS: usize = 6;

/// Finds the IP header.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P) -> Result<Frame, Unreadable> {
    let mut next = ETHERNET_BYTES;
    let mut kind = load_u16(packet, 12)?;
    for _ in 0..2 {
        if !is_tag(kind) {
            break;
        }
        kind = load_u16(packet, next + 2)?;
        next += 4;
    }
    match kind {
        TYPE_V4 => parse_v4(packet, next).map(Frame::V4),
        TYPE_V6 => parse_v6(packet, next).map(Frame::V6),
        _ if is_tag(kind) => Err(Unreadable::Tags),
        _ => Ok(Frame::Other),
    }
}

#[inline(always)]
fn parse_v4<P: Packet>(packet: &P, at: usize) -> Result<Header<V4>, Unreadable> {
    let source = packet.load(at + 12).map(V4).ok_or(Unreadable::Truncated)?;
    // The last bytes of the fixed header, so that all of it is known to be there.
    let _: [u8; 4] = packet.load(at + 16).ok_or(Unreadable::Truncated)?;
    let [first] = packet.load(at).ok_or(Unreadable::Truncated)?;
    let [fragment_high, fragment_low, hop_limit, protocol] =
        packet.load(at + 6).ok_or(Unreadable::Truncated)?;
    if first >> 4 != 4 || first & 15 < 5 {
        return Err(Unreadable::Header);
    }
    Ok(Header {
        source,
        protocol,
        hop_limit,
        // "More fragments" or an offset: 0x2000 and the thirteen bits below it.
        fragment: fragment_high & 0x3f != 0 || fragment_low != 0,
        payload: at + usize::from(first & 15) * 4,
    })
}

#[inline(always)]
fn parse_v6<P: Packet>(packet: &P, at: usize) -> Result<Header<V6>, Unreadable> {
    let source = packet.load(at + 8).map(V6).ok_or(Unreadable::Truncated)?;
    let _: [u8; 16] = packet.load(at + 24).ok_or(Unreadable::Truncated)?;
    let [first] = packet.load(at).ok_or(Unreadable::Truncated)?;
    let [protocol, hop_limit] = packet.load(at + 6).ok_or(Unreadable::Truncated)?;
    if first >> 4 != 6 {
        return Err(Unreadable::Header);
    }
    Ok(Header { source, protocol, hop_limit, fragment: false, payload: at + 40 })
}

impl Address for V4 {
    const BITS: u32 = 32;
    const BUDGET_BITS: u32 = 32;
    type Payer = [u8; 4];

    #[inline(always)]
    fn network(self, host_bits: u32) -> Self {
        // In 64 bits, where clearing all 32 is not a shift by the width.
        let address = u64::from(u32::from_be_bytes(self.0));
        let network = address.wrapping_shr(host_bits).wrapping_shl(host_bits);
        let [_, _, _, _, a, b, c, d] = network.to_be_bytes();
        Self([a, b, c, d])
    }

    #[inline(always)]
    fn payer(self) -> [u8; 4] {
        self.0
    }

    #[inline(always)]
    fn lengths(config: &Config<Shared>) -> Lengths {
        load_lengths(&config.lengths4)
    }

    #[inline(always)]
    fn octets(self) -> [u8; 16] {
        let [a, b, c, d] = self.0;
        [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    }

    #[inline(always)]
    fn essential<P: Packet>(packet: &P, header: &Header<Self>) -> bool {
        if header.fragment {
            return false;
        }
        match (header.protocol, packet.load(header.payload)) {
            // RFC 1191: destination unreachable, fragmentation needed.
            (ICMP4, Some([kind, code, _, _])) => kind == 3 && code == 4,
            (UDP, Some(ports)) => is_conversation(ports, 67),
            _ => false,
        }
    }
}

impl Address for V6 {
    const BITS: u32 = 128;
    const BUDGET_BITS: u32 = 64;
    type Payer = [u8; 8];

    #[inline(always)]
    fn network(self, host_bits: u32) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.0;
        let high = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let low = u64::from_be_bytes([i, j, k, l, m, n, o, p]);
        let clear = |word: u64, bits: u32| word.wrapping_shr(bits).wrapping_shl(bits);
        let (high, low) = match host_bits {
            0..64 => (high, clear(low, host_bits)),
            64..128 => (clear(high, host_bits.wrapping_sub(64)), 0),
            _ => (0, 0),
        };
        let [a, b, c, d, e, f, g, h] = high.to_be_bytes();
        let [i, j, k, l, m, n, o, p] = low.to_be_bytes();
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    #[inline(always)]
    fn payer(self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        [a, b, c, d, e, f, g, h]
    }

    #[inline(always)]
    fn lengths(config: &Config<Shared>) -> Lengths {
        load_lengths(&config.lengths6)
    }

    #[inline(always)]
    fn octets(self) -> [u8; 16] {
        self.0
    }

    #[inline(always)]
    fn essential<P: Packet>(packet: &P, header: &Header<Self>) -> bool {
        let (mut protocol, mut at) = (header.protocol, header.payload);
        for _ in 0..MAX_EXTENSIONS {
            // A fragment header (44) ends the walk: RFC 6980 forbids fragments where they would
            // matter here.
            if !matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
                break;
            }
            let Some([following, eights]) = packet.load(at) else { return false };
            protocol = following;
            at += 8 + usize::from(eights) * 8;
        }
        match (protocol, packet.load(at)) {
            // RFC 4443: packet too big. RFC 4861: neighbour discovery, never from beyond the link.
            (ICMP6, Some([kind, _, _, _])) => {
                kind == 2 || (matches!(kind, 133..=137) && header.hop_limit == 255)
            }
            (UDP, Some(ports)) => is_conversation(ports, 546),
            _ => false,
        }
    }
}

/// Whether both ports are `first` or the one after it: DHCP uses 67 and 68, for IPv6 546 and 547.
#[inline(always)]
fn is_conversation([a, b, c, d]: [u8; 4], first: u16) -> bool {
    let either = |port: u16| port == first || port == first.wrapping_add(1);
    either(u16::from_be_bytes([a, b])) && either(u16::from_be_bytes([c, d]))
}

#[inline(always)]
fn is_tag(kind: u16) -> bool {
    matches!(kind, TYPE_TAG | TYPE_SERVICE_TAG | TYPE_SERVICE_TAG_OLD)
}

#[inline(always)]
fn load_u16<P: Packet>(packet: &P, at: usize) -> Result<u16, Unreadable> {
    packet.load(at).map(u16::from_be_bytes).ok_or(Unreadable::Truncated)
}

#[inline(always)]
fn load_lengths([a, b, c]: &[Shared; 3]) -> Lengths {
    Lengths([a.get(), b.get(), c.get()])
}
