//! What is known of one issuer, and who waits for more: its keys, where it is asked, how it is.
//!
//! Requests read a pointer. One task of [`super::Issuers`] fetches; the last good set stays until a
//! better one is whole. A request that needs a newer set orders a round and waits for one that began
//! after its order, at most once in [`TRIGGER_EVERY`] for all requests together; all that come in
//! between wait for the same round, or are told that there is nothing newer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use enforcer_model::{Moment, Timestamp};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::plan::fingerprints;
use super::{Client, Endpoint, IssuerPlan, KeySource, Roots};
use crate::jwt::KeySet;

/// How often requests may have an issuer's keys fetched, all requests together.
pub(crate) const TRIGGER_EVERY: Duration = Duration::from_secs(10);

/// One issuer's keys and endpoints, as fetched; shared by every plan that fetches them alike.
pub(crate) struct Source {
    pub(crate) spec: Spec,
    pub(crate) client: Client,
    keys: ArcSwapOption<KeySet>,
    /// When the last good set was asked for; nanoseconds since the Unix epoch.
    fetched_ns: AtomicU64,
    /// The introspection endpoint that the discovery document names.
    introspection: ArcSwapOption<Endpoint>,
    /// Grows when a key goes: what was verified with it has to be verified again.
    generation: AtomicU64,
    rounds: watch::Sender<Rounds>,
    triggered: Mutex<Option<Trigger>>,
    pub(crate) wake: Notify,
    health: Mutex<Health>,
}

/// What is fetched, and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spec {
    pub(crate) name: Arc<str>,
    pub(crate) url: Arc<str>,
    pub(crate) keys: KeySource,
    /// Whether the discovery document is needed, for keys or for the introspection endpoint.
    pub(crate) discovers: bool,
    pub(crate) roots: Roots,
    pub(crate) refresh: Duration,
    pub(crate) timeout: Duration,
}

/// How many fetches began and ended; one at a time, so the ended are those that began first.
#[derive(Clone, Copy, Debug, Default)]
struct Rounds {
    begun: u64,
    ended: u64,
}

#[derive(Clone, Copy, Debug)]
struct Trigger {
    at: Instant,
    /// The first round that began after it.
    round: u64,
}

/// How an issuer is, for people.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    pub(crate) last_good: Option<Timestamp>,
    /// Since the last good one.
    pub(crate) failure: Option<(Timestamp, String)>,
}

/// What came of asking for newer keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewed {
    /// There are others than before.
    Yes,
    /// Those that are here are as new as they get for now.
    No,
}

impl Spec {
    pub(crate) fn of(plan: &IssuerPlan) -> Self {
        let asks = plan.introspection.as_ref();
        let discovers = matches!(plan.keys, KeySource::Discovery)
            || asks.is_some_and(|introspection| introspection.endpoint.is_none());
        Self {
            name: Arc::clone(&plan.name),
            url: Arc::clone(&plan.url),
            keys: plan.keys.clone(),
            discovers,
            roots: plan.roots.clone(),
            refresh: plan.refresh,
            timeout: plan.timeout,
        }
    }

    /// Whether anything is fetched at all.
    pub(crate) const fn fetches(&self) -> bool {
        self.discovers || matches!(self.keys, KeySource::Jwks(_))
    }

    /// Whether what `other` led to is what this leads to.
    fn leads_where(&self, other: &Self) -> bool {
        self.url == other.url && self.keys == other.keys && self.roots == other.roots
    }
}

impl Source {
    /// The source for `spec`: one of `known` where that is the same, else one that begins with the
    /// keys of one that led to the same place.
    pub(crate) fn from_known(spec: Spec, known: &[Arc<Self>]) -> Arc<Self> {
        if let Some(same) = known.iter().find(|source| source.spec == spec) {
            return Arc::clone(same);
        }
        let alike = known.iter().find(|source| spec.leads_where(&source.spec));
        let keys = match &spec.keys {
            KeySource::Pinned(set) => Some(Arc::clone(set)),
            KeySource::Discovery | KeySource::Jwks(_) | KeySource::None => {
                alike.and_then(|source| source.keys())
            }
        };
        let introspection = alike.and_then(|source| source.introspection());
        let health = alike.map_or_else(Health::default, |source| source.health());
        Arc::new(Self {
            client: Client::new(spec.roots.clone()),
            spec,
            keys: ArcSwapOption::new(keys),
            fetched_ns: AtomicU64::new(alike.map_or(0, |source| source.fetched().unix_ns())),
            introspection: ArcSwapOption::new(introspection),
            generation: AtomicU64::new(0),
            rounds: watch::Sender::new(Rounds::default()),
            triggered: Mutex::new(None),
            wake: Notify::new(),
            health: Mutex::new(health),
        })
    }

