//! Rules of detection, as the agent has them, and what they may do.

use enforcer_model::Timestamp;
use serde::{Deserialize, Serialize};

/// What becomes of a rule, or how all of them do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RulesOrder {
    /// How they do.
    List,
    /// Sets what a rule may do, until the agent restarts or its policy changes.
    Mode {
        /// Its id.
        rule: String,
        /// `observe`, `approve` or `auto`; none: as its file and the policy say.
        mode: Option<String>,
        /// For the record.
        reason: Option<String>,
    },
}

/// Every rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RulesShown {
    /// In the order in which they are asked.
    pub rules: Vec<RuleRow>,
    /// Number of the audit record, where something was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<u64>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleRow {
    /// Its name.
    pub id: String,
    /// What it notices.
    pub title: String,
    /// Entries of the OWASP API Security Top 10.
    pub owasp: Vec<String>,
    /// By whom or what it counts.
    pub key: String,
    /// How bad it is.
    pub severity: String,
    /// What it may do now: `observe`, `approve` or `auto`.
    pub mode: String,
    /// What its file and the policy say of that.
    pub own_mode: String,
    /// It is only a step of other rules.
    #[serde(default)]
    pub silent: bool,
    /// What it has done; none without an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<RuleCounters>,
}

/// What a rule has done since it came into force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCounters {
    /// Events that counted.
    pub matched: u64,
    /// Findings.
    pub findings: u64,
    /// Decisions that would have been carried out if it did not only observe.
    pub would_have_acted: u64,
    /// Decisions that an operator was asked about.
    pub asked: u64,
    /// Decisions that were carried out unasked.
    pub acted: u64,
    /// When it found something last.
    pub last: Option<Timestamp>,
    /// Keys that it remembers.
    pub keys: u64,
    /// Memory that it takes, about.
    pub bytes: u64,
}
