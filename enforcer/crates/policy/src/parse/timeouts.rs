//! `[timeouts]`: how long a client may take.

use std::time::Duration;

use enforcer_model::Bytes;

use super::{DAY, HOUR, MILLISECOND};
use crate::grammar::{Fields, Key, Need, Shape};

/// How long a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For a whole request head.
    pub head: Duration,
    /// The least number of bytes of a body in each second, judged after a grace of five seconds.
    pub body_rate: Bytes,
    /// The least number of bytes of an answer that a client takes in each second while some wait
    /// for it, judged after a grace of a minute.
    pub answer_rate: Bytes,
    /// A connection without a request is closed after this long, and one whose client takes no byte
    /// of an answer.
    pub idle: Duration,
    /// For a whole request until the end of its answer, where a route does not say otherwise; none:
    /// as long as it takes. Tunnels are not requests any more.
    pub request: Option<Duration>,
    /// For requests under way when the agent stops.
    pub shutdown: Duration,
}

pub(super) static KEYS: &[Key] = &[
    Key::with_default("handshake", SPAN, Need::Text("10s"), "For the TLS handshake."),
    Key::with_default("head", SPAN, Need::Text("10s"), "For a whole request head."),
    Key::with_default(
        "body_rate",
        Shape::Size(1, 1 << 30),
        Need::Text("1KiB"),
        "The least number of bytes of a request body per second, after a grace of five seconds.",
    ),
    Key::with_default(
        "answer_rate",
        Shape::Size(1, 1 << 30),
        Need::Text("1KiB"),
        "The least number of bytes of an answer that a client takes per second while some wait for \
         it, after a grace of a minute.",
    ),
    Key::with_default(
        "idle",
        SPAN,
        Need::Text("60s"),
        "A connection without a request is closed after this long, and one whose client takes no \
         byte of an answer.",
    ),
    Key::optional(
        "request",
        WHOLE,
        "For a whole request until the end of its answer; `0s`, or nothing: as long as it takes.",
    ),
    Key::with_default(
        "shutdown",
        SPAN,
        Need::Text("30s"),
        "For requests under way when the agent stops.",
    ),
];

const SPAN: Shape = Shape::Span(MILLISECOND, HOUR);

/// Of a whole request; zero is none.
pub(super) const WHOLE: Shape = Shape::Span(Duration::ZERO, DAY);

/// What [`WHOLE`] says under `key`; none where it is absent, inner none where it is zero.
pub(super) fn whole(fields: Fields<'_>, key: &str) -> Option<Option<Duration>> {
    let whole = fields.duration(key)?;
    Some((!whole.is_zero()).then_some(whole))
}

pub(super) fn read(fields: Fields<'_>) -> Option<Timeouts> {
    Some(Timeouts {
        handshake: fields.duration("handshake")?,
        head: fields.duration("head")?,
        body_rate: fields.size("body_rate")?,
        answer_rate: fields.size("answer_rate")?,
        idle: fields.duration("idle")?,
        request: whole(fields, "request").flatten(),
        shutdown: fields.duration("shutdown")?,
    })
}
