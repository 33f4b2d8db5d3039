//! Endpoints that operators have disabled or tightened, by the one writer of `endpoints.json`.
//!
//! A change is in force for the next request before the call returns, and on disk before that if the
//! disk takes it: a kill or a reload brings nothing back to life. A file that cannot be read keeps
//! the agent from starting, because nobody could say what it must refuse. One rule of each kind for
//! an endpoint: saying it again changes the rule, and it goes on counting.

mod file;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use enforcer_admin::call::{
    EndpointChanged, EndpointMeasure, EndpointOrder, EndpointRow, Endpoints as Listed, TightenBy,
};
use enforcer_admin::{Answer, Refusal, RefusalKind};
use enforcer_audit::{Audit, EndpointChange, EndpointEvent, Record, Ticket};
use enforcer_limits::{By, Kind, Limit};
use enforcer_model::{Author, Expiry, Rate, Timestamp};
use enforcer_policy::{Endpoint, Policy};
use enforcer_proxy::{ENDPOINTS_MAX, EndpointRule, Endpoints, Measure};
use tracing::{error, info};

use super::near::nearest;
use super::{Desk, checked};

pub(crate) use file::OpenError;

/// The owner of the rules; requests meet the copy in `table`.
pub(crate) struct EndpointDesk {
    file: PathBuf,
    table: Arc<Endpoints>,
    next: u32,
    held: Vec<Held>,
    audit: Audit,
}

/// A rule with what people want to know of it.
struct Held {
    rule: Arc<EndpointRule>,
    measure: EndpointMeasure,
    since: Timestamp,
    author: Author,
    reason: String,
}

/// What a change has come to, before it is on record.
struct Done {
    what: EndpointEvent,
    rule: EndpointRow,
    before: Option<EndpointRow>,
    author: Author,
    reason: Option<String>,
}

/// The kinds of rules, which do not replace each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Disable,
    Tighten,
}

impl Desk {
    /// Does what was ordered about an endpoint, and puts it on record.
    pub(super) async fn order_endpoint(
        &mut self,
        order: EndpointOrder,
        by: &Author,
    ) -> Result<Answer, Refusal> {
        let (verb, reason) = match &order {
            EndpointOrder::List => ("endpoint list", None),
            EndpointOrder::Disable { reason, .. } => ("endpoint disable", Some(reason)),
            EndpointOrder::Enable { reason, .. } => ("endpoint enable", reason.as_ref()),
            EndpointOrder::Tighten { reason, .. } => ("endpoint tighten", Some(reason)),
            EndpointOrder::Relax { reason, .. } => ("endpoint relax", reason.as_ref()),
        };
        reason.map_or(Ok(()), |reason| checked(reason))?;
        let (policy, now) = (self.policies.current(), self.clock.now().wall);
        if matches!(order, EndpointOrder::List) {
            return Ok(Answer::Endpoints(self.endpoints.list(&policy)));
        }
        let arguments = arguments(&order);
        let cuts = matches!(order, EndpointOrder::Disable { cut: true, .. });
        let done = match self.endpoints.decide(order, by, &policy, now) {
            Ok(decided) => {
                let cut = match cuts {
                    true => self.rolls.cut(&decided.rule.id.as_str().into()).await,
                    false => (0, 0),
                };
                Ok(self.endpoints.finish(decided, cut))
            }
            Err(refusal) => Err(refusal),
        };
        self.clerk.recorded(verb, arguments, by, done).await
    }
}

impl EndpointDesk {
    /// Takes up what held when the last agent ended.
    pub(crate) fn open(
        file: PathBuf,
        table: Arc<Endpoints>,
        audit: Audit,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let (next, held) = file::read(&file)?;
        let mut desk = Self { file, table, next, held, audit };
        desk.publish();
        desk.tick(now);
        Ok(desk)
    }

    /// Everything that holds.
    fn list(&self, policy: &Policy) -> Listed {
        Listed { endpoints: self.held.iter().map(|held| held.row(policy)).collect() }
    }

    /// How many are disabled.
    pub(super) fn disabled(&self) -> u64 {
        self.count(Verb::Disable)
    }

    /// How many are tightened.
    pub(super) fn tightened(&self) -> u64 {
        self.count(Verb::Tighten)
    }

