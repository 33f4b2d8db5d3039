//! Upstreams as operators see and order them, by the one writer of `upstreams.json`.
//!
//! The fleet carries orders out; here is who gave them, why, until when, and that they hold over
//! reloads and restarts: they are given again before the first request is served, with every reload
//! before its policy is in force, and whenever a name leads to another address. The last host that is
//! well is only taken out by force. What happens to upstreams by itself is told by [`mod@tell`].

mod file;
mod orders;
mod rows;
mod tell;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use enforcer_admin::call::{
    HostOrder, HostRow, HostState, HostWish, UpstreamChanged, UpstreamOrder, UpstreamRow, Upstreams,
};
use enforcer_admin::{Answer, Peer, Refusal, RefusalKind};
use enforcer_audit::{Audit, Record, Ticket, UpstreamChange, UpstreamEvent};
use enforcer_model::{Author, DecisionId, Expiry, Moment};
use enforcer_notify::{Kind, Notice, Severity};
use enforcer_proxy::Cut;
use enforcer_upstream::{Fleet, UpstreamView};
use tracing::{error, info};

use super::near::nearest;
use super::{Desk, checked};

pub(crate) use file::OpenError;
pub(crate) use orders::HostOrders;
pub(crate) use tell::{Causes, tell};

use rows::{row, state_of, wish_of};

/// Decisions about hosts that can hold at once; one more is refused to the operator.
pub(crate) const ORDERS_MAX: usize = 1_024;

/// The owner of what operators have decided about hosts.
pub(crate) struct UpstreamDesk {
    file: PathBuf,
    fleet: Arc<Fleet>,
    orders: Arc<HostOrders>,
    causes: Arc<Causes>,
    audit: Audit,
}

/// What an operator asks for.
struct Change {
    target: String,
    wish: HostWish,
    until: Expiry,
    reason: Option<String>,
    force: bool,
    decision: Option<DecisionId>,
}

/// A host, how it was, and how many requests it had under way.
type Was = (String, HostState, u64);

impl Desk {
    /// Tells how upstreams do, or does what was ordered and puts it on record.
    pub(super) async fn order_upstream(
        &mut self,
        order: UpstreamOrder,
        peer: Peer,
        by: &Author,
    ) -> Result<Answer, Refusal> {
        let now = self.clock.now();
        let (target, wish, ttl_seconds, reason, force, decision) = match order {
            UpstreamOrder::List { upstream } => {
                return self.upstreams.list(upstream.as_deref(), now);
            }
            UpstreamOrder::Change { target, wish, ttl_seconds, reason, force, decision } => {
                (target, wish, ttl_seconds, reason, force, decision)
            }
        };
        reason.as_deref().map_or(Ok(()), checked)?;
        if wish == HostWish::Isolate && reason.is_none() {
            return Err(Refusal::new(RefusalKind::Usage, "an isolation needs a reason")
                .hint("say with `--reason` in a few words why requests are cut"));
        }
        let verb = format!("upstream {}", wish.as_str());
        let mut arguments = vec![target.clone()];
        arguments.extend(ttl_seconds.map(|seconds| format!("for {seconds} s")));
        arguments.extend(reason.clone());
        arguments.extend(force.then(|| "force".to_owned()));
        let until = ttl_seconds.map_or(Expiry::Never, |ttl| {
            Expiry::At(now.wall.saturating_add(Duration::from_secs(ttl)))
        });
        let change = Change { target, wish, until, reason, force, decision };
        let done = self.upstreams.change(change, by, now);
        if let Ok((Answer::UpstreamChanged(changed), _)) = &done
            && changed.wish == HostWish::Isolate
        {
            let (upstream, _) = changed.target.split_once('/').unwrap_or((&changed.target, ""));
            for row in &changed.hosts {
                // A predecessor that still finishes requests may have some there.
                let cut = Cut::Host { upstream: upstream.into(), host: row.name.as_str().into() };
                self.tokens.connections.tell(cut);
            }
            // Of a decision that was carried out, whoever approved it, the decision tells.
            if peer.pid.is_some() {
                self.notifier.tell(isolated(changed, by, now));
            }
        }
        self.clerk.recorded(&verb, arguments, by, done).await
    }
}

