//! Is this address blocked?
//!
//! The prefilter says which prefix lengths are worth a look-up, for nearly everybody none. Then one
//! look-up for each of them that any block has, longest first. An entry that has expired is as good
//! as absent and so never hides a wider block; an entry that only observes never hides one that
//! drops.

use crate::config::TableWord;
use crate::escalation::seed;
use crate::table::{MAX_LENGTHS, Meta, PROBES, Slot, Slots, home};
use crate::{Address, Config, Lists, Shared};

/// A block that names the address.
pub struct Hit<'t, R> {
    /// In the table.
    pub slot: Slot<'t, R>,
    /// Fixed bits of its network.
    pub length: u32,
}

/// The longest block in force around `address` that has all of `flags`; one that only observes, if
/// there is no other.
#[inline(always)]
pub fn find<'t, A: Address, L: Lists<A>>(
    address: A,
    flags: u64,
    config: &Config<Shared>,
    lists: &'t L,
    clock: impl Fn() -> u64,
) -> Option<Hit<'t, A::Row>> {
    let table = A::table(config);
    if table.rows == 0 {
        return None;
    }
    let lengths = A::lengths(config);
    let span = address.span(config, lists);
    if span.misses(lengths, A::BITS) {
        return None;
    }
    let seed = seed(config);
    let mut observed = None;
    let mut from = 0;
    for _ in 0..MAX_LENGTHS {
        let Some(host_bits) = lengths.next(from, span, A::BITS) else { break };
        from = u64::from(host_bits).wrapping_add(1);
        let length = A::BITS.wrapping_sub(host_bits);
        let network = address.network(host_bits);
        let Some(slot) = look_up(network, u64::from(length), table, seed, lists) else { continue };
        if !slot.meta.has(flags) || !slot.meta.in_force(clock()) {
            continue;
        }
        let observes = slot.meta.has(Meta::OBSERVE);
        let hit = Hit { slot, length };
        if !observes {
            return Some(hit);
        }
        if observed.is_none() {
            observed = Some(hit);
        }
    }
    observed
}

/// The slot of exactly this network, expired or not.
#[inline(always)]
pub fn look_up<A: Address, L: Lists<A>>(
    network: <A::Row as Slots>::Key,
    length: u64,
    table: TableWord,
    seed: [u64; 2],
    lists: &L,
) -> Option<Slot<'_, A::Row>> {
    let mut at = home(network.as_ref(), length, seed, table.rows);
    for _ in 0..PROBES {
        let row = lists.row(table.index, at)?;
        if let Some(slot) = row.find(&network, length) {
            return Some(slot);
        }
        if !row.overflows() {
            return None;
        }
        at = at.wrapping_add(1);
    }
    None
}
