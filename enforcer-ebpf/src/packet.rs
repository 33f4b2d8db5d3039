//! From bytes to a source address, or to the reason why there is none.
//!
//! Reads at most two VLAN tags and the fixed IP header; that alone decides about a block, so
//! fragments, options and extension headers cannot hide a source. What lies behind the fixed header
//! is read only for a packet that is about to be dropped, to spare those that a network breaks
//! without. Every read goes through [`Packet::load`], which checks bounds.

use crate::config::{Config, Lengths, Span, TableWord};
use crate::escalation;
use crate::escalation::seed;
use crate::prefilter::{self, Level};
use crate::source::V4_MARK;
use crate::table::{Row4, Row6, Slots};
use crate::{Lists, Shared, Tables};

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

    /// Rows of its table of blocks.
    type Row: Slots;

    /// An address as the allow list spells it: network order.
    type Octets: Copy + 'static;

    /// The network of the addresses that differ from this one in the last `host_bits` at most.
    fn network(self, host_bits: u32) -> <Self::Row as Slots>::Key;

    /// The address in network order.
    fn octets(self) -> Self::Octets;

    /// The address in an event: sixteen bytes, zeros behind an IPv4 address.
    fn padded(self) -> [u8; 16];

    /// Who pays for its packets, and fixed bits of that: an address, a /64 of which every address is
    /// one host's, or a network that answers for its parts.
    fn payer<T: Tables>(self, config: &Config<Shared>, tables: &T, now_ns: u64) -> (u64, u32);

    /// With whom it shares a budget when it has none of its own, and fixed bits of that.
    fn neighbourhood(self) -> (u64, u32);

    /// What is counted as one destination.
    fn peer(self) -> u64;

    /// The part of an address that networks answer for; 0 where they do not.
    fn high(self) -> u64;

    /// Which prefix lengths the prefilter leaves over.
    fn span<L: Lists<Self>>(self, config: &Config<Shared>, lists: &L) -> Span;

    /// Which table of blocks is in force.
    fn table(config: &Config<Shared>) -> TableWord;

    /// The prefix lengths of the family's blocks.
    fn lengths(config: &Config<Shared>) -> &Lengths<Shared>;

    /// Sets of the family's sources, less one.
    fn source_mask(config: &Config<Shared>) -> u64;

    /// Where the transport header is; `None` when it cannot be told, or is not in this fragment.
    fn locate_transport<P: Packet>(packet: &P) -> Option<Located>;

    /// Whether a network breaks when this packet of the family is dropped.
    fn is_essential<P: Packet>(packet: &P) -> bool;
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

/// Where a transport header is.
pub struct Located {
    /// Its number.
    pub protocol: u8,
    /// Its first byte.
    pub at: usize,
    /// Whether the packet is no fragment.
    pub whole: bool,
}

/// What a transport header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Its number.
    pub protocol: u8,
    /// Source port; 0 where there are no ports.
    pub source_port: u16,
    /// Destination port; 0 where there are no ports.
    pub port: u16,
    /// Flags of a TCP header.
    pub flags: u8,
    /// Whether it opens a TCP connection.
    pub opens: bool,
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
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
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
fn parse_v4<P: Packet>(packet: &P, at: usize) -> Result<Ends<V4>, Unreadable> {
    let address = |at| packet.load(at).map(u32::from_be_bytes).ok_or(Unreadable::Truncated);
    // The destination ends the fixed header, so all of it is known to be there.
    let (source, destination) = (V4(address(at + 12)?), V4(address(at + 16)?));
    let [first] = packet.load(at).ok_or(Unreadable::Truncated)?;
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
    let [first] = packet.load(at).ok_or(Unreadable::Truncated)?;
    if first >> 4 != 6 {
        return Err(Unreadable::Header);
    }
    Ok(Ends { source, destination })
}

