//! What two patterns both match, as a pattern.

use crate::routing::{Pattern, Segment};

/// The pattern of all that both match; none when there is nothing.
///
/// Names in braces are those of the first where both have one.
pub(super) fn meet(a: &Pattern, b: &Pattern) -> Option<Pattern> {
    if a.exact().is_some() || b.exact().is_some() {
        return (a == b).then(|| a.clone());
    }
    let host = match (a.host(), b.host()) {
        (Some(a), Some(b)) if a != b => return None,
        (Some(host), _) | (None, Some(host)) => host,
        (None, None) => "*",
    };
    let mut path = String::new();
    let (mut left, mut right) = (a.segments(), b.segments());
    loop {
        let next = match (left, right) {
            ([], []) => break,
            // A rest may be nothing.
            ([Segment::Rest], []) | ([], [Segment::Rest]) => break,
            ([Segment::Rest], [next, ..]) => next.clone(),
            ([next, ..], [Segment::Rest]) => next.clone(),
            ([Segment::Literal(a), ..], [Segment::Literal(b), ..]) if a != b => return None,
            ([Segment::Literal(text), ..], [_, ..]) | ([_, ..], [Segment::Literal(text), ..]) => {
                Segment::Literal(text.clone())
            }
            ([next, ..], [_, ..]) => next.clone(),
            ([_, ..], []) | ([], [_, ..]) => return None,
        };
        let is_end = next == Segment::Rest;
        match next {
            Segment::Literal(text) => path.push_str(&format!("/{text}")),
            Segment::One(name) => path.push_str(&format!("/{{{name}}}")),
            Segment::Rest => path.push_str("/{**}"),
        }
        if is_end {
            break;
        }
        if left != [Segment::Rest] {
            left = left.get(1..).unwrap_or_default();
        }
        if right != [Segment::Rest] {
            right = right.get(1..).unwrap_or_default();
        }
    }
    if path.is_empty() || a.has_slash() || b.has_slash() {
        path.push('/');
    }
    format!("{host}{path}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_part_of_two_patterns_is_the_narrower_in_each_place() {
        for (a, b, wanted) in [
            ("h/v1/{**}", "h/v1/{id}", Some("h/v1/{id}")),
            ("*/{**}", "h/a/{x}/{**}", Some("h/a/{x}/{**}")),
            ("h/{x}/b", "h/a/{y}", Some("h/a/b")),
            ("h/{**}", "h/", Some("h/")),
            ("h/a/{**}", "h/a", Some("h/a")),
            ("h/a", "h/b", None),
            ("h/a", "g/a", None),
            ("h/a/b", "h/a", None),
            ("h/{x}", "h/{y}", Some("h/{x}")),
        ] {
            let pattern = |text: &str| text.parse::<Pattern>().unwrap();
            assert_eq!(meet(&pattern(a), &pattern(b)), wanted.map(pattern), "{a} and {b}");
            assert_eq!(meet(&pattern(b), &pattern(a)).is_some(), wanted.is_some());
        }
    }
}
