//! `[connections]`: how many clients may be connected, and for how long.

use std::time::Duration;

use super::{DAY, SECOND};
use crate::grammar::{Fields, Key, Need, Shape};

/// How many connections there may be, and when each is asked to close.
///
/// One too many is closed at once; nothing waits. Sources on this host itself and trusted proxies
/// speak for many, so they are bounded by the total alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionsPlan {
    /// In all.
    pub total: usize,
    /// From one source address, or one IPv6 /64.
    pub per_source: usize,
    /// TLS handshakes under way from one source.
    pub handshakes: usize,
    /// A connection is asked to close after this long …
    pub age: Duration,
    /// … or after so many requests.
    pub requests: u64,
}

pub(super) static KEYS: &[Key] = &[
    Key::with_default(
        "total",
        Shape::Count(1, 1 << 20),
        Need::Count(16_384),
        "Connections in all.",
    ),
    Key::with_default(
        "per_source",
        Shape::Count(1, 1 << 20),
        Need::Count(1_024),
        "Connections from one address or IPv6 /64; not asked of this host and of trusted proxies.",
    ),
    Key::with_default(
        "handshakes",
        Shape::Count(1, 1 << 20),
        Need::Count(64),
        "TLS handshakes under way from one address or IPv6 /64.",
    ),
    Key::with_default(
        "age",
        Shape::Span(SECOND, DAY.saturating_mul(30)),
        Need::Text("1h"),
        "A connection is asked to close after this long, without losing a request …",
    ),
    Key::with_default(
        "requests",
        Shape::Count(1, 1 << 40),
        Need::Count(100_000),
        "… or after so many requests.",
    ),
];

pub(super) fn read(fields: Fields<'_>) -> Option<ConnectionsPlan> {
    let count = |key| usize::try_from(fields.count(key)?).ok();
    Some(ConnectionsPlan {
        total: count("total")?,
        per_source: count("per_source")?,
        handshakes: count("handshakes")?,
        age: fields.duration("age")?,
        requests: fields.count("requests")?,
    })
}

impl Default for ConnectionsPlan {
    /// What holds without the section.
    fn default() -> Self {
        Self {
            total: 16_384,
            per_source: 1_024,
            handshakes: 64,
            age: Duration::from_secs(3_600),
            requests: 100_000,
        }
    }
}
