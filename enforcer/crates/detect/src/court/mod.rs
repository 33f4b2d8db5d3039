//! From findings to incidents, from incidents to decisions, and what becomes of each.
//!
//! A pure state machine with one owner: time is passed in, ids are drawn from bits that are passed
//! in, and what is to be done comes out as [`Step`]s. Decisions are carried out elsewhere; what came
//! of them is told with [`Court::done`]. Nothing automatic lasts for ever or hits more than the
//! limits admit: what would asks an operator. An operator's word holds: what was taken back or
//! rejected is not decided again before its time would have been over.
//!
//! Bounds, and what happens when they are reached, stand beside the constants in `tables`.

mod cases;
mod decide;
mod incidents;
mod limits;
mod orders;
mod people;
mod radius;
mod saved;
mod tables;
mod target;
#[cfg(test)]
mod tests;
mod triggers;
mod ttl;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Author, DecisionId, FindingId, IncidentId, Timestamp};
use serde::{Deserialize, Serialize};

pub use cases::{
    Change, Closed, Decision, DecisionEvent, Effect, Entry, Incident, IncidentEvent, KeptFinding,
    Notice, NoticeKind, Said, State, Step,
};
pub use limits::{Behind, Limits, Share, Surroundings};
pub use orders::{NotDone, Undone};
pub use people::{PEOPLE_MAX, People};
pub use saved::Saved;
pub use tables::{
    DECISIONS_MAX, EVIDENCE_OF_INCIDENT_MAX, FINDINGS_MAX, Forgotten, INCIDENTS_KEPT_MAX,
    INCIDENTS_OPEN_MAX, LADDERS_MAX, MUTES_MAX, WAITING_MAX,
};
pub use triggers::{LOGINS_MIN, LevelStep, TriggerPlan, Triggers};
pub use ttl::{DECAY, DOUBLINGS_MAX, REPEATERS_MAX};

use radius::Radius;
use tables::Tables;
use ttl::Repeats;

use crate::{Entity, Finding, Mode};

/// Findings that come while a rung takes hold are of requests that were under way.
pub const SETTLE: Duration = Duration::from_secs(1);

/// The same finding inside this span is counted, and is no news.
pub const REPEAT: Duration = Duration::from_secs(10);

/// Something found inside this span belongs to what was found before.
pub const MERGE: Duration = Duration::from_secs(1_800);

/// What is ordered and not answered by then has failed.
pub const ANSWER: Duration = Duration::from_secs(30);

/// The owner of every incident and every decision.
pub struct Court {
    limits: Limits,
    bits: Box<dyn FnMut() -> u64 + Send>,
    tables: Tables,
    ladders: HashMap<(Arc<str>, Entity), Ladder>,
    repeats: Repeats,
    radius: Radius,
    modes: BTreeMap<Arc<str>, Mode>,
    /// Of rules that have one: the largest share of callers, in thousandths.
    shares: BTreeMap<Arc<str>, u16>,
    mutes: Vec<Mute>,
    counts: BTreeMap<Arc<str>, RuleCounts>,
    was_full: bool,
}

/// How far one rule has gone about one entity.
#[derive(Clone, Debug)]
struct Ladder {
    rung: usize,
    /// What the rule's file said of what it may do, when the rung was taken.
    own: Mode,
    decision: Option<DecisionId>,
    finding: FindingId,
    recorded: Timestamp,
    last: Timestamp,
}

/// A rule or an entity that is not to be heard of for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mute {
    /// Which.
    pub what: Muted,
    /// Until when.
    pub until: Timestamp,
    /// Who said so.
    pub by: Author,
    /// In the operator's words.
    pub reason: String,
}

/// What is muted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Muted {
    /// Every finding of a rule.
    Rule(Arc<str>),
    /// Every finding about an entity, or where it was there.
    Entity(Entity),
}

/// What has come of a rule since the agent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCounts {
    /// Findings, repeated ones included.
    pub findings: u64,
    /// Those that nobody wanted to hear of.
    pub muted: u64,
    /// Decisions that would have been carried out if it did not only observe.
    pub would_have_acted: u64,
    /// Decisions that an operator was asked about.
    pub asked: u64,
    /// Decisions that were carried out unasked.
    pub acted: u64,
}

