//! The kernel half: what it shares with the agent, and the verdict on a packet.
//!
//! This file is the contract: the name of every map, the layout of every key and value. Change a
//! layout, change [`ABI`]; maps of two layouts never share a folder of pins. The modules are the
//! verdict core, plain Rust over two traits ([`Packet`], [`Tables`]): `main.rs` compiles it for the
//! kernel with maps behind the traits, tests compile the same lines for the host.
//!
//! Nothing here allocates, panics, or knows aya. Values that the kernel and the agent touch at the
//! same time are made of whole 64-bit words, so that no reader ever sees half of a change.

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod budget;
pub mod events;
pub mod packet;
pub mod quarantine;
mod shared;
pub mod verdict;

use core::fmt;

pub use packet::{Address, Packet, V4, V6};
pub use shared::Shared;
pub use verdict::{Lists, Tables, judge};

/// The number of this layout; part of the name of the folder that holds the pins.
pub const ABI: u32 = 1;

/// The XDP program's name.
pub const PROGRAM: &str = "enforcer_xdp";

/// An expiry that never comes.
pub const NEVER_NS: u64 = u64::MAX;

/// One event for each block, and for each source over its budget, in this time.
pub const EVENT_WINDOW_NS: u64 = 1_000_000_000;

/// Different prefix lengths in one family's blocks. The walk over them is the cost of a packet.
pub const MAX_LENGTHS: u32 = 32;

/// Networks in one family's allow list.
pub const MAX_ALLOW: u32 = 4096;

/// Bytes of the ring buffer: 4,681 events of 48 bytes and their headers.
pub const EVENT_BYTES: u32 = 256 * 1024;

/// Names of the maps: symbols in the object, files in the folder of pins.
pub mod map {
    /// LPM trie, address in network order → `u32`: networks that are never dropped.
    pub const ALLOW4: &str = "ALLOW4";
    /// LPM trie, address in network order → `u32`: networks that are never dropped.
    pub const ALLOW6: &str = "ALLOW6";
    /// Hash, [`Key4`](crate::Key4) → [`Entry`](crate::Entry).
    pub const BLOCK4: &str = "BLOCK4";
    /// Hash, [`Key6`](crate::Key6) → [`Entry`](crate::Entry).
    pub const BLOCK6: &str = "BLOCK6";
    /// Array of one [`Config`](crate::Config).
    pub const CONFIG: &str = "CONFIG";
    /// Ring buffer of [`Event`](crate::Event).
    pub const EVENTS: &str = "EVENTS";
    /// LRU hash, IPv4 address → [`Bucket`](crate::Bucket).
    pub const SOURCE4: &str = "SOURCE4";
    /// LRU hash, first half of an IPv6 address → [`Bucket`](crate::Bucket).
    pub const SOURCE6: &str = "SOURCE6";
    /// Per-CPU array of [`Counter`](crate::Counter) at [`counter_index`](crate::counter_index).
    pub const STATS: &str = "STATS";

    /// All of them.
    pub const ALL: [&str; 9] =
        [ALLOW4, ALLOW6, BLOCK4, BLOCK6, CONFIG, EVENTS, SOURCE4, SOURCE6, STATS];
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

/// Why. With [`Verdict::Pass`], [`Blocked`](Self::Blocked), [`Budget`](Self::Budget) and
/// [`Unreadable`](Self::Unreadable) mean "was only observed".
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
    /// Its source sent more than its budget.
    Budget = 4,
    /// Not a packet that a network stack could accept.
    Unreadable = 5,
    /// Would be dropped, but the allow list names its source.
    Allowed = 6,
    /// Would be dropped, but a network breaks without it: neighbour discovery, path MTU, DHCP.
    Essential = 7,
}

/// What a match does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Mode {
    /// Look at nothing. What a map of zeros says, so a program without a configuration passes all.
    Off = 0,
    /// Count and report, and let pass.
    Observe = 1,
    /// Drop.
    Enforce = 2,
}

/// What the program reads once per packet.
///
/// `W` is [`Shared`] where the kernel shares the value and `u64` in a copy of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Config<W = u64> {
    /// A [`Mode`].
    pub mode: W,
    /// The time that one packet uses up of its source's budget; 0: no budgets.
    pub interval_ns: W,
    /// How far a source may run ahead of that.
    pub tolerance_ns: W,
    /// [`Lengths`] of `BLOCK4`.
    pub lengths4: Lengths<W>,
    /// [`Lengths`] of `BLOCK6`.
    pub lengths6: Lengths<W>,
}

