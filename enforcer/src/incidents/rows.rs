//! What operators see of the court's tables.

use enforcer_admin::call::{DecisionRow, FindingRow, IncidentRow, IncidentShown, MuteRow, Mutes};
use enforcer_detect::Entity;
use enforcer_detect::court::{Court, Decision, Incident, KeptFinding, Mute, Muted, State};

use super::notes::{mode_word, signal};

pub(super) fn incident(court: &Court, incident: &Incident) -> IncidentRow {
    let closed = incident.closed.as_ref();
    let decisions = incident.decisions.iter().filter_map(|id| court.decision(*id));
    let (mut in_force, mut waiting) = (0, 0);
    for decision in decisions {
        in_force += u64::from(decision.state.acts());
        waiting += u64::from(decision.state == State::Waiting);
    }
    IncidentRow {
        id: incident.id,
        state: if closed.is_some() { "closed" } else { "open" }.to_owned(),
        title: incident.title.clone(),
        about: incident.about.iter().map(ToString::to_string).collect(),
        rules: incident.rules.iter().map(ToString::to_string).collect(),
        author: incident.author.clone(),
        opened: incident.opened,
        last: incident.last,
        closed: closed.map(|closed| closed.at),
        closed_by: closed.map(|closed| closed.by.clone()),
        closed_reason: closed.map(|closed| closed.reason.clone()),
        findings: incident.findings_seen,
        decisions: incident.decisions.clone(),
        in_force,
        waiting,
    }
}

pub(super) fn shown(court: &Court, one: &Incident) -> IncidentShown {
    IncidentShown {
        incident: incident(court, one),
        decisions: one
            .decisions
            .iter()
            .filter_map(|id| court.decision(*id))
            .map(decision)
            .collect(),
        findings: one.findings.iter().filter_map(|id| court.finding(*id)).map(finding).collect(),
        evidence: one.evidence.iter().map(ToString::to_string).collect(),
        audit: None,
    }
}

pub(super) fn decision(decision: &Decision) -> DecisionRow {
    let effect = decision.effect.clone().unwrap_or_default();
    DecisionRow {
        id: decision.id,
        incident: decision.incident,
        finding: decision.finding,
        rule: decision.rule.to_string(),
        action: decision.action.to_string(),
        target: decision.target.to_string(),
        mode: mode_word(decision.mode).to_owned(),
        state: decision.state.as_str().to_owned(),
        author: decision.author.clone(),
        decided: decision.decided,
        changed: decision.changed,
        until: decision.until,
        ttl_seconds: decision.ttl.as_secs(),
        reason: decision.reason.clone(),
        applied: effect.applied,
        problems: effect.problems,
    }
}

pub(super) fn finding(kept: &KeptFinding) -> FindingRow {
    let (finding, scene) = (&kept.finding, &kept.finding.scene);
    let scene = [
        scene.source.map(|source| Entity::Source(source.into()).to_string()),
        scene.through.map(|proxy| format!("through:{}", proxy.address())),
        scene.identity.clone().map(|who| Entity::Identity(who).to_string()),
        scene.credential.map(|print| Entity::Credential(print).to_string()),
        scene.ja4.clone().map(|ja4| Entity::Ja4(ja4).to_string()),
        scene.route.clone().map(|route| Entity::Route(route).to_string()),
        scene.upstream.clone().map(|host| Entity::Upstream(host).to_string()),
    ];
    FindingRow {
        id: kept.id,
        incident: kept.incident,
        rule: finding.rule.to_string(),
        about: finding.about.to_string(),
        at: finding.at,
        times: kept.times,
        window_seconds: finding.window.as_secs(),
        signals: finding.signals.iter().map(signal).collect(),
        scene: scene.into_iter().flatten().collect(),
        evidence: finding.evidence.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn mutes(court: &Court) -> Mutes {
    Mutes { mutes: court.mutes().iter().map(mute).collect(), audit: None }
}

fn mute(mute: &Mute) -> MuteRow {
    MuteRow {
        what: match &mute.what {
            Muted::Rule(rule) => rule.to_string(),
            Muted::Entity(entity) => entity.to_string(),
        },
        until: mute.until,
        author: mute.by.clone(),
        reason: mute.reason.clone(),
    }
}
