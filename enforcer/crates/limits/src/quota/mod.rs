//! What was spent of each quota in the present hour, day or month.
//!
//! A counter for each subject of each quota, in a table of at most [`QUOTAS_MAX`]; when it is full,
//! those of past periods go, and if there are none, a new subject is refused. Nothing else is ever
//! forgotten while the agent runs. What a crash may forget is the keeper's business:
//! [`Durability::Background`] loses at most a second, [`Durability::Strict`] nothing that was spent;
//! it may lose what was set aside and not spent, about one part in a hundred.
//!
//! A period that has begun stays until it is over by the clock: a clock that is set back refills
//! nothing.

mod keeper;
mod slot;
mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use enforcer_model::Timestamp;
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use keeper::{QuotaKeeper, RememberError};
pub(crate) use slot::{Slot, Spent, Terms};
pub use store::{QuotaStore, QuotaStoreError};

use crate::{Period, Subject};
use keeper::Queue;
use store::Row;

/// Counters at once.
pub(crate) const QUOTAS_MAX: usize = 1 << 17;

/// Requests that may wait for one counter's next block.
const WAITING_MAX: usize = 1_024;

/// Characters of a subject that are kept; the rest is told by its hash.
const SUBJECT_MAX: usize = 160;

const SHARDS: usize = 64;

/// All counters.
pub(crate) struct Quotas {
    shards: [Mutex<HashMap<u64, Arc<Slot>>>; SHARDS],
    /// What was read from disk and nobody has asked for yet.
    restored: Mutex<HashMap<Key, Row>>,
    /// Counters in the shards and among the restored.
    count: AtomicUsize,
    queue: Arc<Queue>,
}

/// What a counter is known by on disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) limit: Arc<str>,
    pub(crate) subject: Box<str>,
    pub(crate) period: &'static str,
}

/// Why nothing was spent.
#[derive(Debug)]
pub(crate) enum Unspent {
    /// Nothing is left for so long.
    Used(Duration),
    /// The next block is on its way to the disk; ask again when this says so.
    Waiting(oneshot::Receiver<()>),
    /// The disk does not take the next block, or too many wait for it.
    Unwritten,
}

/// Where a counter stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaLevel {
    /// Whose it is.
    pub subject: String,
    /// Smallest units spent: requests, or bytes.
    pub used: u64,
    /// When it begins anew.
    pub ends: Timestamp,
}

/// What was spent of a quota where somebody else keeps its level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaSpent {
    /// The limit.
    pub limit: String,
    /// Whose it is.
    pub subject: String,
    /// The length of the period.
    pub period: Period,
    /// When it ends, in seconds since the epoch.
    pub ends: u64,
    /// Smallest units; below zero what was given back.
    pub units: i64,
}

