//! Findings become part of incidents, and incidents end.

use std::sync::Arc;

use enforcer_model::{Author, FindingId, IncidentId, Source, Timestamp};

use super::cases::{
    Change, Closed, Entry, Incident, IncidentEvent, KeptFinding, Notice, NoticeKind, Step,
};
use super::tables::{
    ABOUT_MAX, EVIDENCE_OF_INCIDENT_MAX, INCIDENTS_OPEN_MAX, Key, LADDERS_MAX, NAMED_MAX,
};
use super::target::family;
use super::{Court, Ladder, MERGE, REPEAT};
use crate::{Entity, Finding, Mode};

impl Court {
    /// Keeps `finding` as part of an incident; gives its name and the incident's.
    pub(super) fn keep(
        &mut self,
        finding: &Finding,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) -> (FindingId, IncidentId) {
        let place = (Arc::clone(&finding.rule), finding.about.clone());
        if let Some(again) = self.again(&place, finding, now) {
            return again;
        }
        let incident = self.incident_of(finding, now, steps);
        let id = self.fresh_finding();
        let kept = KeptFinding { id, incident, finding: finding.clone(), times: 1 };
        steps.push(Step::Record(Entry::Finding(Change::News, kept.clone())));
        self.tables.put_finding(kept);
        if let Some(incident) = self.tables.incidents.get_mut(&incident) {
            push_latest(&mut incident.findings, id);
            steps.push(Step::Record(Entry::Incident(IncidentEvent::Went, incident.clone())));
        }
        self.make_room_for_ladder(&place);
        let ladder = self.ladders.entry(place).or_insert(Ladder {
            rung: 0,
            own: Mode::Observe,
            decision: None,
            finding: id,
            recorded: now,
            last: now,
        });
        (ladder.finding, ladder.recorded, ladder.last) = (id, now, now);
        (id, incident)
    }

    /// The same as was found a moment ago: counted, and no news.
    fn again(
        &mut self,
        place: &(Arc<str>, Entity),
        finding: &Finding,
        now: Timestamp,
    ) -> Option<(FindingId, IncidentId)> {
        let ladder = self.ladders.get_mut(place)?;
        if now.since(ladder.recorded) >= REPEAT {
            return None;
        }
        let kept = self.tables.findings.get_mut(&ladder.finding)?;
        let incident = self.tables.incidents.get_mut(&kept.incident)?;
        if incident.closed.is_some() {
            return None;
        }
        ladder.last = now;
        self.tables.touched.insert(kept.id, incident.id);
        kept.times += 1;
        incident.last = now;
        incident.findings_seen += 1;
        add_evidence(incident, finding);
        Some((kept.id, incident.id))
    }

    fn incident_of(
        &mut self,
        finding: &Finding,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) -> IncidentId {
        let keys = keys(finding);
        let found = self.tables.led_to(&keys).filter(|id| self.goes_on(*id, now));
        let id = match found {
            Some(id) => id,
            None => {
                let title = format!("{}: {}", finding.rule, finding.about);
                let author = Author::Rule(finding.rule.to_string());
                self.open_incident(title, author, now, steps)
            }
        };
        if let Some(incident) = self.tables.incidents.get_mut(&id) {
            incident.last = now;
            incident.findings_seen += 1;
            push_first(&mut incident.about, &finding.about);
            push_first(&mut incident.rules, &finding.rule);
            add_evidence(incident, finding);
            if found.is_none() {
                steps.push(Step::Record(Entry::Incident(IncidentEvent::Opened, incident.clone())));
                steps.push(Step::Notify(Notice {
                    kind: NoticeKind::Opened,
                    incident: Some(id),
                    decision: None,
                    rule: Some(Arc::clone(&finding.rule)),
                    about: Some(finding.about.clone()),
                    text: finding.explanation(),
                    by: None,
                    at: now,
                }));
            }
        }
        self.tables.lead(keys, id);
        id
    }

    /// Whether something found now is still part of it.
    fn goes_on(&self, id: IncidentId, now: Timestamp) -> bool {
        let Some(incident) = self.tables.incidents.get(&id) else { return false };
        now.since(incident.last) <= MERGE
            || self.tables.live().any(|decision| decision.incident == id)
    }

    /// Opens an incident by hand.
    pub fn open(&mut self, reason: &str, by: Author, now: Timestamp) -> (IncidentId, Vec<Step>) {
        let mut steps = Vec::new();
        let id = self.open_incident(reason.to_owned(), by, now, &mut steps);
        if let Some(incident) = self.tables.incidents.get(&id) {
            steps.push(Step::Record(Entry::Incident(IncidentEvent::Opened, incident.clone())));
            steps.push(Step::Notify(incident_notice(incident, NoticeKind::Opened, reason, now)));
        }
        (id, steps)
    }

