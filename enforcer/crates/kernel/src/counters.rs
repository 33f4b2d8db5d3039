//! What the program counted, summed over the CPUs.

use aya::maps::{MapData, PerCpuArray};
use enforcer_ebpf::{LOST_EVENTS, Reason, Verdict, counter_index, map};

use crate::error::MapError;

/// Packets by verdict and reason, since the maps were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Every pair, also those that are zero.
    pub entries: Vec<Counter>,
    /// Events that found the ring buffer full.
    pub events_lost: u64,
}

/// One verdict for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
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
    /// Packets with this verdict for this reason.
    pub fn packets(&self, verdict: Verdict, reason: Reason) -> u64 {
        let found = self.entries.iter().find(|one| (one.verdict, one.reason) == (verdict, reason));
        found.map_or(0, |counter| counter.packets)
    }

    /// Packets with this verdict.
    pub fn total(&self, verdict: Verdict) -> u64 {
        let these = self.entries.iter().filter(|one| one.verdict == verdict);
        these.map(|counter| counter.packets).sum()
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
        for verdict in Verdict::ALL {
            for reason in Reason::ALL {
                let (packets, bytes) = sum(counter_index(verdict, reason))?;
                entries.push(Counter { verdict, reason, packets, bytes });
            }
        }
        let (events_lost, _) = sum(LOST_EVENTS)?;
        Ok(Self { entries, events_lost })
    }
}
