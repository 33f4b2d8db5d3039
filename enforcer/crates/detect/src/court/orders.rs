//! What came of decisions, what operators say about them, and what time does.

use enforcer_model::{Author, DecisionId, IncidentId, Timestamp};

use super::cases::{
    Decision, DecisionEvent, Effect, Entry, IncidentEvent, NoticeKind, State, Step,
};
use super::decide::{notice, record};
use super::limits::Surroundings;
use super::tables::MUTES_MAX;
use super::{ANSWER, Court, Mute, Muted};
use crate::Action;

/// Why an operator's word changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// There is no such thing, or it is forgotten.
    #[error("{0} is not known; it is kept in the audit log only, if it ever was")]
    Unknown(String),
    /// It is not the time for it.
    #[error("{id} is {state}; {wanted}")]
    State {
        /// Which decision.
        id: DecisionId,
        /// Where it stands.
        state: &'static str,
        /// What can be done to it.
        wanted: &'static str,
    },
    /// The incident is closed.
    #[error("{0} is closed")]
    Closed(IncidentId),
    /// Something protects its target.
    #[error("{target} is protected: {what}")]
    Protected {
        /// Whom.
        target: String,
        /// Such as a never-block list.
        what: String,
    },
    /// The table of mutes is full.
    #[error("{MUTES_MAX} rules and entities are muted, and no more can be")]
    Full,
}

/// What came of taking a decision back.
pub type Undone = Result<Effect, String>;

impl Court {
    /// What came of a decision that was to be carried out. Where nothing did, the next rung is taken.
    pub fn done(
        &mut self,
        id: DecisionId,
        outcome: Result<Effect, String>,
        around: &dyn Surroundings,
        now: Timestamp,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some(lost) = self.came(id, outcome, now, &mut steps) {
            self.climb_on(&lost, around, now, &mut steps);
        }
        steps
    }

    /// What came of a decision; it, where nothing did.
    fn came(
        &mut self,
        id: DecisionId,
        outcome: Result<Effect, String>,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) -> Option<Decision> {
        let decision = self.tables.decisions.get_mut(&id)?;
        // A late answer is an answer.
        if !decision.state.acts() && decision.state != State::Failed {
            // Taken back in the meantime: what has just been done is undone again.
            if let Ok(effect) = outcome
                && matches!(decision.state, State::RolledBack | State::Expired)
            {
                decision.effect = Some(effect);
                steps.push(Step::Undo(decision.clone()));
            }
            return None;
        }
        let (state, event, detail) = match outcome {
            Ok(effect) if effect.problems.is_empty() => {
                decision.effect = Some(effect);
                (State::InForce, DecisionEvent::Applied, None)
            }
            Ok(effect) => {
                let problems = effect.problems.join("; ");
                decision.effect = Some(effect);
                (State::Partly, DecisionEvent::Partly, Some(problems))
            }
            Err(why) => (State::Failed, DecisionEvent::Failed, Some(why)),
        };
        // What was in force already was only extended.
        let was_in_force = decision.state == state;
        let is_lost = decision.state == State::Ordered && state == State::Failed;
        decision.state = state;
        if !was_in_force {
            decision.changed = now;
        }
        let decision = decision.clone();
        if was_in_force && state == State::InForce {
            return None;
        }
        let is_whole = state == State::InForce;
        let news = match is_whole {
            true if decision.action == Action::IsolateUpstream => NoticeKind::Isolated,
            true => NoticeKind::Acted,
            false => NoticeKind::Failed,
        };
        let why = detail.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let text = format!("{} {}{why}", decision.action, decision.target);
        steps.push(record(event, &decision, Author::Agent, detail));
        let mut told = notice(&decision, news, text, now);
        if is_whole {
            told = told.had_by(&decision.author);
        }
        steps.push(Step::Notify(told));
        is_lost.then_some(decision)
    }

    /// What came of a decision that was to be taken back.
    pub fn undone(&mut self, id: DecisionId, outcome: Undone, now: Timestamp) -> Vec<Step> {
        let Some(decision) = self.tables.decisions.get_mut(&id) else { return Vec::new() };
        let problem = match outcome {
            Ok(effect) if effect.problems.is_empty() => None,
            Ok(effect) => Some(effect.problems.join("; ")),
            Err(why) => Some(why),
        };
        let Some(why) = problem else {
            // Nothing is left to be taken back, by a later agent either.
            if let Some(effect) = &mut decision.effect {
                effect.undo.clear();
            }
            return vec![record(DecisionEvent::Undone, decision, Author::Agent, None)];
        };
        let text = format!("not undone: {} {}: {why}", decision.action, decision.target);
        vec![
            record(DecisionEvent::NotUndone, decision, Author::Agent, Some(why)),
            Step::Notify(notice(decision, NoticeKind::Failed, text, now)),
        ]
    }

