//! Who is told what happens, how they do, and trying them out.

use enforcer_model::Timestamp;
use serde::{Deserialize, Serialize};

/// What is wanted of the receivers of notices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum NotifyOrder {
    /// How each of them is.
    List,
    /// Send a marked notice and say what was answered.
    Test {
        /// As the policy names it; none: every one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Send again to one that said it wants nothing more.
    Enable {
        /// As the policy names it.
        name: String,
    },
    /// Try what waits now, and what was given up once more.
    Resend {
        /// As the policy names it; none: every one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
}

/// Every receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiversListed {
    /// In the order of the policy.
    pub receivers: Vec<ReceiverRow>,
    /// Number of the audit record, where something changed.
    #[serde(default)]
    pub audit: Option<u64>,
}

/// How a receiver is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverRow {
    /// As the policy names it.
    pub name: String,
    /// `webhook`, `slack`, `pagerduty`, `alertmanager` or `syslog`.
    pub kind: String,
    /// Where it is, without what is secret of that.
    pub target: String,
    /// Nothing that matters less is told.
    pub severity: String,
    /// How it is.
    pub state: ReceiverState,
    /// Why it is disabled, or did not take what was sent last.
    pub why: Option<String>,
    /// Since when that is so.
    pub why_since: Option<Timestamp>,
    /// Notices that wait.
    pub waiting: u64,
    /// When the oldest of them happened.
    pub oldest: Option<Timestamp>,
    /// When something is tried next.
    pub next: Option<Timestamp>,
    /// When it last took something.
    pub delivered: Option<Timestamp>,
    /// Notices dropped ever, for want of room or in time.
    pub dropped: u64,
    /// Messages given up ever.
    pub given_up: u64,
    /// What others verify its messages with, where that is public (`whpk_…`).
    pub public_keys: Vec<String>,
}

/// How a receiver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReceiverState {
    /// It said that it wants nothing more; nothing is sent.
    Disabled,
    /// It did not take what was sent last.
    Failing,
    /// Nothing was sent to it yet.
    Unused,
    /// It took what was sent last.
    Well,
}

/// What came of trying receivers out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyTested {
    /// In the order of the policy.
    pub receivers: Vec<TestedRow>,
    /// Number of the audit record.
    #[serde(default)]
    pub audit: Option<u64>,
}

/// What came of trying one receiver out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestedRow {
    /// As the policy names it.
    pub name: String,
    /// What it understands.
    pub kind: String,
    /// Where it is.
    pub target: String,
    /// Whether it took the notice.
    pub delivered: bool,
    /// What it answered, or why it was not asked.
    pub said: String,
    /// How long that took.
    pub took_ms: u64,
}
