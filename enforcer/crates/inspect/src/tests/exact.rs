//! Paths that a route wants byte for byte, and paths that are made anew for the upstream.

use std::cell::Cell;

use enforcer_model::{Reason, Rejection};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{get, parts};
use crate::{OptOut, OptOuts, Path, PathError, Rewrite, normalise, normalise_or};

#[test]
fn each_opt_out_is_for_what_it_names_and_nothing_else() {
    for (text, needs) in [
        ("/a%2Fb", &[OptOut::EncodedSlash][..]),
        ("/a%5cb", &[OptOut::EncodedSlash]),
        ("/a;v=1/b", &[OptOut::Matrix]),
        ("/a%3Bb", &[OptOut::Matrix]),
        ("/a//b", &[OptOut::EmptySegment]),
        ("//a", &[OptOut::EmptySegment]),
        ("/a%2541", &[OptOut::DoubleEncoding]),
        ("/a%252Fb", &[OptOut::DoubleEncoding]),
        ("/a%2Fb;c//d", &[OptOut::EmptySegment, OptOut::EncodedSlash, OptOut::Matrix]),
    ] {
        let all: OptOuts = OptOut::ALL.iter().copied().collect();
        let path = Path::exact(text, all).unwrap();

        assert_eq!(path.needs().iter().collect::<Vec<_>>(), needs, "{text}");
        assert_eq!(path.as_str(), text);
        for missing in needs {
            let fewer = OptOut::ALL.iter().copied().filter(|one| one != missing).collect();
            assert!(Path::exact(text, fewer).is_err(), "{text} without {missing:?}");
        }
        assert!(text.parse::<Path>().is_err());
    }
    let plain = Path::exact("/a/b", OptOuts::default()).unwrap();
    assert!(plain.needs().is_empty());
    for one in OptOut::ALL {
        assert_eq!(one.as_str().parse(), Ok(*one));
    }
    assert!("dots".parse::<OptOut>().is_err());
}

#[test]
fn some_things_are_refused_however_deep_they_are_encoded() {
    let all: OptOuts = OptOut::ALL.iter().copied().collect();
    for text in [
        "/a/../b",
        "/%2e%2e/b",
        "/a%2F..%2Fb",
        "/a%2F%2e%2e",
        "/a%5c..",
        "/..;x/b",
        "/%252e%252e/b",
        "/a%252F..",
        "/a%00",
        "/a%2500",
        "/a%0a",
        "/a%ff",
        "/a%25ff",
        "/a%c0%af",
        "/a\\b",
        "/a%3fb",
        "/a%23",
        "/a%253f",
        "/%41",
        "/a b",
        "/%",
        "/%zz",
        "/a%u002f",
        "/a%25u002f",
        "/a%25252e",
        "/a;/..;b",
        "/.;a",
    ] {
        assert!(Path::exact(text, all).is_err(), "{text}");
    }
    let long = format!("/{}//a", "a".repeat(Path::MAX));
    assert!(matches!(Path::exact(&long, all), Err(PathError::TooLong(_))));
}

#[test]
fn a_route_is_asked_only_about_what_it_can_have_opted_out_of() {
    let asked = Cell::new(0);
    let request = |path: &str| {
        let request = parts(get(path).header("host", "H"));
        normalise_or(&request, |host, text| {
            asked.set(asked.get() + 1);
            host.as_str() == "h" && text == "/a%2Fb"
        })
    };

    let head = request("/a%2Fb?x=1").unwrap();
    assert_eq!((head.target().as_str(), asked.get()), ("/a%2Fb?x=1", 1));
    assert!(!head.path.needs().is_empty());
    assert_eq!(request("/a%2Fc").unwrap_err().reason, Reason::PathEncodedSeparator);
    assert_eq!(asked.get(), 2);
    assert_eq!(request("/a%2F..").unwrap_err().reason, Reason::PathEncodedSeparator);
    assert_eq!(request("/../a").unwrap_err().reason, Reason::PathDotSegment);
    assert!(request("/a/b").unwrap().path.needs().is_empty());
    assert_eq!(asked.get(), 2);
    let strict = normalise(&parts(get("/a%2Fb").header("host", "h"))).unwrap_err();
    assert_eq!(strict.reason, Reason::PathEncodedSeparator);
}

