//! Has this source sent more than its share?
//!
//! Three token buckets in one slot: packets, bytes, new TCP connections. The clock is a coarse one,
//! which is cheap and late by some milliseconds; a packet that it would condemn is judged again by
//! the exact one, so that being late is never held against anybody. CPUs that race can let through
//! one packet each, no more. Who finds no slot spends what such sources have in common, see
//! [`flood`](crate::flood).

use crate::config::flag;
use crate::escalation::seed;
use crate::flood;
use crate::packet::{Transport, transport};
use crate::shared::Shared;
use crate::source::{Class, KEEP_NS, Place, SPENT_NS, SYN_AHEAD, SYN_NS, Set, Spent, Tally, set_of};
use crate::{Address, Config, Lists, Packet, Reason, Tables};

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
    packet: &P,
    source: A,
    config: &Config<Shared>,
    lists: &L,
    tables: &T,
) -> Option<Excess> {
    if !config.has(flag::BUDGETS) {
        return None;
    }
    let ports = &config.ports;
    let opens = if ports.are_all() && !config.has(flag::SYNS) {
        false
    } else {
        let transport = transport::<P, A>(packet);
        if !concerns(&transport, config) {
            return None;
        }
        transport.is_some_and(|transport| transport.opens)
    };
    let now_ns = tables.coarse_ns();
    let (payer, length) = source.payer(config, tables, now_ns);
    let set = lists.sources(set_of(payer, seed(config), A::source_mask(config)))?;
    if let Some(place) = set.find(payer) {
        let spending = Spending { payer, length, bytes: packet.length(), opens };
        return spending.settle(&place, source, config, lists, tables, now_ns);
    }
    let flooded = flood::is_flooded(config, tables, now_ns);
    let room = if flooded { None } else { room(set, now_ns) };
    if let Some(place) = room {
        place.spent().set(Spent::new(now_ns / SPENT_NS, UNKNOWN_CLASS).0);
        place.bytes().set(0);
        place.tally().set(0);
        place.key().set(payer);
        let spending = Spending { payer, length, bytes: packet.length(), opens };
        return spending.settle(&place, source, config, lists, tables, now_ns);
    }
    let class = tables.class(0)?;
    let (network, length) = source.neighbourhood();
    if !flood::overspends(network, class, config, tables, now_ns)
        || !flood::overspends(network, class, config, tables, tables.monotonic_ns())
    {
        return None;
    }
    let observe = class.observe.get() != 0;
    Some(Excess { reason: Reason::Flood, payer: network, length, observe })
}

/// No generation of classes: the first packet looks its class up.
const UNKNOWN_CLASS: u64 = 0x3f;

#[inline(always)]
fn room(set: &Set<Shared>, now_ns: u64) -> Option<Place<'_>> {
    set.room(now_ns.saturating_sub(KEEP_NS) / SPENT_NS, 8)
}

/// Whether budgets are kept for this packet: it goes to a protected port, or cannot be told not to.
#[inline(always)]
fn concerns(transport: &Option<Transport>, config: &Config<Shared>) -> bool {
    config.ports.are_all()
        || transport.as_ref().is_none_or(|transport| config.ports.contain(transport.port))
}

/// A packet that somebody has to pay for.
struct Spending {
    payer: u64,
    length: u32,
    bytes: u64,
    opens: bool,
}

impl Spending {
    #[inline(always)]
    fn settle<A: Address, L: Lists<A>, T: Tables>(
        self,
        place: &Place<'_>,
        source: A,
        config: &Config<Shared>,
        lists: &L,
        tables: &T,
        now_ns: u64,
    ) -> Option<Excess> {
        let spent = Spent(place.spent().get());
        let number = class_of(spent, source, config, lists);
        let class = tables.class(number_in(number))?;
        let over = self.over(place, spent, class, now_ns)?;
        // The coarse clock is late: ask the exact one before anybody is refused.
        drop_reason(over);
        let over = self.over(place, spent, class, tables.monotonic_ns());
        if over.is_none() {
            return None;
        }
        None
    }
}
