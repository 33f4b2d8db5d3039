//! Has this source sent more than its share?
//!
//! Three token buckets in one slot: packets, bytes, new TCP connections. The clock is a coarse one,
//! which is cheap and late by some milliseconds; a packet that it would condemn is judged again by
//! the exact one, so that being late is never held against anybody. CPUs that race can spend the same
//! time twice: at worst each lets through what one alone would. Who finds no slot spends what such
//! sources have in common, see [`flood`].

use crate::config::flag;
use crate::escalation::seed;
use crate::flood;
use crate::shared::{Shared, wide};
use crate::source::{
    CLASSES, Class, KEEP_NS, Place, SPENT_NS, SYN_AWAY, SYN_LATE, SYN_NS, Spent, Tally, set_of,
};
use crate::{Address, Config, Lists, Packet, Reason, Tables, Transport};

/// A budget that does not cover a packet.
pub struct Excess {
    /// Which.
    pub reason: Reason,
    /// Whose: the key of a slot, or of a network without one.
    pub payer: u64,
    /// Fixed bits of the payer.
    pub length: u32,
    /// Its class only observes.
    pub observe: bool,
}

/// Spends a packet of the source's budget; tells when there is nothing left.
#[inline(always)]
pub fn spend<P: Packet, T: Tables, A: Address, L: Lists<A>>(
    (packet, bytes): (&P, u64),
    source: A,
    config: &Config<Shared>,
    lists: &L,
    tables: &T,
) -> Option<Excess> {
    if !config.has(flag::BUDGETS) {
        return None;
    }
    let all_ports = config.ports.are_all();
    let transport =
        if all_ports && !config.has(flag::SYNS) { Transport::UNKNOWN } else { packet.transport() };
    // What cannot be told to go elsewhere goes to a protected port.
    if !all_ports && transport.is_known() && !config.ports.contain(transport.port()) {
        return None;
    }
    let mut now_ns = tables.coarse_ns();
    let (payer, length) = source.payer(config, tables, now_ns);
    let set = lists.sources(set_of(payer, seed(config), A::source_mask(config)))?;
    let place = match set.find(payer) {
        Some(place) => place,
        None => {
            let flooded = flood::is_flooded(config, tables, now_ns);
            let stale = now_ns.saturating_sub(KEEP_NS) / SPENT_NS;
            let room = if flooded { None } else { set.room(stale, 8) };
            let Some(place) = room else {
                return overspent_together(source, config, lists, tables, now_ns);
            };
            place.spent().set(Spent::new(now_ns / SPENT_NS, CLASS_UNKNOWN).0);
            place.bytes().set(0);
            place.tally().set(Tally::new(0, now_ns / SYN_NS).0);
            place.key().set(payer);
            place
        }
    };
    let number = class_of(Spent(place.spent().get()), source, config, lists);
    let class = tables.class(number & (CLASSES_IN_WORD - 1))?;
    let opens = transport.opens();
    let mut reason = pay(&place, class, number, bytes, opens, now_ns);
    if reason.is_some() {
        now_ns = tables.monotonic_ns();
        reason = pay(&place, class, number, bytes, opens, now_ns);
    }
    count(&place);
    let reason = reason?;
    punish(&place, class, number, now_ns);
    Some(Excess { reason, payer, length, observe: class.observe.get() != 0 })
}

/// Of no generation that there is: the first packet looks its class up.
const CLASS_UNKNOWN: u64 = CLASSES_IN_WORD - 1;

const CLASSES_IN_WORD: u64 = wide(CLASSES);

/// The number of the source's class, and above it the generation of the list that says so.
#[inline(always)]
fn class_of<A: Address, L: Lists<A>>(
    spent: Spent,
    source: A,
    config: &Config<Shared>,
    lists: &L,
) -> u64 {
    let generation = config.class_generation.get() & 3;
    let known = spent.class();
    if known >> 6 == generation && known & CLASS_UNKNOWN != CLASS_UNKNOWN {
        return known;
    }
    let listed = if config.has(flag::CLASSES) { lists.class(source) } else { None };
    let number = listed.map_or(0, u64::from);
    // Nobody's class has the number that stands for "unknown".
    let number = if number < CLASS_UNKNOWN { number } else { 0 };
    generation << 6 | number
}

