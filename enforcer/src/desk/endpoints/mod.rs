//! Endpoints, routes and callers that operators and rules have disabled or tightened, by the one writer
//! of `endpoints.json`.
//!
//! A change is in force for the next request before the call returns, and on disk before that if the
//! disk takes it: a kill or a reload brings nothing back to life. A file that cannot be read keeps
//! the agent from starting, because nobody could say what it must refuse. Operators have one rule of
//! each kind for an endpoint, and so has each decision: saying it again changes the rule, and it goes
//! on counting.

mod asked;
mod file;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use enforcer_admin::call::{
    EndpointChanged, EndpointMeasure, EndpointOrder, EndpointRow, Endpoints as Listed,
};
use enforcer_admin::{Answer, Peer, Refusal, RefusalKind};
use enforcer_audit::{Audit, EndpointChange, EndpointEvent, Record, Ticket};
use enforcer_model::{Author, DecisionId, Expiry, Timestamp};
use enforcer_policy::Policy;
use enforcer_proxy::{CALLERS_MAX, ENDPOINTS_MAX, EndpointRule, Endpoints, Measure, Scope};
use tracing::{error, info};

use super::near::nearest;
use super::{Desk, checked};

use asked::{
    known, limit, named, numbers, refuse_callers, refuse_impossible, refuse_unlimited, refusing,
    requiring, shrinking, stronger,
};

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
    /// Whose deed it is: a decision's, or an operator's own. Neither replaces or ends the other's.
    decision: Option<DecisionId>,
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
    Require,
    Shrink,
    Tighten,
}

