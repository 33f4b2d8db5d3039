//! What the desk does for a rule: the calls of an operator, with the rule as their author.

use enforcer_admin::call::{
    EndpointChanged, EndpointOrder, HostWish, IncidentLevel, UpstreamOrder, UpstreamRow, Which,
};
use enforcer_admin::{Answer, Call, Incoming, Peer, Refusal, RefusalKind};
use enforcer_detect::{Action, Entity};
use enforcer_model::{Author, Expiry, Source, Target};
use tokio::sync::oneshot;

use super::{Acted, Actor, Deed, Undo, stopping};

/// What a disabled route answers: come back later.
const DISABLED: u16 = 503;

impl Actor {
    pub(super) async fn ask_for(&self, deed: &Deed) -> Result<Acted, String> {
        // A part of a second is a second: nothing ends before its decision does.
        let begun = u64::from(deed.ttl.subsec_nanos() > 0);
        let ttl_seconds = Some(deed.ttl.as_secs().saturating_add(begun).max(1));
        let reason = deed.told();
        let decision = deed.decision.parse().ok();
        match deed.action {
            Action::DisableRoute => {
                let endpoint = route(deed)?;
                let order = EndpointOrder::Disable {
                    endpoint,
                    status: DISABLED,
                    ttl_seconds,
                    cut: false,
                    reason,
                    decision,
                };
                self.order_endpoint(deed, order).await
            }
            Action::RequireStronger => {
                let endpoint = route(deed)?;
                let what = Vec::new();
                let order =
                    EndpointOrder::Require { endpoint, what, ttl_seconds, reason, decision };
                self.order_endpoint(deed, order).await
            }
            Action::Tighten(percent) => {
                let endpoint = payer(deed)?;
                let order =
                    EndpointOrder::Shrink { endpoint, percent, ttl_seconds, reason, decision };
                self.order_endpoint(deed, order).await
            }
            Action::RaiseLevel(level) => {
                let set = Some(IncidentLevel { level, ttl_seconds, reason });
                // Whoever decided, it adds to what people have set by hand, and ends as a rule's does.
                let author = Author::Rule(deed.rule.to_string());
                let answer = self.call(Call::Incident { set }, author).await?;
                let Answer::Incident(status) = answer else { return Err(mismatched()) };
                Ok(Acted {
                    what: format!("incident level {} ({level} asked for)", status.level),
                    until: Some(Expiry::At(self.clock.now().wall.saturating_add(deed.ttl))),
                    ..acted(Undo::Lower(deed.rule.to_string()))
                })
            }
            Action::IsolateUpstream => self.isolate(deed, ttl_seconds, reason).await,
            Action::DenyCredential
            | Action::DenyFingerprint
            | Action::DenyIdentity
            | Action::DenySource
            | Action::Drop
            | Action::Notify => Err(mismatched()),
        }
    }