    fn count(&self, verb: Verb) -> u64 {
        let count = self.held.iter().filter(|held| held.verb() == verb).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// Puts in force what was ordered.
    fn decide(
        &mut self,
        order: EndpointOrder,
        by: &Author,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Done, Refusal> {
        let done = match order {
            EndpointOrder::List => {
                let nothing = Refusal::new(RefusalKind::Usage, "a list changes nothing");
                return Err(nothing);
            }
            EndpointOrder::Disable { endpoint, status, ttl_seconds, cut: _, reason } => {
                let endpoint = named(&endpoint)?;
                let answer = refusing(status)?;
                let kept = EndpointMeasure::Disabled { status };
                let new = New { endpoint, kept, until: until(ttl_seconds, now), reason };
                self.put(Verb::Disable, new, |_| answer, by, policy, now)?
            }
            EndpointOrder::Tighten { endpoint, rate, burst, by: whose, ttl_seconds, reason } => {
                let endpoint = named(&endpoint)?;
                let (kind, burst) = numbers(&rate, burst)?;
                let kept = EndpointMeasure::Tightened { rate, burst, by: whose };
                let new = New { endpoint, kept, until: until(ttl_seconds, now), reason };
                self.put(Verb::Tighten, new, |id| limit(id, whose, kind), by, policy, now)?
            }
            EndpointOrder::Enable { which, reason } => {
                self.end(Verb::Disable, &which, reason, by, policy)?
            }
            EndpointOrder::Relax { which, reason } => {
                self.end(Verb::Tighten, &which, reason, by, policy)?
            }
        };
        // In force first: a disk that refuses must not keep anybody from stopping an attack.
        self.publish();
        Ok(done)
    }

    /// Keeps what was decided, after which so many requests were cut and so many threads have not
    /// said how many; with the ticket of its record.
    fn finish(&self, done: Done, (cut, silent): (u64, usize)) -> (Answer, Option<Ticket>) {
        let not_stored = self.keep();
        let ended = done.has_ended();
        let applied = self.table.holds(&done.rule.id) != ended && silent == 0;
        let ticket = self.note(&done, cut);
        let changed = EndpointChanged {
            rule: done.rule,
            ended,
            before: done.before,
            applied,
            cut,
            not_stored,
            audit: None,
        };
        (Answer::EndpointChanged(Box::new(changed)), ticket)
    }

    /// Ends rules whose time is over.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        if !self.held.iter().any(|held| held.rule.until.is_over(now)) {
            return;
        }
        let all = std::mem::take(&mut self.held).into_iter();
        let (over, held): (Vec<_>, Vec<_>) = all.partition(|held| held.rule.until.is_over(now));
        self.held = held;
        self.publish();
        drop(self.keep());
        for held in over {
            let rule = held.row_with(Vec::new());
            let (what, author) = (EndpointEvent::Expired, Author::Agent);
            drop(self.note(&Done { what, rule, before: None, author, reason: None }, 0));
        }
    }

