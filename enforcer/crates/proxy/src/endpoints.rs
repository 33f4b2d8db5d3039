//! What operators and rules have disabled, or let be used less, or only by stronger proof, while the
//! service runs.
//!
//! One table for all threads. Endpoints are asked for every request as soon as its path has one
//! meaning, and again for a path that a route writes anew; routes once they are matched; callers and
//! networks where limits are drawn on. Empty, it costs a load of one flag; full, a walk through
//! [`ENDPOINTS_MAX`] patterns and a look-up of the route and the caller. A rule ends by the clock of
//! the request, whether or not anybody has cleared it away. Of several rules that hit, each must let
//! the request pass.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use enforcer_inspect::{Head, Path};
use enforcer_limits::{By, Factor, Limit, Limits, Payer};
use enforcer_model::{Expiry, Moment, Prefix, Principal, Reason, Rejection, Source, Timestamp};
use enforcer_policy::{Require, Requires};
use http::StatusCode;

use crate::scope::Scope;

/// Measures about endpoints and routes that can hold at once; one more is refused.
pub const ENDPOINTS_MAX: usize = 256;

/// Measures about callers and networks that can hold at once; one more is refused.
pub const CALLERS_MAX: usize = 1_024;

/// What lies before the endpoints.
#[derive(Debug, Default)]
pub struct Endpoints {
    /// Spares every request the walk while there are no rules.
    any: AtomicBool,
    rules: ArcSwap<Table>,
}

/// The rules by what they are about.
#[derive(Debug, Default)]
struct Table {
    all: Vec<Arc<EndpointRule>>,
    endpoints: Vec<Arc<EndpointRule>>,
    routes: HashMap<Arc<str>, Vec<Arc<EndpointRule>>>,
    callers: HashMap<Principal, Vec<Arc<EndpointRule>>>,
    sources: Vec<Arc<EndpointRule>>,
}

/// How much stricter a request is to be taken than the policy says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stricter {
    /// What its caller must show as well.
    pub(crate) require: Requires,
    /// What is left of the rates that it is counted by.
    pub(crate) share: Factor,
}

/// What an operator or a rule has decided about one scope.
#[derive(Debug)]
pub struct EndpointRule {
    /// Its name, such as `EP-3`.
    pub id: Arc<str>,
    /// Which requests it is about.
    pub scope: Scope,
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
    /// The rates and bursts that they are counted by are this share of what they would be.
    Shrink(Factor),
    /// Their callers must show this as well.
    Require(Requires),
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
    /// These rules, from the next request on; no more than [`ENDPOINTS_MAX`] and [`CALLERS_MAX`].
    pub fn publish(&self, rules: Vec<Arc<EndpointRule>>) {
        let any = !rules.is_empty();
        let mut table = Table::default();
        for rule in &rules {
            let rule = Arc::clone(rule);
            match &rule.scope {
                Scope::Endpoint(_) => table.endpoints.push(rule),
                Scope::Route(name) => table.routes.entry(Arc::clone(name)).or_default().push(rule),
                Scope::Caller(one) => table.callers.entry(one.clone()).or_default().push(rule),
                Scope::Source(_) => table.sources.push(rule),
            }
        }
        table.all = rules;
        self.rules.store(Arc::new(table));
        // Behind the rules: who sees the flag sees them.
        self.any.store(any, Ordering::Release);
    }

    /// Whether a request can meet the rule `id`.
    pub fn holds(&self, id: &str) -> bool {
        self.any.load(Ordering::Acquire) && self.rule(id).is_some()
    }

    /// The rule `id`.
    pub(crate) fn rule(&self, id: &str) -> Option<Arc<EndpointRule>> {
        self.rules.load().all.iter().find(|rule| &*rule.id == id).map(Arc::clone)
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
        let hit = rules.endpoints.iter().filter(|rule| {
            !rule.until.is_over(now) && rule.scope.hits(&head.method, &head.host, path)
        });
        Gate::of(hit.map(Arc::clone).collect())
    }

