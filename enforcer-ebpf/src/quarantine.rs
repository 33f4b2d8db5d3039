//! Is this source blocked?
//!
//! One look-up for each prefix length that any block has, longest first. An entry that has expired
//! is as good as absent and so never hides a wider block; an entry that only observes never hides
//! one that drops.

use crate::{Address, Entry, Lengths, Lists, MAX_LENGTHS, Shared};

/// A block that names the source.
pub struct Hit<'t> {
    /// In the map.
    pub entry: &'t Entry<Shared>,
    /// Fixed bits of its network.
    pub length: u32,
}

/// The longest block in force around `source`; one that only observes, if there is no other.
#[inline(always)]
pub fn find<'t, A: Address, L: Lists<A>>(
    source: A,
    lengths: &Lengths<Shared>,
    lists: &'t L,
    clock: impl Fn() -> u64,
) -> Option<Hit<'t>> {
    let mut observed = None;
    let mut from = 0;
    for _ in 0..MAX_LENGTHS {
        let Some(host_bits) = lengths.next(from, A::BITS) else { break };
        from = u64::from(host_bits).wrapping_add(1);
        let Some(entry) = lists.block(&source.network(host_bits)) else { continue };
        if !entry.in_force(clock()) {
            continue;
        }
        let hit = Hit { entry, length: A::BITS.wrapping_sub(host_bits) };
        if !entry.observes() {
            return Some(hit);
        }
        if observed.is_none() {
            observed = Some(hit);
        }
    }
    observed
}

impl Hit<'_> {
    /// The block's id.
    #[inline(always)]
    pub fn id(&self) -> u64 {
        self.entry.id.get()
    }

    /// Counts a packet of `bytes` against the block.
    #[inline(always)]
    pub fn count(&self, bytes: u64, now_ns: u64) {
        self.entry.packets.add(1);
        self.entry.bytes.add(bytes);
        self.entry.last_hit_ns.set(now_ns);
    }
}
