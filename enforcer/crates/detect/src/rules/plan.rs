//! A rule that was read and understood.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::when::{About, Needs, When};
use crate::{Mode, Response};

/// Steps of a sequence, at most.
pub const STEPS_MAX: usize = 8;

/// One rule: what is counted, by what, and what follows.
#[derive(Clone, Debug, PartialEq)]
pub struct RulePlan {
    /// Its name in findings, commands and records.
    pub id: Arc<str>,
    /// What it notices, in one line.
    pub title: Arc<str>,
    /// The entries of the OWASP API Security Top 10 that it is about, as `API1:2023`.
    pub owasp: Box<[Arc<str>]>,
    /// Which events count; none: all requests.
    pub when: Option<When>,
    /// By whom or what it counts.
    pub key: KeyBy,
    /// What makes a finding.
    pub pattern: Pattern,
    /// Or this: a profile that is that surprised.
    pub or_profile: Option<OrProfile>,
    /// It is only a step of other rules, and makes no finding of its own.
    pub silent: bool,
    /// What follows, the mildest first.
    pub respond: Arc<[Response]>,
    /// Whether that may be done unasked.
    pub mode: Mode,
    /// How bad it is.
    pub severity: Severity,
    /// The largest share of the known identities that it may act on, in thousandths.
    pub max_share_of_identities: Option<u16>,
    /// What it must find and must not.
    pub tests: Box<[RuleTest]>,
}

/// By whom or what a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyBy {
    /// The authenticated caller.
    Identity,
    /// The address; of IPv6 the /64.
    Source,
    /// The /24, of IPv6 the /48.
    Network,
    /// The presented credential, accepted or not.
    Credential,
    /// The TLS client.
    Ja4,
    /// The route.
    Route,
    /// The host of the upstream.
    Upstream,
    /// All traffic together.
    Everyone,
}

/// What makes a finding.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// That many events; packets count each.
    EventCount(Threshold),
    /// That many different values.
    ValueCount(Field, Threshold),
    /// That much of something.
    ValueSum(Summed, Threshold),
    /// That share of the events that count, in thousandths.
    Ratio {
        /// Which of them.
        of: When,
        /// In thousandths.
        threshold: Threshold,
        /// Fewer events have no share.
        at_least: u64,
    },
    /// All of these inside a span of time.
    Temporal {
        /// At most [`STEPS_MAX`].
        steps: Box<[Step]>,
        /// One after the other, in this order.
        ordered: bool,
        /// The span.
        within: Duration,
    },
}

/// When a count makes a finding, and when the next one can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// This much makes a finding.
    pub on: u64,
    /// Below this it is over, and the next time is a new one.
    pub off: u64,
    /// Inside this span of time.
    pub within: Duration,
}

/// One step of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An event.
    When(When),
    /// A finding of an earlier rule with the same key.
    Rule(Arc<str>),
}

/// What different values are counted of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The object that the path names, of its route.
    ObjectId,
    /// The caller.
    Identity,
    /// The presented credential.
    Credential,
    /// The TLS client.
    Ja4,
    /// The route.
    Route,
    /// The canonical path.
    Path,
    /// The canonical host.
    Host,
    /// The address; of IPv6 the /64.
    Source,
    /// The /24, of IPv6 the /48.
    Network,
    /// The country.
    Region,
    /// The method.
    Method,
    /// What the client calls itself.
    UserAgent,
    /// The host of the upstream.
    Upstream,
    /// The role that was accepted.
    Role,
    /// The status.
    Status,
    /// Why we refused it.
    Reason,
}

/// What is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Summed {
    /// Body bytes from clients.
    BytesIn,
    /// Body bytes to clients.
    BytesOut,
    /// What answers gave away that keeps others out.
    Secrets,
    /// What answers gave away about persons.
    Personal,
    /// Both.
    Bytes,
    /// Time of answering, in milliseconds.
    Duration,
}

/// How bad it is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// Worth looking at today.
    Medium,
    /// Worth looking at now.
    High,
    /// Somebody has to be woken.
    Critical,
}

/// A profile that is surprised.
#[derive(Clone, Debug, PartialEq)]
pub struct OrProfile {
    /// Its signals that count; none: all.
    pub signals: Box<[Arc<str>]>,
    /// How many bits of surprise they must have together.
    pub bits: f32,
}

/// What a rule must do with a file of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTest {
    /// The file, as written.
    pub events: Arc<str>,
    /// Whether a finding is expected.
    pub expect: Expected,
}

