//! What the court keeps: findings, incidents, decisions. Stored as they are, shown as rows.

use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Author, DecisionId, FindingId, IncidentId, RequestId, Source, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Action, Entity, Finding, Mode};

/// A finding that is kept, and how often it came again soon after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptFinding {
    /// Its name.
    pub id: FindingId,
    /// What it is part of.
    pub incident: IncidentId,
    /// What was found.
    pub finding: Finding,
    /// How often it was found: one more for each time that the same came again soon.
    pub times: u64,
}

/// What belongs together: findings about one entity, or of one family of rules about one caller,
/// credential or source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its name.
    pub id: IncidentId,
    /// What it is about, in words.
    pub title: String,
    /// Whom or what: the first ones that were found.
    pub about: Vec<Entity>,
    /// The rules that found something, each once.
    pub rules: Vec<Arc<str>>,
    /// Who opened it.
    pub author: Author,
    /// When it was opened.
    pub opened: Timestamp,
    /// When something belonged to it last.
    pub last: Timestamp,
    /// When it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closed>,
    /// Findings, the latest last.
    pub findings: Vec<FindingId>,
    /// How many there were.
    pub findings_seen: u64,
    /// Requests that were counted, the latest last.
    pub evidence: Vec<RequestId>,
    /// Decisions, the latest last.
    pub decisions: Vec<DecisionId>,
}

/// How an incident was closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: Author,
    /// Why.
    pub reason: String,
}

/// What is done, would be done, or waits to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Its name; everything that it did can be undone by it.
    pub id: DecisionId,
    /// What it is part of.
    pub incident: IncidentId,
    /// What it answers; none: an operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<FindingId>,
    /// The rule that asked for it.
    pub rule: Arc<str>,
    /// Whom or what it hits.
    pub target: Entity,
    /// What is done.
    pub action: Action,
    /// How long it lasts from the time that it is carried out, or extended.
    pub ttl: Duration,
    /// In words, with the numbers.
    pub reason: String,
    /// What was allowed: observe, approve, auto.
    pub mode: Mode,
    /// Who decided; an approved one is its operator's.
    pub author: Author,
    /// The proxy by whose word a source is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<Source>,
    /// When it was decided.
    pub decided: Timestamp,
    /// When it, or the wait for an operator's word, ends by itself.
    pub until: Timestamp,
    /// How often the same was decided about the target before.
    pub times: u32,
    /// Where it stands.
    pub state: State,
    /// What came of it, as read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// When it was carried out, or ended.
    pub changed: Timestamp,
}

/// Where a decision stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The rule only observes: it would have been carried out.
    Observed,
    /// An operator is asked.
    Waiting,
    /// It is being carried out.
    Ordered,
    /// It is in force, everywhere that it was meant for.
    InForce,
    /// It is in force, but not everywhere.
    Partly,
    /// It could not be carried out.
    Failed,
    /// What protects the target stood against it.
    Refused,
    /// Its time was over.
    Expired,
    /// It was taken back by hand.
    RolledBack,
    /// An operator said no.
    Rejected,
    /// No operator said anything in time.
    Lapsed,
}

/// What came of a decision, read back from where it acts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// Where it is in force, or no longer is: `kernel eth1 xdp-native`, `layer 7`, one each.
    pub applied: Vec<String>,
    /// What did not work, one each; it is a partial effect then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// How it is taken back before its time, in the words of whoever carried it out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub undo: String,
}

impl State {
    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Waiting => "waiting",
            Self::Ordered => "ordered",
            Self::InForce => "in-force",
            Self::Partly => "partly",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::RolledBack => "rolled-back",
            Self::Rejected => "rejected",
            Self::Lapsed => "lapsed",
        }
    }

    /// Whether it acts, or is about to.
    pub const fn acts(self) -> bool {
        matches!(self, Self::Ordered | Self::InForce | Self::Partly)
    }

    /// Whether anything can still come of it.
    pub const fn is_live(self) -> bool {
        self.acts() || matches!(self, Self::Waiting)
    }
}

/// What is to be done about a finding.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Carry it out, then say what came of it with [`super::Court::done`].
    Act(Decision),
    /// It is in force and lasts longer: carry it out again in its own place, with the later end.
    Extend(Decision),
    /// Take it back, then say what came of that with [`super::Court::undone`].
    Undo(Decision),
    /// An operator is to be asked: `incident approve` or `reject` with its name.
    Ask(Decision),
    /// Goes into the store and the log.
    Record(Entry),
    /// Somebody is to be told.
    Notify(Notice),
}

/// A transition.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Something was found, or came again.
    Finding(Change, KeptFinding),
    /// An incident was opened, went on, was closed.
    Incident(IncidentEvent, Incident),
    /// A decision came about or changed its state.
    Decision(DecisionEvent, Decision, Said),
}

/// Whether an entry is news, or only what is kept has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// For the store and for the log.
    News,
    /// For the store.
    Kept,
}

/// What happened to an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncidentEvent {
    /// It began.
    Opened,
    /// Something was added; for the store only.
    Went,
    /// It is over.
    Closed,
}

/// What happened to a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionEvent {
    /// It would have been carried out.
    Observed,
    /// It waits for an operator.
    Asked,
    /// An operator said yes; it is carried out now.
    Approved,
    /// It is carried out.
    Ordered,
    /// It is in force.
    Applied,
    /// It is in force in part.
    Partly,
    /// It could not be carried out.
    Failed,
    /// It lasts longer.
    Extended,
    /// Something protects its target.
    Refused,
    /// Its time was over.
    Expired,
    /// It was taken back.
    RolledBack,
    /// An operator said no.
    Rejected,
    /// Nobody said anything in time.
    Lapsed,
    /// What it did is undone, read back.
    Undone,
    /// What it did could not be undone yet.
    NotUndone,
}

/// Who changed a decision, and in which words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Who.
    pub by: Author,
    /// Why, or what went wrong.
    pub detail: Option<String>,
}

/// What somebody is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// What about.
    pub kind: NoticeKind,
    /// Part of what.
    pub incident: Option<IncidentId>,
    /// Which decision.
    pub decision: Option<DecisionId>,
    /// The rule.
    pub rule: Option<Arc<str>>,
    /// Whom or what it is about.
    pub about: Option<Entity>,
    /// One sentence.
    pub text: String,
    /// The operator who had it so; none where nobody did.
    pub by: Option<Author>,
    /// When.
    pub at: Timestamp,
}

/// What a notice is about, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// An incident was closed.
    Closed,
    /// A decision ended or was taken back.
    Ended,
    /// The incident level changed.
    Level,
    /// An operator has decided.
    Decided,
    /// An incident was opened.
    Opened,
    /// A rule's rung is to tell.
    Told,
    /// A decision is in force.
    Acted,
    /// An upstream gets nothing more.
    Isolated,
    /// A decision waits for an operator.
    Approval,
    /// A decision failed, or took effect in part.
    Failed,
    /// Automatic decisions reached a limit, and ask from here on.
    Limited,
}

impl NoticeKind {
    /// As sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Ended => "ended",
            Self::Level => "level",
            Self::Decided => "decided",
            Self::Opened => "opened",
            Self::Told => "told",
            Self::Acted => "acted",
            Self::Isolated => "isolated",
            Self::Approval => "approval",
            Self::Failed => "failed",
            Self::Limited => "limited",
        }
    }
}
