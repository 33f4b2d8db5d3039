//! What survives a restart, and what is made of it then.

use std::collections::BTreeMap;
use std::sync::Arc;

use enforcer_model::Timestamp;

use super::cases::{
    Change, Decision, Entry, Incident, IncidentEvent, KeptFinding, Notice, NoticeKind, State, Step,
};
use super::tables::Forgotten;
use super::{Court, Ladder, Mute};
use crate::{Action, Mode};

/// Everything that a store kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// Every incident.
    pub incidents: Vec<Incident>,
    /// Every finding, the oldest first.
    pub findings: Vec<KeptFinding>,
    /// Every decision, the oldest first.
    pub decisions: Vec<Decision>,
    /// What is muted.
    pub mutes: Vec<Mute>,
    /// Modes that operators have set.
    pub modes: BTreeMap<Arc<str>, Mode>,
    /// The number of the next incident: it is never one that was used before.
    pub next_incident: u32,
}

impl Court {
    /// Takes up where an earlier court ended: what is in force is carried out again, in its own
    /// place; what has run out in the meantime is ended, and what was to be taken back and is not known
    /// to be is taken back now. Nobody is told again what was told; of what
    /// waits for an operator one notice tells, whatever their number.
    pub fn restore(&mut self, saved: Saved, now: Timestamp) -> Vec<Step> {
        let Saved { incidents, findings, decisions, mutes, modes, next_incident } = saved;
        self.tables.next = next_incident;
        for incident in incidents {
            self.tables.put_incident(incident);
        }
        for kept in findings {
            let place = (Arc::clone(&kept.finding.rule), kept.finding.about.clone());
            let ladder = Ladder {
                rung: 0,
                own: Mode::Observe,
                decision: None,
                finding: kept.id,
                recorded: kept.finding.at,
                last: kept.finding.at,
            };
            let is_open = self.incident(kept.incident).is_some_and(|one| one.closed.is_none());
            if is_open {
                self.tables.lead(super::incidents::keys(&kept.finding), kept.incident);
            }
            self.ladders.insert(place, ladder);
            self.tables.put_finding(kept);
        }
        let mut waiting = 0;
        let (mut again, mut undo) = (Vec::new(), Vec::new());
        for decision in decisions {
            self.take_up(&decision);
            let goes_on = decision.until > now;
            if goes_on && decision.state == State::Waiting {
                waiting += 1;
            }
            if goes_on && decision.state.acts() && decision.action != Action::Notify {
                // For what is left of its time: a restart makes nothing last longer.
                let ttl = decision.until.since(now);
                again.push(Step::Extend(Decision { ttl, ..decision.clone() }));
            }
            let is_over = matches!(decision.state, State::Expired | State::RolledBack);
            let is_left = decision.effect.as_ref().is_some_and(|effect| !effect.undo.is_empty());
            if is_over && is_left {
                undo.push(Step::Undo(decision.clone()));
            }
            self.tables.put_decision(decision);
        }
        self.mutes = mutes;
        self.modes = modes;
        let mut steps = self.tick(now);
        steps.extend(undo);
        steps.extend(again);
        if waiting > 0 {
            steps.push(Step::Notify(Notice {
                kind: NoticeKind::Approval,
                incident: None,
                decision: None,
                rule: None,
                about: None,
                text: format!("{waiting} decisions wait for an operator: `enforcer incident list`"),
                by: None,
                at: now,
            }));
        }
        steps
    }

    /// Where the ladder of a decision stood, and how often its target was decided about.
    fn take_up(&mut self, decision: &Decision) {
        if matches!(decision.state, State::Expired) {
            self.repeats.ended(&decision.target, decision.action, decision.times, decision.changed);
        }
        let Some(kept) = decision.finding.and_then(|id| self.tables.findings.get(&id)) else {
            return;
        };
        let place = (Arc::clone(&kept.finding.rule), kept.finding.about.clone());
        let rung = kept.finding.respond.iter().position(|one| one.action == decision.action);
        if let (Some(ladder), Some(rung)) = (self.ladders.get_mut(&place), rung) {
            (ladder.rung, ladder.decision) = (rung, Some(decision.id));
            ladder.own = decision.mode;
        }
    }

    /// The number of the next incident, for the store.
    pub fn next_incident(&self) -> u32 {
        self.tables.next
    }

    /// What was only counted since this was asked last, for the store.
    pub fn touched(&mut self) -> Vec<Entry> {
        let touched = std::mem::take(&mut self.tables.touched);
        let mut entries = Vec::new();
        for (finding, incident) in touched {
            let kept = self.tables.findings.get(&finding).cloned();
            entries.extend(kept.map(|kept| Entry::Finding(Change::Kept, kept)));
            let incident = self.tables.incidents.get(&incident).cloned();
            entries.extend(incident.map(|one| Entry::Incident(IncidentEvent::Went, one)));
        }
        entries
    }

    /// What was forgotten since this was asked last; the store forgets it too.
    pub fn forgotten(&mut self) -> Forgotten {
        std::mem::take(&mut self.tables.forgotten)
    }
}
