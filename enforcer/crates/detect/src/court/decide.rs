//! From a finding to a decision: which rung, against whom, and whether it may be done unasked.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Author, DecisionId, FindingId, IncidentId, Prefix, Principal, Timestamp};

use super::cases::{
    Decision, DecisionEvent, Entry, Incident, IncidentEvent, Notice, NoticeKind, Said, State, Step,
};
use super::incidents::push_latest;
use super::limits::{Share, Surroundings};
use super::target::target;
use super::ttl::lasting;
use super::{Court, REPEAT, SETTLE};
use crate::{Action, Entity, Finding, Mode, Response};

/// An end that moves by less than this part of the time to live is not moved.
const WORTH: u32 = 8;

/// What a rung comes to, before it is known whether it may be done.
struct Draft {
    action: Action,
    target: Entity,
    /// What speaks against doing it unasked.
    doubt: Option<String>,
    /// What protects the target.
    protected: Option<String>,
}

impl Court {
    /// Takes the rung that it is time for, if it is time for any, for a rule whose file says `own`.
    pub(super) fn climb(
        &mut self,
        finding: &Finding,
        (kept, incident): (FindingId, IncidentId),
        own: Mode,
        around: &dyn Surroundings,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) {
        let place = (Arc::clone(&finding.rule), finding.about.clone());
        let Some(ladder) = self.ladders.get(&place) else { return };
        let last = ladder.decision.and_then(|id| self.tables.decisions.get(&id));
        let Some(first) = next_rung(ladder.rung, last, finding.respond.len(), now) else { return };
        let mode = self.mode(&finding.rule, own);
        let top = finding.respond.len().saturating_sub(1);
        // Who is asked is told by that.
        let is_said = |rung: usize, response: &Response| {
            mode == Mode::Approve && response.action == Action::Notify && rung < top
        };
        let rungs = finding.respond.iter().enumerate().skip(first);
        let drafted = rungs
            .filter(|(rung, response)| !is_said(*rung, response))
            .filter_map(|(rung, response)| {
                Some((rung, response, draft(finding, response, around, self.limits.shared_from)?))
            })
            .next();
        let Some((rung, response, draft)) = drafted else { return };
        let mode = response.mode.map_or(mode, |own| own.min(mode));
        let id = match self.in_force(draft.action, &draft.target, now, steps) {
            Some(id) => {
                self.extend(id, incident, response.ttl, now, steps);
                id
            }
            None => {
                let from = (finding, kept, incident);
                let Some(id) = self.decide(from, response, draft, mode, around, now, steps) else {
                    return;
                };
                id
            }
        };
        if let Some(ladder) = self.ladders.get_mut(&place) {
            (ladder.rung, ladder.decision, ladder.own) = (rung, Some(id), own);
        }
    }

    /// Takes the next rung at once where the last one came to nothing: whoever goes on must not have
    /// to be found again, which a rule may do once in its window.
    pub(super) fn climb_on(
        &mut self,
        failed: &Decision,
        around: &dyn Surroundings,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) {
        let Some(kept) = failed.finding.and_then(|id| self.tables.findings.get(&id)) else {
            return;
        };
        let (from, finding) = ((kept.id, kept.incident), kept.finding.clone());
        let place = (Arc::clone(&finding.rule), finding.about.clone());
        let Some(ladder) = self.ladders.get(&place) else { return };
        let is_last = ladder.rung + 1 >= finding.respond.len();
        if ladder.decision == Some(failed.id) && !is_last {
            let own = ladder.own;
            self.climb(&finding, from, own, around, now, steps);
        }
    }

    /// The decision that does this already, or is about to; one whose time is over ends first.
    fn in_force(
        &mut self,
        action: Action,
        target: &Entity,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) -> Option<DecisionId> {
        let same = |decision: &&Decision| match (decision.action, action) {
            (Action::RaiseLevel(held), Action::RaiseLevel(wanted)) => held >= wanted,
            (held, wanted) => held == wanted,
        };
        let found = self.tables.against(target).find(same)?;
        let (id, is_over) = (found.id, found.until <= now);
        if is_over {
            self.end(id, now, steps);
            return None;
        }
        Some(id)
    }

