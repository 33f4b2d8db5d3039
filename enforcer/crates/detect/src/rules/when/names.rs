//! The names that a condition over events may use.

use enforcer_condition::{ConditionProblem, Name, brief, suggest};

use super::{Attribute, Flag, Numeric};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Text(Attribute),
    Number(Numeric),
    Flag(Flag),
    /// The address of the source.
    Address,
}

/// Every name, what it stands for, and one line about it.
pub(crate) const ATTRIBUTES: &[(&str, Thing, &str)] = &[
    ("status", Thing::Number(Numeric::Status), "what the client got, 100 to 599"),
    ("method", Thing::Text(Attribute::Method), "as sent, such as `POST`"),
    ("host", Thing::Text(Attribute::Host), "the canonical host; absent when it was refused"),
    ("path", Thing::Text(Attribute::Path), "the canonical path; absent when it was refused"),
    ("route", Thing::Text(Attribute::Route), "the route of the policy that matched"),
    ("route.has_object_id", Thing::Flag(Flag::HasObjectId), "the path names one object"),
    ("object_id", Thing::Text(Attribute::ObjectId), "what names it in the path"),
    ("identity", Thing::Text(Attribute::Identity), "the caller, such as `key:k7Qx2mP9aB3c`"),
    ("anonymous", Thing::Flag(Flag::Anonymous), "nobody was identified"),
    ("role", Thing::Text(Attribute::Role), "the role that the matching rule accepted"),
    ("credential", Thing::Text(Attribute::Credential), "only for `has(credential)`"),
    ("reason", Thing::Text(Attribute::Reason), "why we refused it, such as `no-route`"),
    ("refused", Thing::Flag(Flag::Refused), "we refused it"),
    (
        "credential_refused",
        Thing::Flag(Flag::CredentialRefused),
        "a credential was presented and not accepted",
    ),
    ("source", Thing::Address, "the address; `source in [\"192.0.2.0/24\"]`"),
    ("ip", Thing::Address, "the same as `source`"),
    ("proxied", Thing::Flag(Flag::Proxied), "the source is known by the word of a proxy"),
    (
        "region",
        Thing::Text(Attribute::Region),
        "country of the source, such as `DE`; needs `[region]` in the policy",
    ),
    ("ja4", Thing::Text(Attribute::Ja4), "the TLS client"),
    ("user_agent", Thing::Text(Attribute::UserAgent), "what the client calls itself"),
    ("upstream", Thing::Text(Attribute::Upstream), "the host that was asked"),
    ("bytes_in", Thing::Number(Numeric::BytesIn), "body bytes from the client"),
    ("bytes_out", Thing::Number(Numeric::BytesOut), "body bytes to the client"),
    (
        "answer.secrets",
        Thing::Number(Numeric::Secrets),
        "keys, tokens and hashes of passwords in the answer's text",
    ),
    (
        "answer.personal",
        Thing::Number(Numeric::Personal),
        "card and account numbers and mail addresses in the answer's text",
    ),
    ("answer.cards", Thing::Number(Numeric::Cards), "card numbers in the answer's text"),
    ("duration_ms", Thing::Number(Numeric::DurationMs), "until the last byte of the answer"),
    ("incident", Thing::Number(Numeric::Incident), "the incident level that held, 0 to 5"),
    ("hour", Thing::Number(Numeric::Hour), "hour of the day in UTC, 0 to 23"),
    ("weekday", Thing::Number(Numeric::Weekday), "day of the week in UTC, 1 (Monday) to 7"),
    ("packets", Thing::Number(Numeric::Packets), "packets that the kernel dropped"),
    ("opening", Thing::Flag(Flag::Opening), "those packets opened connections"),
];

/// What `names` stands for.
pub(super) fn find(names: &[Name]) -> Result<Thing, ConditionProblem> {
    let written: Vec<&str> = names.iter().map(|name| name.text.as_str()).collect();
    let written = written.join(".");
    if let Some((_, thing, _)) = ATTRIBUTES.iter().find(|(name, ..)| *name == written) {
        return Ok(*thing);
    }
    let span = match names {
        [first, .., last] => first.span.start..last.span.end,
        [only] => only.span.clone(),
        [] => 0..0,
    };
    let lower = written.to_ascii_lowercase();
    let meant = match &*lower {
        "user" | "principal" | "caller" | "who" => Some("identity"),
        "address" | "src" | "remote_addr" => Some("source"),
        "has_object_id" | "object" => Some("route.has_object_id"),
        "agent" | "ua" => Some("user_agent"),
        "bytes" => Some("bytes_out"),
        "secrets" => Some("answer.secrets"),
        "personal" | "pii" | "answer.pii" => Some("answer.personal"),
        "duration" => Some("duration_ms"),
        "country" => Some("region"),
        _ => suggest(&written, ATTRIBUTES.iter().map(|(name, ..)| *name)),
    };
    let hint = match meant {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => {
            let names: Vec<&str> = ATTRIBUTES.iter().map(|(name, ..)| *name).collect();
            format!("there are: {}", names.join(", "))
        }
    };
    Err(ConditionProblem::new(span, format!("no event has `{}`", brief(&written)), hint))
}
