//! The table of one family's blocks: rows of four slots, in an array that the agent writes in place.
//!
//! A network lives in its home row, which a seeded hash names, or, when that is full, in one of the
//! [`PROBES`]` - 1` rows behind it; a row says whether anything went past it. So a look-up of a
//! blocked source touches one cache line and a dead end hardly ever more: about a third of what a
//! kernel hash map costs at a million blocks, at half of its memory.
//!
//! One process writes, in an order that a reader on another CPU can trust: a slot is filled before
//! its [`Meta`] says that it is in use, and emptied by its meta first. Readers take the meta before
//! the key. So a packet can meet a block a moment early or late, never somebody else's.

use crate::Shared;
use crate::shared::{low, pick, wide};

/// Slots of a row.
pub const SLOTS: usize = 4;

/// Rows that are looked at for one network.
pub const PROBES: u32 = 8;

/// Different prefix lengths in one family's blocks. The walk over them is the cost of a packet.
pub const MAX_LENGTHS: u32 = 32;

/// Four blocks whose key has `N` words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Row<const N: usize, W = u64> {
    /// A [`Meta`] each.
    pub meta: [W; SLOTS],
    /// The network's first address, word by word, the most significant first.
    pub key: [[W; SLOTS]; N],
    /// What each block has met: half a cache line, so that counting a packet touches one more.
    pub hits: [Hits<W>; SLOTS],
}

/// Whose block it is, and what met it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Hits<W = u64> {
    /// The block's id.
    pub id: W,
    /// Packets that met it.
    pub packets: W,
    /// Their bytes.
    pub bytes: W,
    /// A [`Seen`].
    pub seen: W,
}

/// IPv4: the address is one word.
pub type Row4<W = u64> = Row<1, W>;

/// IPv6: two words.
pub type Row6<W = u64> = Row<2, W>;

const _: () = assert!(size_of::<Row4>() == 192 && size_of::<Row4<Shared>>() == 192);
const _: () = assert!(size_of::<Row6>() == 224 && size_of::<Row6<Shared>>() == 224);

/// What a slot says about its block, besides whose it is. 0: the slot is free.
///
/// From the top: 48 bits of time on `CLOCK_BOOTTIME` in [`MOMENT_NS`], when it ends; 8 bits of prefix
/// length; 8 bits of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta(pub u64);

/// When a block was met, and when that was reported: two halves of a word, in [`TICK_NS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(pub u64);

/// About a second: the clock of everything that is told by the second.
pub const TICK_NS: u64 = 1 << 30;

/// About a millisecond: the clock by which blocks end.
pub const MOMENT_NS: u64 = 1 << 20;

const NEVER: u64 = (1 << 48) - 1;

impl Meta {
    /// The slot holds a block.
    pub const USED: u64 = 1;
    /// It is counted and reported, and lets pass.
    pub const OBSERVE: u64 = 1 << 1;
    /// Nothing is sent to it either.
    pub const CONTAIN: u64 = 1 << 2;
    /// Of a row's first slot, in use or not: something that belongs here is in a row behind it.
    pub const OVERFLOW: u64 = 1 << 7;

    /// A block with these flags that ends at `expires_ns`, rounded up to whole [`MOMENT_NS`].
    pub const fn new(length: u8, expires_ns: u64, flags: u64) -> Self {
        let moments = if expires_ns > u64::MAX - (MOMENT_NS - 1) {
            NEVER
        } else {
            expires_ns.div_ceil(MOMENT_NS)
        };
        #[expect(clippy::as_conversions, reason = "`u64::from` is not const")]
        Self(moments << 16 | (length as u64) << 8 | flags & 0x7f | Self::USED)
    }

    /// Whether the slot holds a block.
    #[inline(always)]
    pub const fn is_used(self) -> bool {
        self.0 & Self::USED != 0
    }

    /// Whether all of these bits are set.
    #[inline(always)]
    pub const fn has(self, flags: u64) -> bool {
        self.0 & flags == flags
    }

    /// The prefix length.
    #[inline(always)]
    pub const fn length(self) -> u8 {
        let [_, length, ..] = self.0.to_le_bytes();
        length
    }