fn isolated(changed: &UpstreamChanged, by: &Author, now: Moment) -> Notice {
    let title = format!("{} gets nothing more: isolated by {by}", changed.target);
    let mut notice = Notice::new(Kind::UpstreamIsolated, Severity::Error, now.wall, &title)
        .with_text(&format!("undo: `enforcer upstream restore {}`", changed.target))
        .with_about(format!("upstream:{}", changed.target))
        .with_fact("cut", changed.cut);
    if let Author::Operator { name, .. } = by {
        notice = notice.by_operator(name);
    }
    if let Some(until) = changed.until {
        notice = notice.with_fact("until", until);
    }
    notice
}

impl UpstreamDesk {
    /// Takes up what held when the last agent ended; to be asked before the first request is served,
    /// and after the fleet knows its upstreams.
    pub(crate) fn open(
        file: PathBuf,
        fleet: Arc<Fleet>,
        causes: Arc<Causes>,
        audit: Audit,
        now: Moment,
    ) -> Result<Self, OpenError> {
        let orders = Arc::new(HostOrders::new(file::read(&file)?));
        let mut desk = Self { file, fleet, orders, causes, audit };
        desk.tick(now);
        Ok(desk)
    }

    /// What has to be given again whenever the fleet gets other plans.
    pub(crate) fn orders(&self) -> Arc<HostOrders> {
        Arc::clone(&self.orders)
    }

    /// Every upstream, for `status`.
    pub(super) fn rows(&self, now: Moment) -> Vec<UpstreamRow> {
        let held = self.orders.all();
        let views = self.fleet.view(now.monotonic);
        views.iter().map(|view| row(view, &held, &self.causes)).collect()
    }

    fn list(&self, upstream: Option<&str>, now: Moment) -> Result<Answer, Refusal> {
        let all = self.rows(now);
        let mut waiting = self.orders.all();
        waiting.retain(|order| {
            let own = all.iter().filter(|row| row.name == order.upstream);
            !own.flat_map(|row| &row.hosts)
                .any(|host| host.name == order.host || host.address.as_ref() == Some(&order.host))
        });
        let Some(name) = upstream else {
            return Ok(Answer::Upstreams(Box::new(Upstreams { upstreams: all, waiting })));
        };
        let names: Vec<String> = all.iter().map(|row| row.name.clone()).collect();
        let upstreams: Vec<_> = all.into_iter().filter(|row| row.name == name).collect();
        if upstreams.is_empty() {
            let known = names.iter().map(String::as_str);
            return Err(unknown(format!("no upstream is called `{name}`"), name, known));
        }
        waiting.retain(|order| order.upstream == name);
        Ok(Answer::Upstreams(Box::new(Upstreams { upstreams, waiting })))
    }

