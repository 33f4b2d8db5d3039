//! `[keys]`: what API keys begin with, how often they change, and who is told.

use std::sync::Arc;

use enforcer_authn::{Endpoint, KeyPlan};

use super::{HOUR, MINUTE, YEAR};
use crate::codes::{TOO_MANY, WRONG_VALUE};
use crate::grammar::{ENDPOINT, Fields, KEY_PREFIX, Key, Need, Shape};
use crate::problem::Report;

pub(super) static KEYS: &[Key] = &[
    Key::with_default(
        "prefix",
        Shape::Text(&KEY_PREFIX),
        Need::Text("enf"),
        "What new keys begin with; keys that begin with `enf` stay good.",
    ),
    Key::optional("rotate", Shape::Table(ROTATE_KEYS), "How often secrets change."),
    Key::optional(
        "webhook",
        Shape::Text(&ENDPOINT),
        "Where notices about keys are posted, as JSON.",
    ),
];

static ROTATE_KEYS: &[Key] = &[
    Key::optional(
        "every",
        Shape::Span(HOUR, YEAR.saturating_mul(5)),
        "How old a secret may become before its rotation is due. Without it: never due.",
    ),
    Key::with_default(
        "grace",
        Shape::Span(MINUTE, KeyPlan::GRACE_MAX),
        Need::Text("72h"),
        "How long an old secret lives beside a new one.",
    ),
    Key::optional(
        "notify",
        Shape::List(&Shape::Span(HOUR, YEAR)),
        "How long before an expiry notice is given. Without it: 30, 7 and 1 days.",
    ),
];

pub(super) fn read(fields: Fields<'_>, report: &mut Report) -> Option<KeyPlan> {
    let rotate = fields.table("rotate");
    let every = rotate.duration("every");
    let grace = rotate.duration("grace");
    if let (Some(every), Some(grace)) = (every, grace)
        && grace >= every
    {
        let message = "an old secret would live longer than the time between two rotations";
        let hint = "make `grace` shorter than `every`".to_owned();
        report.add(&WRONG_VALUE, rotate.span_of("grace"), message, hint);
    }
    let mut notify: Vec<_> = rotate.durations("notify").into_iter().map(|(span, _)| span).collect();
    notify.sort_unstable_by(|a, b| b.cmp(a));
    notify.dedup();
    if notify.len() > KeyPlan::NOTIFY_MAX {
        let message = format!("{} notices are more than {}", notify.len(), KeyPlan::NOTIFY_MAX);
        report.add(&TOO_MANY, rotate.span_of("notify"), message, "leave some out".to_owned());
    }
    let standard = KeyPlan::default();
    Some(KeyPlan {
        prefix: fields.parsed("prefix")?,
        every,
        grace: grace?,
        notify: if rotate.has("notify") { notify.into() } else { standard.notify },
        webhook: fields.text("webhook").filter(|url| Endpoint::parse(url).is_ok()).map(Arc::from),
    })
}