impl Court {
    /// A court without cases. Ids, and the jitter of what lasts, are drawn from `bits`.
    pub fn new(limits: Limits, bits: Box<dyn FnMut() -> u64 + Send>) -> Self {
        Self {
            limits,
            bits,
            tables: Tables::default(),
            ladders: HashMap::new(),
            repeats: Repeats::default(),
            radius: Radius::default(),
            modes: BTreeMap::new(),
            shares: BTreeMap::new(),
            mutes: Vec::new(),
            counts: BTreeMap::new(),
            was_full: false,
        }
    }

    /// What another policy says.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The largest share of recent callers, in thousandths, that all decisions of a rule may hit
    /// together; rules without one have the limit of all.
    pub fn set_shares(&mut self, shares: impl IntoIterator<Item = (Arc<str>, u16)>) {
        self.shares = shares.into_iter().collect();
    }

    /// The incident with this name, as long as it is kept.
    pub fn incident(&self, id: IncidentId) -> Option<&Incident> {
        self.tables.incidents.get(&id)
    }

    /// Every incident that is kept, the oldest first.
    pub fn incidents(&self) -> impl DoubleEndedIterator<Item = &Incident> {
        self.tables.incidents.values()
    }

    /// How many are open.
    pub fn open_incidents(&self) -> usize {
        self.tables.open.len()
    }

    /// The decision with this name, as long as it is kept.
    pub fn decision(&self, id: DecisionId) -> Option<&Decision> {
        self.tables.decisions.get(&id)
    }

    /// Every decision that is kept, the oldest first.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.tables.decision_order.iter().filter_map(|id| self.tables.decisions.get(id))
    }

    /// The finding with this name, as long as it is kept.
    pub fn finding(&self, id: FindingId) -> Option<&KeptFinding> {
        self.tables.findings.get(&id)
    }

    /// Every finding that is kept, the oldest first.
    pub fn findings(&self) -> impl DoubleEndedIterator<Item = &KeptFinding> {
        self.tables.finding_order.iter().filter_map(|id| self.tables.findings.get(id))
    }

    /// What is not to be heard of.
    pub fn mutes(&self) -> &[Mute] {
        &self.mutes
    }

    /// Modes of rules that an operator has set, in place of what their files say.
    pub const fn modes(&self) -> &BTreeMap<Arc<str>, Mode> {
        &self.modes
    }

    /// What has come of each rule.
    pub const fn counts(&self) -> &BTreeMap<Arc<str>, RuleCounts> {
        &self.counts
    }

    /// Sets what a rule may do, whatever its file says; none: as its file says.
    pub fn set_mode(&mut self, rule: Arc<str>, mode: Option<Mode>) {
        match mode {
            Some(mode) => drop(self.modes.insert(rule, mode)),
            None => drop(self.modes.remove(&rule)),
        }
    }

    /// The mode of a rule whose file says `own`.
    pub fn mode(&self, rule: &str, own: Mode) -> Mode {
        self.modes.get(rule).copied().unwrap_or(own)
    }

    /// Something was found by a rule whose file says `own` of what it may do.
    pub fn found(
        &mut self,
        finding: &Finding,
        own: Mode,
        around: &dyn Surroundings,
        now: Timestamp,
    ) -> Vec<Step> {
        let rule = Arc::clone(&finding.rule);
        let is_muted = self.is_muted(finding, now);
        let counts = self.counts_of(&rule);
        counts.findings += 1;
        if is_muted {
            counts.muted += 1;
            return Vec::new();
        }
        let mut steps = Vec::new();
        let kept = self.keep(finding, now, &mut steps);
        self.climb(finding, kept, own, around, now, &mut steps);
        steps
    }

    fn is_muted(&self, finding: &Finding, now: Timestamp) -> bool {
        let scene = &finding.scene;
        self.mutes.iter().filter(|mute| mute.until > now).any(|mute| match &mute.what {
            Muted::Rule(rule) => *rule == finding.rule,
            Muted::Entity(entity) => {
                let there = match entity {
                    Entity::Source(network) => {
                        scene.source.is_some_and(|source| network.contains(source.address()))
                    }
                    Entity::Identity(who) => scene.identity.as_ref() == Some(who),
                    Entity::Credential(print) => scene.credential == Some(*print),
                    // A route or a kind of client is shared with others.
                    Entity::Ja4(_) | Entity::Route(_) | Entity::Upstream(_) | Entity::Everyone => {
                        false
                    }
                };
                there || *entity == finding.about
            }
        })
    }

    fn counts_of(&mut self, rule: &Arc<str>) -> &mut RuleCounts {
        self.counts.entry(Arc::clone(rule)).or_default()
    }

    fn draw(&mut self) -> u64 {
        (self.bits)()
    }
}
