//! All limits of all callers: take one from each bucket, or nothing from any.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::gcra::{Gcra, TIME_NS_MAX};
use crate::hash::Seed;
use crate::table::{Charge, Table};
use crate::{Demand, Exceeded};

/// The buckets of all limits and all callers, shared by all threads.
pub struct Limits {
    table: Table,
    seed: Seed,
    origin: Instant,
}

impl Limits {
    /// Room for `entries` buckets (at least; at most 2²⁶) of 16 bytes, allocated here and for good.
    ///
    /// Twice the number of callers that are active at once is a good size. `seed` must be random and
    /// secret; `origin` must not lie after any later `now`.
    pub fn new(entries: NonZeroUsize, seed: [u64; 2], origin: Instant) -> Self {
        Self { table: Table::new(entries), seed: Seed::new(seed), origin }
    }

    /// Takes one request from every bucket that `demands` name, or nothing from any.
    ///
    /// When several are used up, the answer names the one with the longest wait. Two threads may
    /// both see room and one of them then find it gone: it gives back what it took. Where another
    /// request has meanwhile drawn on a bucket, that one request stays taken, so that contention can
    /// make a limit stricter and never looser.
    pub fn take(&self, demands: &[Demand<'_>], now: Instant) -> Result<(), Exceeded> {
        let now_ns = self.since_origin_ns(now);
        if let Some(exceeded) = self.longest_wait(demands, now_ns) {
            return Err(exceeded);
        }
        let mut charges = Vec::with_capacity(demands.len());
        for demand in demands {
            let bucket = self.seed.bucket(demand);
            match self.table.charge(bucket, Gcra::of(demand.limit), now_ns) {
                Ok(charge) => charges.push(charge),
                Err(wait) => {
                    // Backwards: of two draws on one bucket the later one must be undone first.
                    charges.into_iter().rev().for_each(Charge::take_back);
                    return Err(exceeded(demand, wait));
                }
            }
        }
        Ok(())
    }

    fn longest_wait(&self, demands: &[Demand<'_>], now_ns: u64) -> Option<Exceeded> {
        let waits = demands.iter().filter_map(|demand| {
            let full_at_ns = self.table.full_at_ns(self.seed.bucket(demand));
            let wait = Gcra::of(demand.limit).admit(full_at_ns, now_ns).err()?;
            Some((wait, demand))
        });
        waits.max_by_key(|(wait, _)| *wait).map(|(wait, demand)| exceeded(demand, wait))
    }

    /// How many buckets were thrown out before they were full, since the start.
    ///
    /// Each was a caller who got back its burst too early. When this grows, the table is too small
    /// for its callers, or somebody floods it with names.
    pub fn lossy_evictions(&self) -> u64 {
        self.table.lossy_evictions()
    }

    /// How many buckets there is room for.
    pub const fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// How many buckets are in use: drawn on and not full again. Looks at all of them.
    pub fn used(&self, now: Instant) -> usize {
        self.table.used(self.since_origin_ns(now))
    }

    fn since_origin_ns(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX).min(TIME_NS_MAX - 1)
    }
}

fn exceeded(demand: &Demand<'_>, retry_after: Duration) -> Exceeded {
    Exceeded { limit: Arc::clone(&demand.limit.name), by: demand.subject.by(), retry_after }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}
