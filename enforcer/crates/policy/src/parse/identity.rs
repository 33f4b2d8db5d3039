//! `[identity]`: the signed statement about the caller that upstreams get.

use std::sync::Arc;
use std::time::Duration;

use super::{MINUTE, SECOND};
use crate::grammar::{Fields, Key, Need, Shape, WORDS};

/// How upstreams are told who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityPlan {
    /// `iss` of the statement; `None`: the name of the audit log.
    pub issuer: Option<Arc<str>>,
    /// How long one is good for.
    pub ttl: Duration,
}

pub(super) static KEYS: &[Key] = &[
    Key::optional(
        "issuer",
        Shape::Text(&WORDS),
        "Who signs. Without it: the name of the audit log.",
    ),
    Key::with_default(
        "ttl",
        Shape::Span(SECOND, MINUTE.saturating_mul(10)),
        Need::Text("60s"),
        "How long a statement is good for.",
    ),
    Key::with_default(
        "header",
        Shape::Choice(&["Enforcer-Identity"]),
        Need::Text("Enforcer-Identity"),
        "Where it stands; clients cannot send this header.",
    ),
];

pub(super) fn read(fields: Fields<'_>) -> Option<IdentityPlan> {
    Some(IdentityPlan {
        issuer: fields.text("issuer").map(Arc::from),
        ttl: fields.duration("ttl")?,
    })
}
