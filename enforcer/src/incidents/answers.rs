//! Operators' orders about incidents, decisions and findings.

use std::time::Duration;

use enforcer_admin::call::{
    CaseAnswer, CaseName, CaseOrder, DecisionsChanged, FINDINGS_PAGE, Findings, Incidents,
};
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_audit::Ticket;
use enforcer_detect::Entity;
use enforcer_detect::court::{KeptFinding, Mute, Muted, NotDone, State, Step, Surroundings};
use enforcer_model::{Author, DecisionId, FindingId, IncidentId, Timestamp};

use super::{Act, Answered, Docket, rows, rule};

/// Which findings are wanted.
struct Wanted<'a> {
    since: Option<Timestamp>,
    rule: Option<&'a str>,
    about: Option<Entity>,
    after: Option<FindingId>,
}

impl Docket {
    /// Answers `order`; what is to be done comes with it, and is to be done before the answer goes
    /// out only as far as the caller wants to wait.
    pub(crate) fn answer(
        &mut self,
        order: CaseOrder,
        by: &Author,
        around: &dyn Surroundings,
        now: Timestamp,
    ) -> (Result<Answered, Refusal>, Vec<Act>) {
        let mut acts = Vec::new();
        let answered = self.answered(order, by, around, now, &mut acts);
        self.store.flush();
        (answered, acts)
    }

    fn answered(
        &mut self,
        order: CaseOrder,
        by: &Author,
        around: &dyn Surroundings,
        now: Timestamp,
        acts: &mut Vec<Act>,
    ) -> Result<Answered, Refusal> {
        match order {
            CaseOrder::Open { reason } => {
                let (id, steps) = self.court.open(&reason, by.clone(), now);
                let ticket = self.carry(steps, acts);
                self.show(id, ticket)
            }
            CaseOrder::List { closed } => Ok(plain(CaseAnswer::Incidents(self.list(closed)))),
            CaseOrder::Show { incident } => self.show(incident, None),
            CaseOrder::Close { incident, reason } => {
                let steps = self.court.close(incident, by.clone(), &reason, now);
                let ticket = self.carry(steps.map_err(refused)?, acts);
                self.show(incident, ticket)
            }
            CaseOrder::Approve { decision, reason } => {
                let steps = self.court.approve(decision, by.clone(), reason, around, now);
                let ticket = self.carry(steps.map_err(refused)?, acts);
                Ok(self.changed("approved", &[decision], ticket))
            }
            CaseOrder::Reject { decision, reason } => {
                let steps = self.court.reject(decision, by.clone(), reason, now);
                let ticket = self.carry(steps.map_err(refused)?, acts);
                Ok(self.changed("rejected", &[decision], ticket))
            }
            CaseOrder::TakeBack { what: CaseName::Decision(decision), reason } => {
                let steps = self.court.rollback(decision, by.clone(), reason, now);
                let ticket = self.carry(steps.map_err(refused)?, acts);
                Ok(self.changed("taken back", &[decision], ticket))
            }
            CaseOrder::TakeBack { what: CaseName::Incident(incident), reason } => {
                let done = self.court.rollback_all(incident, by, reason.as_deref(), now);
                let (decisions, steps) = done.map_err(refused)?;
                if decisions.is_empty() {
                    let message = format!("{incident} has nothing in force");
                    return Err(Refusal::new(RefusalKind::NotFound, message));
                }
                let ticket = self.carry(steps, acts);
                Ok(self.changed("taken back", &decisions, ticket))
            }
            CaseOrder::Findings { since, rule, about, after } => {
                let about = about.as_deref().map(entity).transpose()?;
                let wanted = Wanted { since, rule: rule.as_deref(), about, after };
                Ok(plain(CaseAnswer::Findings(self.findings(&wanted))))
            }
            CaseOrder::Finding { finding } => {
                let kept = self.court.finding(finding).ok_or_else(|| unknown(&finding))?;
                Ok(plain(CaseAnswer::Finding(Box::new(rows::finding(kept)))))
            }
            CaseOrder::Mute { what, ttl_seconds, reason } => {
                let until = now.saturating_add(Duration::from_secs(ttl_seconds));
                let mute = Mute { what: muted(&what)?, until, by: by.clone(), reason };
                self.court.mute(mute).map_err(refused)?;
                self.keep_mutes();
                Ok(plain(CaseAnswer::Mutes(rows::mutes(&self.court))))
            }
            CaseOrder::Unmute { what, reason: _ } => {
                if !self.court.unmute(&muted(&what)?) {
                    let message = format!("`{what}` is not muted");
                    return Err(Refusal::new(RefusalKind::NotFound, message)
                        .hint("`enforcer findings mutes` tells what is"));
                }
                self.keep_mutes();
                Ok(plain(CaseAnswer::Mutes(rows::mutes(&self.court))))
            }
            CaseOrder::Mutes => Ok(plain(CaseAnswer::Mutes(rows::mutes(&self.court)))),
        }
    }

