//! What the handles and the writer thread both touch, behind one short lock.
//!
//! Taking a slot, refusing one and counting the refusal are one step under that lock, and so is the
//! writer's taking of the count: no refusal is told twice or not at all.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Clock, Timestamp};
use parking_lot::{Condvar, Mutex};
use tokio::sync::broadcast;

use crate::anchor::Witnessed;
use crate::audit::{Full, Lost, State};
use crate::merkle::Hash;
use crate::record::{Gap, GapReason};
use crate::stored::Stored;

/// Whether records are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// They are.
    Serving,
    /// The disk is full; what was taken is kept, the rest refused until there is room.
    DiskFull,
    /// They are no more: the disk failed, or the log was moved away under the agent.
    Failed(Arc<str>),
    /// The log was closed.
    Closed,
}

/// A subscriber that lags further behind than this loses records.
const SUBSCRIBER_LAG_RECORDS: usize = 4_096;

pub(crate) struct Shared {
    pub(crate) committed: broadcast::Sender<Arc<Stored>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) witnessed: Witnessed,
    capacity: usize,
    inner: Mutex<Inner>,
    awaited: Mutex<bool>,
    hurry: Condvar,
}

#[derive(Debug)]
struct Inner {
    slots_used: usize,
    health: Health,
    untold: Vec<Gap>,
    refused: u64,
    published: Published,
}

/// The last checkpoint and what it covers.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) size: u64,
    pub(crate) root: Hash,
    pub(crate) checkpoint: Arc<str>,
    pub(crate) at: Timestamp,
}

impl Shared {
    pub(crate) fn new(
        capacity: usize,
        clock: Arc<dyn Clock>,
        health: Health,
        published: Published,
    ) -> Self {
        let inner = Inner { slots_used: 0, health, untold: Vec::new(), refused: 0, published };
        Self {
            committed: broadcast::Sender::new(SUBSCRIBER_LAG_RECORDS),
            clock,
            witnessed: Witnessed::new(),
            capacity,
            inner: Mutex::new(inner),
            awaited: Mutex::new(false),
            hurry: Condvar::new(),
        }
    }

    /// Somebody waits for what was written: the next commit comes soon.
    pub(crate) fn hurry(&self) {
        let mut awaited = self.awaited.lock();
        if !*awaited {
            *awaited = true;
            self.hurry.notify_one();
        }
    }

    /// Waits until somebody is in a hurry, at most for `rest`.
    pub(crate) fn gather(&self, rest: Duration) {
        let mut awaited = self.awaited.lock();
        if !*awaited {
            self.hurry.wait_for(&mut awaited, rest);
        }
        *awaited = false;
    }

    pub(crate) fn take_slot(&self) -> Result<(), Full> {
        let mut inner = self.inner.lock();
        let (full, why) = match &inner.health {
            Health::Serving if inner.slots_used < self.capacity => {
                inner.slots_used += 1;
                let crowded = inner.slots_used == self.capacity.div_ceil(2);
                drop(inner);
                if crowded {
                    self.hurry();
                }
                return Ok(());
            }
            Health::Serving => (Full::Queue, GapReason::QueueFull),
            Health::DiskFull => (Full::Disk, GapReason::DiskFull),
            // Nothing will be written any more that could tell a count.
            Health::Failed(why) => return Err(Full::Failed(Arc::clone(why))),
            Health::Closed => return Err(Full::Closed),
        };
        inner.refused += 1;
        match inner.untold.iter_mut().find(|gap| gap.why == why) {
            Some(gap) => gap.records += 1,
            None => {
                let since = Some(self.clock.now().wall);
                inner.untold.push(Gap { why, records: 1, bytes: 0, since });
            }
        }
        Err(full)
    }

    /// Whether waiting for a slot is of no use: there is one, or the log takes no records at all.
    pub(crate) fn has_room(&self) -> bool {
        let inner = self.inner.lock();
        inner.health != Health::Serving || inner.slots_used < self.capacity
    }

    pub(crate) fn free_slots(&self, count: usize) {
        let mut inner = self.inner.lock();
        inner.slots_used = inner.slots_used.saturating_sub(count);
    }

    /// The refusals that no record tells yet; from here on the caller owes them a record.
    pub(crate) fn take_untold(&self) -> Vec<Gap> {
        std::mem::take(&mut self.inner.lock().untold)
    }

    pub(crate) fn publish(&self, published: Published) {
        self.inner.lock().published = published;
    }

    /// Refuses records for want of room, unless the log is being closed.
    pub(crate) fn suspend(&self) {
        let mut inner = self.inner.lock();
        if inner.health == Health::Serving {
            inner.health = Health::DiskFull;
        }
    }

    /// Takes records again, unless the log is being closed.
    pub(crate) fn resume(&self) {
        let mut inner = self.inner.lock();
        if inner.health == Health::DiskFull {
            inner.health = Health::Serving;
        }
    }

    /// Refuses for good.
    pub(crate) fn fail(&self, why: &Arc<str>) {
        let mut inner = self.inner.lock();
        inner.health = Health::Failed(Arc::clone(why));
        inner.slots_used = 0;
    }

    /// Refuses for good, without a fault.
    pub(crate) fn end(&self) {
        self.inner.lock().health = Health::Closed;
    }

    /// Refuses from now on; false when somebody else closes already, or the log has failed.
    pub(crate) fn begin_closing(&self) -> bool {
        let mut inner = self.inner.lock();
        match inner.health {
            Health::Serving | Health::DiskFull => {
                inner.health = Health::Closed;
                true
            }
            Health::Failed(_) | Health::Closed => false,
        }
    }

    /// Why a record that never got an answer is lost.
    pub(crate) fn lost(&self) -> Lost {
        match &self.inner.lock().health {
            Health::Failed(why) => Lost::Failed(Arc::clone(why)),
            Health::Serving | Health::DiskFull | Health::Closed => Lost::Closed,
        }
    }

    pub(crate) fn state(&self) -> State {
        let inner = self.inner.lock();
        State {
            size: inner.published.size,
            root: inner.published.root,
            checkpoint: Arc::clone(&inner.published.checkpoint),
            at: inner.published.at,
            health: inner.health.clone(),
            waiting: inner.slots_used,
            refused: inner.refused,
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("inner", &self.inner).finish_non_exhaustive()
    }
}