    /// Carries out what was asked for; the ticket is that of the last host's record.
    fn change(
        &mut self,
        change: Change,
        by: &Author,
        now: Moment,
    ) -> Result<(Answer, Option<Ticket>), Refusal> {
        let Change { target, wish, until, reason, force, decision } = change;
        let views = self.fleet.view(now.monotonic);
        let (view, hosts) = find(&views, &target)?;
        let mut before = Vec::new();
        for &host in &hosts {
            let is = view.hosts.iter().filter(|one| is_host(one, host));
            let states: Vec<_> = is.map(|one| (state_of(&one.state), one.in_flight)).collect();
            let state = states.iter().map(|(state, _)| *state).min_by_key(|state| state.is_well());
            let in_flight = states.iter().map(|(_, in_flight)| in_flight).sum::<u64>();
            before.push((host.to_owned(), state.unwrap_or(HostState::Unresolved), in_flight));
        }
        self.refuse_nothing_to_end(&view.name, &before, wish, &target)?;
        if !wish.takes_out() && decision.is_some() {
            self.refuse_anothers(&view.name, &before, decision, &target)?;
        }
        let upstream = view.name.to_string();
        let standing = |host: &str| self.orders.of(&upstream, host);
        let stands =
            |host: &str| standing(host).is_some_and(|order| order.outlasts(wish, until, decision));
        if decision.is_some() && wish.takes_out() && before.iter().all(|(host, ..)| stands(host)) {
            return Ok((self.unchanged(target, wish, &before, &upstream, now), None));
        }
        if wish.takes_out() && !force {
            refuse_last(view, &hosts, &target)?;
        }
        let mut back = Vec::new();
        if wish.takes_out() {
            let orders = before.iter().map(|(host, ..)| HostOrder {
                upstream: upstream.clone(),
                host: host.clone(),
                wish,
                since: now.wall,
                until,
                author: by.clone(),
                reason: reason.clone(),
                decision,
                // An operator has the last word: it stands in no earlier one's place for a while.
                before: decision.and_then(|_| orders::below(standing(host)?, decision)),
            });
            self.orders.put(&orders.collect::<Vec<_>>()).map_err(|full| {
                Refusal::new(RefusalKind::Guarded, full.to_string())
                    .hint("put some hosts back first; `enforcer upstream list` tells which")
            })?;
        } else {
            let hosts: Vec<_> = before.iter().map(|(host, ..)| host.as_str()).collect();
            back = self.orders.end(&upstream, &hosts, decision, now.wall);
        }
        for (host, ..) in &before {
            let wish = back.iter().find(|order| order.host == *host).map_or(wish, |one| one.wish);
            // The hosts were found a moment ago; one that has gone meanwhile gets no requests.
            drop(self.fleet.order(&upstream, Some(host), wish_of(wish), now.monotonic));
        }
        let not_stored = self.keep();
        let after = self.meant(&upstream, &before, now);
        let cut = if wish == HostWish::Isolate { before.iter().map(|one| one.2).sum() } else { 0 };
        let mut ticket = None;
        for (host, state, in_flight) in &before {
            let is =
                after.iter().find(|row| row.name == *host || row.address.as_ref() == Some(host));
            let change = UpstreamChange {
                what: event(wish),
                upstream: upstream.clone(),
                host: Some(host.clone()),
                before: Some(state.as_str().to_owned()),
                after: is.map(|row| row.state.as_str().to_owned()),
                until: wish.takes_out().then_some(until),
                in_flight: *in_flight,
                cut: if wish == HostWish::Isolate { *in_flight } else { 0 },
                author: by.clone(),
                reason: reason.clone(),
                cause: None,
            };
            ticket = self.note(change).or(ticket);
        }
        let changed = UpstreamChanged {
            target,
            wish,
            before: states(&after, &before),
            hosts: after,
            cut,
            until: wish.takes_out().then_some(until),
            stood: false,
            not_stored,
            audit: None,
        };
        Ok((Answer::UpstreamChanged(Box::new(changed)), ticket))
    }

    /// The answer where somebody has decided the same before, for as long.
    fn unchanged(
        &self,
        target: String,
        wish: HostWish,
        before: &[Was],
        upstream: &str,
        now: Moment,
    ) -> Answer {
        let hosts = self.meant(upstream, before, now);
        let until = before.iter().find_map(|(host, ..)| self.orders.of(upstream, host));
        Answer::UpstreamChanged(Box::new(UpstreamChanged {
            target,
            wish,
            before: states(&hosts, before),
            hosts,
            cut: 0,
            until: until.map(|order| order.until),
            stood: true,
            not_stored: None,
            audit: None,
        }))
    }