/// What the transport header says; `None` when it cannot be told, or is not in this fragment.
#[inline(always)]
pub fn transport<P: Packet, A: Address>(packet: &P) -> Option<Transport> {
    let Located { protocol, at, .. } = A::locate_transport(packet)?;
    let (source_port, port, flags) = match protocol {
        TCP => {
            let [_, flags] = packet.load(at + 12)?;
            (load_u16(packet, at).ok()?, load_u16(packet, at + 2).ok()?, flags)
        }
        UDP => (load_u16(packet, at).ok()?, load_u16(packet, at + 2).ok()?, 0),
        _ => (0, 0, 0),
    };
    // SYN without ACK.
    let opens = flags & 0x12 == 0x02;
    Some(Transport { protocol, source_port, port, flags, opens })
}

impl Transport {
    /// Whether it only tells the other side that a TCP connection is no more.
    pub const fn resets(&self) -> bool {
        self.flags & 0x04 != 0
    }
}

#[inline(always)]
fn is_essential_v4<P: Packet>(packet: &P) -> Option<bool> {
    let Located { protocol, at, whole } = V4::locate_transport(packet)?;
    let payload = packet.load(at)?;
    Some(whole && match protocol {
        // RFC 1191: destination unreachable, fragmentation needed.
        ICMP4 => matches!(payload, [3, 4, _, _]),
        UDP => is_conversation(payload, 67),
        _ => false,
    })
}

#[inline(always)]
fn is_essential_v6<P: Packet>(packet: &P) -> Option<bool> {
    let (_, header) = locate(packet).ok()?;
    let [hop_limit] = packet.load(header + 7)?;
    // RFC 6980 forbids fragments where they would matter here.
    let Located { protocol, at, whole } = V6::locate_transport(packet)?;
    let payload = packet.load(at)?;
    Some(whole && match (protocol, payload) {
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
    fn padded(self) -> [u8; 16] {
        let [a, b, c, d] = self.octets();
        [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
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
    fn span<L: Lists<Self>>(self, _: &Config<Shared>, lists: &L) -> Span {
        let (word, shift) = prefilter::place4(self.0);
        match lists.prefilter(word) {
            Some(bits) => prefilter::span4(bits.get().wrapping_shr(shift) & 3),
            None => Span::NONE,
        }
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

    /// Reads the packet anew: what a parser carried through the look-ups would multiply the states
    /// that the kernel has to verify there.
    #[inline(always)]
    fn locate_transport<P: Packet>(packet: &P) -> Option<Located> {
        let (_, header) = locate(packet).ok()?;
        let [first] = packet.load(header)?;
        let [flags, offset, _, protocol] = packet.load(header + 6)?;
        // Fragments after the first have none.
        if flags & 0x1f != 0 || offset != 0 {
            return None;
        }
        let at = header + usize::from(first & 15) * 4;
        Some(Located { protocol, at, whole: flags & 0x20 == 0 })
    }

    #[inline(always)]
    fn is_essential<P: Packet>(packet: &P) -> bool {
        is_essential_v4(packet).unwrap_or(false)
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
    fn padded(self) -> [u8; 16] {
        self.octets()
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
    fn span<L: Lists<Self>>(self, config: &Config<Shared>, lists: &L) -> Span {
        let seed = seed(config);
        let is_set = |level: Level| {
            let (word, shift) = level.place(self.high, seed);
            lists.prefilter(word).is_some_and(|bits| bits.get().wrapping_shr(shift) & 1 != 0)
        };
        let kept = prefilter::levels(Self::lengths(config));
        prefilter::span6(kept.site && is_set(Level::Site), kept.provider && is_set(Level::Provider))
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

    #[inline(always)]
    fn locate_transport<P: Packet>(packet: &P) -> Option<Located> {
        let (_, header) = locate(packet).ok()?;
        let [mut protocol] = packet.load(header + 6)?;
        let mut at = header + 40;
        let mut whole = true;
        for _ in 0..MAX_EXTENSIONS {
            let length = match protocol {
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                    let [_, eights] = packet.load(at)?;
                    8 + usize::from(eights) * 8
                }
                FRAGMENT => {
                    let [offset, rest] = packet.load(at + 2)?;
                    // Fragments after the first have none.
                    if offset != 0 || rest & 0xf8 != 0 {
                        return None;
                    }
                    whole = false;
                    8
                }
                _ => return Some(Located { protocol, at, whole }),
            };
            [protocol] = packet.load(at)?;
            at += length;
        }
        None
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