    #[expect(clippy::too_many_arguments, reason = "one step of a climb, apart for its length only")]
    fn decide(
        &mut self,
        (finding, kept, incident): (&Finding, FindingId, IncidentId),
        response: &Response,
        draft: Draft,
        mode: Mode,
        around: &dyn Surroundings,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) -> Option<DecisionId> {
        let Draft { action, target, doubt, protected } = draft;
        let times = self.repeats.times(&target, action, now);
        let ttl = lasting(response.ttl, times, self.draw(), self.limits.ttl_max);
        let mut is_breach = false;
        let doubt = doubt.or_else(|| self.over_its_share(&finding.rule, &target, around));
        let (state, event, detail) = match (mode, protected, doubt) {
            (_, Some(what), _) => {
                let why = format!("{target} is protected: {what}");
                (State::Refused, DecisionEvent::Refused, Some(why))
            }
            (Mode::Observe, None, doubt) => (State::Observed, DecisionEvent::Observed, doubt),
            // To be told hits nobody.
            (Mode::Approve | Mode::Auto, None, _) if action == Action::Notify => {
                (State::InForce, DecisionEvent::Applied, None)
            }
            (Mode::Approve, None, doubt) => (State::Waiting, DecisionEvent::Asked, doubt),
            (Mode::Auto, None, Some(doubt)) => (State::Waiting, DecisionEvent::Asked, Some(doubt)),
            (Mode::Auto, None, None) => {
                match self.radius.admit(action, &target, &self.limits, around, now) {
                    Ok(()) => (State::Ordered, DecisionEvent::Ordered, None),
                    Err(breach) => {
                        is_breach = true;
                        if breach.is_first {
                            steps.push(Step::Notify(Notice {
                                kind: NoticeKind::Limited,
                                incident: Some(incident),
                                decision: None,
                                rule: Some(Arc::clone(&finding.rule)),
                                about: Some(target.clone()),
                                text: format!("{}; operators are asked from here on", breach.why),
                                by: None,
                                at: now,
                            }));
                        }
                        (State::Waiting, DecisionEvent::Asked, Some(breach.why))
                    }
                }
            }
        };
        let counts = self.counts_of(&finding.rule);
        match state {
            State::Observed => counts.would_have_acted += 1,
            State::Waiting => counts.asked += 1,
            State::Ordered | State::InForce => counts.acted += 1,
            State::Partly
            | State::Failed
            | State::Refused
            | State::Expired
            | State::RolledBack
            | State::Rejected
            | State::Lapsed => {}
        }
        let waits = state == State::Waiting;
        let until = now.saturating_add(if waits { self.limits.approval_ttl } else { ttl });
        let decision = Decision {
            id: self.fresh_decision(),
            incident,
            finding: Some(kept),
            rule: Arc::clone(&finding.rule),
            target,
            action,
            ttl,
            reason: finding.explanation(),
            mode,
            author: Author::Rule(finding.rule.to_string()),
            through: finding.scene.through,
            decided: now,
            until,
            times,
            state,
            effect: None,
            changed: now,
        };
        if state == State::Waiting {
            self.make_room_to_wait(now, steps);
        }
        let id = decision.id;
        if !self.tables.put_decision(decision.clone()) {
            self.tell_full(&decision, now, steps);
            return None;
        }
        self.was_full = false;
        self.attach(incident, id, steps);
        let by = decision.author.clone();
        steps.push(record(event, &decision, by, detail.clone()));
        match state {
            State::Ordered => steps.push(Step::Act(decision)),
            State::Waiting => {
                let why = detail.map(|why| format!(" ({why})")).unwrap_or_default();
                let text = format!(
                    "{id} waits: {} {}{why}; `enforcer incident approve {id}`",
                    decision.action, decision.target
                );
                // Of what a limit holds back the notice of the limit tells, once.
                if !is_breach {
                    steps.push(Step::Notify(notice(&decision, NoticeKind::Approval, text, now)));
                }
                steps.push(Step::Ask(decision));
            }
            State::InForce => {
                let text = decision.reason.clone();
                steps.push(Step::Notify(notice(&decision, NoticeKind::Told, text, now)));
            }
            State::Refused => {
                let text = format!("not done: {}", detail.unwrap_or_default());
                steps.push(Step::Notify(notice(&decision, NoticeKind::Failed, text, now)));
            }
            State::Observed
            | State::Partly
            | State::Failed
            | State::Expired
            | State::RolledBack
            | State::Rejected
            | State::Lapsed => {}
        }
        Some(id)
    }