    /// How the hosts are now that were so `before`.
    fn meant(&self, upstream: &str, before: &[Was], now: Moment) -> Vec<HostRow> {
        let is_meant = |name: &str, address: Option<&str>| {
            before.iter().any(|(host, ..)| host == name || Some(host.as_str()) == address)
        };
        let all = self.rows(now).into_iter().filter(|row| row.name == upstream);
        let hosts = all.flat_map(|row| row.hosts);
        hosts.filter(|row| is_meant(&row.name, row.address.as_deref())).collect()
    }

    /// A decision that is over takes back its own deed and nobody else's.
    fn refuse_anothers(
        &self,
        upstream: &str,
        before: &[Was],
        decision: Option<DecisionId>,
        target: &str,
    ) -> Result<(), Refusal> {
        let is_own = |host: &str| {
            self.orders.of(upstream, host).is_some_and(|order| order.decision == decision)
        };
        if before.iter().any(|(host, ..)| is_own(host)) {
            return Ok(());
        }
        let message = format!("somebody else has decided about `{target}` in the meantime");
        Err(Refusal::new(RefusalKind::NotFound, message))
    }

    /// Ends what is over, and gives again what does not hold.
    pub(crate) fn tick(&mut self, now: Moment) {
        let over = self.orders.take_over(now.wall);
        for order in &over {
            let held = self.orders.of(&order.upstream, &order.host).map(|held| held.wish);
            let end =
                if order.wish == HostWish::Isolate { HostWish::Restore } else { HostWish::Undrain };
            let back = held.unwrap_or(end);
            let done =
                self.fleet.order(&order.upstream, Some(&order.host), wish_of(back), now.monotonic);
            let change = UpstreamChange {
                what: event(end),
                upstream: order.upstream.clone(),
                host: Some(order.host.clone()),
                before: Some(order.wish.as_str().to_owned()),
                after: held.map(|wish| wish.as_str().to_owned()),
                until: None,
                in_flight: 0,
                cut: 0,
                author: Author::Agent,
                reason: order.reason.clone(),
                cause: Some(match done {
                    Ok(_) => "its time is over".to_owned(),
                    Err(gone) => format!("its time is over; {gone}"),
                }),
            };
            drop(self.note(change));
        }
        if !over.is_empty() {
            drop(self.keep());
        }
        self.orders.enforce(&self.fleet, now.monotonic);
    }

    /// The end of what does not hold is a slip of the hand.
    fn refuse_nothing_to_end(
        &self,
        upstream: &str,
        before: &[Was],
        wish: HostWish,
        target: &str,
    ) -> Result<(), Refusal> {
        let ends = |host: &str, state: HostState| match wish {
            HostWish::Drain | HostWish::Isolate => true,
            HostWish::Undrain => state == HostState::Draining,
            HostWish::Restore => {
                matches!(state, HostState::Draining | HostState::Isolated)
                    || self.orders.of(upstream, host).is_some()
            }
        };
        if before.iter().any(|(host, state, _)| ends(host, *state)) {
            return Ok(());
        }
        let isolated = before.iter().any(|(_, state, _)| *state == HostState::Isolated);
        let (message, hint) = match wish {
            HostWish::Undrain if isolated => (
                format!("`{target}` is isolated, not drained"),
                format!("`enforcer upstream restore {target}` ends that"),
            ),
            HostWish::Drain | HostWish::Undrain | HostWish::Isolate | HostWish::Restore => (
                format!("nobody has taken `{target}` out"),
                "`enforcer upstream list` tells how every host is".to_owned(),
            ),
        };
        Err(Refusal::new(RefusalKind::NotFound, message).hint(hint))
    }

    /// Why a restart would forget, if it would.
    fn keep(&self) -> Option<String> {
        let written = file::write(&self.file, self.orders.all());
        written.err().map(|error| {
            error!(%error, "what is decided about hosts is in force, but not on disk");
            error.to_string()
        })
    }