    fn open_incident(
        &mut self,
        title: String,
        author: Author,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) -> IncidentId {
        while self.open_incidents() >= INCIDENTS_OPEN_MAX {
            let open = self.tables.open.iter().filter_map(|id| self.tables.incidents.get(id));
            let Some(quietest) = open.min_by_key(|one| one.last).map(|one| one.id) else { break };
            self.end_incident(quietest, Author::Agent, "another one needed its place", now, steps);
        }
        let id = IncidentId::from_number(self.tables.next.max(1));
        self.tables.put_incident(Incident {
            id,
            title,
            about: Vec::new(),
            rules: Vec::new(),
            author,
            opened: now,
            last: now,
            closed: None,
            findings: Vec::new(),
            findings_seen: 0,
            evidence: Vec::new(),
            decisions: Vec::new(),
        });
        id
    }

    pub(super) fn end_incident(
        &mut self,
        id: IncidentId,
        by: Author,
        reason: &str,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) {
        let Some(incident) = self.tables.incidents.get_mut(&id) else { return };
        let told = incident_notice(incident, NoticeKind::Closed, reason, now).had_by(&by);
        incident.closed = Some(Closed { at: now, by, reason: reason.to_owned() });
        steps.push(Step::Record(Entry::Incident(IncidentEvent::Closed, incident.clone())));
        steps.push(Step::Notify(told));
        self.tables.forget_keys(id);
        self.tables.open.remove(&id);
    }

    /// Closes what was opened by a rule, has been quiet, and has nothing in force.
    pub(super) fn close_quiet(&mut self, now: Timestamp, steps: &mut Vec<Step>) {
        let quiet: Vec<IncidentId> = self
            .tables
            .open
            .iter()
            .filter_map(|id| self.tables.incidents.get(id))
            .filter(|one| matches!(one.author, Author::Rule(_)))
            .filter(|one| now.since(one.last) > MERGE)
            .map(|one| one.id)
            .collect();
        for id in quiet {
            if !self.tables.live().any(|decision| decision.incident == id) {
                self.end_incident(id, Author::Agent, "quiet, and nothing is in force", now, steps);
            }
        }
    }

    fn fresh_finding(&mut self) -> FindingId {
        loop {
            let id = FindingId::from_bits(self.draw());
            if !self.tables.findings.contains_key(&id) {
                return id;
            }
        }
    }

    fn make_room_for_ladder(&mut self, newcomer: &(Arc<str>, Entity)) {
        if self.ladders.len() < LADDERS_MAX || self.ladders.contains_key(newcomer) {
            return;
        }
        let mut times: Vec<Timestamp> = self.ladders.values().map(|ladder| ladder.last).collect();
        let place = times.len() / 16;
        let (_, oldest, _) = times.select_nth_unstable(place);
        let oldest = *oldest;
        self.ladders.retain(|_, ladder| ladder.last > oldest);
    }
}

/// What leads to the incident that a finding is part of: its entity, or, for rules of one family,
/// the caller, credential or network of its scene.
pub(super) fn keys(finding: &Finding) -> Vec<Key> {
    let scene = &finding.scene;
    let family = || family(&finding.rule).to_owned();
    let mut keys = vec![Key::Entity(finding.about.clone())];
    // Of everyone's traffic the last sender says nothing.
    let is_of_many = matches!(
        finding.about,
        Entity::Everyone | Entity::Route(_) | Entity::Upstream(_) | Entity::Ja4(_)
    );
    if is_of_many {
        return keys;
    }
    keys.extend(scene.identity.clone().map(|who| Key::Identity(family(), who)));
    keys.extend(scene.credential.map(|print| Key::Credential(family(), print)));
    keys.extend(scene.source.map(|source| Key::Network(family(), source.neighbourhood())));
    if let Entity::Source(network) = &finding.about {
        let around = match network.is_single() {
            true => Source::new(network.address()).neighbourhood(),
            false => *network,
        };
        keys.push(Key::Network(family(), around));
    }
    keys
}

pub(super) fn incident_notice(
    incident: &Incident,
    kind: NoticeKind,
    text: &str,
    now: Timestamp,
) -> Notice {
    Notice {
        kind,
        incident: Some(incident.id),
        decision: None,
        rule: incident.rules.first().cloned(),
        about: incident.about.first().cloned(),
        text: text.to_owned(),
        by: None,
        at: now,
    }
}

impl Notice {
    /// The same with `author`, where that is an operator.
    pub(super) fn had_by(self, author: &Author) -> Self {
        Self { by: matches!(author, Author::Operator { .. }).then(|| author.clone()), ..self }
    }
}

fn add_evidence(incident: &mut Incident, finding: &Finding) {
    for request in &finding.evidence {
        if !incident.evidence.contains(request) {
            incident.evidence.push(*request);
        }
    }
    let surplus = incident.evidence.len().saturating_sub(EVIDENCE_OF_INCIDENT_MAX);
    incident.evidence.drain(..surplus);
}

pub(super) fn push_latest<T: PartialEq>(list: &mut Vec<T>, one: T) {
    if list.contains(&one) {
        return;
    }
    if list.len() >= NAMED_MAX {
        list.remove(0);
    }
    list.push(one);
}

fn push_first<T: Clone + PartialEq>(list: &mut Vec<T>, one: &T) {
    if list.len() < ABOUT_MAX && !list.contains(one) {
        list.push(one.clone());
    }
}