    /// Takes the host out of every upstream that asks it; none is left without one that is well.
    async fn isolate(
        &self,
        deed: &Deed,
        ttl_seconds: Option<u64>,
        reason: String,
    ) -> Result<Acted, String> {
        let ((Entity::Upstream(host), _) | (_, Some(host))) = (&deed.about, &deed.scene.upstream)
        else {
            return Err(format!("{}: no host is known", deed.action));
        };
        let list = UpstreamOrder::List { upstream: None };
        let Answer::Upstreams(all) =
            self.call(Call::Upstream { order: list }, deed.author.clone()).await?
        else {
            return Err(mismatched());
        };
        let asking = all.upstreams.iter().filter(|row| asks(row, host));
        let targets: Vec<_> = asking.map(|row| format!("{}/{host}", row.name)).collect();
        if targets.is_empty() {
            return Err(format!("no upstream of the policy in force has the host {host}"));
        }
        let decision = deed.decision.parse().ok();
        let (mut done, mut undo, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        let mut until = None;
        for target in targets {
            let order = UpstreamOrder::Change {
                target: target.clone(),
                wish: HostWish::Isolate,
                ttl_seconds,
                reason: Some(reason.clone()),
                force: false,
                decision,
            };
            match self.call(Call::Upstream { order }, deed.author.clone()).await {
                Ok(Answer::UpstreamChanged(changed)) if changed.stood => {
                    done.push(format!("{target} (as somebody decided before)"));
                }
                Ok(Answer::UpstreamChanged(changed)) => {
                    until = changed.until.or(until);
                    let why = changed.not_stored.map(|why| format!("{target} not on disk: {why}"));
                    problems.extend(why);
                    undo.push(Undo::Restore { target: target.clone(), decision });
                    done.push(target);
                }
                Ok(_) => return Err(mismatched()),
                Err(why) => problems.push(format!("{target} goes on: {why}")),
            }
        }
        if done.is_empty() {
            return Err(problems.join("; "));
        }
        let span = crate::cli::span(deed.ttl);
        let what = format!("{} gets no requests for {span}", done.join(" and "));
        let undo = match undo.len() {
            0 => Undo::Nothing,
            1 => undo.pop().unwrap_or(Undo::Nothing),
            _ => Undo::All(undo),
        };
        Ok(Acted { what, until, problems, ..acted(undo) })
    }

    async fn order_endpoint(&self, deed: &Deed, order: EndpointOrder) -> Result<Acted, String> {
        let is_disabled = matches!(order, EndpointOrder::Disable { .. });
        let answer = self.call(Call::Endpoint { order }, deed.author.clone()).await?;
        let Answer::EndpointChanged(changed) = answer else { return Err(mismatched()) };
        let EndpointChanged { rule, before, applied, not_stored, .. } = *changed;
        if !applied {
            return Err(format!(
                "{} of {} is not in force, read back",
                rule.measure, rule.endpoint
            ));
        }
        let span = crate::cli::span(deed.ttl);
        let mut what = format!("{}: {} for {span} ({})", rule.endpoint, rule.measure, rule.id);
        if let Some(before) = before {
            what.push_str(&format!(", {} until then", before.measure));
        }
        let problems = not_stored.map(|why| format!("not on disk: {why}")).into_iter().collect();
        let undo = if is_disabled { Undo::Enable(rule.id) } else { Undo::Relax(rule.id) };
        Ok(Acted { what, until: Some(rule.until), problems, ..acted(undo) })
    }

    /// Takes an effect back before its time; what was done, in words.
    pub(crate) async fn undo(
        &self,
        undo: &Undo,
        reason: &str,
        by: &Author,
    ) -> Result<String, String> {
        let why = reason.to_owned();
        let reason = Some(reason.to_owned());
        let (call, done) = match undo {
            Undo::Nothing => return Ok("there was nothing to take back".to_owned()),
            Undo::All(all) => {
                let mut done = Vec::new();
                for one in all {
                    done.push(Box::pin(self.undo(one, &why, by)).await?);
                }
                return Ok(done.join("; "));
            }
            Undo::Release(id) => {
                (Call::Release { what: Which::Id(*id), reason }, format!("{id} is released"))
            }
            Undo::Enable(id) => {
                let order = EndpointOrder::Enable { which: id.clone(), reason };
                (Call::Endpoint { order }, format!("{id} is enabled"))
            }
            Undo::Relax(id) => {
                let order = EndpointOrder::Relax { which: id.clone(), reason };
                (Call::Endpoint { order }, format!("{id} is relaxed"))
            }
            Undo::Lower(rule) => {
                // Only what this rule has raised; what people have set stays.
                let set = Some(IncidentLevel { level: 0, ttl_seconds: None, reason: why });
                self.call(Call::Incident { set }, Author::Rule(rule.clone())).await?;
                return Ok(format!("what rule {rule} has raised no longer counts"));
            }
            Undo::Restore { target, decision } => {
                let order = UpstreamOrder::Change {
                    target: target.clone(),
                    wish: HostWish::Restore,
                    ttl_seconds: None,
                    reason,
                    force: false,
                    decision: *decision,
                };
                (Call::Upstream { order }, format!("{target} is asked again"))
            }
        };
        match self.asked(call, by.clone()).await {
            Ok(_) => Ok(done),
            // Every effect ends by itself at its time, which may have been a moment ago.
            Err(refusal) if refusal.kind == RefusalKind::NotFound => {
                Ok(format!("ended by itself: {}", refusal.message))
            }
            Err(refusal) => Err(told(&refusal)),
        }
    }

    async fn call(&self, call: Call, author: Author) -> Result<Answer, String> {
        self.asked(call, author).await.map_err(|refusal| told(&refusal))
    }

    async fn asked(&self, call: Call, author: Author) -> Result<Answer, Refusal> {
        let stopping = || Refusal::new(RefusalKind::Failed, stopping());
        let (reply, answer) = oneshot::channel();
        let peer = Peer {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            pid: None,
        };
        let incoming = Incoming { call, peer, author: Some(author), reply };
        let calls = self.calls.upgrade().ok_or_else(stopping)?;
        calls.send(incoming).await.map_err(|_gone| stopping())?;
        drop(calls);
        answer.await.map_err(|_gone| stopping())?
    }
}

fn acted(undo: Undo) -> Acted {
    Acted { what: String::new(), undo, until: None, layers: vec!["layer 7"], problems: Vec::new() }
}

fn asks(row: &UpstreamRow, host: &str) -> bool {
    row.hosts.iter().any(|one| one.name == host || one.address.as_deref() == Some(host))
}

/// The route that a finding is about, or that its last request was on.
fn route(deed: &Deed) -> Result<String, String> {
    match (&deed.about, &deed.scene.route) {
        (Entity::Route(route), _) | (_, Some(route)) => Ok(format!("route:{route}")),
        (_, None) => Err(format!("{} of {}: no route is known", deed.action, deed.about)),
    }
}

/// Whose limits shrink: those of the caller where the finding is about one, else those of the route.
fn payer(deed: &Deed) -> Result<String, String> {
    let caller = |caller| Ok(Target::caller(caller).to_string());
    match (&deed.about, &deed.scene.identity) {
        (Entity::Identity(one), _) | (Entity::Credential(_), Some(one)) => caller(one),
        (Entity::Source(network), _) => Ok(format!("source:{network}")),
        (Entity::Credential(_), None) => {
            let source = deed.scene.source.map(Source::neighbourhood);
            let source = source.map(|network| format!("source:{network}"));
            source.ok_or_else(|| format!("{} of {}: no caller is known", deed.action, deed.about))
        }
        (Entity::Everyone | Entity::Ja4(_) | Entity::Route(_) | Entity::Upstream(_), _) => {
            route(deed)
        }
    }
}

fn told(refusal: &Refusal) -> String {
    let mut text = refusal.message.clone();
    if !refusal.details.is_empty() {
        text.push_str(&format!(" ({})", refusal.details.join("; ")));
    }
    text
}

fn mismatched() -> String {
    "the desk answered something else: this is a bug".to_owned()
}
