//! `[audit]`: the name of the log, when a record must be on disk, and who is told.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use enforcer_audit::{RECIPIENTS_MAX, Recipient};

use super::anchoring::{self, Anchoring};
use super::{DAY, HOUR, MINUTE, SECOND};
use crate::codes::{MISSING_PART, TOO_MANY};
use crate::grammar::{Fields, Key, Need, ORIGIN, RECIPIENT, Shape};
use crate::parse::Base;
use crate::problem::Report;

/// The name of the log and when a record must be on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPlan {
    /// Names the log in its checkpoints; `None`: the host's name and `/enforcer`.
    pub origin: Option<Arc<str>>,
    /// For requests that were allowed and answered whole; none: they leave no record.
    pub allowed: Option<Durability>,
    /// For requests that were refused.
    pub denied: Durability,
    /// Records that may be reserved or waiting.
    pub queue: NonZeroUsize,
    /// From one heartbeat of the log to the next.
    pub heartbeat: Duration,
    /// Records older than this are removed; `None`: they are kept for ever.
    pub keep: Option<Duration>,
    /// Who can read sealed segments when the host cannot any more.
    pub recipients: Vec<Recipient>,
    /// For how long the host can read a closed segment by itself.
    pub hot: Duration,
    /// Whom the log is shown to, so that it cannot be changed behind their backs.
    pub anchoring: Anchoring,
}

/// When a record must be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before the client has its answer.
    Durable,
    /// With the next group commit; the answer does not wait.
    Queued,
    /// On disk, and known to the quorum of witnesses, before the client has its answer.
    Witnessed {
        /// No longer; then the client has no whole answer.
        within: Duration,
    },
}

/// Thirty years.
const KEEP_MAX: Duration = DAY.saturating_mul(10_957);

pub(super) static KEYS: &[Key] = &[
    Key::optional(
        "origin",
        Shape::Text(&ORIGIN),
        "Names the log in its checkpoints. Without it: `<hostname>/enforcer`.",
    ),
    Key::with_default(
        "allowed",
        Shape::Choice(&["witnessed", "durable", "queued", "none"]),
        Need::Text("queued"),
        "Whether the answer to an allowed request waits until its record is on disk, or until the \
         witnesses know it; `none`: such a request leaves no record, unless its answer broke off.",
    ),
    Key::with_default(
        "denied",
        DURABILITY,
        Need::Text("durable"),
        "Whether the answer to a refused request waits until its record is on disk, or until the \
         witnesses know it.",
    ),
    Key::with_default(
        "queue",
        Shape::Count(64, 1 << 20),
        Need::Count(8_192),
        "Records that may be reserved or waiting; when full, requests are refused.",
    ),
    Key::with_default(
        "heartbeat",
        Shape::Span(SECOND, HOUR),
        Need::Text("1m"),
        "How often a record tells that the log lives, and how well the clock is kept.",
    ),
    Key::optional(
        "keep",
        Shape::Span(HOUR, KEEP_MAX),
        "Segments whose records are all older than this are removed; their proofs stay. Without it: \
         everything is kept.",
    ),
    Key::optional(
        "recipients",
        Shape::List(&Shape::Text(&RECIPIENT)),
        "Who can read the records when the host has destroyed a segment's key: at most 16 public keys \
         of age, as `age-keygen` prints them. Without it the keys stay beside the log, and a copy of \
         the state can be read.",
    ),
    Key::with_default(
        "hot",
        Shape::Span(MINUTE, KEEP_MAX),
        Need::Text("1d"),
        "For how long after its end the host keeps the key of a segment that recipients can open; \
         later it is read with `--identity`.",
    ),
    anchoring::WITNESS,
    anchoring::QUORUM,
    anchoring::EVERY,
    anchoring::AGE,
    anchoring::WAIT,
    anchoring::TIMESTAMP,
];

const DURABILITY: Shape = Shape::Choice(&["witnessed", "durable", "queued"]);

pub(super) fn read(fields: Fields<'_>, base: Base<'_>, report: &mut Report) -> Option<AuditPlan> {
    let anchoring = anchoring::read(fields, base, report);
    for key in ["allowed", "denied"] {
        if fields.text(key) == Some("witnessed") && fields.named("witness").is_empty() {
            let message = format!("`{key}` waits for witnesses, and there are none");
            let hint = "add `[audit.witness.NAME]` with `url` and `key`, or write `durable`";
            report.add(&MISSING_PART, fields.span_of(key), message, hint.to_owned());
        }
    }
    let anchoring = anchoring?;
    Some(AuditPlan {
        origin: fields.text("origin").map(Arc::from),
        allowed: match fields.text("allowed")? {
            "none" => None,
            word => Some(durability(word, &anchoring)?),
        },
        denied: durability(fields.text("denied")?, &anchoring)?,
        queue: super::size(fields.count("queue"))?,
        heartbeat: fields.duration("heartbeat")?,
        keep: fields.duration("keep"),
        recipients: recipients(fields, report)?,
        hot: fields.duration("hot")?,
        anchoring,
    })
}

fn recipients(fields: Fields<'_>, report: &mut Report) -> Option<Vec<Recipient>> {
    let texts = fields.texts("recipients");
    if let Some((_, span)) = texts.get(RECIPIENTS_MAX) {
        let message = format!("more than {RECIPIENTS_MAX} recipients");
        let hint =
            "each segment names all of them; share an identity among those who belong together";
        report.add(&TOO_MANY, *span, message, hint.to_owned());
        return None;
    }
    // What is no recipient was told by its form.
    texts.into_iter().map(|(text, _)| text.parse().ok()).collect()
}

fn durability(word: &str, anchoring: &Anchoring) -> Option<Durability> {
    match word {
        "durable" => Some(Durability::Durable),
        "queued" => Some(Durability::Queued),
        "witnessed" => Some(Durability::Witnessed { within: anchoring.wait }),
        _ => None,
    }
}
