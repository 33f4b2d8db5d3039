//! `[detect.profile]`: what is usual for each identity, and when a day is too unlike it.

use std::sync::Arc;

use enforcer_detect::profile::{BITS, IDENTITIES, IDENTITIES_MAX, Plan};
use enforcer_detect::{Action, Mode, Response};

use super::{DAY, MINUTE, SECOND, YEAR};
use crate::grammar::{Fields, Key, Need, Shape};

/// A score lies between nothing and three signals of the most bits.
const BITS_MAX: u64 = 60;

pub(super) static KEYS: &[Key] = &[
    Key::with_default("enabled", Shape::Flag, Need::True, "Whether profiles are kept."),
    Key::with_default(
        "bits",
        Shape::Count(1, BITS_MAX),
        Need::Count(17),
        "So many bits of surprise make a day a finding.",
    ),
    Key::with_default(
        "mode",
        Shape::Choice(&["observe", "approve", "auto"]),
        Need::Text("observe"),
        "Whether what follows is carried out, asked for, or only recorded.",
    ),
    Key::with_default(
        "identities_max",
        Shape::Count(1, 1_000_000),
        Need::Count(100_000),
        "Identities remembered, each in 1 KiB; the least recently seen make room.",
    ),
    Key::with_default(
        "learn",
        Shape::Span(MINUTE, DAY.saturating_mul(90)),
        Need::Text("7d"),
        "For so long after the first request nothing is found.",
    ),
    Key::optional(
        "respond",
        Shape::List(&Shape::Table(RESPOND_KEYS)),
        "What follows, the mildest first; without: the identity is denied for 15m, once approved.",
    ),
];

static RESPOND_KEYS: &[Key] = &[
    Key::required(
        "action",
        Shape::Choice(&[
            "notify",
            "tighten",
            "require_stronger",
            "deny_identity",
            "deny_credential",
        ]),
        "What is done.",
    ),
    Key::with_default(
        "percent",
        Shape::Count(1, 99),
        Need::Count(50),
        "With `tighten`: to this share of its limits.",
    ),
    Key::required("ttl", Shape::Span(SECOND, YEAR), "For how long the first time."),
    Key::optional(
        "mode",
        Shape::Choice(&["observe", "approve", "auto"]),
        "Whether this may be done unasked; without: as `mode` of the profile says.",
    ),
];

const _: () = assert!(IDENTITIES == 100_000 && IDENTITIES_MAX == 1_000_000);
const _: () = assert!(BITS > 16.9 && BITS < 17.1);

/// The plan; without `[detect]` no profiles are kept.
pub(super) fn read(root: Fields<'_>) -> Option<Plan> {
    if !root.has("detect") {
        return Some(Plan { enabled: false, ..Plan::default() });
    }
    let fields = root.table("detect").table("profile");
    let respond: Option<Vec<Response>> =
        fields.tables("respond").into_iter().map(response).collect();
    let respond: Arc<[Response]> = match respond? {
        named if fields.has("respond") => named.into(),
        _ => Plan::default().respond,
    };
    Some(Plan {
        enabled: fields.flag("enabled")?,
        bits: f32::from(u16::try_from(fields.count("bits")?).ok()?),
        mode: mode(fields.text("mode")?)?,
        identities_max: usize::try_from(fields.count("identities_max")?).ok()?,
        learn: fields.duration("learn")?,
        respond,
    })
}

fn response(fields: Fields<'_>) -> Option<Response> {
    let action = match fields.text("action")? {
        "notify" => Action::Notify,
        "tighten" => Action::Tighten(u8::try_from(fields.count("percent")?).ok()?),
        "require_stronger" => Action::RequireStronger,
        "deny_identity" => Action::DenyIdentity,
        "deny_credential" => Action::DenyCredential,
        _ => return None,
    };
    let mode = if fields.has("mode") { Some(mode(fields.text("mode")?)?) } else { None };
    Some(Response { action, ttl: fields.duration("ttl")?, mode })
}

fn mode(word: &str) -> Option<Mode> {
    match word {
        "observe" => Some(Mode::Observe),
        "approve" => Some(Mode::Approve),
        "auto" => Some(Mode::Auto),
        _ => None,
    }
}
