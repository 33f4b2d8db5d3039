//! The table against a plain reading of its rules, and patterns one by one.

use enforcer_inspect::Path;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::pattern::{NAMES_MAX, PatternError};
use super::*;

#[test]
fn a_rest_may_be_nothing_unless_a_route_has_just_that_path() {
    let alone = table(&["*/v1/orders/{**}"]);
    let both = table(&["*/v1/orders/{**}", "*/v1/orders"]);

    for path in ["/v1/orders", "/v1/orders/", "/v1/orders/7", "/v1/orders/7/items/"] {
        assert_eq!(found(&alone, "h", path), Some(0), "{path}");
    }
    assert_eq!(found(&alone, "h", "/v1/ordersx"), None);
    assert_eq!(found(&alone, "h", "/v1"), None);
    assert_eq!(found(&both, "h", "/v1/orders"), Some(1));
    assert_eq!(found(&both, "h", "/v1/orders/7"), Some(0));
}

#[test]
fn the_rest_of_everything_includes_the_root() {
    let table = table(&["*/{**}"]);

    for path in ["/", "/a", "/a/b/"] {
        assert_eq!(found(&table, "h", path), Some(0), "{path}");
    }
}

#[test]
fn an_exact_host_wins_and_any_host_takes_what_it_leaves() {
    let table = table(&["*/{**}", "api.example.com/v1/{x}", "[2001:db8::1]/v1/{x}"]);

    assert_eq!(found(&table, "api.example.com", "/v1/a"), Some(1));
    assert_eq!(found(&table, "[2001:db8::1]", "/v1/a"), Some(2));
    assert_eq!(found(&table, "api.example.com", "/v2/a"), Some(0));
    assert_eq!(found(&table, "other.example.com", "/v1/a"), Some(0));
}

#[test]
fn the_host_of_a_pattern_is_compared_without_case() {
    let table = table(&["API.Example.com/v1"]);

    assert_eq!(found(&table, "api.example.com", "/v1"), Some(0));
}

/// The bypass of AWS HTTP APIs: `/admin/` fell to the greedy route, and the service took it for
/// `/admin`.
#[test]
fn a_trailing_slash_does_not_lead_to_another_route() {
    let table = table(&["*/{**}", "*/admin", "*/users/{id}"]);

    assert_eq!(found(&table, "h", "/admin/"), Some(1));
    assert_eq!(found(&table, "h", "/users/7/"), Some(2));
}

#[test]
fn an_escape_of_a_reserved_character_does_not_lead_to_another_route() {
    let table = table(&["*/{**}", "*/jobs:delete", "*/a%40b"]);

    for path in ["/jobs:delete", "/jobs%3Adelete", "/jobs%3adelete"] {
        assert!(path.parse::<Path>().is_ok(), "{path}");
        assert_eq!(found(&table, "h", path), Some(1), "{path}");
    }
    assert_eq!(found(&table, "h", "/a@b"), Some(2));
}

#[test]
fn names_in_braces_do_not_make_patterns_differ() {
    let (_, conflicts) =
        Table::new([(0, &pattern("*/a/{x}/b")), (1, &pattern("*/a/{y}/b"))], &HashSet::new());

    assert_eq!(conflicts, [(1, Conflict { with: Some(0) })]);
}

#[test]
fn one_segment_and_the_rest_cannot_share_a_place() {
    let (_, conflicts) =
        Table::new([(0, &pattern("*/a/{x}")), (1, &pattern("*/a/{**}"))], &HashSet::new());

    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts.first().map(|(route, _)| *route), Some(1));
}

#[test]
fn a_text_that_is_no_pattern_is_refused_with_the_way_out() {
    let cases = [
        ("api.example.com", "has no path", "write it as `api.example.com/`"),
        ("/v1", "is not a host", "`*` for every host"),
        ("https://h/v1", "is not a host", "without port or scheme"),
        ("h:8443/v1", "is not a host", "without port"),
        ("*.example.com/v1", "is not a host", "`*` for every host"),
        ("h/{**}/v1", "not the last", "`{x}` for one segment"),
        ("h/v{x}", "not a segment", "a whole segment"),
        ("h/{}", "not a segment", "a whole segment"),
        ("h/{*rest}", "not a segment", "`{**}`"),
        ("h/{a-b}", "not a segment", "a whole segment"),
        ("h/v1/*", "holds a `*`", "`{**}` at the end"),
        ("h/a/../b", "no request can have", "refused before"),
        ("h/%41", "no request can have", "refused before"),
        ("h/a//{x}", "no request can have", "refused before"),
        ("h/a%2fb/{**}", "no request can have", "refused before"),
        ("h/{x}//", "no request can have", "refused before"),
        ("h/{**}/", "not the last", "`{x}` for one segment"),
        ("h/{x}/{x}", "stands in the pattern twice", "rename one"),
        ("h/a b", "no request can have", "refused before"),
    ];
    for (text, message, hint) in cases {
        let refused = text.parse::<Pattern>().unwrap_err();

        assert!(refused.to_string().contains(message), "{text}: {refused}");
        assert!(refused.hint().contains(hint), "{text}: {}", refused.hint());
    }
}

#[test]
fn more_names_than_a_request_has_room_for_are_refused() {
    let names = |count: usize| (0..count).map(|n| format!("/{{n{n}}}")).collect::<String>();

    assert!(format!("h{}", names(NAMES_MAX)).parse::<Pattern>().is_ok());
    let refused = format!("h{}", names(NAMES_MAX + 1)).parse::<Pattern>().unwrap_err();
    assert_eq!(refused, PatternError::TooManyNames);
    assert!(refused.hint().contains("{**}"));
}

