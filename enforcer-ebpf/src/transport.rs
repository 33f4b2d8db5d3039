//! What lies behind the IP header: ports, TCP flags, and whether a network breaks without it.
//!
//! Read only for a packet that is about to be dropped, and where budgets are kept by port or by TCP
//! connection. What is hidden behind more headers than anybody needs, or in a first fragment that is
//! too short for it, counts as the worst that it can be: a connection that opens, to any port. The
//! answer is one word: in the kernel this is a function of its own, which is verified once and not
//! again behind every way to it.

use crate::packet::{Packet, TYPE_V4, TYPE_V6, Unreadable, locate};
use crate::shared::opaque;

/// What a transport header says.
///
/// One word: destination port, source port, TCP flags, protocol, and three bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport(pub u64);

/// A header could be found and read.
const KNOWN: u64 = 1 << 48;
/// A network breaks when the packet is dropped.
const ESSENTIAL: u64 = 1 << 49;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

const HOP_BY_HOP: u8 = 0;
const ICMP4: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ICMP6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;
const MAX_EXTENSIONS: usize = 6;

/// Behind every frame.
const MAX_END: usize = 1 << 20;

/// Bytes of a TCP header up to its flags.
const TCP_FLAGS_END: usize = 14;

impl Transport {
    /// It cannot be told, or is not in this fragment.
    pub const UNKNOWN: Self = Self(0);

    /// It cannot be told, and may be the header of a TCP connection's first packet.
    #[expect(clippy::as_conversions, reason = "`u64::from` is not const")]
    const HIDDEN: Self = Self((SYN as u64) << 32);

    /// Whether a header could be found and read.
    #[inline(always)]
    pub const fn is_known(self) -> bool {
        self.0 & KNOWN != 0
    }

    /// Whether a network breaks when the packet is dropped: neighbour discovery, messages about
    /// packets that are too big, DHCP.
    #[inline(always)]
    pub const fn is_essential(self) -> bool {
        self.0 & ESSENTIAL != 0
    }

    /// Destination port; 0 where there are no ports.
    #[inline(always)]
    pub const fn port(self) -> u16 {
        let [a, b, ..] = self.0.to_le_bytes();
        u16::from_le_bytes([a, b])
    }

    /// Source port; 0 where there are no ports.
    #[inline(always)]
    pub const fn source_port(self) -> u16 {
        let [_, _, a, b, ..] = self.0.to_le_bytes();
        u16::from_le_bytes([a, b])
    }

    /// Flags of a TCP header; 0 for others.
    #[inline(always)]
    pub const fn flags(self) -> u8 {
        let [_, _, _, _, flags, ..] = self.0.to_le_bytes();
        flags
    }

    /// Its number.
    #[inline(always)]
    pub const fn protocol(self) -> u8 {
        let [_, _, _, _, _, protocol, ..] = self.0.to_le_bytes();
        protocol
    }

    /// Whether it opens a TCP connection, as far as anybody can tell.
    #[inline(always)]
    pub const fn opens(self) -> bool {
        self.flags() & (SYN | ACK) == SYN
    }

    /// Whether it tells the other side that a TCP connection is no more.
    #[inline(always)]
    pub const fn resets(self) -> bool {
        self.flags() & RST != 0
    }

    #[inline(always)]
    fn with(self, protocol: u8, flags: u8, [source_port, port]: [u16; 2]) -> Self {
        Self(
            self.0
                | KNOWN
                | u64::from(port)
                | u64::from(source_port) << 16
                | u64::from(flags) << 32
                | u64::from(protocol) << 40,
        )
    }

    /// What it says if `needed` is not behind `end`. In arithmetic, so that the kernel need not follow
    /// two ways from here.
    #[inline(always)]
    #[expect(clippy::as_conversions, reason = "offsets in a frame")]
    fn up_to(self, end: usize, needed: usize) -> Self {
        let is_short = opaque((end as u64).wrapping_sub(needed as u64).wrapping_shr(63));
        let mask = is_short.wrapping_neg();
        Self(self.0 & !mask | Self::HIDDEN.0 & mask)
    }

    #[inline(always)]
    const fn essential(is_essential: bool) -> Self {
        Self(if is_essential { ESSENTIAL } else { 0 })
    }
}

/// Whether a packet may be one that a network breaks without, as far as a glance tells: anything but
/// IPv4 other than ICMP and UDP, and plain TCP of IPv6.
#[inline(always)]
pub fn may_be_essential<P: Packet>(packet: &P) -> bool {
    match locate(packet) {
        Ok((TYPE_V4, header)) => {
            packet.load(header + 8).is_none_or(|[_, protocol]| matches!(protocol, ICMP4 | UDP))
        }
        Ok((TYPE_V6, header)) => packet.load(header + 6).is_none_or(|[next, _]| next != TCP),
        Ok(_) | Err(_) => true,
    }
}

