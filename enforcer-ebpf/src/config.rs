//! What is in force: the one value that the program reads for every packet.

use crate::Shared;
use crate::shared::{forget, low, lowest_bit, wide};

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
    /// On `CLOCK_MONOTONIC`: from then on [`Mode::Enforce`] only observes; 0: never.
    ///
    /// That clock stands still while the host sleeps, so waking up costs no enforcement.
    pub lease_ns: W,
    /// Secrets of this host's hashes.
    pub seed: [W; 2],
    /// A [`TableWord`]: which table of `BLOCK4` is in force.
    pub table4: W,
    /// A [`TableWord`]: which table of `BLOCK6` is in force.
    pub table6: W,
    /// [`Lengths`] of the IPv4 blocks; the last two words are zero.
    pub lengths4: Lengths<W>,
    /// [`Lengths`] of the IPv6 blocks.
    pub lengths6: Lengths<W>,
    /// Sets of `SOURCE4`, less one: all ones from the lowest bit on.
    pub source4_mask: W,
    /// Sets of `SOURCE6`, less one.
    pub source6_mask: W,
    /// A sum of [`flag`] bits.
    pub flags: W,
    /// Up to eight [`Ports`] that budgets are kept for; 0: all traffic.
    pub ports: Ports<W>,
    /// Counts up, in two bits, when networks change their budget class.
    pub class_generation: W,
    /// More new sources than this in a second are a flood; 0: never.
    pub flood_per_second: W,
    /// So many misbehaving parts make their network answer for all of them.
    pub escalate_after: W,
    /// When they misbehave within this time.
    pub escalate_within_ns: W,
    /// It answers for this long.
    pub escalate_for_ns: W,
    /// Every clock of a program that was loaded for a test.
    pub test_clock_ns: W,
}

/// Bits of [`Config::flags`].
pub mod flag {
    /// Some class has a budget.
    pub const BUDGETS: u64 = 1;
    /// Some network has a class of its own.
    pub const CLASSES: u64 = 1 << 1;
    /// Some class counts TCP connections, so the transport header is read.
    pub const SYNS: u64 = 1 << 2;
    /// Packets to blocked peers are dropped.
    pub const CONTAIN: u64 = 1 << 3;
    /// Packets are counted by destination.
    pub const PEERS: u64 = 1 << 4;
}

/// Which of two tables is in force, and how large it is: one word, so that both change at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableWord {
    /// 0 or 1.
    pub index: u32,
    /// Home rows; [`PROBES`](crate::table::PROBES)` - 1` more follow. 0: no blocks at all.
    pub rows: u32,
}

/// Up to eight ports, four in a word, each in network order of significance; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ports<W = u64>(pub [W; 2]);

/// A set of prefix lengths, each kept as its number of host bits: bit 0 is a single address.
///
/// Adding or removing one length changes one bit of one word, so a reader that runs meanwhile sees
/// every other length, whichever words it has read already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Lengths<W = u64>(pub [W; 3]);

/// Which lengths are worth looking for, as the prefilter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub [u64; 3]);

/// Words of a [`Config`].
pub const CONFIG_WORDS: usize = 23;

const _: () = assert!(size_of::<Config>() == 8 * CONFIG_WORDS);
const _: () = assert!(size_of::<Config<Shared>>() == 8 * CONFIG_WORDS);

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

impl TableWord {
    /// As `CONFIG` holds it.
    pub const fn word(self) -> u64 {
        wide(self.rows) << 32 | wide(self.index) & 1
    }

    /// From what `CONFIG` holds.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self { index: low(word & 1), rows: low(word >> 32) }
    }
}

impl Ports {
    /// The set of these; those after the eighth are left out.
    pub fn of(ports: &[u16]) -> Self {
        let mut words = [0; 2];
        for (at, &port) in ports.iter().take(8).enumerate() {
            if let Some(word) = words.get_mut(at / 4) {
                *word |= u64::from(port) << (at % 4 * 16);
            }
        }
        Self(words)
    }
}

impl Ports<Shared> {
    /// Whether budgets are kept for all traffic.
    #[inline(always)]
    pub fn are_all(&self) -> bool {
        let Self([a, _]) = self;
        a.get() == 0
    }