    fn note(&self, change: UpstreamChange) -> Option<Ticket> {
        info!(
            upstream = change.upstream,
            host = change.host,
            before = change.before,
            after = change.after,
            by = %change.author,
            "upstream"
        );
        self.audit.reserve().ok().map(|slot| slot.write(Record::Upstream(Box::new(change))))
    }
}

/// The upstream that is meant, and those of its hosts: as the policy writes them, or one address.
fn find<'v>(
    views: &'v [UpstreamView],
    target: &'v str,
) -> Result<(&'v UpstreamView, Vec<&'v str>), Refusal> {
    let (upstream, host) = match target.split_once('/') {
        Some((upstream, host)) => (upstream, Some(host)),
        None => (target, None),
    };
    let view = views.iter().find(|view| *view.name == *upstream).ok_or_else(|| {
        let message = format!("no upstream is called `{upstream}`");
        unknown(message, upstream, views.iter().map(|view| &*view.name))
    })?;
    let mut all: Vec<&str> = Vec::new();
    for host in &view.hosts {
        if !all.contains(&&*host.name) {
            all.push(&host.name);
        }
    }
    match host {
        None => Ok((view, all)),
        Some(host) if view.hosts.iter().any(|one| is_host(one, host)) => Ok((view, vec![host])),
        Some(host) => {
            let addresses = view.hosts.iter().filter_map(|one| one.address.as_deref());
            let known = all.into_iter().chain(addresses);
            Err(unknown(format!("upstream `{upstream}` has no host `{host}`"), host, known))
        }
    }
}

fn is_host(view: &enforcer_upstream::HostView, host: &str) -> bool {
    *view.name == *host || view.address.as_deref() == Some(host)
}

/// How each of the hosts that are meant was.
fn states(hosts: &[HostRow], before: &[Was]) -> Vec<HostState> {
    let was = |row: &HostRow| {
        before.iter().find(|(host, ..)| *host == row.name || row.address.as_ref() == Some(host))
    };
    hosts.iter().map(|row| was(row).map_or(row.state, |(_, state, _)| *state)).collect()
}

/// Nobody takes out the last host that is well without saying so.
fn refuse_last(view: &UpstreamView, hosts: &[&str], target: &str) -> Result<(), Refusal> {
    let well = |host: &&enforcer_upstream::HostView| state_of(&host.state).is_well();
    let is_meant = |host: &enforcer_upstream::HostView| hosts.iter().any(|one| is_host(host, one));
    let (meant, others): (Vec<_>, Vec<_>) =
        view.hosts.iter().filter(well).partition(|host| is_meant(host));
    if meant.is_empty() || !others.is_empty() {
        return Ok(());
    }
    let sick = view.hosts.iter().filter(|host| !is_meant(host)).map(|host| {
        let (state, cause) = (state_of(&host.state), rows::cause_of(&host.state));
        let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
        format!("{} is {}{cause}", host.name, state.as_str())
    });
    let message = format!("without `{target}`, upstream `{}` has no host that is well", view.name);
    Err(Refusal::new(RefusalKind::Guarded, message)
        .details(sick.collect())
        .hint("bring another one back first, or say `--force`: every request would be refused"))
}

fn unknown<'a>(
    message: String,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Refusal {
    let hint = match nearest(name, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let all: Vec<_> = known.take(16).collect();
            if all.is_empty() {
                "the policy has none".to_owned()
            } else {
                format!("it has: {}", all.join(", "))
            }
        }
    };
    Refusal::new(RefusalKind::NotFound, message).hint(hint)
}

const fn event(wish: HostWish) -> UpstreamEvent {
    match wish {
        HostWish::Drain => UpstreamEvent::Drained,
        HostWish::Undrain => UpstreamEvent::Undrained,
        HostWish::Isolate => UpstreamEvent::Isolated,
        HostWish::Restore => UpstreamEvent::Restored,
    }
}

#[cfg(test)]
mod tests;
