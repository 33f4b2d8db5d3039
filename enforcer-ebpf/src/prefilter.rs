//! Does any block touch the neighbourhood of this address?
//!
//! For IPv4 two bits for each of the 16.7 million /24s, exact. For IPv6 one bit for the hash of a
//! /48 and one for that of a /32; blocks wider than a /32 are always looked for. Nearly every
//! packet of a legitimate client ends here, for one load. Bits are set before a block is in force
//! and cleared long after: a bit too many costs a look-up, a bit too few cannot happen.

use crate::Lengths;
use crate::config::Span;
use crate::shared::low;
use crate::table::hash;

/// Words of `PREFILTER4`: 32 /24s in each.
pub const WORDS4: u32 = 1 << 19;

/// Words of `PREFILTER6`.
pub const WORDS6: u32 = 1 << 19;

/// Of a /24: a block longer than /24 lies in it.
pub const INSIDE: u64 = 1;

/// Of a /24: a block of /24 or shorter covers it.
pub const AROUND: u64 = 2;

/// Lengths of 25 to 32.
const LONG4: u64 = 0xff;
/// Lengths of 0 to 24.
const SHORT4: u64 = ((1 << 33) - 1) & !LONG4;

/// Where the two bits of an IPv4 address are: word, and how far to shift it.
#[inline(always)]
pub const fn place4(address: u32) -> (u32, u32) {
    let cell = address >> 8;
    (cell >> 5, (cell & 31) << 1)
}

/// The lengths that these two bits leave over.
#[inline(always)]
pub const fn span4(bits: u64) -> Span {
    let long = if bits & INSIDE != 0 { LONG4 } else { 0 };
    let short = if bits & AROUND != 0 { SHORT4 } else { 0 };
    Span([long | short, 0, 0])
}

/// The two neighbourhoods of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Blocks of /48 and longer.
    Site,
    /// Blocks of /32 to /47.
    Provider,
}

impl Level {
    /// Where blocks of this length leave a bit; `None`: they are always looked for.
    pub const fn of(length: u8) -> Option<Self> {
        match length {
            48.. => Some(Self::Site),
            32..48 => Some(Self::Provider),
            _ => None,
        }
    }

    /// Where the bit of an address is, whose first half this is: word, and how far to shift it.
    #[inline(always)]
    pub fn place(self, high: u64, seed: [u64; 2]) -> (u32, u32) {
        let (network, length) = match self {
            Self::Site => (high.wrapping_shr(16), 48),
            Self::Provider => (high.wrapping_shr(32), 32),
        };
        let bit = hash(&[network], length, seed).wrapping_shr(39);
        (low(bit.wrapping_shr(6)), low(bit & 63))
    }
}

/// The IPv6 lengths that are left over: those of a level where its bit is set, and the widest.
#[inline(always)]
pub const fn span6(site: bool, provider: bool) -> Span {
    let (first, second) = if site { (u64::MAX, SITE) } else { (0, 0) };
    let third = if provider { PROVIDER } else { 0 };
    Span([first, second | third | WIDEST, 1])
}

/// Which levels any block is on, so that the others are not asked.
pub struct Levels {
    /// [`Level::Site`].
    pub site: bool,
    /// [`Level::Provider`].
    pub provider: bool,
}

/// The levels of these lengths.
#[inline(always)]
pub fn levels(lengths: &Lengths<crate::Shared>) -> Levels {
    let Lengths([a, b, _]) = lengths;
    let second = b.get();
    Levels { site: (a.get() | second & SITE) != 0, provider: second & PROVIDER != 0 }
}

/// Of the second word of [`Lengths`]: host bits 64 to 80, 81 to 96, and the rest.
const SITE: u64 = (1 << 17) - 1;
const PROVIDER: u64 = ((1 << 33) - 1) & !SITE;
const WIDEST: u64 = !((1 << 33) - 1);