#[test]
fn on_a_strict_host_a_slash_makes_another_path_and_never_a_wider_route() {
    let strict = HashSet::from(["s".into()]);
    let texts = ["*/{**}", "s/admin", "s/{x}/items", "s/docs/", "s/files/{**}", "t/docs"];
    let patterns: Vec<Pattern> = texts.iter().map(|text| pattern(text)).collect();
    let (table, conflicts) = Table::new(patterns.iter().enumerate(), &strict);

    assert_eq!(conflicts, []);
    assert_eq!(found(&table, "s", "/admin"), Some(1));
    assert_eq!(found(&table, "s", "/admin/"), None, "the greedy route must not take it");
    assert_eq!(found(&table, "s", "/7/items"), Some(2));
    assert_eq!(found(&table, "s", "/7/items/"), None);
    assert_eq!(found(&table, "s", "/docs/"), Some(3));
    assert_eq!(found(&table, "s", "/docs"), Some(0));
    for path in ["/files", "/files/", "/files/a", "/files/a/"] {
        assert_eq!(found(&table, "s", path), Some(4), "{path}");
    }
    for path in ["/", "/other", "/other/"] {
        assert_eq!(found(&table, "s", path), Some(0), "{path}");
    }
    assert_eq!(found(&table, "t", "/docs/"), Some(5), "other hosts are not strict");
}

#[test]
fn a_path_without_a_canonical_form_is_found_by_its_very_bytes() {
    let table = table(&["*/{**}", "h/a%2Fb", "*/a%2Fb", "h/a;v=1/b//", "h/x%2541"]);

    assert_eq!(table.find_exact("h", "/a%2Fb"), Some(1));
    assert_eq!(table.find_exact("other", "/a%2Fb"), Some(2));
    assert_eq!(table.find_exact("h", "/a;v=1/b//"), Some(3));
    assert_eq!(table.find_exact("h", "/x%2541"), Some(4));
    for text in ["/a%2fb", "/a/b", "/a%2Fb/", "/a;v=2/b//", "/a;v=1/b/", "/xA", "/x%41", "/"] {
        assert_eq!(table.find_exact("h", text), None, "{text}");
    }
    // What is only written out there is nothing that a canonical path leads to.
    assert_eq!(found(&table, "h", "/a/b"), Some(0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Of all patterns that match, the narrowest from the left decides; and where some match,
    /// something is found.
    #[test]
    fn the_narrowest_pattern_decides(
        texts in vec(pattern_text(), 1..8),
        path in vec(select(&["a", "b", "c"][..]), 0..5),
    ) {
        let patterns: Vec<Pattern> = texts.iter().map(|text| pattern(text)).collect();
        let (table, conflicts) = Table::new(patterns.iter().enumerate(), &HashSet::new());
        let placed = patterns
            .iter()
            .enumerate()
            .filter(|(n, _)| !conflicts.iter().any(|(route, _)| route == n));

        let found = found(&table, "h", &format!("/{}", path.join("/")));

        let expected = placed
            .filter(|(_, pattern)| matches(&pattern.segments, &path))
            .min_by_key(|(_, pattern)| (pattern.host.is_none(), width(&pattern.segments)));
        prop_assert_eq!(found, expected.map(|(n, _)| n));
    }

    #[test]
    fn no_text_makes_a_pattern_panic(text: String) {
        if let Ok(pattern) = text.parse::<Pattern>() {
            let (_, conflicts) = Table::new([(0, &pattern)], &HashSet::new());

            prop_assert_eq!(conflicts, []);
        }
    }
}

fn pattern_text() -> impl Strategy<Value = String> {
    let host = select(&["h", "*"][..]);
    let segments = vec(select(&["a", "b", "{x}", "{y}"][..]), 0..4);
    (host, segments, any::<bool>()).prop_map(|(host, mut segments, rest)| {
        if rest {
            segments.push("{**}");
        }
        // A name may stand in a pattern once.
        let segments = segments.iter().enumerate().map(|(n, segment)| match *segment {
            "{x}" | "{y}" => format!("{}{n}}}", segment.trim_end_matches('}')),
            other => other.to_owned(),
        });
        format!("{host}/{}", segments.collect::<Vec<_>>().join("/"))
    })
}

fn matches(segments: &[Segment], path: &[&str]) -> bool {
    match (segments.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((Segment::Rest, _)), _) => true,
        (Some((Segment::One(_), segments)), Some((_, path))) => matches(segments, path),
        (Some((Segment::Literal(text), segments)), Some((first, path))) => {
            text == first && matches(segments, path)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Orders patterns that match one path: narrower is less.
fn width(segments: &[Segment]) -> Vec<u8> {
    segments
        .iter()
        .map(|segment| match segment {
            Segment::Literal(_) => 0,
            Segment::One(_) => 1,
            Segment::Rest => 2,
        })
        .collect()
}

fn found(table: &Table, host: &str, path: &str) -> Option<usize> {
    table.find(host, path).map(|(route, _)| route)
}

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

fn table(texts: &[&str]) -> Table {
    let patterns: Vec<Pattern> = texts.iter().map(|text| pattern(text)).collect();
    let (table, conflicts) = Table::new(patterns.iter().enumerate(), &HashSet::new());
    assert_eq!(conflicts, []);
    table
}