    /// What lies before a request that the route `name` serves.
    #[inline]
    pub(crate) fn before_route(&self, name: &str, now: Timestamp) -> Option<Gate> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let rules = self.rules.load();
        let hit = rules.routes.get(name)?.iter().filter(|rule| !rule.until.is_over(now));
        Gate::of(hit.map(Arc::clone).collect())
    }

    /// How much stricter requests on the route `name` are taken: of shares, the smallest.
    #[inline]
    pub(crate) fn stricter(&self, name: &str, now: Timestamp) -> Stricter {
        let mut stricter = Stricter::default();
        if !self.any.load(Ordering::Acquire) {
            return stricter;
        }
        let rules = self.rules.load();
        for rule in rules.routes.get(name).into_iter().flatten() {
            match rule.measure {
                _ if rule.until.is_over(now) => {}
                Measure::Require(require) => stricter.require = stricter.require.and(require),
                Measure::Shrink(share) => stricter.share = share.min(stricter.share),
                Measure::Disable(_) | Measure::Tighten(_) => {}
            }
        }
        stricter
    }

    /// What is left of the rates that `payer` is counted by, wherever. Of several shares about the same
    /// scope the smallest holds; those of several scopes multiply.
    #[inline]
    pub(crate) fn share_of(&self, payer: &Payer<'_>, now: Timestamp) -> Factor {
        if !self.any.load(Ordering::Acquire) {
            return Factor::WHOLE;
        }
        let rules = self.rules.load();
        let share = |rule: &EndpointRule| match rule.measure {
            Measure::Shrink(share) if !rule.until.is_over(now) => Some(share),
            Measure::Disable(_)
            | Measure::Require(_)
            | Measure::Shrink(_)
            | Measure::Tighten(_) => None,
        };
        let own = payer.principal.and_then(|caller| rules.callers.get(caller));
        let own = own.into_iter().flatten().filter_map(|rule| share(rule)).min();
        let address = payer.source.address();
        let mut near: Vec<(Prefix, Factor)> = Vec::new();
        for rule in &rules.sources {
            if let (Scope::Source(network), Some(share)) = (&rule.scope, share(rule))
                && network.contains(address)
            {
                match near.iter_mut().find(|(known, _)| known == network) {
                    Some((_, smallest)) => *smallest = share.min(*smallest),
                    None => near.push((*network, share)),
                }
            }
        }
        let all = own.into_iter().chain(near.into_iter().map(|(_, share)| share));
        all.fold(Factor::WHOLE, |left, share| share.of(left))
    }
}

impl Measure {
    /// `percent` of every rate is left; none when that is nothing, or everything.
    pub fn shrink(percent: u8) -> Option<Self> {
        let some = (1..100).contains(&percent);
        some.then(|| Self::Shrink(Factor::per_thousand(u32::from(percent) * 10)))
    }

    /// Callers must show what `words` name, as a policy writes it; none when one of them is no such
    /// word, or there are none.
    pub fn require(words: &[String]) -> Option<Self> {
        let all = words.iter().map(|word| Require::named(word).map(Requires::from));
        let all: Option<Vec<_>> = all.collect();
        let all = all?.into_iter().fold(Requires::default(), Requires::and);
        (!all.is_empty()).then_some(Self::Require(all))
    }

    /// All are refused with `status`; none when that does not turn a client away.
    pub fn disable(status: u16) -> Option<Self> {
        let refuses = (400..600).contains(&status) && !NOT_REFUSALS.contains(&status);
        refuses.then(|| StatusCode::from_u16(status).ok().map(Self::Disable)).flatten()
    }
}

impl EndpointRule {
    /// A rule that has refused nothing so far.
    pub fn new(id: Arc<str>, scope: Scope, measure: Measure, until: Expiry) -> Self {
        Self { id, scope, measure, until, refused: AtomicU64::new(0) }
    }

    /// The same rule with other words, which goes on counting.
    #[must_use]
    pub fn changed(&self, measure: Measure, until: Expiry) -> Self {
        let (id, scope) = (Arc::clone(&self.id), self.scope.clone());
        Self { id, scope, measure, until, refused: AtomicU64::new(self.refused()) }
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
        let (id, endpoint) = (Arc::clone(&self.id), self.scope.to_string().into());
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
    fn of(rules: Vec<Arc<EndpointRule>>) -> Option<Self> {
        (!rules.is_empty()).then_some(Self(rules))
    }

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