/// A set of prefix lengths, each kept as its number of host bits: bit 0 is a single address.
///
/// Adding or removing one length changes one bit of one word, so a reader that runs meanwhile sees
/// every other length, whichever words it has read already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Lengths<W = u64>(pub [W; 3]);

/// An IPv4 network: key of `BLOCK4`. A number, not bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Key4 {
    /// The first address: host bits are zero.
    pub address: u32,
    /// Leading bits that are fixed.
    pub length: u32,
}

/// An IPv6 network: key of `BLOCK6`. Numbers, not bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Key6 {
    /// The first half of the first address.
    pub high: u64,
    /// The second half.
    pub low: u64,
    /// Leading bits that are fixed.
    pub length: u64,
}

/// A block. Zeros are a block that has expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Entry<W = u64> {
    /// On `CLOCK_BOOTTIME`; from then on the entry is as good as absent.
    pub expires_ns: W,
    /// The block's id.
    pub id: W,
    /// Not zero: count and report, and let pass.
    pub observe: W,
    /// Packets that met it.
    pub packets: W,
    /// Their bytes.
    pub bytes: W,
    /// When the last one came.
    pub last_hit_ns: W,
    /// When an event told of it.
    pub reported_ns: W,
}

/// What one source has spent: a token bucket as the time up to which it is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Bucket<W = u64> {
    /// Each packet moves it on by the interval; it never lies behind the present.
    pub spent_until_ns: W,
    /// When an event told that it was overspent.
    pub reported_ns: W,
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

/// A transition, for the agent. [`Reason::Blocked`] or [`Reason::Budget`].
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
    /// The packet's source in network order; IPv4 in the first four bytes, then zeros.
    pub source: [u8; 16],
}

// A layout is a promise: no padding, no bool, every size known.
const _: () = assert!(size_of::<Config>() == 72 && size_of::<Config<Shared>>() == 72);
const _: () = assert!(size_of::<Key4>() == 8 && size_of::<Key6>() == 24);
const _: () = assert!(size_of::<Entry>() == 56 && size_of::<Entry<Shared>>() == 56);
const _: () = assert!(size_of::<Bucket>() == 16 && size_of::<Counter>() == 16);
const _: () = assert!(size_of::<Event>() == Event::SIZE && align_of::<Event>() == 8);

/// Counters in `STATS`: one for each verdict and reason, and the last for lost events.
pub const COUNTERS: u32 = 2 * Reason::COUNT + 1;

/// Where `STATS` counts events that found the ring buffer full.
pub const LOST_EVENTS: u32 = COUNTERS - 1;

/// Where `STATS` counts packets with this verdict for this reason.
#[expect(clippy::as_conversions, reason = "the discriminants of two repr(u32) enums")]
pub const fn counter_index(verdict: Verdict, reason: Reason) -> u32 {
    verdict as u32 * Reason::COUNT + reason as u32
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
    const COUNT: u32 = 8;

    /// All, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Clean,
        Self::Off,
        Self::NotIp,
        Self::Blocked,
        Self::Budget,
        Self::Unreadable,
        Self::Allowed,
        Self::Essential,
    ];

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
        }
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

impl Mode {
    /// The mode with this number; an unknown number drops rather than passes.
    pub const fn from_word(word: u64) -> Self {
        match word {
            0 => Self::Off,
            1 => Self::Observe,
            _ => Self::Enforce,
        }
    }

    /// Its number.
    #[expect(clippy::as_conversions, reason = "the discriminant of a repr(u64) enum")]
    pub const fn word(self) -> u64 {
        self as u64
    }
}

impl Lengths {
    /// The set with every length that is in either.
    pub const fn union(self, other: Self) -> Self {
        let (Self([a, b, c]), Self([d, e, f])) = (self, other);
        Self([a | d, b | e, c | f])
    }

    /// The set of the one length that leaves `host_bits`; nothing above 128.
    pub const fn of(host_bits: u32) -> Self {
        match host_bits {
            0..64 => Self([1 << host_bits, 0, 0]),
            64..128 => Self([0, 1 << (host_bits - 64), 0]),
            128 => Self([0, 0, 1]),
            _ => Self([0, 0, 0]),
        }
    }

    /// How many lengths there are.
    pub const fn count(self) -> u32 {
        let Self([a, b, c]) = self;
        a.count_ones() + b.count_ones() + c.count_ones()
    }
}

