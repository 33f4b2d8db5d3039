//! What rules would have done: the past, seen again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use enforcer_model::{Prefix, Timestamp};
use serde::Serialize;

use super::engine::Rules;
use super::past::Past;
use super::plan::RulePlan;
use crate::{Action, Entity, Event, Finding, Mode, Request};

/// Entities of each rule that are told; of more only the number is.
pub const ENTITIES_MAX: usize = 100;

/// Identities that are told apart; beyond, shares are of that many.
const IDENTITIES_MAX: usize = 1_000_000;

/// How often what is over is forgotten, in events.
const FORGET_EVERY: u64 = 65_536;

/// What rules would have done.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Events that were looked at.
    pub events: u64,
    /// Different identities in them.
    pub identities: usize,
    /// The first event.
    pub from: Option<Timestamp>,
    /// The last event.
    pub until: Option<Timestamp>,
    /// Each rule, in their order.
    pub rules: Vec<RuleReport>,
}

/// What one rule would have done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleReport {
    /// The rule.
    pub rule: Arc<str>,
    /// In which mode it is.
    pub mode: Mode,
    /// Findings.
    pub findings: u64,
    /// Findings that a refusing response follows.
    pub would_have_blocked: u64,
    /// Served requests that would have been refused, had every response been carried out.
    pub would_have_refused: u64,
    /// Identities that would have met a refusal.
    pub identities_refused: usize,
    /// Of all identities, in percent.
    pub share_of_identities: f64,
    /// The first finding.
    pub first: Option<Timestamp>,
    /// The last finding.
    pub last: Option<Timestamp>,
    /// Whom the findings are about, the most found first; at most [`ENTITIES_MAX`].
    pub entities: Vec<EntityReport>,
    /// How many there are.
    pub entity_count: usize,
}

/// One of those that a rule would have found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EntityReport {
    /// Whom.
    pub entity: Entity,
    /// Findings about it.
    pub findings: u64,
    /// The first.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
    /// Why, of the last.
    pub why: String,
    /// Served requests that would have been refused.
    pub would_have_refused: u64,
}

/// A replay under way.
#[derive(Debug)]
pub struct Replay {
    rules: Rules,
    plans: Vec<Arc<RulePlan>>,
    tallies: Vec<Tally>,
    places: HashMap<Arc<str>, usize>,
    /// Who would have been refused, until when, by which rule, because of whom.
    refused: HashMap<Entity, Vec<Refusal>>,
    identities: HashSet<Box<str>>,
    found: Vec<Finding>,
    report: Report,
}

#[derive(Debug)]
struct Refusal {
    rule: usize,
    about: Entity,
    until: Timestamp,
}

#[derive(Debug, Default)]
struct Tally {
    findings: u64,
    blocked: u64,
    refused: u64,
    identities: HashSet<Box<str>>,
    entities: HashMap<Entity, EntityReport>,
}

/// What `plans` would have done with `events`.
pub fn replay(plans: &[Arc<RulePlan>], events: impl Iterator<Item = Past>) -> Report {
    let mut replay = Replay::new(plans);
    events.for_each(|past| replay.observe(&past));
    replay.finish()
}

impl Replay {
    /// Nothing was seen yet.
    pub fn new(plans: &[Arc<RulePlan>]) -> Self {
        Self {
            rules: Rules::new(plans),
            plans: plans.to_vec(),
            tallies: plans.iter().map(|_| Tally::default()).collect(),
            places: plans.iter().enumerate().map(|(n, plan)| (Arc::clone(&plan.id), n)).collect(),
            refused: HashMap::new(),
            identities: HashSet::new(),
            found: Vec::new(),
            report: Report::default(),
        }
    }

    /// Looks at one event, in the order of time.
    pub fn observe(&mut self, past: &Past) {
        let event = past.event();
        let at = event.at();
        self.report.events += 1;
        self.report.from = Some(self.report.from.map_or(at, |from| from.min(at)));
        self.report.until = Some(self.report.until.map_or(at, |until| until.max(at)));
        if let Event::Request(request) = &event {
            if let Some(identity) = request.identity
                && self.identities.len() < IDENTITIES_MAX
                && !self.identities.contains(identity)
            {
                self.identities.insert(identity.into());
            }
            if !self.refused.is_empty() && request.reason.is_none() {
                self.meet(request);
            }
        }
        self.rules.observe(&event, &mut self.found);
        for finding in std::mem::take(&mut self.found) {
            self.note(finding);
        }
        if self.report.events.is_multiple_of(FORGET_EVERY) {
            self.rules.forget_old(at);
            self.refused.retain(|_, refusals| {
                refusals.retain(|refusal| refusal.until > at);
                !refusals.is_empty()
            });
        }
    }

