//! What the program counted, summed over the CPUs.

use aya::maps::{MapData, PerCpuArray};
use enforcer_ebpf::{Direction, LOST_EVENTS, Reason, Verdict, counter_index, map};

use crate::error::MapError;

/// Packets by direction, verdict and reason, since the maps were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Every combination, also those that are zero.
    pub entries: Vec<Counter>,
    /// Events that found the ring buffer full.
    pub events_lost: u64,
}

/// One verdict for one reason, one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Which way the packets went.
    pub direction: Direction,
    /// What happened to the packets.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// How many.
    pub packets: u64,
    /// Their bytes, Ethernet header included.
    pub bytes: u64,
}

impl Counters {
    /// Packets to this host with this verdict for this reason.
    pub fn packets(&self, verdict: Verdict, reason: Reason) -> u64 {
        self.of(Direction::In, verdict, reason).map_or(0, |counter| counter.packets)
    }

    /// Packets from this host with this verdict for this reason.
    pub fn sent(&self, verdict: Verdict, reason: Reason) -> u64 {
        self.of(Direction::Out, verdict, reason).map_or(0, |counter| counter.packets)
    }

    /// Packets to this host with this verdict.
    pub fn total(&self, verdict: Verdict) -> u64 {
        let these = self.entries.iter().filter(|one| one.verdict == verdict);
        these.filter(|one| one.direction == Direction::In).map(|one| one.packets).sum()
    }

    fn of(&self, direction: Direction, verdict: Verdict, reason: Reason) -> Option<&Counter> {
        let wanted = (direction, verdict, reason);
        self.entries.iter().find(|one| (one.direction, one.verdict, one.reason) == wanted)
    }

    pub(crate) fn read(stats: &PerCpuArray<MapData, [u64; 2]>) -> Result<Self, MapError> {
        let sum = |index| {
            let read = stats.get(&index, 0);
            let cpus = read.map_err(|source| MapError::Read { map: map::STATS, source })?;
            Ok(cpus.iter().fold((0u64, 0u64), |(packets, bytes), [more, larger]| {
                (packets.wrapping_add(*more), bytes.wrapping_add(*larger))
            }))
        };
        let mut entries = Vec::new();
        for direction in Direction::ALL {
            for verdict in Verdict::ALL {
                for reason in Reason::ALL {
                    let (packets, bytes) = sum(counter_index(direction, verdict, reason))?;
                    entries.push(Counter { direction, verdict, reason, packets, bytes });
                }
            }
        }
        let (events_lost, _) = sum(LOST_EVENTS)?;
        Ok(Self { entries, events_lost })
    }
}