    /// Why a rule that may hit only a share of the callers is not to hit `target` unasked: with what it
    /// has in force. One caller is what a rule is for.
    fn over_its_share(
        &self,
        rule: &Arc<str>,
        target: &Entity,
        around: &dyn Surroundings,
    ) -> Option<String> {
        let share = *self.shares.get(rule)?;
        let hits = |target: &Entity| match target {
            Entity::Identity(_) | Entity::Credential(_) | Entity::Ja4(_) => {
                around.identities(target)
            }
            Entity::Source(_) | Entity::Route(_) | Entity::Upstream(_) | Entity::Everyone => {
                Share::default()
            }
        };
        let own = self.tables.decisions.values();
        let held: HashSet<&Entity> = own
            .filter(|decision| decision.rule == *rule && decision.state.acts())
            .map(|decision| &decision.target)
            .chain([target])
            .collect();
        let together = held.into_iter().map(|target| hits(target).hit).sum::<u64>();
        let all = hits(target).all;
        let is_over =
            together > 1 && together.saturating_mul(1_000) > all.saturating_mul(u64::from(share));
        is_over.then(|| {
            let (whole, tenth) = (share / 10, share % 10);
            format!(
                "with it `{rule}` would hit {together} of {all} recent callers, over {whole}.{tenth} %"
            )
        })
    }

    /// Lets what is in force last for `ttl` from now on, and belong to `incident` too.
    fn extend(
        &mut self,
        id: DecisionId,
        incident: IncidentId,
        base: Duration,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) {
        let bits = self.draw();
        let longest = self.limits.ttl_max;
        self.attach(incident, id, steps);
        let Some(decision) = self.tables.decisions.get_mut(&id) else { return };
        if !matches!(decision.state, State::InForce | State::Partly) {
            return;
        }
        let ttl = lasting(base, decision.times, bits, longest);
        let until = now.saturating_add(ttl);
        if until <= decision.until || until.since(decision.until) < ttl / WORTH {
            return;
        }
        (decision.ttl, decision.until) = (ttl, until);
        let decision = decision.clone();
        let by = decision.author.clone();
        steps.push(record(DecisionEvent::Extended, &decision, by, None));
        if decision.action != Action::Notify {
            steps.push(Step::Extend(decision));
        }
    }

    pub(super) fn attach(&mut self, incident: IncidentId, id: DecisionId, steps: &mut Vec<Step>) {
        let Some(incident) = self.tables.incidents.get_mut(&incident) else { return };
        if !incident.decisions.contains(&id) {
            push_latest(&mut incident.decisions, id);
            steps.push(Step::Record(Entry::Incident(
                IncidentEvent::Went,
                Incident::clone(incident),
            )));
        }
    }

    fn make_room_to_wait(&mut self, now: Timestamp, steps: &mut Vec<Step>) {
        if let Some(oldest) = self.tables.longest_waiting() {
            self.lapse(oldest, "too many decisions wait", now, steps);
        }
    }

    pub(super) fn lapse(
        &mut self,
        id: DecisionId,
        why: &str,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) {
        let Some(decision) = self.tables.decisions.get_mut(&id) else { return };
        (decision.state, decision.changed) = (State::Lapsed, now);
        steps.push(record(DecisionEvent::Lapsed, decision, Author::Agent, Some(why.to_owned())));
    }

    fn tell_full(&mut self, decision: &Decision, now: Timestamp, steps: &mut Vec<Step>) {
        if !std::mem::replace(&mut self.was_full, true) {
            let text = "as many decisions are in force as fit; nothing more is decided".to_owned();
            steps.push(Step::Notify(notice(decision, NoticeKind::Limited, text, now)));
        }
    }

    pub(super) fn fresh_decision(&mut self) -> DecisionId {
        loop {
            let id = DecisionId::from_bits(self.draw());
            if !self.tables.decisions.contains_key(&id) {
                return id;
            }
        }
    }
}