impl Desk {
    /// Does what was ordered about an endpoint, and puts it on record.
    pub(super) async fn order_endpoint(
        &mut self,
        order: EndpointOrder,
        peer: Peer,
        by: &Author,
    ) -> Result<Answer, Refusal> {
        let (verb, reason) = match &order {
            EndpointOrder::List => ("endpoint list", None),
            EndpointOrder::Disable { reason, .. } => ("endpoint disable", Some(reason)),
            EndpointOrder::Enable { reason, .. } => ("endpoint enable", reason.as_ref()),
            EndpointOrder::Require { reason, .. } => ("endpoint require", Some(reason)),
            EndpointOrder::Shrink { reason, .. } => ("endpoint shrink", Some(reason)),
            EndpointOrder::Tighten { reason, .. } => ("endpoint tighten", Some(reason)),
            EndpointOrder::Relax { reason, .. } => ("endpoint relax", reason.as_ref()),
        };
        reason.map_or(Ok(()), |reason| checked(reason))?;
        let (policy, now) = (self.policies.current(), self.clock.now().wall);
        if matches!(order, EndpointOrder::List) {
            return Ok(Answer::Endpoints(self.endpoints.list(&policy)));
        }
        let arguments = arguments(&order);
        let reason = reason.cloned();
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
        // Of a decision that was carried out, whoever approved it, the decision tells.
        if let (Ok(_), Some(reason), Some(_)) = (&done, reason, peer.pid) {
            self.tell_of_incident(verb, &reason, by).await;
        }
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

    /// Those that let somebody ask for less, and that `is_meant`.
    pub(super) fn less(
        &self,
        policy: &Policy,
        is_meant: impl Fn(&Scope) -> bool,
    ) -> Vec<EndpointRow> {
        let own = self.held.iter().filter(|held| match held.measure {
            EndpointMeasure::Shrunk { .. } | EndpointMeasure::Tightened { .. } => {
                is_meant(&held.rule.scope)
            }
            EndpointMeasure::Disabled { .. } | EndpointMeasure::Required { .. } => false,
        });
        own.map(|held| held.row(policy)).collect()
    }

    /// How many are disabled.
    pub(super) fn disabled(&self) -> u64 {
        self.count(|verb| verb == Verb::Disable)
    }

    /// How many are tightened, whichever way.
    pub(super) fn tightened(&self) -> u64 {
        self.count(|verb| verb != Verb::Disable)
    }

    fn count(&self, is_meant: impl Fn(Verb) -> bool) -> u64 {
        let count = self.held.iter().filter(|held| is_meant(held.verb())).count();
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
            EndpointOrder::Disable { endpoint, status, ttl_seconds, cut: _, reason, decision } => {
                let endpoint = known(&endpoint, policy)?;
                refuse_callers(&endpoint, "disabled")?;
                let answer = refusing(status)?;
                let kept = EndpointMeasure::Disabled { status };
                let until = until(ttl_seconds, now);
                let new = New { endpoint, kept, until, reason, decision };
                self.put(Verb::Disable, new, |_| answer, by, policy, now)?
            }
            EndpointOrder::Require { endpoint, what, ttl_seconds, reason, decision } => {
                let endpoint = known(&endpoint, policy)?;
                let what = if what.is_empty() { stronger(&endpoint, policy)? } else { what };
                let measure = requiring(&what)?;
                refuse_impossible(&endpoint, &what, &measure, policy)?;
                let kept = EndpointMeasure::Required { what };
                let until = until(ttl_seconds, now);
                let new = New { endpoint, kept, until, reason, decision };
                self.put(Verb::Require, new, |_| measure, by, policy, now)?
            }
            EndpointOrder::Shrink { endpoint, percent, ttl_seconds, reason, decision } => {
                let endpoint = known(&endpoint, policy)?;
                refuse_unlimited(&endpoint, policy)?;
                let measure = shrinking(percent)?;
                let kept = EndpointMeasure::Shrunk { percent };
                let until = until(ttl_seconds, now);
                let new = New { endpoint, kept, until, reason, decision };
                self.put(Verb::Shrink, new, |_| measure, by, policy, now)?
            }
            EndpointOrder::Tighten { endpoint, rate, burst, by: whose, ttl_seconds, reason } => {
                let endpoint = known(&endpoint, policy)?;
                refuse_callers(&endpoint, "given a rate")?;
                let (kind, burst) = numbers(&rate, burst)?;
                let kept = EndpointMeasure::Tightened { rate, burst, by: whose };
                let until = until(ttl_seconds, now);
                let new = New { endpoint, kept, until, reason, decision: None };
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
        let New { endpoint, kept, until, reason, decision } = new;
        let same = |held: &Held| {
            held.verb() == verb && held.decision == decision && held.rule.scope.is_same(&endpoint)
        };
        let place = self.held.iter().position(same);
        let before = place.and_then(|place| self.held.get(place)).map(|held| held.row(policy));
        let rule = match place.and_then(|place| self.held.get(place)) {
            Some(known) => known.rule.changed(measure(&known.rule.id), until),
            None if self.is_full_for(&endpoint, by) => return Err(full(&endpoint)),
            None => {
                let id: Arc<str> = format!("EP-{}", self.next).into();
                self.next = self.next.saturating_add(1);
                EndpointRule::new(Arc::clone(&id), endpoint, measure(&id), until)
            }
        };
        let (rule, author) = (Arc::new(rule), by.clone());
        let held = Held { rule, measure: kept, since: now, author, reason, decision };
        let rule = held.row(policy);
        match place.and_then(|place| self.held.get_mut(place)) {
            Some(place) => *place = held,
            None => self.held.push(held),
        }
        let what = match verb {
            Verb::Disable => EndpointEvent::Disabled,
            Verb::Require | Verb::Shrink | Verb::Tighten => EndpointEvent::Tightened,
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
        let scope: Option<Scope> = which.parse().ok();
        let is_meant = |held: &&Held| {
            held.rule.id.eq_ignore_ascii_case(which)
                || scope.as_ref().is_some_and(|one| held.rule.scope.is_same(one))
        };
        let found = self.held.iter().filter(is_meant);
        // What is not disabled is tightened in some way, and relaxed.
        let fits = |held: &Held| (held.verb() == Verb::Disable) == (verb == Verb::Disable);
        // By its endpoint an operator's own first.
        let found =
            found.map(|held| (fits(held), held.decision.is_none(), Arc::clone(&held.rule.id)));
        let id = match found.max_by_key(|(fits, is_own, _)| (*fits, *is_own)) {
            Some((true, _, id)) => id,
            Some((false, _, id)) => return Err(other_kind(verb, &id)),
            None => return Err(self.unknown(verb, which)),
        };
        let place = self.held.iter().position(|held| held.rule.id == id);
        let held = place.map(|place| self.held.remove(place));
        let held = held.ok_or_else(|| self.unknown(verb, which))?;
        let what = match verb {
            Verb::Disable => EndpointEvent::Enabled,
            Verb::Require | Verb::Shrink | Verb::Tighten => EndpointEvent::Relaxed,
        };
        let rule = held.row(policy);
        Ok(Done { what, before: Some(rule.clone()), rule, author: by.clone(), reason })
    }

    fn unknown(&self, verb: Verb, which: &str) -> Refusal {
        let what = match verb {
            Verb::Disable => "disabled",
            Verb::Require | Verb::Shrink | Verb::Tighten => "tightened",
        };
        let mine: Vec<(String, String)> = self
            .held
            .iter()
            .filter(|held| (held.verb() == Verb::Disable) == (verb == Verb::Disable))
            .map(|held| (held.rule.id.to_string(), held.rule.scope.to_string()))
            .collect();
        let names = mine.iter().flat_map(|(id, endpoint)| [id.as_str(), endpoint.as_str()]);
        let hint = match nearest(which, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`enforcer endpoint list` tells what is".to_owned(),
        };
        Refusal::new(RefusalKind::NotFound, format!("no endpoint `{which}` is {what}")).hint(hint)
    }

    /// Whether there is no room for one more about such a scope. Rules leave a quarter of it to people.
    fn is_full_for(&self, scope: &Scope, by: &Author) -> bool {
        let is_caller = |scope: &Scope| matches!(scope, Scope::Caller(_) | Scope::Source(_));
        let alike = |held: &&Held| is_caller(&held.rule.scope) == is_caller(scope);
        let most = if is_caller(scope) { CALLERS_MAX } else { ENDPOINTS_MAX };
        let most = if matches!(by, Author::Rule(_)) { most / 4 * 3 } else { most };
        self.held.iter().filter(alike).count() >= most
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
    endpoint: Scope,
    kept: EndpointMeasure,
    until: Expiry,
    reason: String,
    decision: Option<DecisionId>,
}

impl Held {
    const fn verb(&self) -> Verb {
        match self.measure {
            EndpointMeasure::Disabled { .. } => Verb::Disable,
            EndpointMeasure::Required { .. } => Verb::Require,
            EndpointMeasure::Shrunk { .. } => Verb::Shrink,
            EndpointMeasure::Tightened { .. } => Verb::Tighten,
        }
    }

    fn row(&self, policy: &Policy) -> EndpointRow {
        let routes = self.rule.scope.routes(policy);
        self.row_with(routes.into_iter().map(str::to_owned).collect())
    }

    fn row_with(&self, routes: Vec<String>) -> EndpointRow {
        EndpointRow {
            id: self.rule.id.to_string(),
            endpoint: self.rule.scope.to_string(),
            measure: self.measure.clone(),
            since: self.since,
            until: self.rule.until,
            author: self.author.clone(),
            reason: self.reason.clone(),
            decision: self.decision,
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
        EndpointOrder::Disable { endpoint, status, ttl_seconds, cut, reason, decision: _ } => {
            let mut arguments = vec![endpoint.clone(), format!("status {status}")];
            arguments.extend([lasting(*ttl_seconds), reason.clone()]);
            arguments.extend(cut.then(|| "cut".to_owned()));
            arguments
        }
        EndpointOrder::Require { endpoint, what, ttl_seconds, reason, decision: _ } => {
            let what = if what.is_empty() { "stronger".to_owned() } else { what.join(", ") };
            vec![endpoint.clone(), what, lasting(*ttl_seconds), reason.clone()]
        }
        EndpointOrder::Shrink { endpoint, percent, ttl_seconds, reason, decision: _ } => {
            vec![endpoint.clone(), format!("{percent} %"), lasting(*ttl_seconds), reason.clone()]
        }
        EndpointOrder::Tighten { endpoint, rate, burst, by, ttl_seconds, reason } => {
            let mut arguments = vec![endpoint.clone(), rate.clone()];
            arguments.extend(burst.map(|burst| format!("burst {burst}")));
            arguments.extend([format!("by {by}"), lasting(*ttl_seconds), reason.clone()]);
            arguments
        }
    }
}

fn until(ttl_seconds: Option<u64>, now: Timestamp) -> Expiry {
    ttl_seconds
        .map_or(Expiry::Never, |ttl| Expiry::At(now.saturating_add(Duration::from_secs(ttl))))
}

fn full(scope: &Scope) -> Refusal {
    let message = match scope {
        Scope::Endpoint(_) | Scope::Route(_) => {
            format!(
                "{ENDPOINTS_MAX} endpoints are disabled or tightened already, or rules have their share of that"
            )
        }
        Scope::Caller(_) | Scope::Source(_) => {
            format!(
                "the limits of {CALLERS_MAX} callers have shrunk already, or rules have their share of that"
            )
        }
    };
    Refusal::new(RefusalKind::Guarded, message)
        .hint("end some of them (`enforcer endpoint list`), or join them with `{**}`")
}

fn other_kind(verb: Verb, id: &str) -> Refusal {
    let (is, command) = match verb {
        Verb::Disable => ("tightened, not disabled", "relax"),
        Verb::Require | Verb::Shrink | Verb::Tighten => ("disabled, not tightened", "enable"),
    };
    Refusal::new(RefusalKind::NotFound, format!("the endpoint of {id} is {is}"))
        .hint(format!("`enforcer endpoint {command} {id}` ends that"))
}

#[cfg(test)]
mod tests;
