//! What operators have disabled, or let be used less, while the service runs.
//!
//! One table for all threads, asked for every request as soon as its path has one meaning, and again
//! for a path that a route writes anew. Empty, it costs a load of one flag; full, a walk through
//! [`ENDPOINTS_MAX`] patterns. A rule ends by the clock of the request, whether or not anybody has
//! cleared it away. Of several rules that hit, each must let the request pass.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use enforcer_inspect::{Head, Path};
use enforcer_limits::{By, Factor, Limit, Limits, Payer};
use enforcer_model::{Expiry, Moment, Reason, Rejection, Source, Timestamp};
use enforcer_policy::Endpoint;
use http::StatusCode;

/// Endpoints that can be disabled or tightened at once; one more is refused to the operator.
pub const ENDPOINTS_MAX: usize = 256;

/// What lies before the endpoints.
#[derive(Debug, Default)]
pub struct Endpoints {
    /// Spares every request the walk while there are no rules.
    any: AtomicBool,
    rules: ArcSwap<Vec<Arc<EndpointRule>>>,
}

/// What an operator has decided about one endpoint.
#[derive(Debug)]
pub struct EndpointRule {
    /// Its name, such as `EP-3`.
    pub id: Arc<str>,
    /// Which requests it is about.
    pub endpoint: Endpoint,
    /// What becomes of them.
    pub measure: Measure,
    /// When it ends.
    pub until: Expiry,
    refused: AtomicU64,
}

/// What becomes of an endpoint's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// All are refused with this status.
    Disable(StatusCode),
    /// Those over this limit are refused.
    Tighten(Limit),
}

/// Statuses that a client acts on in another way than by going away.
const NOT_REFUSALS: [u16; 5] = [401, 407, 408, 421, 426];

/// The rules that hit one request.
pub(crate) struct Gate(Vec<Arc<EndpointRule>>);

/// An operator keeps the request from its endpoint.
#[derive(Debug, thiserror::Error)]
#[error("`{endpoint}` is {what} by {id}")]
pub(crate) struct Barred {
    /// Of the rule.
    pub(crate) id: Arc<str>,
    endpoint: Box<str>,
    what: &'static str,
    /// What the client is told.
    pub(crate) status: StatusCode,
    /// When it is worth asking again, where that is known.
    pub(crate) retry_after: Option<Duration>,
}

impl Endpoints {
    /// These rules, from the next request on; no more than [`ENDPOINTS_MAX`].
    pub fn publish(&self, rules: Vec<Arc<EndpointRule>>) {
        let any = !rules.is_empty();
        self.rules.store(Arc::new(rules));
        // Behind the rules: who sees the flag sees them.
        self.any.store(any, Ordering::Release);
    }

    /// Whether a request can meet the rule `id`.
    pub fn holds(&self, id: &str) -> bool {
        self.any.load(Ordering::Acquire) && self.rule(id).is_some()
    }

    /// The rule `id`.
    pub(crate) fn rule(&self, id: &str) -> Option<Arc<EndpointRule>> {
        self.rules.load().iter().find(|rule| &*rule.id == id).map(Arc::clone)
    }

    /// What lies before a request for `path`, which may be another than the head's.
    #[inline]
    pub(crate) fn before(&self, head: &Head, path: &Path, now: Timestamp) -> Option<Gate> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        self.hit(head, path, now)
    }

    #[cold]
    fn hit(&self, head: &Head, path: &Path, now: Timestamp) -> Option<Gate> {
        let rules = self.rules.load();
        let hit = rules.iter().filter(|rule| {
            !rule.until.is_over(now) && rule.endpoint.hits(&head.method, &head.host, path)
        });
        let hit: Vec<_> = hit.map(Arc::clone).collect();
        (!hit.is_empty()).then_some(Gate(hit))
    }
}

impl Measure {
    /// All are refused with `status`; none when that does not turn a client away.
    pub fn disable(status: u16) -> Option<Self> {
        let refuses = (400..600).contains(&status) && !NOT_REFUSALS.contains(&status);
        refuses.then(|| StatusCode::from_u16(status).ok().map(Self::Disable)).flatten()
    }
}

impl EndpointRule {
    /// A rule that has refused nothing so far.
    pub fn new(id: Arc<str>, endpoint: Endpoint, measure: Measure, until: Expiry) -> Self {
        Self { id, endpoint, measure, until, refused: AtomicU64::new(0) }
    }

    /// The same rule with other words, which goes on counting.
    #[must_use]
    pub fn changed(&self, measure: Measure, until: Expiry) -> Self {
        let (id, endpoint) = (Arc::clone(&self.id), self.endpoint.clone());
        Self { id, endpoint, measure, until, refused: AtomicU64::new(self.refused()) }
    }

    /// How many requests it has refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn refuse(&self, reason: Reason, barred: Barred) -> Rejection {
        self.refused.fetch_add(1, Ordering::Relaxed);
        reason.because(barred)
    }

    fn barred(&self, what: &'static str, status: StatusCode, wait: Option<Duration>) -> Barred {
        let (id, endpoint) = (Arc::clone(&self.id), self.endpoint.to_string().into());
        Barred { id, endpoint, what, status, retry_after: wait }
    }

    fn disabled(&self, status: StatusCode, now: Timestamp) -> Rejection {
        let left = match self.until {
            Expiry::At(until) => Some(until.since(now)),
            Expiry::Never => None,
        };
        self.refuse(Reason::EndpointDisabled, self.barred("disabled", status, left))
    }

    async fn draw(
        &self,
        limit: &Limit,
        payer: &Payer<'_>,
        limits: &Arc<Limits>,
        now: Moment,
    ) -> Result<(), Rejection> {
        let demand = limit.demand(payer, Factor::WHOLE);
        // A rate has nothing to settle or to give back.
        limits.take(&[demand], now).await.map(drop).map_err(|exceeded| {
            let wait = Some(exceeded.retry_after);
            let barred = self.barred("tightened", StatusCode::TOO_MANY_REQUESTS, wait);
            self.refuse(Reason::EndpointTightened, barred)
        })
    }
}

impl Gate {
    /// Refuses what is disabled, and what the address has used up.
    pub(crate) async fn admit_source(
        &self,
        source: Source,
        limits: &Arc<Limits>,
        now: Moment,
    ) -> Result<(), Rejection> {
        for rule in &self.0 {
            if let Measure::Disable(status) = rule.measure {
                return Err(rule.disabled(status, now.wall));
            }
        }
        let payer = Payer::from_source(source, "", None);
        self.draw(&payer, limits, now, |by| *by == By::Ip).await
    }

    /// Refuses what the caller has used up; where nobody is identified, the address stands in.
    pub(crate) async fn admit_caller(
        &self,
        payer: &Payer<'_>,
        limits: &Arc<Limits>,
        now: Moment,
    ) -> Result<(), Rejection> {
        self.draw(payer, limits, now, |by| *by != By::Ip).await
    }

    async fn draw(
        &self,
        payer: &Payer<'_>,
        limits: &Arc<Limits>,
        now: Moment,
        mine: impl Fn(&By) -> bool,
    ) -> Result<(), Rejection> {
        for rule in &self.0 {
            if let Measure::Tighten(limit) = &rule.measure
                && mine(limit.by())
            {
                rule.draw(limit, payer, limits, now).await?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|rule| &rule.id)).finish()
    }
}