/// The rung that it is time for; none: what was decided last is enough for now.
fn next_rung(rung: usize, last: Option<&Decision>, rungs: usize, now: Timestamp) -> Option<usize> {
    let Some(last) = last else { return Some(0) };
    if now >= last.until {
        return Some(0);
    }
    let is_last = rung + 1 >= rungs;
    match last.state {
        // An operator's word, or the lack of one, holds for as long as the decision would have.
        State::Waiting | State::Ordered | State::RolledBack | State::Rejected | State::Lapsed => {
            None
        }
        State::InForce | State::Partly => {
            let is_settled = now.since(last.changed) >= SETTLE;
            // At the last rung it is taken again, which extends what is in force.
            is_settled.then_some(if is_last { rung } else { rung + 1 })
        }
        State::Observed => {
            let is_settled = now.since(last.changed) >= SETTLE;
            (is_settled && !is_last).then_some(rung + 1)
        }
        State::Failed if is_last => (now.since(last.changed) >= REPEAT).then_some(rung),
        State::Failed => Some(rung + 1),
        State::Refused => (!is_last).then_some(rung + 1),
        State::Expired => Some(0),
    }
}

/// What `response` comes to; none where there is nobody whom it could hit.
fn draft(
    finding: &Finding,
    response: &Response,
    around: &dyn Surroundings,
    shared_from: u32,
) -> Option<Draft> {
    // Its packets bear the proxy's address.
    let is_named = response.action == Action::Drop && finding.scene.through.is_some();
    let action = if is_named { Action::DenySource } else { response.action };
    let target = target(action, finding)?;
    let shuts_out = matches!(action, Action::Drop | Action::DenySource);
    let protected = around.protected(&target).filter(|_| shuts_out);
    let plain =
        |doubt| Draft { action, target: target.clone(), doubt, protected: protected.clone() };
    let Entity::Source(network) = target else { return Some(plain(None)) };
    if !(shuts_out || matches!(action, Action::Tighten(_))) || protected.is_some() {
        return Some(plain(None));
    }
    let behind = around.behind(network);
    if behind.identities >= shared_from.max(1) {
        let why = format!("{} callers share {network}", behind.identities);
        return Some(match instead(finding, network, behind.most, around) {
            // Whose limits were to shrink, has them shrink alone.
            Some((_, Entity::Identity(who))) if !shuts_out => {
                Draft { action, target: Entity::Identity(who), doubt: None, protected: None }
            }
            Some((action, target)) => Draft { action, target, doubt: None, protected: None },
            None => plain(Some(format!("{why}, and it is not known who of them it was"))),
        });
    }
    Some(plain(None))
}

/// Who is behind a shared address: the caller who completed the finding, where it is the one that
/// sent most, or a credential that is accepted and came without a caller.
fn instead(
    finding: &Finding,
    network: Prefix,
    most: Option<Principal>,
    around: &dyn Surroundings,
) -> Option<(Action, Entity)> {
    let scene = &finding.scene;
    let was_there = scene.source.is_some_and(|source| network.contains(source.address()));
    if !was_there {
        return None;
    }
    match (&scene.identity, most) {
        // Who happened to be the last is not the one who did it.
        (Some(who), Some(most)) if *who == most => {
            Some((Action::DenyIdentity, Entity::Identity(who.clone())))
        }
        (Some(_), _) => None,
        // One that is guessed is refused anyway, and the next guess is another one.
        (None, _) => {
            let credential = Entity::Credential(scene.credential?);
            let was_accepted = around.identities(&credential).hit > 0;
            was_accepted.then_some((Action::DenyCredential, credential))
        }
    }
}

pub(super) fn record(
    event: DecisionEvent,
    decision: &Decision,
    by: Author,
    detail: Option<String>,
) -> Step {
    Step::Record(Entry::Decision(event, decision.clone(), Said { by, detail }))
}

pub(super) fn notice(
    decision: &Decision,
    kind: NoticeKind,
    text: String,
    now: Timestamp,
) -> Notice {
    Notice {
        kind,
        incident: Some(decision.incident),
        decision: Some(decision.id),
        rule: Some(Arc::clone(&decision.rule)),
        about: Some(decision.target.clone()),
        text,
        by: None,
        at: now,
    }
}
