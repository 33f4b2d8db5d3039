//! `[audit.witness.NAME]` and `[audit.timestamp]`: whom the log is shown to, how often, and how many
//! of them are enough.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use enforcer_audit::{Witness, WitnessKey, WitnessPolicy};
use enforcer_authn::{Endpoint, Roots};

use super::{DAY, MILLISECOND, MINUTE, SECOND, issuers};
use crate::codes::{MISSING_PART, NAME_TWICE, TOO_MANY, WRONG_VALUE};
use crate::grammar::{Fields, Key, Named, Need, PATH, SIGNED_ENDPOINT, Shape, WITNESS_KEY};
use crate::parse::Base;
use crate::problem::Report;
use crate::text::Span;

/// Witnesses that a policy may have; each of them is asked in the background.
const WITNESSES_MAX: usize = 32;

/// Whom the log is shown to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchoring {
    /// Who cosigns, in the order of the file.
    pub witnesses: Vec<WitnessPlan>,
    /// So many of them make a checkpoint a witnessed one.
    pub quorum: usize,
    /// How often they are asked when nobody waits for them.
    pub every: Duration,
    /// The newest witnessed checkpoint, or timestamp where there are no witnesses, should be no older.
    pub age: Duration,
    /// How long an answer waits for them at most.
    pub wait: Duration,
    /// Who says when.
    pub timestamp: Option<TimestampPlan>,
}

/// One witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessPlan {
    /// As the policy names it.
    pub name: Arc<str>,
    /// What it cosigns with.
    pub key: WitnessKey,
    /// Where checkpoints are sent.
    pub submit: Endpoint,
    /// Whom its certificate leads back to.
    pub roots: Roots,
}

/// A timestamping authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimestampPlan {
    /// Where it is asked.
    pub endpoint: Endpoint,
    /// How often.
    pub every: Duration,
    /// Whom its certificate leads back to.
    pub roots: Roots,
}

pub(super) const WITNESS: Key = Key::optional(
    "witness",
    Shape::Named(&WITNESS_TABLE),
    "Who remembers the log and cosigns its checkpoints (C2SP tlog-witness), by name.",
);
pub(super) const QUORUM: Key = Key::optional(
    "quorum",
    Shape::Count(1, 32),
    "So many witnesses make a checkpoint a witnessed one. Without it: more than half of them.",
);
pub(super) const EVERY: Key = Key::with_default(
    "anchor_every",
    Shape::Span(MILLISECOND.saturating_mul(100), DAY),
    Need::Text("10s"),
    "How often a new checkpoint goes to the witnesses when nobody waits for it.",
);
pub(super) const AGE: Key = Key::with_default(
    "anchor_age",
    Shape::Span(SECOND, DAY.saturating_mul(366)),
    Need::Text("1h"),
    "The newest witnessed checkpoint should be no older; `status` and `audit verify` tell when it is.",
);
pub(super) const WAIT: Key = Key::with_default(
    "witness_wait",
    Shape::Span(MILLISECOND.saturating_mul(100), MINUTE),
    Need::Text("5s"),
    "How long an answer waits for the witnesses, where it does; then it is 503.",
);
pub(super) const TIMESTAMP: Key = Key::optional(
    "timestamp",
    Shape::Table(TIMESTAMP_KEYS),
    "Who says that a checkpoint existed at a time (RFC 3161).",
);

static WITNESS_TABLE: Shape = Shape::Table(WITNESS_KEYS);
static WITNESS_KEYS: &[Key] = &[
    Key::required(
        "url",
        Shape::Text(&SIGNED_ENDPOINT),
        "Its submission prefix; `/add-checkpoint` follows.",
    ),
    Key::required(
        "key",
        Shape::Text(&WITNESS_KEY),
        "What it cosigns with, as `enforcer witness key` prints it.",
    ),
    CA,
];

static TIMESTAMP_KEYS: &[Key] = &[
    Key::required("url", Shape::Text(&SIGNED_ENDPOINT), "Where it is asked."),
    Key::with_default(
        "every",
        Shape::Span(SECOND, DAY.saturating_mul(366)),
        Need::Text("1h"),
        "How often it is asked about the newest checkpoint.",
    ),
    CA,
];

const CA: Key = Key::optional(
    "ca",
    Shape::Text(&PATH),
    "PEM file with the authorities that vouch for it. Without it: those of the system.",
);

