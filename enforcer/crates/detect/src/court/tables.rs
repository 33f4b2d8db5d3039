//! The tables of the court, each with a bound.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use enforcer_model::{DecisionId, FindingId, Fingerprint, IncidentId, Prefix, Principal};

use super::cases::{Decision, Incident, KeptFinding, State};
use crate::Entity;

/// Incidents open at once. When full, the one that was quiet longest is closed; what it has decided
/// runs on to its end.
pub const INCIDENTS_OPEN_MAX: usize = 256;

/// Incidents kept, open or closed. When full, the oldest closed one is forgotten; the log keeps it.
pub const INCIDENTS_KEPT_MAX: usize = 1_024;

/// Findings kept. When full, the oldest is forgotten; the log keeps it.
pub const FINDINGS_MAX: usize = 4_096;

/// Decisions kept. When full, the oldest of which nothing can come any more is forgotten; when all
/// of them are in force, nothing more is decided unasked and somebody is told.
pub const DECISIONS_MAX: usize = 8_192;

/// Decisions that wait for an operator. When full, the oldest lapses.
pub const WAITING_MAX: usize = 256;

/// Pairs of rule and entity whose rung is known. When full, the sixteenth that was quiet longest
/// begins at its first rung again.
pub const LADDERS_MAX: usize = 16_384;

/// Requests that an incident names as evidence; the latest are kept.
pub const EVIDENCE_OF_INCIDENT_MAX: usize = 64;

/// Rules and entities that may be muted at once; more are refused.
pub const MUTES_MAX: usize = 256;

/// Findings and decisions that an incident names; the latest are kept.
pub(super) const NAMED_MAX: usize = 256;

/// Entities and rules that an incident names; the first are kept.
pub(super) const ABOUT_MAX: usize = 16;

/// Whom an incident is found by; the first are kept.
const KEYS_MAX: usize = 64;

/// What an incident is found by again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Entity(Entity),
    Identity(String, Principal),
    Credential(String, Fingerprint),
    Network(String, Prefix),
}

/// The tables.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) incidents: BTreeMap<IncidentId, Incident>,
    /// The number that the next incident has.
    pub(super) next: u32,
    pub(super) findings: HashMap<FindingId, KeptFinding>,
    pub(super) finding_order: VecDeque<FindingId>,
    pub(super) decisions: HashMap<DecisionId, Decision>,
    pub(super) decision_order: VecDeque<DecisionId>,
    /// Incidents that are not closed.
    pub(super) open: BTreeSet<IncidentId>,
    /// Decisions of which something can come, or could a moment ago.
    by_target: HashMap<Entity, Vec<DecisionId>>,
    /// Decisions that wait, or did a moment ago, the oldest first.
    waiting: VecDeque<DecisionId>,
    keys: HashMap<Key, IncidentId>,
    keys_of: HashMap<IncidentId, Vec<Key>>,
    /// Findings that came again since this was asked last, with their incidents.
    pub(super) touched: HashMap<FindingId, IncidentId>,
    /// What was forgotten for want of room, for the store to forget.
    pub(super) forgotten: Forgotten,
}

/// Rows that the store may forget.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Of incidents.
    pub incidents: Vec<IncidentId>,
    /// Of findings.
    pub findings: Vec<FindingId>,
    /// Of decisions.
    pub decisions: Vec<DecisionId>,
}

impl Tables {
    /// The open incident that one of `keys` leads to.
    pub(super) fn led_to(&self, keys: &[Key]) -> Option<IncidentId> {
        let found = keys.iter().find_map(|key| self.keys.get(key)).copied()?;
        self.incidents.get(&found).filter(|incident| incident.closed.is_none()).map(|_| found)
    }

    /// Lets `keys` lead to `incident` from here on.
    pub(super) fn lead(&mut self, keys: Vec<Key>, incident: IncidentId) {
        let own = self.keys_of.entry(incident).or_default();
        for key in keys {
            if own.len() >= KEYS_MAX {
                return;
            }
            if self.keys.get(&key) != Some(&incident) {
                self.keys.insert(key.clone(), incident);
                own.push(key);
            }
        }
    }

    /// Nothing leads to a closed incident.
    pub(super) fn forget_keys(&mut self, incident: IncidentId) {
        for key in self.keys_of.remove(&incident).unwrap_or_default() {
            if self.keys.get(&key) == Some(&incident) {
                self.keys.remove(&key);
            }
        }
    }

    pub(super) fn put_finding(&mut self, finding: KeptFinding) {
        while self.finding_order.len() >= FINDINGS_MAX {
            let Some(oldest) = self.finding_order.pop_front() else { break };
            self.findings.remove(&oldest);
            self.forgotten.findings.push(oldest);
        }
        self.finding_order.push_back(finding.id);
        self.findings.insert(finding.id, finding);
    }

    /// Keeps `decision`; whether there was room.
    pub(super) fn put_decision(&mut self, decision: Decision) -> bool {
        if self.decision_order.len() >= DECISIONS_MAX && !self.forget_decision() {
            return false;
        }
        self.decision_order.push_back(decision.id);
        if decision.state.is_live() {
            let same = self.by_target.entry(decision.target.clone()).or_default();
            same.retain(|id| self.decisions.get(id).is_some_and(|one| one.state.is_live()));
            same.push(decision.id);
        }
        if decision.state == State::Waiting {
            self.waiting.push_back(decision.id);
        }
        self.decisions.insert(decision.id, decision);
        true
    }

    /// What is in force against `target`, or is about to be.
    pub(super) fn against(&self, target: &Entity) -> impl Iterator<Item = &Decision> {
        let ids = self.by_target.get(target).into_iter().flatten();
        let decisions = ids.filter_map(|id| self.decisions.get(id));
        decisions.filter(|decision| decision.state.is_live())
    }

    /// The decision that waits longest, when no other one may wait beside it.
    pub(super) fn longest_waiting(&mut self) -> Option<DecisionId> {
        let waits = |id: &DecisionId| {
            self.decisions.get(id).is_some_and(|decision| decision.state == State::Waiting)
        };
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.retain(waits);
        }
        (self.waiting.len() >= WAITING_MAX).then(|| self.waiting.pop_front()).flatten()
    }

    fn forget_decision(&mut self) -> bool {
        let over = |id: &DecisionId| {
            self.decisions.get(id).is_none_or(|decision| !decision.state.is_live())
        };
        let Some(place) = self.decision_order.iter().position(over) else { return false };
        if let Some(id) = self.decision_order.remove(place) {
            if let Some(gone) = self.decisions.remove(&id)
                && let Some(same) = self.by_target.get_mut(&gone.target)
            {
                same.retain(|other| *other != id);
                if same.is_empty() {
                    self.by_target.remove(&gone.target);
                }
            }
            self.forgotten.decisions.push(id);
        }
        true
    }

    pub(super) fn put_incident(&mut self, incident: Incident) {
        while self.incidents.len() >= INCIDENTS_KEPT_MAX {
            let closed = self.incidents.values().find(|incident| incident.closed.is_some());
            let Some(oldest) = closed.map(|incident| incident.id) else { break };
            self.incidents.remove(&oldest);
            self.forgotten.incidents.push(oldest);
        }
        if incident.closed.is_none() {
            self.open.insert(incident.id);
        }
        self.next = self.next.max(incident.id.number().saturating_add(1));
        self.incidents.insert(incident.id, incident);
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.values().filter(|decision| decision.state.is_live())
    }
}
