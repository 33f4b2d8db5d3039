//! What differs between two policies beside answers, in sentences.

use std::collections::BTreeSet;

use enforcer_authn::IssuerPlan;

use crate::Policy;
use crate::parse::{Charged, Route};

/// Routes, limits and issuers that came, went or changed.
pub(super) fn differences(first: &Policy, second: &Policy) -> Vec<String> {
    let mut told = Vec::new();
    named(
        "route",
        first.routes().iter().map(|route| (&*route.name, shape(route))),
        second.routes().iter().map(|route| (&*route.name, shape(route))),
        &mut told,
    );
    named(
        "limit",
        first.limits().iter().map(|charged| (&**charged.limit.name(), limit(charged))),
        second.limits().iter().map(|charged| (&**charged.limit.name(), limit(charged))),
        &mut told,
    );
    named(
        "issuer",
        first.issuers().iter().map(|plan| (&*plan.name, issuer(plan))),
        second.issuers().iter().map(|plan| (&*plan.name, issuer(plan))),
        &mut told,
    );
    told
}

/// What decides which tokens are believed, and what they say.
pub(super) fn callers(policy: &Policy) -> BTreeSet<String> {
    let of = |plan: &IssuerPlan| format!("{} {:?}", plan.name, plan.roles);
    policy.issuers().iter().map(|plan| of(plan)).collect()
}

/// Adds a sentence for each name that only one side has, and for each part that differs.
fn named<'p>(
    what: &str,
    first: impl Iterator<Item = (&'p str, Vec<(&'static str, String)>)>,
    second: impl Iterator<Item = (&'p str, Vec<(&'static str, String)>)>,
    told: &mut Vec<String>,
) {
    let before: Vec<_> = first.collect();
    let after: Vec<_> = second.collect();
    for (name, parts) in &before {
        let Some((_, others)) = after.iter().find(|(known, _)| known == name) else {
            told.push(format!("{what} `{name}` is removed"));
            continue;
        };
        let pairs = parts.iter().zip(others).filter(|((_, old), (_, new))| old != new);
        told.extend(pairs.map(|((part, old), (_, new))| {
            format!("{what} `{name}`: {part} changes from {old} to {new}")
        }));
    }
    let new = after.iter().filter(|(name, _)| !before.iter().any(|(known, _)| known == name));
    told.extend(new.map(|(name, _)| format!("{what} `{name}` is new")));
}

fn shape(route: &Route) -> Vec<(&'static str, String)> {
    let limits: Vec<&str> = route.limits.iter().map(|charged| &**charged.limit.name()).collect();
    vec![
        ("the pattern", format!("`{}`", route.pattern)),
        ("the upstream", format!("`{}`", route.upstream.name)),
        ("what it charges", format!("[{}]", limits.join(", "))),
        ("the longest body", route.body_max.to_string()),
        ("what is kept of its answers", kept(route)),
        ("the rewrite", format!("{:?}", route.rewrite)),
    ]
}

fn kept(route: &Route) -> String {
    let shared = route.cache.as_ref().map(|plan| plan.shared);
    shared.map_or("nothing", |shared| if shared { "shared" } else { "for each caller" }).to_owned()
}

fn limit(charged: &Charged) -> Vec<(&'static str, String)> {
    let Charged { limit, when, .. } = charged;
    let when = when.as_ref().map_or_else(|| "always".to_owned(), |when| format!("`{when}`"));
    vec![
        ("whom it counts", format!("{:?}", limit.by())),
        ("how much", format!("{:?}", limit.kind())),
        ("the cost", format!("{:?}", limit.cost())),
        ("when it holds", when),
    ]
}

fn issuer(plan: &IssuerPlan) -> Vec<(&'static str, String)> {
    vec![
        ("the url", plan.url.to_string()),
        ("the audience", format!("{:?}", plan.audience)),
        ("the algorithms", format!("{:?}", plan.algorithms)),
        ("where roles stand", format!("{:?}", plan.roles)),
        ("the bindings that count", format!("{:?}", plan.bindings)),
        ("what it does with unbound tokens", format!("{:?}", plan.unbound)),
        ("the kind of token", format!("{:?}", plan.kind)),
    ]
}
