//! Findings, incidents and decisions: what operators ask about them, and what they see.

use enforcer_model::{Author, DecisionId, FindingId, IncidentId, Timestamp};
use serde::{Deserialize, Serialize};

/// Findings in one answer to [`CaseOrder::Findings`].
pub const FINDINGS_PAGE: usize = 1_000;

/// What becomes of incidents, decisions and findings, or which there are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CaseOrder {
    /// Opens an incident by hand.
    Open {
        /// The operator's words; they are its title.
        reason: String,
    },
    /// Which there are.
    List {
        /// Closed ones too.
        #[serde(default)]
        closed: bool,
    },
    /// One of them, with its findings and decisions.
    Show {
        /// Which.
        incident: IncidentId,
    },
    /// Closes it; what it has in force runs on to its end.
    Close {
        /// Which.
        incident: IncidentId,
        /// The operator's words.
        reason: String,
    },
    /// Says yes to a decision that waits.
    Approve {
        /// Which.
        decision: DecisionId,
        /// The operator's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Says no to it.
    Reject {
        /// Which.
        decision: DecisionId,
        /// The operator's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Takes back a decision, or all decisions of an incident.
    TakeBack {
        /// Which.
        what: CaseName,
        /// The operator's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// What was found, the latest first, by the page.
    Findings {
        /// From then on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
        /// By this rule.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        /// About this entity, or where it was there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        about: Option<String>,
        /// Only those before the page that ended with this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<FindingId>,
    },
    /// One finding.
    Finding {
        /// Which.
        finding: FindingId,
    },
    /// Wants to hear nothing of a rule or an entity for a while.
    Mute {
        /// A rule's name, or an entity such as `source:203.0.113.7`.
        what: String,
        /// For how long.
        ttl_seconds: u64,
        /// The operator's words.
        reason: String,
    },
    /// Wants to hear of it again.
    Unmute {
        /// As it was muted.
        what: String,
        /// The operator's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// What is muted.
    Mutes,
}

/// An incident or a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaseName {
    /// Such as `D-7K2Q4XW`.
    Decision(DecisionId),
    /// Such as `INC-0042`.
    Incident(IncidentId),
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaseAnswer {
    /// Several incidents.
    Incidents(Incidents),
    /// One incident.
    Incident(Box<IncidentShown>),
    /// Decisions that were changed.
    Decisions(DecisionsChanged),
    /// Several findings.
    Findings(Findings),
    /// One finding.
    Finding(Box<FindingRow>),
    /// What is muted.
    Mutes(Mutes),
}

/// Several incidents.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Incidents {
    /// One each, the latest first.
    pub incidents: Vec<IncidentRow>,
    /// Decisions that wait for an operator, the oldest first.
    pub waiting: Vec<DecisionRow>,
}

/// One incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentRow {
    /// Its name.
    pub id: IncidentId,
    /// `open` or `closed`.
    pub state: String,
    /// What it is about.
    pub title: String,
    /// Whom, the first ones.
    pub about: Vec<String>,
    /// The rules that found something.
    pub rules: Vec<String>,
    /// Who opened it.
    pub author: Author,
    /// When.
    pub opened: Timestamp,
    /// When something belonged to it last.
    pub last: Timestamp,
    /// When it was closed.
    pub closed: Option<Timestamp>,
    /// By whom.
    pub closed_by: Option<Author>,
    /// Why.
    pub closed_reason: Option<String>,
    /// Findings, repeated ones included.
    pub findings: u64,
    /// Its decisions.
    pub decisions: Vec<DecisionId>,
    /// Decisions in force.
    pub in_force: u64,
    /// Decisions that wait for an operator.
    pub waiting: u64,
}

/// One incident with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentShown {
    /// The incident.
    pub incident: IncidentRow,
    /// What was decided, the oldest first.
    pub decisions: Vec<DecisionRow>,
    /// What was found, the oldest first, as far as it is kept.
    pub findings: Vec<FindingRow>,
    /// Requests that were counted, newest last, as far as they are kept.
    pub evidence: Vec<String>,
    /// Number of the audit record, where something was changed.
    #[serde(default)]
    pub audit: Option<u64>,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRow {
    /// Its name.
    pub id: DecisionId,
    /// What it is part of.
    pub incident: IncidentId,
    /// What it answers.
    pub finding: Option<FindingId>,
    /// The rule that asked for it.
    pub rule: String,
    /// What is done, in words.
    pub action: String,
    /// Whom it hits.
    pub target: String,
    /// `observe`, `approve`, `auto`.
    pub mode: String,
    /// `waiting`, `in-force`, `expired`, …
    pub state: String,
    /// Who decided.
    pub author: Author,
    /// When.
    pub decided: Timestamp,
    /// When its state changed last.
    pub changed: Timestamp,
    /// When it, or the wait for an operator's word, ends by itself.
    pub until: Timestamp,
    /// How long it lasts.
    pub ttl_seconds: u64,
    /// In words, with the numbers.
    pub reason: String,
    /// Where it is in force, read back.
    pub applied: Vec<String>,
    /// What did not work.
    pub problems: Vec<String>,
}

/// Decisions that were approved, rejected or taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionsChanged {
    /// What was done: `approved`, `rejected`, `taken back`.
    pub done: String,
    /// They, as they stand now.
    pub decisions: Vec<DecisionRow>,
    /// Number of the audit record.
    #[serde(default)]
    pub audit: Option<u64>,
}

/// Findings.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    /// One each, the latest first.
    pub findings: Vec<FindingRow>,
    /// Ask on from here; none: these were the last.
    #[serde(default)]
    pub next: Option<FindingId>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindingRow {
    /// Its name.
    pub id: FindingId,
    /// What it is part of.
    pub incident: IncidentId,
    /// What found it.
    pub rule: String,
    /// Whom it is about.
    pub about: String,
    /// When the request that completed it was answered.
    pub at: Timestamp,
    /// How often: one more for each time that the same came again soon.
    pub times: u64,
    /// The span that was looked at.
    pub window_seconds: u64,
    /// Why, in plain words, the most telling first.
    pub signals: Vec<String>,
    /// Who else was there: `source`, `through`, `identity`, `credential`, `ja4`, `route`,
    /// `upstream`, as `KIND:NAME`.
    pub scene: Vec<String>,
    /// Requests that were counted, newest last.
    pub evidence: Vec<String>,
}

/// What is muted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mutes {
    /// One each.
    pub mutes: Vec<MuteRow>,
    /// Number of the audit record, where something was changed.
    #[serde(default)]
    pub audit: Option<u64>,
}

/// One rule or entity that is muted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MuteRow {
    /// A rule's name or an entity.
    pub what: String,
    /// Until when.
    pub until: Timestamp,
    /// Who said so.
    pub author: Author,
    /// In which words.
    pub reason: String,
}
