//! What the program reports, as it happens.
//!
//! The ring buffer is the bound: when nobody reads, it fills, later events are lost, and
//! [`Counters::events_lost`](crate::Counters::events_lost) counts them. It is pinned like every
//! map, so events from before a restart are read after it. One reader at a time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use enforcer_ebpf::{Event as Record, Reason, Verdict, map};
use enforcer_model::{BlockId, Prefix, Source};
use tokio::io::unix::AsyncFd;

use crate::error::MapError;
use crate::pins::Pins;
use crate::ring;
use crate::system::boot_ns;
use crate::table;

/// A transition that the program saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first packet in a second that met this block.
    Blocked {
        /// Who sent it.
        source: Source,
        /// The block's network.
        prefix: Prefix,
        /// The block.
        id: BlockId,
        /// Whether it was dropped or only observed.
        verdict: Verdict,
        /// How long ago.
        age: Duration,
    },
    /// The first packet in a second that this source's budget did not cover.
    BudgetExceeded {
        /// Who sent it.
        source: Source,
        /// Whose budget it is: the address, or its /64.
        prefix: Prefix,
        /// Whether it was dropped or only observed.
        verdict: Verdict,
        /// How long ago.
        age: Duration,
    },
}

/// The reader of the ring buffer.
pub struct Events {
    ring: Ring,
}

/// The first wait registers the ring with the runtime that it happens in.
enum Ring {
    Idle(RingBuf<MapData>),
    Registered(AsyncFd<RingBuf<MapData>>),
    Gone,
}

impl Events {
    pub(crate) fn open(pins: &Pins) -> Result<Self, MapError> {
        let ring = RingBuf::try_from(table::open(pins, map::EVENTS)?)
            .map_err(|source| MapError::Open { map: map::EVENTS, source })?;
        Ok(Self { ring: Ring::Idle(ring) })
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        match &mut self.ring {
            Ring::Idle(ring) => take(ring),
            Ring::Registered(ring) => take(ring.get_mut()),
            Ring::Gone => None,
        }
    }

    /// Waits for the next event. `None` when the runtime no longer watches the ring buffer.
    ///
    /// Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Option<Event> {
        self.register().ok()?;
        let Ring::Registered(ring) = &mut self.ring else { return None };
        loop {
            // Before every wait: what was there already wakes nobody.
            if let Some(event) = take(ring.get_mut()) {
                return Some(event);
            }
            let mut ready = ring.readable_mut().await.ok()?;
            if let Some(event) = take(ready.get_inner_mut()) {
                return Some(event);
            }
            ready.clear_ready();
        }
    }

    fn register(&mut self) -> io::Result<()> {
        self.ring = match std::mem::replace(&mut self.ring, Ring::Gone) {
            Ring::Idle(ring) => Ring::Registered(ring::register(ring)?),
            ring @ (Ring::Registered(_) | Ring::Gone) => ring,
        };
        Ok(())
    }
}

fn take(ring: &mut RingBuf<MapData>) -> Option<Event> {
    // Every record is one that this version wrote, so what cannot be read is skipped, not waited
    // for.
    loop {
        let item = ring.next()?;
        if let Some(event) = Record::from_bytes(&item).and_then(read) {
            return Some(event);
        }
    }
}

fn read(record: Record) -> Option<Event> {
    let [a, b, c, d, ..] = record.source;
    let address = match record.bits {
        32 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        _ => IpAddr::V6(Ipv6Addr::from(record.source)),
    };
    let source = Source::new(address);
    let prefix = Prefix::around(address, u8::try_from(record.length).ok()?);
    let age = Duration::from_nanos(boot_ns().saturating_sub(record.at_ns));
    let verdict = if record.is(Verdict::Drop) { Verdict::Drop } else { Verdict::Pass };
    let id = BlockId::from_bits(record.id);
    match Reason::ALL.into_iter().find(|&reason| record.because(reason))? {
        Reason::Blocked => Some(Event::Blocked { source, prefix, id, verdict, age }),
        Reason::Budget => Some(Event::BudgetExceeded { source, prefix, verdict, age }),
        Reason::Clean
        | Reason::Off
        | Reason::NotIp
        | Reason::Unreadable
        | Reason::Allowed
        | Reason::Essential => None,
    }
}

#[cfg(test)]
mod tests {
    use enforcer_ebpf::{V4, V6};

    use super::*;

    #[test]
    fn an_event_names_the_source_and_the_block() {
        let record = Record::new(V4(0xc000_0207), Verdict::Drop, Reason::Blocked, 5, 24, boot_ns());

        let Some(Event::Blocked { source, prefix, id, verdict, age }) = read(record) else {
            panic!("not a block: {record:?}");
        };

        assert_eq!(source.to_string(), "192.0.2.7");
        assert_eq!(prefix.to_string(), "192.0.2.0/24");
        assert_eq!((id, verdict), (BlockId::from_bits(5), Verdict::Drop));
        assert!(age < Duration::from_secs(5));
    }

    #[test]
    fn a_budget_of_ipv6_is_its_64s() {
        let source = V6 { high: 0x2001_0db8_0000_0000, low: 7 };
        let record = Record::new(source, Verdict::Pass, Reason::Budget, 0, 64, 0);

        let Some(Event::BudgetExceeded { prefix, verdict, .. }) = read(record) else {
            panic!("not a budget: {record:?}");
        };

        assert_eq!((prefix.to_string().as_str(), verdict), ("2001:db8::/64", Verdict::Pass));
    }
}
