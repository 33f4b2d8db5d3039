//! Which routes lie inside the `{**}` of others.

use crate::Policy;
use crate::parse::Route;
use crate::routing::{Pattern, Segment};

/// Two routes of which the first takes a part of what the second would get.
#[derive(Debug)]
pub(super) struct Overlap<'p> {
    pub(super) inner: &'p Route,
    pub(super) outer: &'p Route,
}

/// Pairs that are looked at; a policy with more is not examined for overlaps.
const PAIRS_MAX: usize = 4_000_000;

/// For each route the narrowest other one that would take all of its requests.
pub(super) fn all(policy: &Policy) -> Vec<Overlap<'_>> {
    let routes: Vec<(&Route, Pattern)> = policy
        .routes()
        .iter()
        .filter_map(|route| Some((&**route, route.pattern.parse().ok()?)))
        .collect();
    let wide: Vec<&(&Route, Pattern)> =
        routes.iter().filter(|(_, pattern)| pattern.has_rest()).collect();
    if wide.len().saturating_mul(routes.len()) > PAIRS_MAX {
        return Vec::new();
    }
    let overlaps = routes.iter().filter_map(|(inner, pattern)| {
        let around = wide
            .iter()
            .filter(|(outer, wider)| outer.number != inner.number && covers(wider, pattern));
        let narrowest =
            around.max_by_key(|(_, wider)| (wider.host().is_some(), wider.segments().len()));
        narrowest.map(|(outer, _)| Overlap { inner, outer })
    });
    overlaps.collect()
}

/// Whether everything that `inner` matches, `outer`, which ends in `{**}`, would match.
fn covers(outer: &Pattern, inner: &Pattern) -> bool {
    if inner.exact().is_some() || outer.host().is_some_and(|host| inner.host() != Some(host)) {
        return false;
    }
    let before = outer.segments().split_last().map_or(&[][..], |(_, before)| before);
    before.len() <= inner.segments().len()
        && before.iter().zip(inner.segments()).all(|(outer, inner)| match (outer, inner) {
            (Segment::Literal(outer), Segment::Literal(inner)) => outer == inner,
            (Segment::One(_), Segment::Literal(_) | Segment::One(_)) => true,
            (Segment::Literal(_) | Segment::One(_) | Segment::Rest, _) => false,
        })
        // Names in braces of the outer one mean nothing in the inner one.
        && outer.names().next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_with_the_literal_segments_of_a_rest_lies_inside_it() {
        let covers =
            |outer: &str, inner: &str| covers(&outer.parse().unwrap(), &inner.parse().unwrap());

        assert!(covers("h.example/v1/{**}", "h.example/v1/orders/{id}"));
        assert!(covers("*/{**}", "h.example/"));
        assert!(covers("h.example/v1/{**}", "h.example/v1"));
        assert!(!covers("h.example/v1/{**}", "*/v1/orders"));
        assert!(!covers("h.example/v1/{**}", "h.example/v2/orders"));
        assert!(!covers("h.example/v1/a/{**}", "h.example/v1"));
    }
}