/// What is expected of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A finding, within that many events if it is said.
    Fire(Option<u64>),
    /// None.
    Quiet,
}

impl RulePlan {
    /// Whether its counts mean the same as those of `other`.
    pub(crate) fn counts_like(&self, other: &Self) -> bool {
        self.id == other.id
            && self.when == other.when
            && self.key == other.key
            && self.pattern == other.pattern
    }

    /// The span of time that it looks at.
    pub const fn within(&self) -> Duration {
        match &self.pattern {
            Pattern::EventCount(threshold)
            | Pattern::ValueCount(_, threshold)
            | Pattern::ValueSum(_, threshold)
            | Pattern::Ratio { threshold, .. } => threshold.within,
            Pattern::Temporal { within, .. } => *within,
        }
    }

    /// Which events it is about.
    pub(crate) fn about(&self) -> About {
        self.when.as_ref().map_or(About::Requests, When::about)
    }

    /// Whether it wants to know from which country a request came.
    pub fn reads_region(&self) -> bool {
        let reads = |when: &When| when.expr.reads_region();
        let of = match &self.pattern {
            Pattern::ValueCount(field, _) => *field == Field::Region,
            Pattern::Ratio { of, .. } => reads(of),
            Pattern::Temporal { steps, .. } => {
                steps.iter().any(|step| matches!(step, Step::When(when) if reads(when)))
            }
            Pattern::EventCount(_) | Pattern::ValueSum(..) => false,
        };
        of || self.when.as_ref().is_some_and(reads)
    }

    /// What must be so of a request before anything is looked at.
    pub(crate) fn needs(&self) -> Needs {
        let when = self.when.as_ref().map(|when| Needs::of(&when.expr)).unwrap_or_default();
        let field = match &self.pattern {
            Pattern::ValueCount(field, _) => field.needs(),
            Pattern::EventCount(_)
            | Pattern::ValueSum(..)
            | Pattern::Ratio { .. }
            | Pattern::Temporal { .. } => Needs::default(),
        };
        when.and(field).and(self.key.needs())
    }
}

impl KeyBy {
    /// All of them, as rules name them.
    pub const ALL: &[(&str, Self)] = &[
        ("identity", Self::Identity),
        ("source", Self::Source),
        ("network", Self::Network),
        ("credential", Self::Credential),
        ("ja4", Self::Ja4),
        ("route", Self::Route),
        ("upstream", Self::Upstream),
        ("everyone", Self::Everyone),
    ];
}

impl fmt::Display for KeyBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, key)| key == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl Field {
    /// All of them, as rules name them, with what many of them are called.
    pub const ALL: &[(&str, Self, &str)] = &[
        ("object_id", Self::ObjectId, "objects"),
        ("identity", Self::Identity, "callers"),
        ("credential", Self::Credential, "credentials"),
        ("ja4", Self::Ja4, "TLS clients"),
        ("route", Self::Route, "routes"),
        ("path", Self::Path, "paths"),
        ("host", Self::Host, "hosts"),
        ("source", Self::Source, "addresses"),
        ("network", Self::Network, "networks"),
        ("region", Self::Region, "regions"),
        ("method", Self::Method, "methods"),
        ("user_agent", Self::UserAgent, "user agents"),
        ("upstream", Self::Upstream, "upstream hosts"),
        ("role", Self::Role, "roles"),
        ("status", Self::Status, "status codes"),
        ("reason", Self::Reason, "reasons of refusal"),
    ];

    /// What many different ones are called.
    pub fn plural(self) -> &'static str {
        Self::ALL.iter().find(|(_, field, _)| *field == self).map_or("values", |(.., many)| many)
    }
}

impl Summed {
    /// All of them, as rules name them.
    pub const ALL: &[(&str, Self)] = &[
        ("bytes_in", Self::BytesIn),
        ("bytes_out", Self::BytesOut),
        ("bytes", Self::Bytes),
        ("secrets", Self::Secrets),
        ("personal", Self::Personal),
        ("duration", Self::Duration),
    ];
}

impl Severity {
    /// All of them, as rules name them.
    pub const ALL: &[(&str, Self)] = &[
        ("low", Self::Low),
        ("medium", Self::Medium),
        ("high", Self::High),
        ("critical", Self::Critical),
    ];
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, known)| known == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// A span of time in its largest whole unit, as rules write it.
pub(crate) fn span(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms >= length && ms.is_multiple_of(length) {
            return format!("{}{unit}", ms / length);
        }
    }
    format!("{ms}ms")
}