    /// Whether `port` is one of them.
    #[inline(always)]
    pub fn contain(&self, port: u16) -> bool {
        let Self([a, b]) = self;
        let (a, b, port) = (a.get(), b.get(), u64::from(port));
        let is = |word: u64, shift: u32| word.wrapping_shr(shift) & 0xffff == port;
        port != 0
            && (is(a, 0) || is(a, 16) || is(a, 32) || is(a, 48))
                | (is(b, 0) || is(b, 16) || is(b, 32) || is(b, 48))
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

impl Span {
    /// Nothing.
    pub const NONE: Self = Self([0; 3]);

    /// Everything.
    pub const ALL: Self = Self([u64::MAX; 3]);

    /// Whether none of `lengths` is in it.
    #[inline(always)]
    pub fn misses(self, lengths: &Lengths<Shared>, bits: u32) -> bool {
        matches!(lengths.left(self, bits), Left::None)
    }
}

/// How many lengths a look-up has to try.
pub enum Left {
    /// None at all.
    None,
    /// The one with so many host bits.
    One(u32),
    /// Several.
    More,
}

impl Lengths<Shared> {
    /// What of the lengths is in `span`.
    #[inline(always)]
    pub fn left(&self, span: Span, bits: u32) -> Left {
        let (Self([a, b, c]), Span([d, e, f])) = (self, span);
        let first = a.get() & d;
        let rest = if bits < 64 { 0 } else { b.get() & e | c.get() & f };
        if first == 0 && rest == 0 {
            Left::None
        } else if first & first.wrapping_sub(1) == 0 && rest == 0 {
            Left::One(lowest_bit(first))
        } else {
            Left::More
        }
    }

    /// The longest length in `span` that leaves at least `from` host bits, as that number of bits.
    ///
    /// For a family of `bits`, so that IPv4 reads one word and not three.
    #[inline(always)]
    pub fn next(&self, from: u64, span: Span, bits: u32) -> Option<u32> {
        let (Self([a, b, c]), Span([d, e, f])) = (self, span);
        let first = a.get();
        let from = forget(from, first);
        if from < 64 {
            let rest = first & d & (u64::MAX << (from & 63));
            if rest != 0 {
                return Some(lowest_bit(rest));
            }
        }
        if bits < 64 {
            return None;
        }
        if from < 128 {
            let below = if from < 64 { 0 } else { from & 63 };
            let rest = b.get() & e & (u64::MAX << below);
            if rest != 0 {
                return Some(lowest_bit(rest).wrapping_add(64));
            }
        }
        (from <= 128 && c.get() & f != 0).then_some(128)
    }
}

impl Config<Shared> {
    /// Whether all of these [`flag`] bits are set.
    #[inline(always)]
    pub fn has(&self, flags: u64) -> bool {
        self.flags.get() & flags == flags
    }
}

impl Config {
    /// As the map holds it.
    pub const fn to_words(self) -> [u64; CONFIG_WORDS] {
        let Lengths([a, b, c]) = self.lengths4;
        let Lengths([d, e, f]) = self.lengths6;
        let ([seed, more], Ports([ports, others])) = (self.seed, self.ports);
        [
            self.mode,
            self.lease_ns,
            seed,
            more,
            self.table4,
            self.table6,
            a,
            b,
            c,
            d,
            e,
            f,
            self.source4_mask,
            self.source6_mask,
            self.flags,
            ports,
            others,
            self.class_generation,
            self.flood_per_second,
            self.escalate_after,
            self.escalate_within_ns,
            self.escalate_for_ns,
            self.test_clock_ns,
        ]
    }

    /// From what the map holds.
    pub const fn from_words(words: [u64; CONFIG_WORDS]) -> Self {
        let [
            mode,
            lease_ns,
            seed,
            more,
            table4,
            table6,
            a,
            b,
            c,
            d,
            e,
            f,
            source4_mask,
            source6_mask,
            flags,
            ports,
            others,
            class_generation,
            flood_per_second,
            escalate_after,
            escalate_within_ns,
            escalate_for_ns,
            test_clock_ns,
        ] = words;
        Self {
            mode,
            lease_ns,
            seed: [seed, more],
            table4,
            table6,
            lengths4: Lengths([a, b, c]),
            lengths6: Lengths([d, e, f]),
            source4_mask,
            source6_mask,
            flags,
            ports: Ports([ports, others]),
            class_generation,
            flood_per_second,
            escalate_after,
            escalate_within_ns,
            escalate_for_ns,
            test_clock_ns,
        }
    }
}
