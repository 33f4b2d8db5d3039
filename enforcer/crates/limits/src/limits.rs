//! All limits of all callers: take what a request costs from each bucket, or nothing from any.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use enforcer_model::{Clock, Moment, Timestamp};

use crate::concurrent::Concurrency;
use crate::consumers::Consumers;
use crate::gate::Gates;
use crate::gcra::TIME_NS_MAX;
use crate::hash::Seed;
use crate::overrides::Overrides;
use crate::quota::Quotas;
use crate::table::Table;
use crate::take::{self, Halt};
use crate::{
    Consumer, Demand, Entered, Exceeded, GatePlan, Kind, Limit, Override, QuotaKeeper, QuotaLevel,
    QuotaSpent, QuotaStore, Rank, RememberError, Taken, TooManyOverrides, Unavailable, Why,
};

/// Demands of one request, at most.
pub const DEMANDS_MAX: usize = 16;

/// So long a request waits for the disk to take the next block of a strict quota.
const LEASE_WAIT: Duration = Duration::from_secs(1);

/// The buckets of all limits and all callers, shared by all threads.
pub struct Limits {
    pub(crate) table: Table,
    pub(crate) seed: Seed,
    pub(crate) concurrency: Concurrency,
    pub(crate) overrides: Overrides,
    pub(crate) consumers: Consumers,
    quotas: Quotas,
    gates: Gates,
    origin: Instant,
}

/// How full the tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// Buckets of rates that are drawn on and not full again.
    pub buckets: usize,
    /// Buckets that there is room for.
    pub buckets_max: usize,
    /// Buckets that were thrown out before they were full, since the start.
    pub lossy_evictions: u64,
    /// Counters of quotas.
    pub quotas: usize,
    /// Counters of quotas that there is room for.
    pub quotas_max: usize,
    /// Subjects of concurrency limits that have requests under way.
    pub concurrent: usize,
    /// Such subjects that there is room for.
    pub concurrent_max: usize,
}

/// Where one limit stands for one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What holds at the moment.
    pub kind: Kind,
    /// As much is used, in smallest units for quotas: requests, or bytes.
    pub used: u64,
    /// After this time all of it is back; none for what is under way.
    pub full_in: Option<Duration>,
}

impl Limits {
    /// Room for `entries` buckets (at least; at most 2²⁶) of 16 bytes, allocated here and for good.
    ///
    /// Twice the number of callers that are active at once is a good size. `seed` must be random and
    /// secret; `origin` must not lie after any later `now`.
    pub fn new(entries: NonZeroUsize, seed: [u64; 2], origin: Instant) -> Self {
        Self {
            table: Table::new(entries),
            seed: Seed::new(seed),
            concurrency: Concurrency::new(),
            overrides: Overrides::default(),
            consumers: Consumers::default(),
            quotas: Quotas::new(),
            gates: Gates::default(),
            origin,
        }
    }

    /// Takes up the levels of quotas that `store` knows; the keeper writes what is spent from then
    /// on. Without one, strict quotas are refused and the others last as long as the process.
    pub fn remember(
        self: &Arc<Self>,
        store: QuotaStore,
        clock: Arc<dyn Clock>,
    ) -> Result<QuotaKeeper, RememberError> {
        self.quotas.remember(&store, clock.now().wall)?;
        Ok(QuotaKeeper::new(Arc::clone(self), store, clock))
    }

    /// Ends the keeper once it has written every counter as it is. After the last request.
    pub fn close(&self) {
        self.quotas.close();
    }

    /// Has every counter written as it is, and leaves the store to another process; false when that
    /// did not come about within `patience`. From here on everything may be spent that there is,
    /// strict quotas included, and [`Self::spent_since`] says what was. Blocks.
    pub fn lend(&self, patience: Duration) -> bool {
        self.quotas.lend(patience)
    }

    /// The keeper writes again: the other process is gone, and has written nothing.
    pub fn take_back(&self) {
        self.quotas.take_back();
    }

    /// What was spent of each quota since the levels were lent, or since the last call.
    pub fn spent_since(&self) -> Vec<QuotaSpent> {
        self.quotas.untold()
    }

    /// Charges what was spent where the levels came from.
    pub fn charge(&self, spent: Vec<QuotaSpent>) {
        self.quotas.charge(spent);
    }