/// Spends what a packet costs, or says what there is too little of and spends nothing.
#[inline(always)]
fn pay(
    place: &Place<'_>,
    class: &Class<Shared>,
    number: u64,
    bytes: u64,
    opens: bool,
    now_ns: u64,
) -> Option<Reason> {
    let now = now_ns / SPENT_NS;
    let until = Spent(place.spent().get()).until();
    let is_back = until.wrapping_add(SYN_AWAY) < now;
    let from = if until < now { now } else { until };
    if from.wrapping_sub(now) > class.packet_tolerance.get() {
        return Some(Reason::Budget);
    }
    let byte_cost = class.byte_cost.get();
    if byte_cost != 0 {
        let until = place.bytes().get();
        let from = if until < now_ns { now_ns } else { until };
        if from.wrapping_sub(now_ns) > class.byte_tolerance.get() {
            return Some(Reason::ByteBudget);
        }
        if !pay_for_opening(place, class, opens, is_back, now_ns) {
            return Some(Reason::SynBudget);
        }
        place.bytes().set(from.wrapping_add(bytes.wrapping_mul(byte_cost).wrapping_shr(16)));
    } else if !pay_for_opening(place, class, opens, is_back, now_ns) {
        return Some(Reason::SynBudget);
    }
    let until = from.wrapping_add(class.packet_cost.get());
    place.spent().set(Spent::new(until, number).0);
    None
}

/// Spends a TCP connection, if the packet opens one; whether there was one left.
///
/// The clock of connections goes round. What lies further ahead than any payment leads to is behind,
/// and is moved up to now by every packet, so that it never comes round to be ahead.
#[inline(always)]
fn pay_for_opening(
    place: &Place<'_>,
    class: &Class<Shared>,
    opens: bool,
    is_back: bool,
    now_ns: u64,
) -> bool {
    let cost = class.syn_cost.get();
    if cost == 0 {
        return true;
    }
    let now = now_ns / SYN_NS;
    let tally = Tally(place.tally().get());
    let ahead = tally.syn_until().wrapping_sub(now) & 0xffff_ffff;
    let tolerance = class.syn_tolerance.get();
    let most = tolerance.wrapping_add(cost).wrapping_add(SYN_LATE);
    let ahead = if is_back || ahead > most { 0 } else { ahead };
    if !opens {
        if ahead == 0 {
            place.tally().set(Tally::new(tally.packets(), now).0);
        }
        return true;
    }
    if ahead > tolerance {
        return false;
    }
    let until = now.wrapping_add(ahead).wrapping_add(cost);
    place.tally().set(Tally::new(tally.packets(), until).0);
    true
}

/// Counts a packet of the source, paid for or not.
#[inline(always)]
fn count(place: &Place<'_>) {
    let tally = Tally(place.tally().get());
    place.tally().set(Tally::new(tally.packets().wrapping_add(1), tally.syn_until()).0);
}

/// Marks who was over a budget as heard of, and takes the penalty off him.
#[inline(always)]
fn punish(place: &Place<'_>, class: &Class<Shared>, number: u64, now_ns: u64) {
    let now = now_ns / SPENT_NS;
    let penalty = class.penalty.get();
    let least = if penalty == 0 {
        now
    } else {
        now.wrapping_add(class.packet_tolerance.get()).wrapping_add(penalty)
    };
    let until = Spent(place.spent().get()).until();
    let until = if until < least { least } else { until };
    place.spent().set(Spent::new(until, number).0);
}

#[inline(always)]
fn overspent_together<A: Address, T: Tables, L: Lists<A>>(
    source: A,
    config: &Config<Shared>,
    lists: &L,
    tables: &T,
    now_ns: u64,
) -> Option<Excess> {
    let number = class_of(Spent::new(0, CLASS_UNKNOWN), source, config, lists);
    let class = tables.class(number & (CLASSES_IN_WORD - 1))?;
    let (payer, length) = source.neighbourhood();
    if !flood::overspends(payer, class, config, tables, now_ns)
        || !flood::overspends(payer, class, config, tables, tables.monotonic_ns())
    {
        return None;
    }
    let observe = class.observe.get() != 0;
    Some(Excess { reason: Reason::Flood, payer, length, observe })
}
