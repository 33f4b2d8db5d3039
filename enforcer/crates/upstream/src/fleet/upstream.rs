//! What all threads know of one upstream.
//!
//! A request reads a roster and a breaker and counts in atomics; only a failure takes the lock
//! behind which hosts come and go ([`super::control`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

use super::breaker::{Admitted, Breaker};
use super::control::Control;
use super::member::Member;
use super::roster::Roster;
use super::view::{BreakerState, Event, Happening, UpstreamView};
use crate::plan::Plan;

/// After a connection that was not to be had, a host is asked last for so long.
const COOL_OFF_MS: u64 = 1_000;

/// What all threads know of one upstream.
pub(crate) struct Upstream {
    pub(crate) name: Arc<str>,
    /// Where a thread finds its own half.
    pub(crate) slot: AtomicUsize,
    pub(crate) roster: ArcSwap<Roster>,
    /// Of the roster in force.
    pub(crate) version: AtomicU64,
    /// Tells threads of another roster.
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) breaker: Breaker,
    /// When the roster changes by itself, in milliseconds.
    pub(crate) due_ms: AtomicU64,
    pub(super) control: Mutex<Control>,
    pub(super) teller: Teller,
    requests: AtomicU64,
    failures: AtomicU64,
    retries: AtomicU64,
    retries_refused: AtomicU64,
}

/// Where the time begins, and where events go; the same for all upstreams.
#[derive(Clone)]
pub(crate) struct Teller {
    pub(super) epoch: Instant,
    pub(super) told: mpsc::Sender<Event>,
    pub(super) lost: Arc<AtomicU64>,
    /// Wakes the one who looks after all of them.
    pub(super) wake: Arc<Notify>,
}

/// How a request went, as far as its host is to be judged by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Went {
    /// The host failed it.
    Badly,
    /// It says nothing about the host.
    Nowhere,
    /// To its end.
    Well,
}

impl Teller {
    pub(crate) fn ms(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn tell(&self, upstream: &Arc<str>, host: Option<Arc<str>>, what: Happening) {
        let event = Event { upstream: Arc::clone(upstream), host, what };
        if self.told.try_send(event).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl Upstream {
    pub(super) fn new(plan: &Arc<Plan>, slot: usize, teller: Teller) -> Self {
        Self {
            name: Arc::clone(&plan.name),
            slot: AtomicUsize::new(slot),
            roster: ArcSwap::default(),
            version: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            breaker: Breaker::default(),
            due_ms: AtomicU64::new(u64::MAX),
            control: Mutex::new(Control::new(Arc::clone(plan))),
            teller,
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            retries_refused: AtomicU64::new(0),
        }
    }

    pub(crate) fn ms(&self, now: Instant) -> u64 {
        self.teller.ms(now)
    }

    /// Lets hosts return whose time has come.
    pub(crate) fn refresh(&self, now_ms: u64) {
        if now_ms >= self.due_ms.load(Relaxed)
            && let Some(mut control) = self.control.try_lock()
        {
            control.rebuild(self, now_ms);
        }
    }

    /// Whether it is asked at all.
    pub(crate) fn admit(&self, plan: &Plan, now_ms: u64) -> Admitted {
        if self.breaker.is_closed() {
            return Admitted::Yes;
        }
        match &plan.breaker {
            Some(breaker) => self.breaker.admit(millis(breaker.open), now_ms),
            None => Admitted::Yes,
        }
    }

    /// The request that was let through to see has an answer: whether the upstream is well.
    pub(crate) fn probed(&self, went: Went, plan: &Plan, now_ms: u64) {
        let open = plan.breaker.map_or(0, |breaker| millis(breaker.open));
        match went {
            Went::Well => {
                self.breaker.close();
                self.control.lock().breaker_closed();
                self.tell(None, Happening::BreakerClosed);
            }
            Went::Badly => self.breaker.open_until(now_ms.saturating_add(open)),
            // The next one finds out.
            Went::Nowhere => self.breaker.open_until(now_ms),
        }
    }

    /// A request to `member` has come to an end; `now_ms` is asked for when it went badly.
    pub(crate) fn ended(&self, member: &Member, went: Went, now_ms: impl FnOnce() -> u64) {
        member.end();
        let requests = self.requests.fetch_add(1, Relaxed).saturating_add(1);
        match went {
            Went::Well => member.is_well(),
            Went::Nowhere => {}
            Went::Badly => {
                self.failures.fetch_add(1, Relaxed);
                let in_a_row = member.fail();
                self.control.lock().failed(member, in_a_row, requests, self, now_ms());
            }
        }
    }

    /// No connection to `member` was to be had.
    pub(crate) fn unreachable(&self, member: &Member, now_ms: u64) {
        member.begin();
        member.cool_until(now_ms.saturating_add(COOL_OFF_MS));
        self.ended(member, Went::Badly, || now_ms);
    }

    /// Whether a request may be sent once more.
    pub(crate) fn may_retry(&self, plan: &Plan, now_ms: u64) -> bool {
        let requests = self.requests.load(Relaxed);
        let may = self.control.lock().budget.take(plan.retry.budget_percent, requests, now_ms);
        let counter = if may { &self.retries } else { &self.retries_refused };
        counter.fetch_add(1, Relaxed);
        may
    }

    pub(super) fn tell(&self, host: Option<Arc<str>>, what: Happening) {
        self.teller.tell(&self.name, host, what);
    }

    pub(super) fn view(&self, now: Instant) -> UpstreamView {
        let now_ms = self.ms(now);
        let (tier, hosts) = self.control.lock().view(now_ms);
        let left = |ms| BreakerState::Open { left: Duration::from_millis(ms) };
        UpstreamView {
            name: Arc::clone(&self.name),
            tier,
            breaker: self.breaker.left_ms(now_ms).map_or(BreakerState::Closed, left),
            requests: self.requests.load(Relaxed),
            failures: self.failures.load(Relaxed),
            retries: self.retries.load(Relaxed),
            retries_refused: self.retries_refused.load(Relaxed),
            hosts,
        }
    }
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
