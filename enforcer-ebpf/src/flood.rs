//! More new sources than anybody has clients: they share one budget for each /24 or /48.
//!
//! A flood of forged addresses must not push those out who were here before, and must not cost
//! memory. While it lasts nobody new gets a slot. Who has none spends from four counters that his
//! network's hash names, and is over the budget when all four are (a count-min sketch, Cormode and
//! Muthukrishnan 2005): a neighbour in one counter does no harm. Who has a budget class spends as
//! that says, so an unlimited one is not held up. A set whose four slots are taken by
//! sources of the last seconds sends the fifth here as well.

use crate::escalation::seed;
use crate::shared::low;
use crate::source::{Class, SPENT_NS};
use crate::table::hash;
use crate::{Config, Shared, Tables};

/// Counters in each of the four rows.
pub const COLUMNS: u32 = 4096;

/// Rows.
pub const ROWS: u32 = 4;

/// A flood is over when it has been quiet for this long.
pub const HOLD_NS: u64 = 2_000_000_000;

/// What all CPUs know of floods and escalations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct State<W = u64> {
    /// The second in which newcomers are counted, on `CLOCK_MONOTONIC`, in 2^30 ns.
    pub second: W,
    /// Newcomers in that second. CPUs that race lose some of each other's.
    pub newcomers: W,
    /// A flood lasts until then, on `CLOCK_MONOTONIC`.
    pub flood_until_ns: W,
    /// Some network answers for its parts until then, on `CLOCK_MONOTONIC`.
    pub escalated_until_ns: W,
    /// Events that the agent was told: the tick, and how many in it, in two halves.
    pub told: W,
    /// How far `CLOCK_BOOTTIME` was ahead of `CLOCK_MONOTONIC` at a moment of the latter: two halves,
    /// in [`MOMENT_NS`](crate::table::MOMENT_NS).
    pub ahead: W,
}

const _: () = assert!(size_of::<State>() == 48);

/// Counts somebody new; whether he comes with a flood.
#[inline(always)]
pub fn is_flooded<T: Tables>(config: &Config<Shared>, tables: &T, now_ns: u64) -> bool {
    let most = config.flood_per_second.get();
    let Some(state) = tables.state() else { return false };
    if most == 0 {
        return false;
    }
    let second = now_ns.wrapping_shr(30);
    let newcomers = if state.second.get() == second {
        state.newcomers.get().wrapping_add(1)
    } else {
        state.second.set(second);
        1
    };
    state.newcomers.set(newcomers);
    // A tick is somewhat longer than a second.
    if newcomers > most.wrapping_add(most / 13) {
        state.flood_until_ns.set(now_ns.saturating_add(HOLD_NS));
        return true;
    }
    now_ns < state.flood_until_ns.get()
}

/// Spends a packet of the common budget of `network`; whether there was nothing left.
#[inline(always)]
pub fn overspends<T: Tables>(
    network: u64,
    class: &Class<Shared>,
    config: &Config<Shared>,
    tables: &T,
    now_ns: u64,
) -> bool {
    let cost = class.packet_cost.get();
    if cost == 0 {
        return false;
    }
    let now = now_ns / SPENT_NS;
    let latest = now.wrapping_add(class.packet_tolerance.get());
    let mut over = true;
    for row in 0..ROWS {
        let Some(counter) = counter(row, network, config, tables) else { return false };
        let until = counter.get();
        if until <= latest {
            over = false;
            let from = if until < now { now } else { until };
            counter.set(from.wrapping_add(cost));
        }
    }
    over
}

#[inline(always)]
fn counter<'t, T: Tables>(
    row: u32,
    network: u64,
    config: &Config<Shared>,
    tables: &'t T,
) -> Option<&'t Shared> {
    let hash = hash(&[network], 2, seed(config));
    // Four times twelve bits of one hash.
    let column = hash.wrapping_shr(row * 12 + 16) & u64::from(COLUMNS - 1);
    tables.common(row * COLUMNS + low(column))
}
