//! The path of a route: what it may be on its host, what it opts out of, what becomes of it.

use std::collections::BTreeMap;

use enforcer_inspect::{OptOut, OptOuts, Rewrite};

use super::hosts::{HostRules, TrailingSlash};
use crate::codes::{EXCLUDES, NO_EFFECT, OPT_OUT, STRIP_OUTSIDE, WRONG_VALUE};
use crate::grammar::{Fields, brief};
use crate::problem::Report;
use crate::routing::{Pattern, Segment};

/// Tells what a pattern cannot be on its host, or beside its route's other keys.
pub(super) fn fits(
    n: usize,
    pattern: &Pattern,
    fields: Fields<'_>,
    hosts: &BTreeMap<Box<str>, HostRules>,
    report: &mut Report,
) {
    let text = fields.text("match").unwrap_or_default();
    let span = fields.span_of("match");
    let rules = pattern.host().and_then(|host| hosts.get(host));
    let strict = rules.is_some_and(|rules| rules.trailing_slash == TrailingSlash::Strict);
    if pattern.has_slash() && !strict {
        let message = format!("`route[{n}].match`: `{}` ends in a slash", brief(text));
        let shorter = text.trim_end_matches('/');
        let hint = format!("write `{shorter}`: it matches with and without the slash");
        report.add(&WRONG_VALUE, span, message, hint);
    }

    let out: Vec<(OptOut, _)> = fields.all_parsed("paths");
    let opted: OptOuts = out.iter().map(|(one, _)| *one).collect();
    let needs = pattern.needs();
    if !opted.covers(needs) {
        let missing = needs.iter().filter(|one| !opted.covers([*one].into_iter().collect()));
        let missing: Vec<String> = missing.map(|one| format!("\"{}\"", one.as_str())).collect();
        let message = format!("requests for `{}` are refused", brief(text));
        let hint = format!("another spelling, or `paths = [{}]`", missing.join(", "));
        report.add(&OPT_OUT, span, message, hint);
    }
    if !out.is_empty() && !pattern.is_literal() {
        let message = format!("`{}` has a wildcard, which cannot be byte for byte", brief(text));
        let hint = "write the path out, one route for each, or remove `paths`".to_owned();
        report.add(&OPT_OUT, span, message, hint);
    } else {
        for (one, span) in out {
            if !needs.covers([one].into_iter().collect()) {
                let message = format!("the path has nothing to do with \"{}\"", one.as_str());
                report.add(&NO_EFFECT, span, message, "remove it".to_owned());
            }
        }
    }
    for key in ["strip", "rewrite"].into_iter().filter(|key| fields.has(key)) {
        if !needs.is_empty() {
            let message = format!("`{key}` changes a path that must stay byte for byte as it is");
            let hint = "remove `paths` and what needs it, or the rewrite".to_owned();
            report.add(&EXCLUDES, fields.span_of(key), message, hint);
        }
    }
}

/// What becomes of the path; `None` where that is malformed.
pub(super) fn rewrite(
    pattern: Option<&Pattern>,
    fields: Fields<'_>,
    report: &mut Report,
) -> Option<Option<Rewrite>> {
    if !fields.has("strip") && !fields.has("rewrite") {
        return Some(None);
    }
    let text = |key| if fields.has(key) { fields.text(key) } else { Some("/") };
    let rewrite = Rewrite::new(text("strip")?, text("rewrite")?).ok()?;
    let segments = pattern?.segments();
    let mut own = segments.iter();
    let inside = rewrite
        .stripped()
        .all(|wanted| matches!(own.next(), Some(Segment::Literal(literal)) if literal == wanted));
    if !inside {
        let strip = fields.text("strip").unwrap_or_default();
        let message = format!(
            "`{}` is not the beginning of `{}`",
            brief(strip),
            fields.text("match").unwrap_or_default()
        );
        let hint = "strip literal segments with which `match` begins".to_owned();
        report.add(&STRIP_OUTSIDE, fields.span_of("strip"), message, hint);
        return None;
    }
    Some(Some(rewrite))
}
