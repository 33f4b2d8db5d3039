//! `[throttle]`: what becomes of a source that goes on after it was refused.

use std::num::NonZeroU32;

use enforcer_limits::Throttle;

use super::SECOND;
use crate::codes::NO_EFFECT;
use crate::grammar::{Fields, Key, Need, PER_SECOND, Shape};
use crate::problem::Report;

pub(super) static KEYS: &[Key] = &[
    Key::with_default(
        "refusals",
        Shape::Count(1, 1 << 20),
        Need::Count(50),
        "So many refusals by limits from one source …",
    ),
    Key::with_default(
        "within",
        Shape::Span(SECOND, Throttle::WITHIN_MAX),
        Need::Text("10s"),
        "… in this time shrink its budget of packets in the kernel …",
    ),
    Key::with_default("budget", Shape::Text(&PER_SECOND), Need::Text("100/s"), "… to this …"),
    Key::with_default(
        "for",
        Shape::Span(SECOND, Throttle::PENALTY_MAX),
        Need::Text("5m"),
        "… for so long since the last time.",
    ),
    Key::with_default(
        "block_after",
        Shape::Span(SECOND, Throttle::PENALTY_MAX),
        Need::Text("1m"),
        "Going on for so long under the smaller budget blocks the source …",
    ),
    Key::with_default(
        "block_for",
        Shape::Span(SECOND, Throttle::PENALTY_MAX),
        Need::Text("15m"),
        "… for so long.",
    ),
];

/// The section; outer `None` when it has problems, inner `None` when it is absent.
pub(super) fn read(root: Fields<'_>, report: &mut Report) -> Option<Option<Throttle>> {
    if !root.has("throttle") {
        return Some(None);
    }
    let fields = root.table("throttle");
    if fields.has("budget") && !root.has("kernel") {
        let message = "`throttle.budget` is kept by the kernel part, which is off";
        let hint = "add [kernel], or remove the budget; the block works without".to_owned();
        report.add(&NO_EFFECT, fields.span_of("budget"), message, hint);
    }
    Some(Some(Throttle {
        refusals: NonZeroU32::new(u32::try_from(fields.count("refusals")?).ok()?)?,
        within: fields.duration("within")?,
        budget: fields.parsed("budget")?,
        penalty: fields.duration("for")?,
        block_after: fields.duration("block_after")?,
        block_for: fields.duration("block_for")?,
    }))
}
