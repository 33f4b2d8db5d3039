//! An IPv6 attacker who changes the /64 with every packet: the network around answers for its parts.
//!
//! When [`escalate_after`](crate::Config::escalate_after) different /64s of one /56 exceed their
//! budgets within a time, the whole /56 has one budget for a while; /56s of one /48 likewise. A
//! table of fixed size with one place for each hash: two networks that want the same place share
//! it by turns, and parts are told apart by 64 bits, so that an escalation may come late, never
//! early and never for the wrong network.

use crate::Shared;
use crate::shared::low;
use crate::table::hash;
use crate::{Config, Tables};

/// Places.
pub const PLACES: u32 = 4096;

/// One network whose parts misbehave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Escalation<W = u64> {
    /// Its [`network_key`].
    pub network: W,
    /// The stretch of [`escalate_within_ns`](crate::Config::escalate_within_ns) that is counted.
    pub stretch: W,
    /// A bit for the hash of each part that misbehaved in it.
    pub parts: W,
    /// Until when it answers for all of them, on `CLOCK_MONOTONIC`.
    pub until_ns: W,
}

const _: () = assert!(size_of::<Escalation>() == 32);

/// Networks that can answer for their parts, the narrowest first.
const LEVELS: [u32; 2] = [56, 48];

/// What the network of this length around an address is called in [`Set::key`](crate::Set::key).
///
/// The complement of its bits, with the length in the last byte: no address that is in use looks
/// like that, and one that is forged to look so spends the budget of a misbehaving network.
#[inline(always)]
pub fn network_key(high: u64, length: u32) -> u64 {
    let mask = u64::MAX << (64 - (length & 63));
    (!high & mask & !0xff) | u64::from(length)
}

/// The network and length behind a [`network_key`]; `None` when it is a /64.
pub const fn network_of(key: u64) -> Option<(u64, u8)> {
    // Global, unique local, link local: the only networks that anybody has.
    let is_in_use = !key >> 61 == 1 || !key >> 57 == 0x7e || !key >> 54 == 0x3fa;
    match key & 0xff {
        56 if is_in_use => Some((!key & !0xff, 56)),
        48 if is_in_use && key & 0xff00 == 0 => Some((!key & !0xffff, 48)),
        _ => None,
    }
}

/// Who pays for an address: its /64, or the widest network around that answers for it.
#[inline(always)]
pub fn payer<T: Tables>(high: u64, config: &Config<Shared>, tables: &T, now_ns: u64) -> (u64, u32) {
    // A key of zeros is a free slot. `::/64` pays as its neighbour, which nobody has.
    let own = if high == 0 { 1 } else { high };
    if tables.state().is_none_or(|state| now_ns >= state.escalated_until_ns.get()) {
        return (own, 64);
    }
    let mut payer = (own, 64);
    for length in LEVELS {
        let key = network_key(high, length);
        if let Some(place) = place(key, config, tables)
            && place.network.get() == key
            && now_ns < place.until_ns.get()
        {
            payer = (key, length);
        }
    }
    payer
}

/// Takes note that a payer exceeded its budget.
#[inline(always)]
pub fn blame<T: Tables>(
    (high, payer, length): (u64, u64, u32),
    config: &Config<Shared>,
    tables: &T,
    now_ns: u64,
) {
    let after = config.escalate_after.get();
    let within_ns = config.escalate_within_ns.get();
    let wider = match length {
        64 => 56,
        56 => 48,
        _ => return,
    };
    if after == 0 || within_ns == 0 {
        return;
    }
    let stretch = now_ns / within_ns;
    let key = network_key(high, wider);
    let Some(place) = place(key, config, tables) else { return };
    let is_over = place.stretch.get() != stretch;
    if place.network.get() != key {
        // Somebody else's, until nothing of it counts any more.
        if !is_over || now_ns < place.until_ns.get() {
            return;
        }
        place.until_ns.set(0);
        place.network.set(key);
    }
    // One part is one bit, however often it misbehaves. Nobody can choose parts that share one.
    let part = 1 << hash(&[payer], 4, seed(config)).wrapping_shr(58);
    let parts = if is_over { part } else { place.parts.get() | part };
    place.stretch.set(stretch);
    place.parts.set(parts);
    if u64::from(parts.count_ones()) < after {
        return;
    }
    let until_ns = now_ns.saturating_add(config.escalate_for_ns.get());
    place.until_ns.set(until_ns);
    if let Some(state) = tables.state() {
        state.escalated_until_ns.set(until_ns);
    }
}

#[inline(always)]
fn place<'t, T: Tables>(
    key: u64,
    config: &Config<Shared>,
    tables: &'t T,
) -> Option<&'t Escalation<Shared>> {
    let hash = hash(&[key], 1, seed(config)).wrapping_shr(32);
    tables.escalation(low(hash & u64::from(PLACES - 1)))
}

#[inline(always)]
pub(crate) fn seed(config: &Config<Shared>) -> [u64; 2] {
    let [first, second] = &config.seed;
    [first.get(), second.get()]
}
