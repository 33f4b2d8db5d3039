//! Paths and queries.

use std::borrow::Cow;

use enforcer_model::{Reason, Rejection};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{accept, get, h2, refuse};
use crate::{Path, PathError, fold};

#[test]
fn ordinary_paths_are_kept_byte_for_byte() {
    for text in [
        "/",
        "/v1/orders",
        "/v1/orders/",
        "/a.b/..c/...",
        "/~user/x_y-z",
        "/bob@example.com",
        "/bob%40example.com",
        "/bob%40Example.com/%c3%a4",
        "/%C3%A4/%E2%82%AC/%F0%9F%98%80",
        "/a%20b/%22%3C%3E",
        "/jobs:run/(1,2)/*/$&'+=!",
        "/100%25",
        "/100%25/5",
        "/50%25of",
    ] {
        assert_eq!(text.parse::<Path>().map(|path| path.as_str().to_owned()), Ok(text.to_owned()));
    }
}

#[test]
fn each_way_to_another_reading_is_refused_for_its_reason() {
    let cases = [
        (Reason::PathEmptySegment, &["//", "//a", "/a//b", "/a//", "///"][..]),
        (
            Reason::PathDotSegment,
            &[
                "/.",
                "/..",
                "/./a",
                "/a/./b",
                "/a/../b",
                "/a/..",
                "/../a",
                "/%2e",
                "/%2E%2e",
                "/.%2e/a",
                "/%2e./a",
                "/a/%2e%2E/b",
            ],
        ),
        (
            Reason::PathEncodedSeparator,
            &["/a%2fb", "/a%2Fb", "/a%5cb", "/a%5Cb", "/a\\b", "/a%3fb", "/a%23b", "/..%2fa"],
        ),
        (
            Reason::PathDoubleEncoding,
            &[
                "/%252e%252e/a",
                "/a%252fb",
                "/%25%32%65",
                "/%252E",
                "/%2525",
                "/%25252e",
                "/%25u002f",
                "/a%2541",
            ],
        ),
        (Reason::PathMatrixParameter, &["/a;b=1", "/a%3bb", "/a%3Bb", "/..;/a", "/;"]),
        (
            Reason::PathControlByte,
            &[
                "/a%00b",
                "/%00",
                "/a%0d%0ab",
                "/a%09",
                "/a%1f",
                "/a%7F",
                "/a\u{7f}",
                "/a\0",
                "/\r\n",
            ],
        ),
        (
            Reason::PathNotUtf8,
            &[
                // Overlong `/` and `.`, a surrogate, beyond Unicode, cut off, a lone continuation.
                "/%c0%af",
                "/%e0%80%af",
                "/%c0%ae%c0%ae/a",
                "/%ed%a0%80",
                "/%f4%90%80%80",
                "/%c3",
                "/%80",
                "/%ff",
                "/%c3/%a4",
            ],
        ),
        (
            Reason::PathMalformed,
            &[
                "",
                "*",
                "a",
                "http://h/a",
                "/%",
                "/%4",
                "/%zz",
                "/%u002f",
                "/a%+1",
                "/% 1",
                "/%41",
                "/%61dmin",
                "/a%2eb",
                "/%2d",
                "/%7Eu",
                "/a b",
                "/a\"b",
                "/<a>",
                "/{a}",
                "/a|b",
                "/a^b",
                "/a`b",
                "/[a]",
                "/a#b",
                "/a?b",
                "/\u{e4}",
            ],
        ),
    ];
    for (reason, texts) in cases {
        for text in texts {
            let refused = Rejection::from(text.parse::<Path>().expect_err(text));

            assert_eq!(refused.reason, reason, "{text:?}: {}", refused.chain());
        }
    }
}

#[test]
fn a_path_may_have_eight_kib_and_no_byte_more() {
    let longest = format!("/{}", "a".repeat(Path::MAX - 1));

    assert!(longest.parse::<Path>().is_ok());
    assert_eq!(format!("{longest}a").parse::<Path>(), Err(PathError::TooLong(Path::MAX + 1)));
    assert_eq!(refuse(get(&format!("{longest}a")).header("host", "h")), Reason::PathTooLong);
}

#[test]
fn an_asterisk_target_is_refused_also_for_options() {
    let options = http::Request::options("*").header("host", "h");

    assert_eq!(refuse(options), Reason::PathMalformed);
}

#[test]
fn an_absolute_target_is_read_like_its_path() {
    assert_eq!(accept(get("http://h/a?b").header("host", "h")).target(), "/a?b");
    assert_eq!(accept(get("http://h").header("host", "h")).target(), "/");
    assert_eq!(refuse(get("ftp://h/a").header("host", "h")), Reason::PathMalformed);
}

/// The `http` crate cuts a fragment off before anybody sees it, so the forwarded target has none.
#[test]
fn a_fragment_does_not_reach_routing_or_the_upstream() {
    assert_eq!(accept(get("/public#/../admin").header("host", "h")).target(), "/public");
}