    /// When the block ends, on `CLOCK_BOOTTIME`; [`NEVER_NS`](crate::NEVER_NS) for never.
    #[inline(always)]
    pub const fn expires_ns(self) -> u64 {
        let moments = self.0 >> 16;
        if moments == NEVER { crate::NEVER_NS } else { moments * MOMENT_NS }
    }

    /// Whether the slot holds a block that counts at `now_ns`.
    #[inline(always)]
    pub const fn in_force(self, now_ns: u64) -> bool {
        self.is_used() && now_ns < self.expires_ns()
    }
}

impl Seen {
    /// The last packet, in ns of the boot clock, a tick too early at most; `None`: never.
    pub const fn last_hit_ns(self) -> Option<u64> {
        match low(self.0) {
            0 => None,
            tick => Some(wide(tick) * TICK_NS),
        }
    }
}

/// Takes note of a packet at `now_ns`; whether it is the first in its tick.
#[inline(always)]
pub fn see(seen: &Shared, now_ns: u64) -> bool {
    let tick = now_ns.wrapping_shr(30) & 0xffff_ffff;
    let both = tick << 32 | tick;
    let before = seen.get();
    if before == both {
        return false;
    }
    seen.set(both);
    true
}

/// Mixes a key into 32 bits that nobody can foresee who does not know the seed.
#[inline(always)]
pub fn hash(words: &[u64], length: u64, seed: [u64; 2]) -> u64 {
    let [first, second] = seed;
    let mut mixed = first ^ length.wrapping_mul(0xff51_afd7_ed55_8ccd);
    for word in words {
        mixed = (mixed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^= mixed.wrapping_shr(32);
        mixed = mixed.wrapping_add(second);
    }
    mixed = mixed.wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^= mixed.wrapping_shr(32);
    mixed.wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
}

/// The home row of a network in a table of `rows`.
#[inline(always)]
pub fn home(words: &[u64], length: u64, seed: [u64; 2], rows: u32) -> u32 {
    let upper = hash(words, length, seed).wrapping_shr(32);
    low(upper.wrapping_mul(u64::from(rows)).wrapping_shr(32))
}

/// Rows of either family.
pub trait Slots: Sized + 'static {
    /// The words of a key.
    type Key: Copy + AsRef<[u64]>;

    /// The number of the slot that holds exactly this network, and what it says.
    fn find(&self, key: &Self::Key, length: u64) -> Option<(u64, Meta)>;
    /// Whether something that belongs here is in a row behind it.
    fn overflows(&self) -> bool;
    /// The [`Meta`] words.
    fn metas(&self) -> &[Shared; SLOTS];
    /// The block's id.
    fn id(&self, slot: u64) -> u64;
    /// Counts a packet of `bytes` against a block; whether it is the first in its tick.
    fn count(&self, slot: u64, bytes: u64, now_ns: u64) -> bool;
}

impl<const N: usize> Slots for Row<N, Shared> {
    type Key = [u64; N];

    #[inline(always)]
    fn find(&self, key: &[u64; N], length: u64) -> Option<(u64, Meta)> {
        for (slot, at) in (0..).zip(0..SLOTS) {
            // The meta before the key: see the head of this file. One branch for all of it.
            let meta = self.meta.get(at)?.get();
            let mut differs = meta & 0xff01 ^ (length << 8 | Meta::USED);
            for (word, slots) in key.iter().zip(&self.key) {
                differs |= slots.get(at)?.get() ^ word;
            }
            if differs == 0 {
                return Some((slot, Meta(meta)));
            }
        }
        None
    }

    #[inline(always)]
    fn overflows(&self) -> bool {
        let [first, ..] = &self.meta;
        first.get() & Meta::OVERFLOW != 0
    }

    #[inline(always)]
    fn metas(&self) -> &[Shared; SLOTS] {
        &self.meta
    }

    #[inline(always)]
    fn id(&self, slot: u64) -> u64 {
        pick(&self.hits, slot).id.get()
    }

    #[inline(always)]
    fn count(&self, slot: u64, bytes: u64, now_ns: u64) -> bool {
        let hits = pick(&self.hits, slot);
        hits.packets.add(1);
        hits.bytes.add(bytes);
        see(&hits.seen, now_ns)
    }
}