impl Lengths<Shared> {
    /// The longest length that leaves at least `from` host bits, as that number of host bits.
    ///
    /// For a family of `bits`, so that IPv4 reads one word and not three.
    #[inline(always)]
    pub fn next(&self, from: u64, bits: u32) -> Option<u32> {
        let Self([a, b, c]) = self;
        let first = a.get();
        let from = shared::forget(from, first);
        if from < 64 {
            let rest = first & (u64::MAX << (from & 63));
            if rest != 0 {
                return Some(lowest_bit(rest));
            }
        }
        if bits < 64 {
            return None;
        }
        if from < 128 {
            let below = if from < 64 { 0 } else { from & 63 };
            let rest = b.get() & (u64::MAX << below);
            if rest != 0 {
                return Some(lowest_bit(rest).wrapping_add(64));
            }
        }
        (from <= 128 && c.get() != 0).then_some(128)
    }
}

/// The number of the lowest bit that is set.
///
/// As the number of bits below it: what the compiler has instead for a BPF machine is a table, and
/// an index into a table makes the kernel follow the exact value of everything that it came from.
#[inline(always)]
fn lowest_bit(word: u64) -> u32 {
    let below = (word & word.wrapping_neg()).wrapping_sub(1);
    shared::opaque(below).count_ones()
}

impl Key4 {
    /// As the map holds it.
    pub const fn to_words(self) -> [u32; 2] {
        [self.address, self.length]
    }

    /// From what the map holds.
    pub const fn from_words([address, length]: [u32; 2]) -> Self {
        Self { address, length }
    }
}

impl Key6 {
    /// As the map holds it.
    pub const fn to_words(self) -> [u64; 3] {
        [self.high, self.low, self.length]
    }

    /// From what the map holds.
    pub const fn from_words([high, low, length]: [u64; 3]) -> Self {
        Self { high, low, length }
    }
}

impl Config<Shared> {
    /// The mode in force.
    #[inline(always)]
    pub fn mode(&self) -> Mode {
        Mode::from_word(self.mode.get())
    }
}

impl Config {
    /// As the map holds it.
    pub const fn to_words(self) -> [u64; 9] {
        let Self { mode, interval_ns, tolerance_ns, lengths4, lengths6 } = self;
        let (Lengths([a, b, c]), Lengths([d, e, f])) = (lengths4, lengths6);
        [mode, interval_ns, tolerance_ns, a, b, c, d, e, f]
    }

    /// From what the map holds.
    pub const fn from_words(words: [u64; 9]) -> Self {
        let [mode, interval_ns, tolerance_ns, a, b, c, d, e, f] = words;
        let (lengths4, lengths6) = (Lengths([a, b, c]), Lengths([d, e, f]));
        Self { mode, interval_ns, tolerance_ns, lengths4, lengths6 }
    }
}

impl Entry<Shared> {
    /// Whether it counts at `now_ns`.
    #[inline(always)]
    pub fn in_force(&self, now_ns: u64) -> bool {
        now_ns < self.expires_ns.get()
    }

    /// Whether it only observes.
    #[inline(always)]
    pub fn observes(&self) -> bool {
        self.observe.get() != 0
    }
}

impl Entry {
    /// As the map holds it.
    pub const fn to_words(self) -> [u64; 7] {
        let Self { expires_ns, id, observe, packets, bytes, last_hit_ns, reported_ns } = self;
        [expires_ns, id, observe, packets, bytes, last_hit_ns, reported_ns]
    }

    /// From what the map holds.
    pub const fn from_words(words: [u64; 7]) -> Self {
        let [expires_ns, id, observe, packets, bytes, last_hit_ns, reported_ns] = words;
        Self { expires_ns, id, observe, packets, bytes, last_hit_ns, reported_ns }
    }
}

impl Event {
    /// Bytes of one event in the ring buffer.
    pub const SIZE: usize = 48;

    /// From what the ring buffer holds; `None` when it is of another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::SIZE] = bytes.try_into().ok()?;
        let (at_ns, rest) = bytes.split_first_chunk()?;
        let (id, rest) = rest.split_first_chunk()?;
        let (reason, rest) = rest.split_first_chunk()?;
        let (verdict, rest) = rest.split_first_chunk()?;
        let (bits, rest) = rest.split_first_chunk()?;
        let (length, source) = rest.split_first_chunk()?;
        Some(Self {
            at_ns: u64::from_ne_bytes(*at_ns),
            id: u64::from_ne_bytes(*id),
            reason: u32::from_ne_bytes(*reason),
            verdict: u32::from_ne_bytes(*verdict),
            bits: u32::from_ne_bytes(*bits),
            length: u32::from_ne_bytes(*length),
            source: source.try_into().ok()?,
        })
    }
}