#[test]
fn a_prefix_is_cut_and_another_put_in_front_at_the_borders_of_segments() {
    for (strip, prefix, path, expected) in [
        ("/api", "/", "/api/v1/x", Some("/v1/x")),
        ("/api", "/", "/api", Some("/")),
        ("/api", "/", "/api/", Some("/")),
        ("/api", "/v2", "/api/x/", Some("/v2/x/")),
        ("/api", "/v2", "/api", Some("/v2")),
        ("/", "/v2", "/x", Some("/v2/x")),
        ("/", "/v2", "/", Some("/v2/")),
        ("/a/b", "/c/d", "/a/b/e", Some("/c/d/e")),
        ("/jobs:run", "/", "/jobs%3Arun/x", Some("/x")),
        ("/api", "/", "/apix", None),
        ("/api", "/", "/ap/i", None),
        ("/api", "/", "/", None),
        ("/a/b", "/", "/a", None),
    ] {
        let rewrite = Rewrite::new(strip, prefix).unwrap();

        let rewritten = path.parse::<Path>().unwrap().rewritten(&rewrite);

        match expected {
            Some(expected) => assert_eq!(rewritten.unwrap().as_str(), expected, "{strip} {path}"),
            None => {
                let refused = rewritten.unwrap_err();
                assert_eq!(refused, PathError::OutsidePrefix, "{strip} {path}");
                assert_eq!(Rejection::from(refused).reason, Reason::PathMalformed);
            }
        }
    }
    for bad in ["api", "/a/../b", "/a%2Fb", "/a//b", ""] {
        assert!(Rewrite::new(bad, "/").is_err() && Rewrite::new("/", bad).is_err(), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Whatever was opted out of: decoded once or twice, with parameters cut off, no reader finds a
    /// segment that leads elsewhere.
    #[test]
    fn nothing_that_was_opted_out_of_hides_a_way_up(pieces in vec(select(PIECES), 0..7)) {
        let text = format!("/{}", pieces.concat());
        let all: OptOuts = OptOut::ALL.iter().copied().collect();
        let Ok(path) = Path::exact(&text, all) else { return Ok(()) };
        prop_assert_eq!(path.as_str(), &text);

        let mut read = text.into_bytes();
        for _ in 0..3 {
            prop_assert!(!read.iter().any(u8::is_ascii_control));
            prop_assert!(std::str::from_utf8(&read).is_ok());
            for name in read.split(|byte| matches!(byte, b'/' | b'\\')) {
                let name = name.split(|byte| *byte == b';').next().unwrap();
                prop_assert!(!matches!(name, b"." | b".."), "{:?}", String::from_utf8_lossy(&read));
            }
            read = decode(&read);
        }
        prop_assert_eq!(decode(&read), read);
    }

    /// A path that was made for the upstream is as canonical as one that came in.
    #[test]
    fn a_rewritten_path_is_a_path(pieces in vec(select(PIECES), 0..5)) {
        let text = format!("/api/{}", pieces.concat());
        let Ok(path) = text.parse::<Path>() else { return Ok(()) };
        let rewrite = Rewrite::new("/api", "/v2").unwrap();

        let made = path.rewritten(&rewrite).unwrap();

        prop_assert_eq!(made.as_str().parse::<Path>(), Ok(made.clone()));
        prop_assert_eq!(made.as_str(), text.replacen("/api", "/v2", 1));
    }
}

const PIECES: &[&str] = &[
    "/", "/", "a", ".", "..", "%2e", "%2E", "%2f", "%2F", "%5c", "%5C", ";", "%3b", "%25", "2e",
    "2f", "5c", "00", "%252e", "%252f", "%c3%a4", "%25c3", "3b",
];

fn decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        match digits.filter(|_| byte == b'%') {
            Some(digits) => {
                let digits = std::str::from_utf8(digits).unwrap();
                decoded.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &after[2..];
            }
            None => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    decoded
}