    /// A rule that holds from here on, in the place of one of its kind for the same endpoint.
    fn put(
        &mut self,
        verb: Verb,
        new: New,
        measure: impl FnOnce(&str) -> Measure,
        by: &Author,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Done, Refusal> {
        let New { endpoint, kept, until, reason } = new;
        let same = |held: &Held| held.verb() == verb && held.rule.endpoint.is_same(&endpoint);
        let place = self.held.iter().position(same);
        let before = place.and_then(|place| self.held.get(place)).map(|held| held.row(policy));
        let rule = match place.and_then(|place| self.held.get(place)) {
            Some(known) => known.rule.changed(measure(&known.rule.id), until),
            None if self.held.len() >= ENDPOINTS_MAX => return Err(full()),
            None => {
                let id: Arc<str> = format!("EP-{}", self.next).into();
                self.next = self.next.saturating_add(1);
                EndpointRule::new(Arc::clone(&id), endpoint, measure(&id), until)
            }
        };
        let held =
            Held { rule: Arc::new(rule), measure: kept, since: now, author: by.clone(), reason };
        let rule = held.row(policy);
        match place.and_then(|place| self.held.get_mut(place)) {
            Some(place) => *place = held,
            None => self.held.push(held),
        }
        let what = match verb {
            Verb::Disable => EndpointEvent::Disabled,
            Verb::Tighten => EndpointEvent::Tightened,
        };
        let reason = Some(rule.reason.clone());
        Ok(Done { what, rule, before, author: by.clone(), reason })
    }

    /// Ends a rule by its id or its endpoint.
    fn end(
        &mut self,
        verb: Verb,
        which: &str,
        reason: Option<String>,
        by: &Author,
        policy: &Policy,
    ) -> Result<Done, Refusal> {
        let endpoint: Option<Endpoint> = which.parse().ok();
        let is_meant = |held: &&Held| {
            held.rule.id.eq_ignore_ascii_case(which)
                || endpoint.as_ref().is_some_and(|one| held.rule.endpoint.is_same(one))
        };
        let found = self.held.iter().filter(is_meant);
        let found = found.map(|held| (held.verb() == verb, Arc::clone(&held.rule.id)));
        let id = match found.max_by_key(|(fits, _)| *fits) {
            Some((true, id)) => id,
            Some((false, id)) => return Err(other_kind(verb, &id)),
            None => return Err(self.unknown(verb, which)),
        };
        let place = self.held.iter().position(|held| held.rule.id == id);
        let held = place.map(|place| self.held.remove(place));
        let held = held.ok_or_else(|| self.unknown(verb, which))?;
        let what = match verb {
            Verb::Disable => EndpointEvent::Enabled,
            Verb::Tighten => EndpointEvent::Relaxed,
        };
        let rule = held.row(policy);
        Ok(Done { what, before: Some(rule.clone()), rule, author: by.clone(), reason })
    }

    fn unknown(&self, verb: Verb, which: &str) -> Refusal {
        let what = match verb {
            Verb::Disable => "disabled",
            Verb::Tighten => "tightened",
        };
        let mine: Vec<(String, String)> = self
            .held
            .iter()
            .filter(|held| held.verb() == verb)
            .map(|held| (held.rule.id.to_string(), held.rule.endpoint.to_string()))
            .collect();
        let names = mine.iter().flat_map(|(id, endpoint)| [id.as_str(), endpoint.as_str()]);
        let hint = match nearest(which, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`enforcer endpoint list` tells what is".to_owned(),
        };
        Refusal::new(RefusalKind::NotFound, format!("no endpoint `{which}` is {what}")).hint(hint)
    }

    fn publish(&self) {
        self.table.publish(self.held.iter().map(|held| Arc::clone(&held.rule)).collect());
    }

    /// Why a restart would forget, if it would.
    fn keep(&self) -> Option<String> {
        let written = file::write(&self.file, self.next, &self.held);
        written.err().map(|error| {
            error!(%error, "what is decided about endpoints is in force, but not on disk");
            error.to_string()
        })
    }

    fn note(&self, done: &Done, cut: u64) -> Option<Ticket> {
        let (rule, ended) = (&done.rule, done.has_ended());
        let said = |row: &EndpointRow| row.measure.to_string();
        let before = match done.what {
            EndpointEvent::Expired => Some(said(rule)),
            EndpointEvent::Disabled
            | EndpointEvent::Enabled
            | EndpointEvent::Relaxed
            | EndpointEvent::Tightened => done.before.as_ref().map(said),
        };
        let after = (!ended).then(|| said(rule));
        let (id, endpoint) = (rule.id.clone(), rule.endpoint.clone());
        info!(id, endpoint, before, after, by = %done.author, "endpoint");
        let change = EndpointChange {
            what: done.what,
            id,
            endpoint,
            before,
            after,
            until: (!ended).then_some(rule.until),
            refused: rule.refused,
            cut,
            author: done.author.clone(),
            reason: done.reason.clone(),
        };
        self.audit.reserve().ok().map(|slot| slot.write(Record::Endpoint(Box::new(change))))
    }
}

impl Done {
    const fn has_ended(&self) -> bool {
        match self.what {
            EndpointEvent::Disabled | EndpointEvent::Tightened => false,
            EndpointEvent::Enabled | EndpointEvent::Expired | EndpointEvent::Relaxed => true,
        }
    }
}

/// What an operator wants to hold.
struct New {
    endpoint: Endpoint,
    kept: EndpointMeasure,
    until: Expiry,
    reason: String,
}

impl Held {
    const fn verb(&self) -> Verb {
        match self.measure {
            EndpointMeasure::Disabled { .. } => Verb::Disable,
            EndpointMeasure::Tightened { .. } => Verb::Tighten,
        }
    }