    /// Takes what `demands` cost from every bucket that they name, or nothing from any.
    ///
    /// When several are used up, the answer names the one with the longest wait. Two threads may
    /// both see room and one of them then find it gone: it gives back what it took. Where another
    /// request has meanwhile drawn on a bucket, that one request stays taken, so that contention can
    /// make a limit stricter and never looser.
    ///
    /// Waits only when a strict quota needs its next block on disk, and never longer than a second.
    pub async fn take(
        self: &Arc<Self>,
        demands: &[Demand<'_>],
        now: Moment,
    ) -> Result<Taken, Exceeded> {
        let lease = match take::all_or_none(self, demands, now) {
            Ok(taken) => return Ok(taken),
            Err(Halt::Exceeded(exceeded)) => return Err(*exceeded),
            Err(Halt::Lease(lease)) => lease,
        };
        let limit = Arc::clone(&lease.limit);
        let by = Some(lease.by.clone());
        let wait = async {
            let mut lease = lease;
            loop {
                // Dropped unanswered when the disk did not take it.
                lease.written.await.ok()?;
                match take::all_or_none(self, demands, now) {
                    Ok(taken) => return Some(Ok(taken)),
                    Err(Halt::Exceeded(exceeded)) => return Some(Err(*exceeded)),
                    Err(Halt::Lease(next)) => lease = next,
                }
            }
        };
        match tokio::time::timeout(LEASE_WAIT, wait).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) | Err(_) => {
                let why = Why::Unavailable(Unavailable::Unwritten);
                Err(Exceeded { limit, by, why, retry_after: LEASE_WAIT, level: None })
            }
        }
    }

    /// Counts one more request of the plan's upstream, if it has room for a caller of `rank`.
    pub fn enter(&self, plan: &GatePlan, rank: Rank) -> Result<Entered, Exceeded> {
        self.gates.enter(plan, rank)
    }

    /// Requests that the upstream `name` has, as far as they were counted in.
    pub fn under_way(&self, name: &str) -> u32 {
        self.gates.under_way(name)
    }

    /// Puts other numbers in the place of those of the limit `name`; which it had before.
    pub fn set_override(
        &self,
        name: &Arc<str>,
        new: Override,
        now: Timestamp,
    ) -> Result<Option<Override>, TooManyOverrides> {
        self.overrides.set(name, new, now)
    }

    /// Ends the override of the limit `name`; which it was.
    pub fn reset_override(&self, name: &str, now: Timestamp) -> Option<Override> {
        self.overrides.reset(name, now)
    }

    /// The override of the limit `name` that is in force.
    pub fn override_of(&self, name: &str, now: Timestamp) -> Option<Override> {
        self.overrides.get(name, now)
    }

    /// Who draws most, on one limit or on all, by sample; at most `most`.
    pub fn consumers(&self, limit: Option<&str>, most: usize) -> Vec<Consumer> {
        self.consumers.greatest(limit, most)
    }

    /// The counters of the quota `limit` that stand highest; at most `most`.
    pub fn quota_levels(&self, limit: &str, most: usize, now: Timestamp) -> Vec<QuotaLevel> {
        self.quotas.highest(limit, most, now)
    }

    /// Why the disk does not take what is spent of quotas.
    pub fn quota_problem(&self) -> Option<String> {
        self.quotas.problem()
    }

    /// Where `limit` stands for the subject of `demand`; takes nothing.
    pub fn standing(&self, demand: &Demand<'_>, now: Moment) -> Standing {
        take::standing(self, demand, now)
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

    /// How full the tables are. Looks at all buckets.
    pub fn occupancy(&self, now: Instant) -> Occupancy {
        Occupancy {
            buckets: self.table.used(self.since_origin_ns(now)),
            buckets_max: self.capacity(),
            lossy_evictions: self.lossy_evictions(),
            quotas: self.quotas.len(),
            quotas_max: crate::quota::QUOTAS_MAX,
            concurrent: self.concurrency.subjects(),
            concurrent_max: crate::concurrent::SUBJECTS_MAX,
        }
    }

    pub(crate) const fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    pub(crate) fn kind_of(&self, limit: &Limit, now: Timestamp) -> Option<Kind> {
        self.overrides.of(limit.name(), limit.kind(), now)
    }

    pub(crate) fn since_origin_ns(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX).min(TIME_NS_MAX - 1)
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}
