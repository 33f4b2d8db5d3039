//! `[cache]`, and what `[[route]] cache` says: which answers are kept, and for whom.

use std::time::Duration;

use enforcer_cache::{Bounds, Plan};

use super::MINUTE;
use super::upstreams::Upstream;
use crate::codes::NO_EFFECT;
use crate::grammar::{Fields, Key, Need, Shape};
use crate::problem::Report;

pub(super) static KEYS: &[Key] = &[
    Key::with_default(
        "memory",
        Shape::Size(1 << 20, 1 << 40),
        Need::Text("64MiB"),
        "What all kept answers may take in memory, heads and keys included; the least useful give way.",
    ),
    Key::with_default(
        "entry",
        Shape::Size(0, 1 << 30),
        Need::Text("1MiB"),
        "The longest body that is kept.",
    ),
    Key::with_default(
        "wait",
        Shape::Span(Duration::ZERO, MINUTE),
        Need::Text("5s"),
        "How long a request waits for another one that asks its upstream for the same.",
    ),
    Key::with_default(
        "stale_if_unreachable",
        Shape::Span(Duration::ZERO, super::DAY),
        Need::Text("1m"),
        "How long an answer that is no longer fresh stands in for an upstream that cannot be reached, \
         where the answer itself says nothing about that.",
    ),
];

/// Of a route, in the place of `true`.
pub(super) static ROUTE_KEYS: &[Key] = &[Key::with_default(
    "shared",
    Shape::Flag,
    Need::False,
    "Answers that say `public`, `s-maxage` or `must-revalidate` are used for every caller whom the \
     route allows, and not only for the one who asked.",
)];

pub(super) fn read(fields: Fields<'_>) -> Option<Bounds> {
    Some(Bounds {
        memory: fields.size("memory")?,
        entry: fields.size("entry")?,
        wait: fields.duration("wait")?,
        unreachable: fields.duration("stale_if_unreachable")?,
    })
}

/// Whether the answers of the route `fields` are kept, and for whom; none when they are not.
pub(super) fn of_route(
    fields: Fields<'_>,
    upstream: &Upstream,
    report: &mut Report,
) -> Option<Plan> {
    let mut shared = false;
    if fields.is_table("cache") {
        let cache = fields.table("cache");
        shared = cache.flag("shared")?;
        if shared && fields.flag("public") == Some(true) {
            let message = "`cache.shared` changes nothing on a public route";
            let hint = "its answers are everybody's already; write `cache = true`".to_owned();
            report.add(&NO_EFFECT, cache.span_of("shared"), message, hint);
        }
    } else if fields.flag("cache") != Some(true) {
        return None;
    }
    let text = |key| fields.text(key).unwrap_or_default();
    let told = (upstream.identity, upstream.forward_credential);
    let via = format!("{} {:?} {:?} {told:?}", upstream.plan.name, text("strip"), text("rewrite"));
    Some(Plan { route: fields.text("name")?.into(), via: via.into(), shared })
}