    fn row(&self, policy: &Policy) -> EndpointRow {
        let routes = self.rule.endpoint.routes(policy);
        self.row_with(routes.into_iter().map(str::to_owned).collect())
    }

    fn row_with(&self, routes: Vec<String>) -> EndpointRow {
        EndpointRow {
            id: self.rule.id.to_string(),
            endpoint: self.rule.endpoint.to_string(),
            measure: self.measure.clone(),
            since: self.since,
            until: self.rule.until,
            author: self.author.clone(),
            reason: self.reason.clone(),
            refused: self.rule.refused(),
            routes,
        }
    }
}

/// What `order` asks for, as the record of it says.
fn arguments(order: &EndpointOrder) -> Vec<String> {
    let lasting = |ttl: Option<u64>| {
        ttl.map_or_else(|| "forever".to_owned(), |seconds| format!("for {seconds} s"))
    };
    match order {
        EndpointOrder::List => Vec::new(),
        EndpointOrder::Enable { which, reason } | EndpointOrder::Relax { which, reason } => {
            std::iter::once(which.clone()).chain(reason.clone()).collect()
        }
        EndpointOrder::Disable { endpoint, status, ttl_seconds, cut, reason } => {
            let mut arguments = vec![endpoint.clone(), format!("status {status}")];
            arguments.extend([lasting(*ttl_seconds), reason.clone()]);
            arguments.extend(cut.then(|| "cut".to_owned()));
            arguments
        }
        EndpointOrder::Tighten { endpoint, rate, burst, by, ttl_seconds, reason } => {
            let mut arguments = vec![endpoint.clone(), rate.clone()];
            arguments.extend(burst.map(|burst| format!("burst {burst}")));
            arguments.extend([format!("by {by}"), lasting(*ttl_seconds), reason.clone()]);
            arguments
        }
    }
}

fn named(text: &str) -> Result<Endpoint, Refusal> {
    text.parse().map_err(|error: enforcer_policy::EndpointError| {
        Refusal::new(RefusalKind::Usage, error.to_string()).hint(error.hint())
    })
}

fn refusing(status: u16) -> Result<Measure, Refusal> {
    Measure::disable(status).ok_or_else(|| {
        let message = format!("{status} is not a status that turns a client away");
        Refusal::new(RefusalKind::Usage, message)
            .hint("such as 503 (come back), 410 (gone), 403 or 404")
    })
}

fn numbers(rate: &str, burst: Option<u32>) -> Result<(Kind, u32), Refusal> {
    let usage = |message: String| Refusal::new(RefusalKind::Usage, message);
    let rate: Rate =
        rate.parse().map_err(|error: enforcer_model::UnitError| usage(error.to_string()))?;
    let burst = burst.unwrap_or(rate.count());
    let most = std::num::NonZeroU32::new(burst);
    let most = most.ok_or_else(|| usage("a burst of nothing admits nobody".to_owned()))?;
    Ok((Kind::Rate { rate, burst: most }, burst))
}

/// Named as no limit of a policy can be, so that they never share a bucket.
fn limit(id: &str, whose: TightenBy, kind: Kind) -> Measure {
    let by = match whose {
        TightenBy::Ip => By::Ip,
        TightenBy::Principal => By::Principal,
    };
    Measure::Tighten(Limit::new(format!("endpoint {id}"), by, kind))
}

fn until(ttl_seconds: Option<u64>, now: Timestamp) -> Expiry {
    ttl_seconds
        .map_or(Expiry::Never, |ttl| Expiry::At(now.saturating_add(Duration::from_secs(ttl))))
}

fn full() -> Refusal {
    let message = format!("{ENDPOINTS_MAX} endpoints are disabled or tightened already");
    Refusal::new(RefusalKind::Guarded, message)
        .hint("end some of them (`enforcer endpoint list`), or join them with `{**}`")
}

fn other_kind(verb: Verb, id: &str) -> Refusal {
    let (is, command) = match verb {
        Verb::Disable => ("tightened, not disabled", "relax"),
        Verb::Tighten => ("disabled, not tightened", "enable"),
    };
    Refusal::new(RefusalKind::NotFound, format!("the endpoint of {id} is {is}"))
        .hint(format!("`enforcer endpoint {command} {id}` ends that"))
}

#[cfg(test)]
mod tests;