/// Reads a packet's transport header.
#[inline(always)]
pub fn read<P: Packet>(packet: &P) -> Transport {
    match locate(packet) {
        Ok((TYPE_V4, header)) => read_v4(packet, header),
        Ok((TYPE_V6, header)) => read_v6(packet, header),
        Ok(_) | Err(Unreadable::Truncated | Unreadable::Header | Unreadable::Tags) => None,
    }
    .unwrap_or(Transport::UNKNOWN)
}

#[inline(always)]
fn read_v4<P: Packet>(packet: &P, header: usize) -> Option<Transport> {
    let [first, _, high, low, _, _, flags, offset, _, protocol] = packet.load(header)?;
    // Fragments after the first have none.
    if flags & 0x1f != 0 || offset != 0 {
        return None;
    }
    let is_whole = flags & 0x20 == 0;
    let at = header + usize::from(first & 15) * 4;
    let end = header + usize::from(u16::from_be_bytes([high, low]));
    let end = if is_whole { MAX_END } else { end };
    finish(packet, protocol, at, end, |payload| {
        is_whole
            && match protocol {
                // RFC 1191: destination unreachable, fragmentation needed.
                ICMP4 => matches!(payload, [3, 4, _, _]),
                UDP => is_conversation(payload, 67),
                _ => false,
            }
    })
}

#[inline(always)]
fn read_v6<P: Packet>(packet: &P, header: usize) -> Option<Transport> {
    let [high, low, mut protocol, hop_limit] = packet.load(header + 4)?;
    let mut at = header + 40;
    let end = header + 40 + usize::from(u16::from_be_bytes([high, low]));
    let mut is_whole = true;
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(protocol) {
            break;
        }
        let Some([following, eights, high, low]) = packet.load(at) else {
            return Some(Transport::HIDDEN);
        };
        let eights = if protocol == FRAGMENT {
            // Of a fragment of a fragment nobody knows where it goes.
            if !is_whole {
                return Some(Transport::HIDDEN);
            }
            // Fragments after the first have none.
            if high != 0 || low & 0xf8 != 0 {
                return None;
            }
            is_whole = false;
            0
        } else {
            eights
        };
        protocol = following;
        at += 8 + usize::from(eights) * 8;
    }
    if is_extension(protocol) {
        return Some(Transport::HIDDEN);
    }
    let end = if is_whole { MAX_END } else { end };
    finish(packet, protocol, at, end, |payload| {
        // RFC 6980 forbids fragments where they would matter here.
        is_whole
            && match (protocol, payload) {
                // RFC 4443: packet too big.
                (ICMP6, [2, _, _, _]) => true,
                // RFC 4861: neighbour discovery, never from beyond the link.
                (ICMP6, [133..=137, _, _, _]) => hop_limit == 255,
                (UDP, ports) => is_conversation(ports, 546),
                _ => false,
            }
    })
}

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

/// Each header in one piece: the kernel follows one check of bounds better than three.
///
/// What the frame shows behind the `end` of a first fragment is padding, not the header that the
/// next fragment brings (RFC 1858).
#[inline(always)]
fn finish<P: Packet>(
    packet: &P,
    protocol: u8,
    at: usize,
    end: usize,
    is_essential: impl Fn([u8; 4]) -> bool,
) -> Option<Transport> {
    let ports = |[a, b, c, d]: [u8; 4]| [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
    if protocol == TCP {
        let Some([a, b, c, d, .., flags]) = packet.load::<TCP_FLAGS_END>(at) else {
            return Some(Transport::HIDDEN);
        };
        let transport = Transport::UNKNOWN.with(protocol, flags, ports([a, b, c, d]));
        return Some(transport.up_to(end, at + TCP_FLAGS_END));
    }
    let payload = packet.load(at)?;
    let transport = Transport::essential(is_essential(payload));
    let ports = if protocol == UDP { ports(payload) } else { [0; 2] };
    Some(transport.with(protocol, 0, ports).up_to(end, at + 4))
}

/// Whether both ports are `first` or the one after it: DHCP uses 67 and 68, for IPv6 546 and 547.
#[inline(always)]
fn is_conversation([a, b, c, d]: [u8; 4], first: u16) -> bool {
    let either = |port: u16| port == first || port == first.wrapping_add(1);
    either(u16::from_be_bytes([a, b])) && either(u16::from_be_bytes([c, d]))
}
