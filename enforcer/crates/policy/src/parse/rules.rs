//! `[[rule]]`: what is noticed, and what follows.

use std::collections::HashSet;
use std::num::NonZeroU32;

use enforcer_detect::{Mode, Rule};

use super::{DAY, SECOND, YEAR};
use crate::codes::NAME_TWICE;
use crate::grammar::{Fields, Key, NAME, Need, Shape};
use crate::problem::Report;

pub(super) static KEYS: &[Key] = &[
    Key::required("id", Shape::Text(&NAME), "Names the rule in findings, blocks and records."),
    Key::required(
        "failures",
        Shape::Count(1, 1_000),
        "Failures of authentication from one source that make a finding.",
    ),
    Key::required(
        "within",
        Shape::Span(SECOND, DAY),
        "The span of time in which they are counted.",
    ),
    Key::required("respond", Shape::Table(RESPOND_KEYS), "What follows a finding."),
    Key::with_default(
        "mode",
        Shape::Choice(&["auto", "observe"]),
        Need::Text("observe"),
        "Whether the response is carried out, or only recorded as what would have been done.",
    ),
];

static RESPOND_KEYS: &[Key] = &[
    Key::required("action", Shape::Choice(&["block"]), "Block the source, in the kernel as well."),
    Key::required("ttl", Shape::Span(SECOND, YEAR), "How long the block lasts."),
];

pub(super) fn read(root: Fields<'_>, report: &mut Report) -> Vec<Rule> {
    let mut seen = HashSet::new();
    let mut rules = Vec::new();
    for fields in root.tables("rule") {
        if let Some(id) = fields.text("id")
            && !seen.insert(id)
        {
            let message = format!("two rules are called `{id}`");
            report.add(
                &NAME_TWICE,
                fields.span_of("id"),
                message,
                "rename one of the two".to_owned(),
            );
        }
        rules.extend(rule(fields));
    }
    rules
}

fn rule(fields: Fields<'_>) -> Option<Rule> {
    Some(Rule {
        id: fields.text("id")?.into(),
        failures: NonZeroU32::new(u32::try_from(fields.count("failures")?).ok()?)?,
        within: fields.duration("within")?,
        ttl: fields.table("respond").duration("ttl")?,
        mode: match fields.text("mode")? {
            "auto" => Mode::Auto,
            "observe" => Mode::Observe,
            _ => return None,
        },
    })
}
