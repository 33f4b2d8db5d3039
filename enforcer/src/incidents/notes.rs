//! Transitions as records of the audit log.

use std::sync::Arc;

use enforcer_audit::{
    DecisionChange, FoundRecord, IncidentChange, IncidentEvent as Event, Record, There, Whom,
};
use enforcer_detect::court::{
    Change, Decision, DecisionEvent, Entry, Incident, IncidentEvent, KeptFinding, Said,
};
use enforcer_detect::{Entity, Mode, Signal};

/// The record of a transition; none where only what is kept has changed.
pub(super) fn record(entry: &Entry) -> Option<Record> {
    match entry {
        Entry::Finding(Change::News, kept) => Some(Record::Found(Box::new(found(kept)))),
        Entry::Finding(Change::Kept, _) | Entry::Incident(IncidentEvent::Went, _) => None,
        Entry::Incident(IncidentEvent::Opened, incident) => {
            Some(Record::Incident(Box::new(changed(Event::Opened, incident))))
        }
        Entry::Incident(IncidentEvent::Closed, incident) => {
            Some(Record::Incident(Box::new(changed(Event::Closed, incident))))
        }
        Entry::Decision(event, decision, said) => {
            Some(Record::Decision(Box::new(decided(*event, decision, said))))
        }
    }
}

fn found(kept: &KeptFinding) -> FoundRecord {
    let (finding, scene) = (&kept.finding, &kept.finding.scene);
    FoundRecord {
        id: kept.id,
        incident: kept.incident,
        rule: Arc::clone(&finding.rule),
        about: whom(&finding.about),
        there: There {
            source: scene.source,
            through: scene.through,
            who: scene.identity.clone(),
            credential: scene.credential,
            ja4: scene.ja4.clone(),
            route: scene.route.clone(),
            upstream: scene.upstream.clone(),
        },
        window: finding.window,
        signals: finding.signals.iter().map(signal).collect(),
        evidence: finding.evidence.clone(),
    }
}

/// `60 objects in 10m (17.2 bits)`.
pub(super) fn signal(signal: &Signal) -> String {
    match signal.bits {
        Some(bits) => format!("{} ({bits:.1} bits)", signal.text),
        None => signal.text.clone(),
    }
}

fn changed(what: Event, incident: &Incident) -> IncidentChange {
    let closed = incident.closed.as_ref();
    IncidentChange {
        what,
        incident: incident.id,
        title: incident.title.clone(),
        findings: incident.findings_seen,
        decisions: incident.decisions.clone(),
        author: closed.map_or_else(|| incident.author.clone(), |closed| closed.by.clone()),
        reason: closed.map(|closed| closed.reason.clone()),
    }
}

fn decided(event: DecisionEvent, decision: &Decision, said: &Said) -> DecisionChange {
    let effect = decision.effect.as_ref();
    DecisionChange {
        what: word(event),
        incident: decision.incident,
        decision: decision.id,
        finding: decision.finding,
        rule: Arc::clone(&decision.rule),
        action: decision.action.to_string(),
        target: whom(&decision.target),
        through: decision.through,
        mode: mode_word(decision.mode),
        ttl: decision.ttl,
        until: decision.until,
        author: said.by.clone(),
        reason: decision.reason.clone(),
        applied: effect.map(|effect| effect.applied.clone()).unwrap_or_default(),
        detail: said.detail.clone(),
    }
}

const fn word(event: DecisionEvent) -> &'static str {
    match event {
        DecisionEvent::Observed => "observed",
        DecisionEvent::Asked => "asked",
        DecisionEvent::Approved => "approved",
        DecisionEvent::Ordered => "ordered",
        DecisionEvent::Applied => "applied",
        DecisionEvent::Partly => "partly",
        DecisionEvent::Failed => "failed",
        DecisionEvent::Extended => "extended",
        DecisionEvent::Refused => "refused",
        DecisionEvent::Expired => "expired",
        DecisionEvent::RolledBack => "rolled-back",
        DecisionEvent::Rejected => "rejected",
        DecisionEvent::Lapsed => "lapsed",
        DecisionEvent::Undone => "undone",
        DecisionEvent::NotUndone => "not-undone",
    }
}

/// `observe`, `approve`, `auto`.
pub(super) const fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Approve => "approve",
        Mode::Auto => "auto",
    }
}

fn whom(entity: &Entity) -> Whom {
    match entity {
        Entity::Source(network) => Whom::Source(*network),
        Entity::Identity(who) => Whom::Identity(who.clone()),
        Entity::Credential(print) => Whom::Credential(*print),
        Entity::Ja4(ja4) => Whom::Ja4(Arc::clone(ja4)),
        Entity::Route(route) => Whom::Route(Arc::clone(route)),
        Entity::Upstream(host) => Whom::Upstream(Arc::clone(host)),
        Entity::Everyone => Whom::Everyone,
    }
}
