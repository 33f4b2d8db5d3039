//! `[audit]`: the name of the log and when a record must be on disk.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::{DAY, HOUR, SECOND};
use crate::grammar::{Fields, Key, Need, ORIGIN, Shape};

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
}

/// When a record must be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before the client has its answer.
    Durable,
    /// With the next group commit; the answer does not wait.
    Queued,
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
        Shape::Choice(&["durable", "queued", "none"]),
        Need::Text("queued"),
        "Whether the answer to an allowed request waits until its record is on disk; `none`: such a \
         request leaves no record, unless its answer broke off.",
    ),
    Key::with_default(
        "denied",
        DURABILITY,
        Need::Text("durable"),
        "Whether the answer to a refused request waits until its record is on disk.",
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
];

const DURABILITY: Shape = Shape::Choice(&["durable", "queued"]);

pub(super) fn read(fields: Fields<'_>) -> Option<AuditPlan> {
    Some(AuditPlan {
        origin: fields.text("origin").map(Arc::from),
        allowed: match fields.text("allowed")? {
            "none" => None,
            word => Some(durability(word)?),
        },
        denied: durability(fields.text("denied")?)?,
        queue: super::size(fields.count("queue"))?,
        heartbeat: fields.duration("heartbeat")?,
        keep: fields.duration("keep"),
    })
}

fn durability(word: &str) -> Option<Durability> {
    match word {
        "durable" => Some(Durability::Durable),
        "queued" => Some(Durability::Queued),
        _ => None,
    }
}