    /// The last good set.
    pub(crate) fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.load_full()
    }

    /// When the last good set was asked for: it has every key that signed before.
    pub(crate) fn fetched(&self) -> Timestamp {
        Timestamp::from_unix_ns(self.fetched_ns.load(Ordering::Acquire))
    }

    /// Where the discovery document says that tokens are asked about.
    pub(crate) fn introspection(&self) -> Option<Arc<Endpoint>> {
        self.introspection.load_full()
    }

    /// What a verified token is remembered with, and good for no longer than.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn health(&self) -> Health {
        self.health.lock().clone()
    }

    /// Waits, within the issuer's patience, for keys other than `before`.
    pub(crate) async fn renewed(&self, before: Option<&Arc<KeySet>>, now: Moment) -> Renewed {
        if self.differs_from(before) {
            return Renewed::Yes;
        }
        if let Some(round) = self.awaited(before, now) {
            let mut rounds = self.rounds.subscribe();
            let ended = rounds.wait_for(|rounds| rounds.ended >= round);
            // Too long is as good as in vain; the round goes on without this request.
            drop(tokio::time::timeout(self.spec.timeout, ended).await);
        }
        if self.differs_from(before) { Renewed::Yes } else { Renewed::No }
    }

    fn differs_from(&self, before: Option<&Arc<KeySet>>) -> bool {
        match (self.keys().as_ref(), before) {
            (Some(current), Some(before)) => !Arc::ptr_eq(current, before),
            (current, before) => current.is_some() != before.is_some(),
        }
    }

    /// The round whose end is worth waiting for; it is ordered where that is allowed.
    fn awaited(&self, before: Option<&Arc<KeySet>>, now: Moment) -> Option<u64> {
        if !self.spec.fetches() {
            return None;
        }
        let mut triggered = self.triggered.lock();
        let Rounds { begun, ended } = *self.rounds.borrow();
        // The first keys come without being ordered.
        if before.is_none() && (begun > ended || begun == 0) {
            return Some(begun.max(1));
        }
        let is_recent =
            |trigger: &Trigger| now.monotonic.saturating_duration_since(trigger.at) < TRIGGER_EVERY;
        match *triggered {
            Some(trigger) if is_recent(&trigger) => {
                (ended < trigger.round).then_some(trigger.round)
            }
            Some(_) | None => {
                let round = begun + 1;
                *triggered = Some(Trigger { at: now.monotonic, round });
                self.wake.notify_one();
                Some(round)
            }
        }
    }

    pub(crate) fn begin_round(&self) {
        self.rounds.send_modify(|rounds| rounds.begun += 1);
    }

    /// Says how the round went that began last, and wakes whoever waits for it.
    pub(crate) fn end_round(&self, outcome: Result<(), String>, now: Timestamp) {
        {
            let mut health = self.health.lock();
            match outcome {
                Ok(()) => *health = Health { last_good: Some(now), failure: None },
                Err(failure) => health.failure = Some((now, failure)),
            }
        }
        self.rounds.send_modify(|rounds| rounds.ended = rounds.begun);
    }

    /// Puts `set` in force, which was asked for at `since`; says how many keys came and went.
    pub(crate) fn publish_keys(&self, set: KeySet, since: Timestamp) -> (usize, usize) {
        let new = fingerprints(&set);
        let old = self.keys().map(|keys| fingerprints(&keys)).unwrap_or_default();
        let (came, went) = (new.difference(&old).count(), old.difference(&new).count());
        // The same keys keep their set, so that a request that waited sees that nothing came.
        if came + went > 0 || self.keys().is_none() {
            self.keys.store(Some(Arc::new(set)));
        }
        self.fetched_ns.store(since.unix_ns(), Ordering::Release);
        if went > 0 {
            let _ = self.generation.fetch_add(1, Ordering::Release);
        }
        (came, went)
    }

    pub(crate) fn publish_introspection(&self, endpoint: Option<Endpoint>) {
        self.introspection.store(endpoint.map(Arc::new));
    }
}