    fn carry(&mut self, steps: Vec<Step>, acts: &mut Vec<Act>) -> Option<Ticket> {
        let (more, ticket) = self.take(steps);
        acts.extend(more);
        ticket
    }

    fn list(&self, closed: bool) -> Incidents {
        let wanted = self.court.incidents().rev().filter(|one| closed || one.closed.is_none());
        let waiting = self.court.decisions().filter(|one| one.state == State::Waiting);
        Incidents {
            incidents: wanted.map(|one| rows::incident(&self.court, one)).collect(),
            waiting: waiting.map(rows::decision).collect(),
        }
    }

    fn show(&self, id: IncidentId, ticket: Option<Ticket>) -> Result<Answered, Refusal> {
        let incident = self.court.incident(id).ok_or_else(|| unknown(&id))?;
        let shown = rows::shown(&self.court, incident);
        Ok(Answered { answer: CaseAnswer::Incident(Box::new(shown)), ticket })
    }

    fn changed(&self, done: &str, ids: &[DecisionId], ticket: Option<Ticket>) -> Answered {
        let decisions = ids.iter().filter_map(|id| self.court.decision(*id));
        let changed = DecisionsChanged {
            done: done.to_owned(),
            decisions: decisions.map(rows::decision).collect(),
            audit: None,
        };
        Answered { answer: CaseAnswer::Decisions(changed), ticket }
    }

    fn findings(&self, wanted: &Wanted<'_>) -> Findings {
        let mut found = self.court.findings().rev();
        if let Some(after) = wanted.after {
            // One that was forgotten in the meantime was older than all that are kept.
            found.by_ref().find(|kept| kept.id == after);
        }
        let mut rows: Vec<_> = found
            .filter(|kept| wanted.matches(kept))
            .take(FINDINGS_PAGE + 1)
            .map(rows::finding)
            .collect();
        let is_more = rows.len() > FINDINGS_PAGE;
        rows.truncate(FINDINGS_PAGE);
        let next = rows.last().filter(|_| is_more).map(|row| row.id);
        Findings { findings: rows, next }
    }
}

impl Wanted<'_> {
    fn matches(&self, kept: &KeptFinding) -> bool {
        let finding = &kept.finding;
        let since = self.since.is_none_or(|since| finding.at >= since);
        let rule = self.rule.is_none_or(|rule| *finding.rule == *rule);
        let about = self.about.as_ref().is_none_or(|entity| {
            let scene = &finding.scene;
            let was_there = match entity {
                Entity::Source(network) => {
                    let about = matches!(
                        &finding.about,
                        Entity::Source(other) if network.overlaps(*other)
                    );
                    about || scene.source.is_some_and(|one| network.contains(one.address()))
                }
                Entity::Identity(who) => scene.identity.as_ref() == Some(who),
                Entity::Credential(print) => scene.credential == Some(*print),
                Entity::Ja4(ja4) => scene.ja4.as_ref() == Some(ja4),
                Entity::Route(route) => scene.route.as_ref() == Some(route),
                Entity::Upstream(host) => scene.upstream.as_ref() == Some(host),
                Entity::Everyone => false,
            };
            was_there || finding.about == *entity
        });
        since && rule && about
    }
}

const fn plain(answer: CaseAnswer) -> Answered {
    Answered { answer, ticket: None }
}

fn entity(text: &str) -> Result<Entity, Refusal> {
    text.parse().map_err(|error: enforcer_detect::EntityError| {
        Refusal::new(RefusalKind::Usage, error.to_string())
    })
}

/// What names an entity is one; all else is a rule.
fn muted(text: &str) -> Result<Muted, Refusal> {
    if let Ok(entity) = text.parse() {
        return Ok(Muted::Entity(entity));
    }
    if text.contains(':') {
        return entity(text).map(Muted::Entity);
    }
    rule(text).map(Muted::Rule).ok_or_else(|| no_rule(text))
}

fn no_rule(text: &str) -> Refusal {
    Refusal::new(RefusalKind::Usage, format!("`{text}` is not the name of a rule"))
}

fn unknown(id: &dyn std::fmt::Display) -> Refusal {
    let message = format!("{id} is not known, or is kept in the audit log only");
    Refusal::new(RefusalKind::NotFound, message)
        .hint(format!("`enforcer audit search --who {id}` looks there"))
}

fn refused(error: NotDone) -> Refusal {
    let message = error.to_string();
    match error {
        NotDone::Unknown(id) => unknown(&id),
        NotDone::State { .. } | NotDone::Closed(_) => Refusal::new(RefusalKind::Usage, message),
        NotDone::Protected { .. } => Refusal::new(RefusalKind::Guarded, message),
        NotDone::Full => Refusal::new(RefusalKind::Failed, message),
    }
}
