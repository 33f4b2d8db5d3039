//! From bytes to a source address, or to the reason why there is none.
//!
//! Reads at most two VLAN tags and the fixed IP header; that alone decides about a block, so
//! fragments, options and extension headers cannot hide a source. What lies behind the fixed header
//! is read only for a packet that is about to be dropped, to spare those that a network breaks
//! without. Every read goes through [`Packet::load`], which checks bounds.

use crate::{Config, Key4, Key6, Lengths, Shared};

/// A frame as the program sees it.
pub trait Packet {
    /// The `N` bytes at `offset`, if the frame has them.
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Bytes of the whole frame, those that cannot be read in place included.
    fn length(&self) -> u64;
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

    /// Bits of what a budget is kept for.
    const BUDGET_BITS: u32;

    /// A network as the map of blocks spells it.
    type Key: Copy + 'static;

    /// An address as the allow list spells it: network order.
    type Octets: Copy + 'static;

    /// What a budget is kept for: an address, or a /64 of which every address is one host's.
    type Payer: Copy + 'static;

    /// The network of the addresses that differ from this one in the last `host_bits` at most.
    fn network(self, host_bits: u32) -> Self::Key;

    /// The address in network order.
    fn octets(self) -> Self::Octets;

    /// The address in an event: sixteen bytes, zeros behind an IPv4 address.
    fn padded(self) -> [u8; 16];

    /// Who pays for its packets.
    fn payer(self) -> Self::Payer;

    /// The prefix lengths of the family's blocks.
    fn lengths(config: &Config<Shared>) -> &Lengths<Shared>;

    /// Whether a network breaks when this packet of the family is dropped.
    fn is_essential<P: Packet>(packet: &P) -> bool;
}

/// Who claims to have sent a frame.
pub enum Frame {
    /// An IPv4 address.
    V4(V4),
    /// An IPv6 address.
    V6(V6),
    /// Nobody that IP knows.
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
fn locate<P: Packet>(packet: &P) -> Result<(u16, usize), Unreadable> {
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
fn parse_v4<P: Packet>(packet: &P, at: usize) -> Result<V4, Unreadable> {
    let source = packet.load(at + 12).ok_or(Unreadable::Truncated)?;
    // The last bytes of the fixed header, so that all of it is known to be there.
    let _: [u8; 4] = packet.load(at + 16).ok_or(Unreadable::Truncated)?;
    let [first] = packet.load(at).ok_or(Unreadable::Truncated)?;
    if first >> 4 != 4 || first & 15 < 5 {
        return Err(Unreadable::Header);
    }
    Ok(V4(u32::from_be_bytes(source)))
}

#[inline(always)]
fn parse_v6<P: Packet>(packet: &P, at: usize) -> Result<V6, Unreadable> {
    let high = packet.load(at + 8).map(u64::from_be_bytes).ok_or(Unreadable::Truncated)?;
    let low = packet.load(at + 16).map(u64::from_be_bytes).ok_or(Unreadable::Truncated)?;
    let _: [u8; 16] = packet.load(at + 24).ok_or(Unreadable::Truncated)?;
    let [first] = packet.load(at).ok_or(Unreadable::Truncated)?;
    if first >> 4 != 6 {
        return Err(Unreadable::Header);
    }
    Ok(V6 { high, low })
}

/// Reads the packet anew: what a parser carried through the look-ups would multiply the states that
/// the kernel has to verify there.
#[inline(always)]
fn is_essential_v4<P: Packet>(packet: &P) -> Option<bool> {
    let (_, at) = locate(packet).ok()?;
    let [first] = packet.load(at)?;
    let [flags, offset, _, protocol] = packet.load(at + 6)?;
    // "More fragments", or an offset.
    if flags & 0x3f != 0 || offset != 0 {
        return None;
    }
    let payload = packet.load(at + usize::from(first & 15) * 4)?;
    Some(match protocol {
        // RFC 1191: destination unreachable, fragmentation needed.
        ICMP4 => matches!(payload, [3, 4, _, _]),
        UDP => is_conversation(payload, 67),
        _ => false,
    })
}

#[inline(always)]
fn is_essential_v6<P: Packet>(packet: &P) -> Option<bool> {
    let (_, header) = locate(packet).ok()?;
    let [mut protocol, hop_limit] = packet.load(header + 6)?;
    let mut at = header + 40;
    for _ in 0..MAX_EXTENSIONS {
        // A fragment header (44) ends the walk: RFC 6980 forbids fragments where they would matter
        // here.
        if !matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
            break;
        }
        let [following, eights] = packet.load(at)?;
        protocol = following;
        at += 8 + usize::from(eights) * 8;
    }
    let payload = packet.load(at)?;
    Some(match (protocol, payload) {
        // RFC 4443: packet too big.
        (ICMP6, [2, _, _, _]) => true,
        // RFC 4861: neighbour discovery, never from beyond the link.
        (ICMP6, [133..=137, _, _, _]) => hop_limit == 255,
        (UDP, ports) => is_conversation(ports, 546),
        _ => false,
    })
}

impl Address for V4 {
    const BITS: u32 = 32;
    const BUDGET_BITS: u32 = 32;
    type Key = Key4;
    type Octets = [u8; 4];
    type Payer = u32;

    #[inline(always)]
    fn network(self, host_bits: u32) -> Key4 {
        // In 64 bits, where clearing all 32 is not a shift by the width.
        let [_, _, _, _, a, b, c, d] = clear(u64::from(self.0), host_bits).to_be_bytes();
        let address = u32::from_be_bytes([a, b, c, d]);
        Key4 { address, length: Self::BITS.wrapping_sub(host_bits) }
    }

    #[inline(always)]
    fn octets(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    #[inline(always)]
    fn padded(self) -> [u8; 16] {
        let [a, b, c, d] = self.octets();
        [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    }

    #[inline(always)]
    fn payer(self) -> u32 {
        self.0
    }

    #[inline(always)]
    fn lengths(config: &Config<Shared>) -> &Lengths<Shared> {
        &config.lengths4
    }

    #[inline(always)]
    fn is_essential<P: Packet>(packet: &P) -> bool {
        is_essential_v4(packet).unwrap_or(false)
    }
}

impl Address for V6 {
    const BITS: u32 = 128;
    const BUDGET_BITS: u32 = 64;
    type Key = Key6;
    type Octets = [u8; 16];
    type Payer = u64;

    #[inline(always)]
    fn network(self, host_bits: u32) -> Key6 {
        let Self { high, low } = self;
        let (high, low) = match host_bits {
            0..64 => (high, clear(low, host_bits)),
            64..128 => (clear(high, host_bits.wrapping_sub(64)), 0),
            _ => (0, 0),
        };
        Key6 { high, low, length: u64::from(Self::BITS.wrapping_sub(host_bits)) }
    }

    #[inline(always)]
    fn octets(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.high.to_be_bytes();
        let [i, j, k, l, m, n, o, p] = self.low.to_be_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    #[inline(always)]
    fn padded(self) -> [u8; 16] {
        self.octets()
    }

    #[inline(always)]
    fn payer(self) -> u64 {
        self.high
    }

    #[inline(always)]
    fn lengths(config: &Config<Shared>) -> &Lengths<Shared> {
        &config.lengths6
    }

    #[inline(always)]
    fn is_essential<P: Packet>(packet: &P) -> bool {
        is_essential_v6(packet).unwrap_or(false)
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

/// The word without its last bits; fewer than 64 of them.
#[inline(always)]
const fn clear(word: u64, bits: u32) -> u64 {
    word.wrapping_shr(bits).wrapping_shl(bits)
}
