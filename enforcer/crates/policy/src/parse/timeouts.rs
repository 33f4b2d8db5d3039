//! `[timeouts]`: how long a client may take.

use std::time::Duration;

use enforcer_model::Bytes;

use super::{HOUR, MILLISECOND};
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
    /// A connection without a request is closed after this long.
    pub idle: Duration,
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
        "idle",
        SPAN,
        Need::Text("60s"),
        "A connection without a request is closed after this long.",
    ),
    Key::with_default(
        "shutdown",
        SPAN,
        Need::Text("30s"),
        "For requests under way when the agent stops.",
    ),
];

const SPAN: Shape = Shape::Span(MILLISECOND, HOUR);

pub(super) fn read(fields: Fields<'_>) -> Option<Timeouts> {
    Some(Timeouts {
        handshake: fields.duration("handshake")?,
        head: fields.duration("head")?,
        body_rate: fields.size("body_rate")?,
        idle: fields.duration("idle")?,
        shutdown: fields.duration("shutdown")?,
    })
}