    /// An operator says yes: the decision is carried out, whatever the limits of automatic ones.
    ///
    /// What protects the target now, protects it from this too.
    pub fn approve(
        &mut self,
        id: DecisionId,
        by: Author,
        reason: Option<String>,
        around: &dyn Surroundings,
        now: Timestamp,
    ) -> Result<Vec<Step>, NotDone> {
        let decision = self.decided(id)?;
        if decision.state != State::Waiting {
            return Err(NotDone::State {
                id,
                state: decision.state.as_str(),
                wanted: "only one that waits can be approved",
            });
        }
        let shuts_out = matches!(decision.action, Action::Drop | Action::DenySource);
        if let Some(what) = around.protected(&decision.target).filter(|_| shuts_out) {
            return Err(NotDone::Protected { target: decision.target.to_string(), what });
        }
        decision.author = by.clone();
        decision.until = now.saturating_add(decision.ttl);
        decision.changed = now;
        let is_told = decision.action == Action::Notify;
        decision.state = if is_told { State::InForce } else { State::Ordered };
        let decision = decision.clone();
        let mut steps = vec![
            decided("approved", &decision, &by, now),
            record(DecisionEvent::Approved, &decision, by, reason),
        ];
        steps.push(match is_told {
            true => {
                let text = decision.reason.clone();
                Step::Notify(
                    notice(&decision, NoticeKind::Told, text, now).had_by(&decision.author),
                )
            }
            false => Step::Act(decision),
        });
        Ok(steps)
    }

    /// An operator says no.
    pub fn reject(
        &mut self,
        id: DecisionId,
        by: Author,
        reason: Option<String>,
        now: Timestamp,
    ) -> Result<Vec<Step>, NotDone> {
        let decision = self.decided(id)?;
        if decision.state != State::Waiting {
            return Err(NotDone::State {
                id,
                state: decision.state.as_str(),
                wanted: "only one that waits can be rejected",
            });
        }
        (decision.state, decision.changed) = (State::Rejected, now);
        decision.until = now.saturating_add(decision.ttl);
        Ok(vec![
            decided("rejected", decision, &by, now),
            record(DecisionEvent::Rejected, decision, by, reason),
        ])
    }

    /// Takes back what a decision does; it is not decided again before its time would have been
    /// over.
    pub fn rollback(
        &mut self,
        id: DecisionId,
        by: Author,
        reason: Option<String>,
        now: Timestamp,
    ) -> Result<Vec<Step>, NotDone> {
        let decision = self.decided(id)?;
        if decision.state == State::Waiting {
            return self.reject(id, by, reason, now);
        }
        if !decision.state.acts() {
            return Err(NotDone::State {
                id,
                state: decision.state.as_str(),
                wanted: "only one that is in force can be taken back",
            });
        }
        (decision.state, decision.changed) = (State::RolledBack, now);
        let decision = decision.clone();
        let text = format!("taken back by {by}: {} {}", decision.action, decision.target);
        let told = notice(&decision, NoticeKind::Ended, text, now).had_by(&by);
        let mut steps = vec![record(DecisionEvent::RolledBack, &decision, by, reason)];
        steps.push(Step::Notify(told));
        // What is still being carried out is undone when it is known how.
        if decision.effect.is_some() {
            steps.push(Step::Undo(decision));
        }
        Ok(steps)
    }