#[test]
fn a_query_is_kept_verbatim() {
    for query in ["a=%2e%2e/%00&b=//../;c", "q=100%", "x={}|^", "a=b?c/d"] {
        let head = accept(get(&format!("/a?{query}")).header("host", "h"));

        assert_eq!(head.query.as_deref(), Some(query));
    }
}

#[test]
fn a_query_with_bytes_that_it_must_encode_is_refused() {
    assert_eq!(refuse(h2("https://h/a?\u{e4}")), Reason::PathMalformed);
    let longest = "q".repeat(8 * 1024);
    accept(h2(&format!("https://h/a?{longest}")));
    assert_eq!(refuse(h2(&format!("https://h/a?{longest}q"))), Reason::PathTooLong);
}

#[test]
fn a_query_that_asks_for_another_method_is_refused_in_every_spelling() {
    for query in [
        "_method=DELETE",
        "a=b&_method=PUT",
        "a;_method=PUT",
        "_METHOD=put",
        "%5fmethod=PUT",
        "_%6D%65thod=PUT",
        "_method",
        "_method[]=PUT",
        "_method%5B0%5D=PUT",
        ".method=PUT",
        "[method=PUT",
        "+_method=PUT",
        "%20_method=PUT",
        "_method%00x=PUT",
        "x-http-method-override=PUT",
        "X-HTTP-Method=PUT",
    ] {
        let reason = refuse(get(&format!("/a?{query}")).header("host", "h"));

        assert_eq!(reason, Reason::MethodOverride, "{query}");
    }
    for query in ["method=a", "a=_method", "x_method=a", "_methods=a", "payment_method=card"] {
        accept(get(&format!("/a?{query}")).header("host", "h"));
    }
}

#[test]
fn folding_leaves_ordinary_paths_as_they_are() {
    for path in ["/", "/a/b", "/a%20b", "/%C3%A4"] {
        assert_eq!(fold(path), path);
    }
    assert!(matches!(fold("/a/b/"), Cow::Borrowed("/a/b")));
}

#[test]
fn folding_gives_equal_readings_one_spelling() {
    for (path, folded) in [
        ("/a/", "/a"),
        ("/jobs%3arun", "/jobs:run"),
        ("/bob%40x%2Ey", "/bob@x%2Ey"),
        ("/%c3%a4", "/%C3%A4"),
        ("/a%2Cb%2cc/", "/a,b,c"),
        ("/%", "/%"),
        ("/%4", "/%4"),
        ("/%zz%3a", "/%zz:"),
    ] {
        assert_eq!(fold(path), folded);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Whatever a lenient upstream does to an accepted path (decoding once or twice, dropping
    /// parameters, reading `\` as `/`), the segments stay those that were authorised.
    #[test]
    fn an_accepted_path_cannot_be_read_as_another(text in hostile()) {
        let Ok(path) = text.parse::<Path>() else { return Ok(()) };
        prop_assert_eq!(path.as_str(), &text);

        let once = decode(text.as_bytes());
        let twice = decode(&once);

        prop_assert_eq!(&once, &twice);
        let read = String::from_utf8(once).unwrap();
        prop_assert_eq!(read.matches('/').count(), text.matches('/').count());
        prop_assert!(!read.contains("//"));
        prop_assert!(!read.contains(['\\', ';', '?', '#']));
        prop_assert!(!read.contains(|c: char| c.is_ascii_control()));
        prop_assert!(read.split('/').all(|segment| segment != "." && segment != ".."));
    }

    #[test]
    fn no_text_makes_a_path_panic(text: String) {
        if let Ok(path) = text.parse::<Path>() {
            prop_assert_eq!(path.as_str(), text);
        }
    }

    /// Two accepted paths fold to one exactly when they decode to one, a trailing slash apart.
    #[test]
    fn paths_fold_together_exactly_when_they_mean_the_same(a in hostile(), b in hostile()) {
        let (Ok(a), Ok(b)) = (a.parse::<Path>(), b.parse::<Path>()) else { return Ok(()) };

        let meaning = |path: &Path| {
            let text = path.as_str();
            decode(text.strip_suffix('/').filter(|text| !text.is_empty()).unwrap_or(text).as_bytes())
        };
        prop_assert_eq!(fold(a.as_str()) == fold(b.as_str()), meaning(&a) == meaning(&b));
    }

    #[test]
    fn folding_twice_is_folding_once(text in hostile()) {
        let Ok(path) = text.parse::<Path>() else { return Ok(()) };
        let once = fold(path.as_str());

        prop_assert_eq!(fold(&once), once.clone());
    }
}

/// Paths made of the pieces that attacks are made of.
fn hostile() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "/", "/", "a", "b", ".", "..", "%2e", "%2E", "%2f", "%5c", "\\", ";", "%3b", "%", "%25",
        "2e", "%00", "%0a", "%c3%a4", "%C3%A4", "%c0%af", "%3a", "%3A", ":", "@", "%40", "%41",
        "A", "~", "%20", "%3f", "?", "#", "%u002e", " ",
    ];
    vec(select(PIECES), 0..6).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after
            .get(..2)
            .filter(|digits| byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        decoded.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    decoded
}