    /// Counts a served request for whoever would have refused it.
    fn meet(&mut self, request: &Request<'_>) {
        let mut met: BTreeMap<usize, Entity> = BTreeMap::new();
        for entity in entities(request) {
            for refusal in self.refused.get(&entity).into_iter().flatten() {
                if refusal.until > request.at {
                    met.entry(refusal.rule).or_insert_with(|| refusal.about.clone());
                }
            }
        }
        for (rule, about) in met {
            let Some(tally) = self.tallies.get_mut(rule) else { continue };
            tally.refused += 1;
            if let Some(entity) = tally.entities.get_mut(&about) {
                entity.would_have_refused += 1;
            }
            if let Some(identity) = request.identity
                && tally.identities.len() < IDENTITIES_MAX
                && !tally.identities.contains(identity)
            {
                tally.identities.insert(identity.into());
            }
        }
    }

    fn note(&mut self, finding: Finding) {
        let Some(&place) = self.places.get(&finding.rule) else { return };
        let Some(tally) = self.tallies.get_mut(place) else { return };
        tally.findings += 1;
        let mut blocks = false;
        for response in &*finding.respond {
            let Some(target) = target(response.action, &finding) else { continue };
            blocks = true;
            let until = finding.at.saturating_add(response.ttl);
            let refusals = self.refused.entry(target).or_default();
            match refusals.iter_mut().find(|refusal| refusal.rule == place) {
                Some(refusal) => refusal.until = refusal.until.max(until),
                None => refusals.push(Refusal { rule: place, about: finding.about.clone(), until }),
            }
        }
        tally.blocked += u64::from(blocks);
        let why = finding.explanation();
        let entity = tally.entities.entry(finding.about.clone()).or_insert(EntityReport {
            entity: finding.about,
            findings: 0,
            first: finding.at,
            last: finding.at,
            why: String::new(),
            would_have_refused: 0,
        });
        entity.findings += 1;
        entity.last = finding.at;
        entity.why = why;
    }

    /// What came of it.
    pub fn finish(self) -> Report {
        let all = self.identities.len();
        let rules = self.plans.iter().zip(self.tallies).map(|(plan, tally)| {
            let mut entities: Vec<EntityReport> = tally.entities.into_values().collect();
            let entity_count = entities.len();
            let first = entities.iter().map(|entity| entity.first).min();
            let last = entities.iter().map(|entity| entity.last).max();
            entities.sort_by(|a, b| b.findings.cmp(&a.findings).then(a.first.cmp(&b.first)));
            entities.truncate(ENTITIES_MAX);
            RuleReport {
                rule: Arc::clone(&plan.id),
                mode: plan.mode,
                findings: tally.findings,
                would_have_blocked: tally.blocked,
                would_have_refused: tally.refused,
                identities_refused: tally.identities.len(),
                share_of_identities: share(tally.identities.len(), all),
                first,
                last,
                entities,
                entity_count,
            }
        });
        Report { identities: all, rules: rules.collect(), ..self.report }
    }
}

/// Percent, with two decimals.
fn share(part: usize, all: usize) -> f64 {
    if all == 0 {
        return 0.0;
    }
    let hundredths = part.saturating_mul(10_000) / all;
    u32::try_from(hundredths).map_or(100.0, f64::from) / 100.0
}

/// Whom `action` would have refused.
fn target(action: Action, finding: &Finding) -> Option<Entity> {
    let scene = &finding.scene;
    match action {
        Action::DenyIdentity => match &finding.about {
            Entity::Identity(_) => Some(finding.about.clone()),
            Entity::Source(_)
            | Entity::Credential(_)
            | Entity::Ja4(_)
            | Entity::Route(_)
            | Entity::Upstream(_)
            | Entity::Everyone => scene.identity.clone().map(Entity::Identity),
        },
        Action::DenyCredential => match &finding.about {
            Entity::Credential(_) => Some(finding.about.clone()),
            Entity::Source(_)
            | Entity::Identity(_)
            | Entity::Ja4(_)
            | Entity::Route(_)
            | Entity::Upstream(_)
            | Entity::Everyone => scene.credential.map(Entity::Credential),
        },
        Action::DenyFingerprint | Action::DisableRoute | Action::DenySource | Action::Drop => {
            Some(finding.about.clone())
        }
        Action::Notify
        | Action::Tighten(_)
        | Action::RequireStronger
        | Action::RaiseLevel(_)
        | Action::IsolateUpstream => None,
    }
}

/// Everything that a refusal of `request` could be about.
fn entities(request: &Request<'_>) -> impl Iterator<Item = Entity> {
    let address = request.source.address();
    let wide = if address.is_ipv4() { 24 } else { 48 };
    let sources = [request.source.neighbourhood(), Prefix::around(address, wide)];
    sources
        .map(Entity::Source)
        .into_iter()
        .chain(request.identity.and_then(crate::entity::principal).map(Entity::Identity))
        .chain(request.credential.map(Entity::Credential))
        .chain(request.ja4.map(|ja4| Entity::Ja4(ja4.into())))
        .chain(request.route.map(|route| Entity::Route(route.into())))
}