impl Quotas {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            restored: Mutex::default(),
            count: AtomicUsize::new(0),
            queue: Arc::default(),
        }
    }

    /// The counter called `name`, made if there is none.
    pub(crate) fn slot(
        &self,
        name: u64,
        limit: &Arc<str>,
        subject: &Subject<'_>,
        terms: Terms,
        now: Timestamp,
    ) -> Option<Arc<Slot>> {
        let name = terms.name(name);
        if let Some(slot) = self.known(name) {
            return Some(slot);
        }
        let key =
            Key { limit: Arc::clone(limit), subject: told(subject), period: terms.period.as_str() };
        let restored = self.restored.lock().remove(&key);
        if restored.is_none() && !self.make_room(now) {
            return None;
        }
        let shard = self.shards.get(place(name))?;
        let mut slots = shard.lock();
        match slots.entry(name) {
            // Another thread was faster; a row can only have gone to one of the two.
            Entry::Occupied(entry) => {
                let slot = Arc::clone(entry.get());
                drop(slots);
                self.count.fetch_sub(1, Ordering::Relaxed);
                if let Some(row) = restored {
                    slot.restore(&row);
                }
                Some(slot)
            }
            Entry::Vacant(entry) => {
                Some(Arc::clone(entry.insert(Arc::new(Slot::new(key, restored.as_ref())))))
            }
        }
    }

    /// Spends `cost` smallest units of `slot`, all or none.
    pub(crate) fn spend(
        &self,
        slot: &Arc<Slot>,
        terms: Terms,
        cost: Option<u64>,
        now: Timestamp,
    ) -> Result<Spent, Unspent> {
        slot.spend(terms, cost, now, &self.queue)
    }

    /// Charges what a request has cost in place of what was set aside for it.
    pub(crate) fn settle(&self, slot: &Arc<Slot>, spent: Spent, cost: u64, now: Timestamp) {
        slot.settle(spent, cost, now, &self.queue);
    }

    /// Where the counter called `name` stands, if it counts in the present period.
    pub(crate) fn level(
        &self,
        name: u64,
        limit: &Arc<str>,
        subject: &Subject<'_>,
        terms: Terms,
        now: Timestamp,
    ) -> Option<QuotaLevel> {
        if let Some(slot) = self.known(terms.name(name)) {
            return slot.level(now);
        }
        let subject = told(subject);
        let key = Key { limit: Arc::clone(limit), subject, period: terms.period.as_str() };
        self.restored.lock().get(&key).and_then(|row| row.level(now))
    }

    /// The counters of `limit` that stand highest, at most `most`.
    pub(crate) fn highest(&self, limit: &str, most: usize, now: Timestamp) -> Vec<QuotaLevel> {
        let mut levels = Vec::new();
        for shard in &self.shards {
            let slots = shard.lock();
            let mine = slots.values().filter(|slot| &*slot.key().limit == limit);
            levels.extend(mine.filter_map(|slot| slot.level(now)));
        }
        let restored = self.restored.lock();
        let mine = restored.values().filter(|row| &*row.key.limit == limit);
        levels.extend(mine.filter_map(|row| row.level(now)));
        drop(restored);
        levels.sort_unstable_by(|a, b| b.used.cmp(&a.used).then_with(|| a.subject.cmp(&b.subject)));
        levels.truncate(most);
        levels
    }

    /// How many counters there are.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Why the disk does not take what is spent.
    pub(crate) fn problem(&self) -> Option<String> {
        self.queue.problem()
    }

    pub(crate) fn close(&self) {
        self.queue.close();
    }

    pub(crate) fn lend(&self, patience: Duration) -> bool {
        self.queue.lend(patience)
    }

    pub(crate) fn take_back(&self) {
        self.queue.take_back(self.all());
    }

    /// What was spent since the levels were lent, or since the last call.
    pub(crate) fn untold(&self) -> Vec<QuotaSpent> {
        if !self.queue.is_lent() {
            return Vec::new();
        }
        let untold = self.all().into_iter().filter_map(|slot| {
            let (ends, units) = slot.untold()?;
            let Key { limit, subject, period } = slot.key();
            let period = Period::from_name(period)?;
            Some(QuotaSpent {
                limit: limit.to_string(),
                subject: subject.to_string(),
                period,
                ends,
                units,
            })
        });
        untold.collect()
    }

    /// Charges what another process has spent.
    pub(crate) fn charge(&self, spent: Vec<QuotaSpent>) {
        let mut spent: HashMap<Key, (u64, i64)> = spent
            .into_iter()
            .map(|QuotaSpent { limit, subject, period, ends, units }| {
                let (limit, subject) = (limit.into(), subject.into());
                (Key { limit, subject, period: period.as_str() }, (ends, units))
            })
            .collect();
        // Before the slots are looked through: one that is made meanwhile takes its row from here.
        let mut restored = self.restored.lock();
        for slot in self.all() {
            if let Some((ends, units)) = spent.remove(slot.key()) {
                slot.charge(ends, units, &self.queue);
            }
        }
        for (key, (ends, units)) in spent {
            if let Some(row) = restored.get_mut(&key) {
                let base = if row.ends == ends { row.spent } else { 0 };
                if ends >= row.ends {
                    (row.ends, row.spent) = (ends, base.saturating_add_signed(units));
                }
            } else if let Ok(spent) = u64::try_from(units)
                && self.count.load(Ordering::Relaxed) < QUOTAS_MAX
            {
                self.count.fetch_add(1, Ordering::Relaxed);
                restored.insert(key.clone(), Row { key, ends, spent });
            }
        }
    }

    /// Forgets the counters whose period is over.
    fn forget_what_is_over(&self, now: Timestamp) {
        let mut gone = 0;
        for shard in &self.shards {
            let mut slots = shard.lock();
            let before = slots.len();
            // One that a request still holds will be charged, perhaps in the next period.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || !slot.is_over(now));
            gone += before - slots.len();
        }
        let mut restored = self.restored.lock();
        let before = restored.len();
        restored.retain(|_, row| row.ends > now.unix_seconds());
        gone += before - restored.len();
        drop(restored);
        self.count.fetch_sub(gone, Ordering::Relaxed);
    }

    fn known(&self, name: u64) -> Option<Arc<Slot>> {
        self.shards.get(place(name))?.lock().get(&name).cloned()
    }

    /// Counts one more, if there is room for it.
    fn make_room(&self, now: Timestamp) -> bool {
        let one_more = |count: usize| count.checked_add(1).filter(|&count| count <= QUOTAS_MAX);
        let counted =
            || self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
        if counted() {
            return true;
        }
        // A flood of new subjects must not pay for a walk through the table each: one a second.
        if self.queue.may_clear(now) {
            self.forget_what_is_over(now);
        }
        counted()
    }

    fn all(&self) -> Vec<Arc<Slot>> {
        self.shards
            .iter()
            .flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>())
            .collect()
    }
}

/// How a subject is written on disk. What is too long ends in a hash of all of it.
fn told(subject: &Subject<'_>) -> Box<str> {
    let text = subject.to_string();
    match text.char_indices().nth(SUBJECT_MAX) {
        None => text.into(),
        Some((end, _)) => {
            let (kept, _) = text.split_at_checked(end).unwrap_or((&text, ""));
            let [a, b] = crate::hash::digest_of(&text);
            format!("{kept}#{a:016x}{b:016x}").into()
        }
    }
}

fn place(name: u64) -> usize {
    usize::try_from(name >> 58).unwrap_or(0)
}