pub(super) fn read(fields: Fields<'_>, base: Base<'_>, report: &mut Report) -> Option<Anchoring> {
    let witnesses = witnesses(fields, base, report);
    Some(Anchoring {
        quorum: quorum(fields, report)?,
        witnesses: witnesses?,
        every: fields.duration("anchor_every")?,
        age: fields.duration("anchor_age")?,
        wait: fields.duration("witness_wait")?,
        timestamp: timestamp(fields, base, report)?,
    })
}

fn witnesses(fields: Fields<'_>, base: Base<'_>, report: &mut Report) -> Option<Vec<WitnessPlan>> {
    let entries = fields.named("witness");
    if entries.len() > WITNESSES_MAX {
        let message = format!("{} witnesses are more than {WITNESSES_MAX}", entries.len());
        let hint = "leave some out".to_owned();
        report.add(&TOO_MANY, fields.span_of("witness"), message, hint);
        return None;
    }
    let mut keys = HashMap::new();
    let plans: Vec<_> = entries
        .iter()
        .map(|entry| {
            let (plan, span) = witness(entry, base, report)?;
            if let Some(other) = keys.insert(*plan.key.bytes(), entry.name) {
                let message = format!("`{other}` and `{}` are the same witness", entry.name);
                let hint = "each has a key of its own, or one counts twice".to_owned();
                report.add(&NAME_TWICE, span, message, hint);
            }
            Some(plan)
        })
        .collect();
    plans.into_iter().collect()
}

fn witness(entry: &Named<'_>, base: Base<'_>, report: &mut Report) -> Option<(WitnessPlan, Span)> {
    let fields = entry.fields(WITNESS_KEYS)?;
    let roots = issuers::roots(fields, base, report);
    let prefix = fields.text("url")?;
    let submit = format!("{}/add-checkpoint", prefix.trim_end_matches('/'));
    let submit = Endpoint::parse_self_proving(&submit).ok().filter(|_| !prefix.contains('?'));
    if submit.is_none() && Endpoint::parse_self_proving(prefix).is_ok() {
        let message = format!("nothing can follow `{prefix}`");
        let hint = "write the submission prefix of the witness, without a query".to_owned();
        report.add(&WRONG_VALUE, fields.span_of("url"), message, hint);
    }
    let plan = WitnessPlan {
        name: entry.name.into(),
        key: fields.parsed("key")?,
        submit: submit?,
        roots: roots?,
    };
    Some((plan, fields.span_of("key")))
}

fn quorum(fields: Fields<'_>, report: &mut Report) -> Option<usize> {
    let witnesses = fields.named("witness").len();
    if !fields.has("quorum") {
        return Some(if witnesses == 0 { 0 } else { witnesses / 2 + 1 });
    }
    let quorum = usize::try_from(fields.count("quorum")?).ok()?;
    if quorum > witnesses {
        let message = format!("a quorum of {quorum} cannot be met by {witnesses}");
        let hint = "add `[audit.witness.NAME]`, or ask for fewer".to_owned();
        report.add(&MISSING_PART, fields.span_of("quorum"), message, hint);
        return None;
    }
    Some(quorum)
}

fn timestamp(
    fields: Fields<'_>,
    base: Base<'_>,
    report: &mut Report,
) -> Option<Option<TimestampPlan>> {
    if !fields.has("timestamp") {
        return Some(None);
    }
    let fields = fields.table("timestamp");
    let roots = issuers::roots(fields, base, report);
    Some(Some(TimestampPlan {
        endpoint: Endpoint::parse_self_proving(fields.text("url")?).ok()?,
        every: fields.duration("every")?,
        roots: roots?,
    }))
}

// === impl Anchoring ===

impl Anchoring {
    /// Whether anybody is shown the log.
    pub const fn is_any(&self) -> bool {
        !self.witnesses.is_empty() || self.timestamp.is_some()
    }

    /// Whose cosignatures are enough.
    pub fn policy(&self) -> WitnessPolicy {
        let witnesses = self.witnesses.iter().map(|plan| Witness {
            name: plan.name.to_string(),
            key: plan.key.clone(),
            url: plan.submit.as_str().strip_suffix("/add-checkpoint").map(str::to_owned),
        });
        WitnessPolicy::of(witnesses.collect(), self.quorum)
    }
}