    /// Takes back everything that an incident has in force, and rejects what waits.
    pub fn rollback_all(
        &mut self,
        id: IncidentId,
        by: &Author,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<(Vec<DecisionId>, Vec<Step>), NotDone> {
        let incident =
            self.tables.incidents.get(&id).ok_or_else(|| NotDone::Unknown(id.to_string()))?;
        let mut live: Vec<DecisionId> = incident.decisions.clone();
        live.extend(self.tables.live().filter(|one| one.incident == id).map(|one| one.id));
        live.sort_unstable();
        live.dedup();
        live.retain(|id| self.tables.decisions.get(id).is_some_and(|one| one.state.is_live()));
        let mut steps = Vec::new();
        for id in &live {
            steps.extend(self.rollback(*id, by.clone(), reason.map(str::to_owned), now)?);
        }
        Ok((live, steps))
    }

    /// Closes an incident. What it has in force runs on to its end; what waits is rejected.
    pub fn close(
        &mut self,
        id: IncidentId,
        by: Author,
        reason: &str,
        now: Timestamp,
    ) -> Result<Vec<Step>, NotDone> {
        let incident =
            self.tables.incidents.get(&id).ok_or_else(|| NotDone::Unknown(id.to_string()))?;
        if incident.closed.is_some() {
            return Err(NotDone::Closed(id));
        }
        let waiting: Vec<DecisionId> = self
            .tables
            .live()
            .filter(|one| one.incident == id && one.state == State::Waiting)
            .map(|one| one.id)
            .collect();
        let mut steps = Vec::new();
        for decision in waiting {
            let why = Some("its incident was closed".to_owned());
            steps.extend(self.reject(decision, by.clone(), why, now)?);
        }
        self.end_incident(id, by, reason, now, &mut steps);
        Ok(steps)
    }

    /// Puts a decision that an operator has carried out under an incident, so that it is undone and
    /// told with the others.
    pub fn enter(&mut self, mut decision: Decision, now: Timestamp) -> Result<Vec<Step>, NotDone> {
        let incident = decision.incident;
        let Some(found) = self.tables.incidents.get_mut(&incident) else {
            return Err(NotDone::Unknown(incident.to_string()));
        };
        if found.closed.is_some() {
            return Err(NotDone::Closed(incident));
        }
        found.last = now;
        let mut steps = Vec::new();
        (decision.state, decision.decided, decision.changed) = (State::Ordered, now, now);
        if !self.tables.put_decision(decision.clone()) {
            return Err(NotDone::Full);
        }
        self.attach(incident, decision.id, &mut steps);
        let by = decision.author.clone();
        steps.push(decided("ordered", &decision, &by, now));
        steps.push(record(DecisionEvent::Ordered, &decision, by, None));
        steps.push(Step::Act(decision));
        Ok(steps)
    }

    /// A name that no decision has.
    pub fn name(&mut self) -> DecisionId {
        self.fresh_decision()
    }

    /// Wants to hear nothing of a rule or entity for a while.
    pub fn mute(&mut self, mute: Mute) -> Result<(), NotDone> {
        self.mutes.retain(|one| one.what != mute.what);
        if self.mutes.len() >= MUTES_MAX {
            return Err(NotDone::Full);
        }
        self.mutes.push(mute);
        Ok(())
    }

    /// Wants to hear of it again; whether it was muted.
    pub fn unmute(&mut self, what: &Muted) -> bool {
        let before = self.mutes.len();
        self.mutes.retain(|mute| mute.what != *what);
        self.mutes.len() < before
    }

    /// Ends what is over. Call it several times a second.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Step> {
        let mut steps = Vec::new();
        self.mutes.retain(|mute| mute.until > now);
        let due: Vec<DecisionId> = self
            .tables
            .live()
            .filter(|one| {
                one.until <= now || one.state == State::Ordered && now.since(one.changed) >= ANSWER
            })
            .map(|one| one.id)
            .collect();
        for id in due {
            self.end(id, now, &mut steps);
        }
        self.close_quiet(now, &mut steps);
        steps
    }

    pub(super) fn end(&mut self, id: DecisionId, now: Timestamp, steps: &mut Vec<Step>) {
        let Some(decision) = self.tables.decisions.get_mut(&id) else { return };
        if decision.until > now {
            let why = "nobody said what came of it".to_owned();
            // It may still come: nobody goes further for it.
            self.came(id, Err(why), now, steps);
            return;
        }
        if decision.state == State::Waiting {
            // As long as it would have lasted, nobody is asked again.
            decision.until = now.saturating_add(decision.ttl);
            self.lapse(id, "nobody said anything in time", now, steps);
            return;
        }
        (decision.state, decision.changed) = (State::Expired, now);
        let decision = decision.clone();
        self.repeats.ended(&decision.target, decision.action, decision.times, now);
        steps.push(record(DecisionEvent::Expired, &decision, Author::Agent, None));
        if decision.effect.is_some() {
            steps.push(Step::Undo(decision));
        }
    }

    fn decided(&mut self, id: DecisionId) -> Result<&mut Decision, NotDone> {
        self.tables.decisions.get_mut(&id).ok_or_else(|| NotDone::Unknown(id.to_string()))
    }

    /// The entry of an incident whose rows are to be written again.
    pub fn entry(&self, id: IncidentId) -> Option<Entry> {
        let incident = self.tables.incidents.get(&id)?;
        Some(Entry::Incident(IncidentEvent::Went, incident.clone()))
    }
}

/// Tells those who were asked that somebody has taken it up.
fn decided(what: &str, decision: &Decision, by: &Author, now: Timestamp) -> Step {
    let text = format!("{what} by {by}: {} {}", decision.action, decision.target);
    Step::Notify(notice(decision, NoticeKind::Decided, text, now).had_by(by))
}
