//! What the program reports, as it happens.
//!
//! The ring buffer is the bound: when nobody reads, it fills, later events are lost, and
//! [`Counters::events_lost`](crate::Counters::events_lost) counts them. It is pinned like every
//! map, so events from before a restart are read after it. One reader at a time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use enforcer_ebpf::{Direction, Event as Record, Reason, Verdict, map};
use enforcer_model::{BlockId, Prefix, Source};
use tokio::io::unix::AsyncFd;

use crate::error::MapError;
use crate::maps;
use crate::pins::Pins;
use crate::ring;
use crate::system::boot_ns;

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
        /// What it said.
        sample: Sample,
    },
    /// The first packet in a second that this source's budget did not cover.
    BudgetExceeded {
        /// Who sent it.
        source: Source,
        /// Whose budget it is: the address, its /64, a wider network that answers for its parts, or
        /// the /24 or /48 of those who have none of their own.
        prefix: Prefix,
        /// Which budget: of packets, bytes, connections, or the one that newcomers share.
        reason: Reason,
        /// Whether it was dropped or only observed.
        verdict: Verdict,
        /// How long ago.
        age: Duration,
        /// What it said.
        sample: Sample,
    },
    /// The first packet in a second from this host to a blocked peer.
    Contained {
        /// For whom it was.
        destination: Source,
        /// The block's network.
        prefix: Prefix,
        /// The block.
        id: BlockId,
        /// Whether it was dropped or only observed.
        verdict: Verdict,
        /// How long ago.
        age: Duration,
        /// What it said.
        sample: Sample,
    },
}

/// What the headers of one packet said; its sender may have lied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The protocol behind the IP header; 0 where it could not be told.
    pub protocol: u8,
    /// Source port; 0 where there are no ports.
    pub source_port: u16,
    /// Destination port; 0 where there are no ports.
    pub port: u16,
    /// Flags of a TCP header.
    pub flags: u8,
    /// Bytes of the frame.
    pub bytes: u32,
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
        let ring = RingBuf::try_from(maps::open(pins, map::EVENTS)?)
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
    let octets = record.octets();
    let [a, b, c, d, ..] = octets;
    let address = match record.bits {
        32 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        _ => IpAddr::V6(Ipv6Addr::from(octets)),
    };
    let peer = Source::new(address);
    let prefix = Prefix::around(address, u8::try_from(record.length).ok()?);
    let age = Duration::from_nanos(boot_ns().saturating_sub(record.at_ns));
    let verdict = if record.is(Verdict::Drop) { Verdict::Drop } else { Verdict::Pass };
    let id = BlockId::from_bits(record.id);
    let sample = Sample {
        protocol: u8::try_from(record.protocol).ok()?,
        source_port: record.source_port,
        port: record.port,
        flags: u8::try_from(record.flags).ok()?,
        bytes: record.bytes,
    };
    let reason = Reason::ALL.into_iter().find(|&reason| record.because(reason))?;
    match reason {
        Reason::Blocked if record.went(Direction::In) => {
            Some(Event::Blocked { source: peer, prefix, id, verdict, age, sample })
        }
        Reason::Contained if record.went(Direction::Out) => {
            Some(Event::Contained { destination: peer, prefix, id, verdict, age, sample })
        }
        Reason::Budget | Reason::ByteBudget | Reason::SynBudget | Reason::Flood => {
            Some(Event::BudgetExceeded { source: peer, prefix, reason, verdict, age, sample })
        }
        Reason::Blocked
        | Reason::Contained
        | Reason::Clean
        | Reason::Off
        | Reason::NotIp
        | Reason::Unreadable
        | Reason::Allowed
        | Reason::Essential => None,
    }
}

#[cfg(test)]
mod tests {
    use enforcer_ebpf::{Address, Transport, V4, V6};

    use super::*;

    fn record<A: Address>(
        peer: A,
        what: (Direction, Verdict, Reason),
        whose: (u64, u32),
        at_ns: u64,
    ) -> Record {
        // A SYN from port 40,000 to port 443.
        let header = Transport(443 | 40_000 << 16 | 2 << 32 | 6 << 40);
        Record::new(peer, what, whose, header, 74, at_ns)
    }

    #[test]
    fn an_event_names_the_source_the_block_and_what_the_packet_said() {
        let what = (Direction::In, Verdict::Drop, Reason::Blocked);
        let record = record(V4(0xc000_0207), what, (5, 24), boot_ns());

        let Some(Event::Blocked { source, prefix, id, verdict, age, sample }) = read(record) else {
            panic!("not a block: {record:?}");
        };

        assert_eq!(source.to_string(), "192.0.2.7");
        assert_eq!(prefix.to_string(), "192.0.2.0/24");
        assert_eq!((id, verdict), (BlockId::from_bits(5), Verdict::Drop));
        assert!(age < Duration::from_secs(5));
        let said = Sample { protocol: 6, source_port: 40_000, port: 443, flags: 2, bytes: 74 };
        assert_eq!(sample, said);
    }

    #[test]
    fn a_budget_of_ipv6_is_its_64s_and_the_event_says_which_budget() {
        let source = V6 { high: 0x2001_0db8_0000_0000, low: 7 };
        for reason in [Reason::Budget, Reason::ByteBudget, Reason::SynBudget, Reason::Flood] {
            let record = record(source, (Direction::In, Verdict::Pass, reason), (0, 64), 0);

            let Some(Event::BudgetExceeded { prefix, reason: told, .. }) = read(record) else {
                panic!("not a budget: {record:?}");
            };

            assert_eq!((prefix.to_string().as_str(), told), ("2001:db8::/64", reason));
        }
    }

    #[test]
    fn what_goes_out_to_a_blocked_peer_names_its_destination() {
        let what = (Direction::Out, Verdict::Drop, Reason::Contained);
        let record = record(V4(0xc000_0207), what, (9, 32), 0);

        let Some(Event::Contained { destination, id, verdict, .. }) = read(record) else {
            panic!("not contained: {record:?}");
        };

        assert_eq!(destination.to_string(), "192.0.2.7");
        assert_eq!((id, verdict), (BlockId::from_bits(9), Verdict::Drop));
    }
}
