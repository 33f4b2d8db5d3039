//! Is this address blocked?
//!
//! The prefilter says which prefix lengths are worth a look-up, for nearly everybody none. Then one
//! look-up for each of them that any block has, longest first. An entry that has expired is as good
//! as absent and so never hides a wider block; an entry that only observes never hides one that
//! drops.
//!
//! [`walk`] and [`step`] take and return plain numbers: in the kernel they are functions of their
//! own, verified once each and not again behind every way to them.

use crate::config::{Left, Span, TableWord};
use crate::escalation::seed;
use crate::shared::{low, wide};
use crate::table::{MAX_LENGTHS, Meta, PROBES, Slots, home};
use crate::{Address, Config, Lists, Shared, Tables};

/// Where a block is: one word. 0: nowhere.
///
/// From the top: one bit that is set, eight of prefix length, one for [`Meta::OBSERVE`], one for the
/// table, two for the slot; the row below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position(pub u64);

impl Position {
    /// No block.
    pub const NONE: Self = Self(0);

    #[inline(always)]
    fn new(table: TableWord, row: u32, slot: u64) -> Self {
        Self(1 << 63 | u64::from(table.index & 1) << 34 | slot << 32 | u64::from(row))
    }

    #[inline(always)]
    const fn with(self, length: u32, observes: bool) -> Self {
        let observes = if observes { 1 << 39 } else { 0 };
        Self(self.0 | (wide(length) & 0xff) << 40 | observes)
    }

    /// Whether there is a block.
    #[inline(always)]
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }

    /// Fixed bits of its network.
    #[inline(always)]
    pub const fn length(self) -> u32 {
        low(self.0 >> 40) & 0xff
    }

    /// Whether it only observes.
    #[inline(always)]
    pub const fn observes(self) -> bool {
        self.0 >> 39 & 1 != 0
    }

    /// Its table and row.
    #[inline(always)]
    pub const fn row(self) -> (u32, u32) {
        (low(self.0 >> 34) & 1, low(self.0))
    }

    /// Its slot in the row.
    #[inline(always)]
    pub const fn slot(self) -> u64 {
        self.0 >> 32 & 3
    }
}

/// The longest block in force around `address` that has all of `flags`; one that only observes, if
/// there is no other.
#[inline(always)]
pub fn find<A: Address, L: Lists<A>, T: Tables>(
    address: A,
    flags: u64,
    config: &Config<Shared>,
    lists: &L,
    tables: &T,
) -> Position {
    let table = A::table(config);
    if table.rows == 0 {
        return Position::NONE;
    }
    let lengths = A::lengths(config);
    let Some(host_bits) = lengths.next(0, Span::ALL, A::BITS) else { return Position::NONE };
    let network = address.network(host_bits);
    let length = u64::from(A::BITS.wrapping_sub(host_bits));
    let at = home(network.as_ref(), length, seed(config), table.rows);
    // Looks at the row that is asked first if any is. At a million blocks no cache holds it, nor the
    // prefilter's word: this way both are waited for together.
    if let Some(row) = lists.row(table.index, at) {
        row.overflows();
    }
    let levels = address.levels(config, lists);
    match lengths.left(A::span(levels), A::BITS) {
        Left::None => Position::NONE,
        // What most hosts have, and not worth a loop.
        Left::One(host_bits) => lists.step(address, host_bits, flags, config, tables),
        Left::More => lists.walk(address, levels, flags, config, tables),
    }
}

/// Looks for the network of every length that there is, the longest first.
#[inline(always)]
pub fn walk<A: Address, L: Lists<A>, T: Tables>(
    address: A,
    levels: u64,
    flags: u64,
    config: &Config<Shared>,
    lists: &L,
    tables: &T,
) -> Position {
    let (span, lengths) = (A::span(levels), A::lengths(config));
    let mut observed = Position::NONE;
    let mut from = 0;
    for _ in 0..MAX_LENGTHS {
        let Some(host_bits) = lengths.next(from, span, A::BITS) else { break };
        from = u64::from(host_bits).wrapping_add(1);
        let position = lists.step(address, host_bits, flags, config, tables);
        if !position.is_some() {
            continue;
        }
        if !position.observes() {
            return position;
        }
        if !observed.is_some() {
            observed = position;
        }
    }
    observed
}

/// The block of exactly the network that leaves `host_bits`, if it is in force and has all of
/// `flags`.
#[inline(always)]
pub fn step<A: Address, L: Lists<A>, T: Tables>(
    address: A,
    host_bits: u32,
    flags: u64,
    config: &Config<Shared>,
    lists: &L,
    tables: &T,
) -> Position {
    let length = A::BITS.wrapping_sub(host_bits);
    let (position, meta) = probe::<A, L>(address.network(host_bits), length, config, lists);
    if !meta.has(Meta::USED | flags) || !meta.in_force(tables.boot_coarse_ns()) {
        return Position::NONE;
    }
    position.with(length, meta.has(Meta::OBSERVE))
}

/// The slot of exactly this network, expired or not, and what it says.
#[inline(always)]
pub fn probe<A: Address, L: Lists<A>>(
    network: <A::Row as Slots>::Key,
    length: u32,
    config: &Config<Shared>,
    lists: &L,
) -> (Position, Meta) {
    let nowhere = (Position::NONE, Meta(0));
    let table = A::table(config);
    let length = u64::from(length);
    let mut at = home(network.as_ref(), length, seed(config), table.rows);
    for _ in 0..PROBES {
        let Some(row) = lists.row(table.index, at) else { return nowhere };
        if let Some((slot, meta)) = row.find(&network, length) {
            return (Position::new(table, at, slot), meta);
        }
        if !row.overflows() {
            return nowhere;
        }
        at = at.wrapping_add(1);
    }
    nowhere
}
