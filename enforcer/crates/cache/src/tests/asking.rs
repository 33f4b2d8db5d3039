//! What a request wants of what is kept (RFC 9111, 4.3 and 5.2.1; RFC 5861).

use std::time::Duration;

use enforcer_model::CacheUse;

use super::{Ask, Got, Lab, answer, fresh, ok};
use crate::{Bounds, Found};

/// What a request that says `wish` gets of an answer that came `seconds` ago with `fields`.
async fn wishing(wish: &str, seconds: u64, fields: &[(&str, &str)]) -> Got {
    let lab = Lab::new();
    lab.ask(&Ask::get("/a"), |_| ok(fields)).await;
    lab.pass(seconds);
    lab.ask(&Ask::get("/a").with("cache-control", wish), |_| ok(&[])).await
}

#[tokio::test]
async fn a_client_may_want_it_fresher_or_be_content_with_less() {
    let minute = [("cache-control", "max-age=60")];
    for (wish, seconds, expected) in [
        ("max-age=0", 1, None),
        ("max-age=10", 10, Some(CacheUse::Hit)),
        ("max-age=10", 11, None),
        ("min-fresh=50", 10, Some(CacheUse::Hit)),
        ("min-fresh=50", 11, None),
        ("max-stale=10", 70, Some(CacheUse::Stale)),
        ("max-stale=10", 71, None),
        ("max-stale", 100_000, Some(CacheUse::Stale)),
        ("max-stale=x", 61, None),
        ("max-stale, max-age=10", 61, None),
        ("no-cache", 1, None),
        ("no-store", 1, None),
        ("nothing-to-see-here", 1, Some(CacheUse::Hit)),
        ("max-age=x", 1, Some(CacheUse::Hit)),
        ("max-age=100, max-age=10", 11, None),
    ] {
        let got = wishing(wish, seconds, &minute).await;
        match expected {
            Some(used) => assert_eq!(got.used(), used, "{wish} after {seconds}"),
            None => assert!(got.is_from_upstream(), "{wish} after {seconds}: {got:?}"),
        }
    }
}

#[tokio::test]
async fn what_must_be_asked_about_is_never_used_stale() {
    for directive in ["must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache"] {
        let field = format!("max-age=60, {directive}, stale-while-revalidate=1000");
        let field = [("cache-control", &*field)];
        assert!(wishing("max-stale", 61, &field).await.is_from_upstream(), "{directive}");
        assert!(wishing("x", 61, &field).await.is_from_upstream(), "{directive}");
    }
}

#[tokio::test]
async fn who_wants_only_what_is_kept_gets_it_or_nothing() {
    let lab = Lab::new();
    let only = Ask::get("/a").with("cache-control", "only-if-cached");

    assert!(matches!(lab.kept(&only).await, Got::Nothing));
    lab.ask(&Ask::get("/a"), |_| fresh("x")).await;
    assert_eq!(lab.kept(&only).await.body(), "x");
    lab.pass(3_601);
    assert!(matches!(lab.kept(&only).await, Got::Nothing));
}

#[tokio::test]
async fn what_is_not_to_be_stored_for_the_client_is_not_stored() {
    let lab = Lab::new();
    let secretly = Ask::get("/a").with("cache-control", "no-store");

    lab.ask(&secretly, |_| fresh("x")).await;

    assert!(lab.ask(&Ask::get("/a"), |_| ok(&[])).await.is_from_upstream());
}

#[tokio::test]
async fn what_is_not_fresh_is_asked_about_by_its_own_validators() {
    let lab = Lab::new();
    let fields = [
        ("cache-control", "max-age=1"),
        ("etag", "W/\"abc\""),
        ("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT"),
    ];
    lab.ask(&Ask::get("/a"), |_| ok(&fields)).await;
    lab.pass(2);

    let ask = Ask::get("/a")
        .with("if-none-match", "\"mine\"")
        .with("if-modified-since", "Wed, 01 Jan 2025 00:00:00 GMT");
    let got = lab.ask(&ask, |_| answer(304, &[], "")).await;

    assert_eq!(got.used(), CacheUse::Revalidated);
    assert_eq!(got.sent("if-none-match"), Some("W/\"abc\""));
    assert_eq!(got.sent("if-modified-since"), Some("Wed, 01 Jan 2020 00:00:00 GMT"));
    assert_eq!(got.field("cache-status"), "enforcer; fwd=stale; fwd-status=304");
    // The client's own tag is another one, so it gets the whole.
    assert_eq!((got.status(), got.body()), (200, "0123456789A"));
}

#[tokio::test]
async fn not_modified_makes_fresh_again_and_says_what_is_new() {
    let lab = Lab::new();
    let fields = [
        ("cache-control", "max-age=1"),
        ("etag", "\"abc\""),
        ("x-old", "stays"),
        ("x-both", "old"),
        ("x-both", "older"),
        ("content-length", "11"),
        ("content-encoding", "identity"),
        ("age", "0"),
    ];
    lab.ask(&Ask::get("/a"), |_| ok(&fields)).await;
    lab.pass(2);
    let news = [
        ("cache-control", "max-age=3600"),
        ("etag", "\"abc\""),
        ("x-both", "new"),
        ("x-new", "1"),
        ("x-new", "2"),
        ("content-length", "999"),
        ("content-encoding", "gzip"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
    ];

    let revalidated = lab.ask(&Ask::get("/a"), |_| answer(304, &news, "")).await;
    lab.pass(5);
    let hit = lab.kept(&Ask::get("/a")).await;

    for got in [&revalidated, &hit] {
        assert_eq!((got.status(), got.body()), (200, "0123456789A"));
        assert_eq!(got.field("cache-control"), "max-age=3600");
        assert_eq!((got.field("x-old"), got.field("x-both")), ("stays".into(), "new".into()));
        assert_eq!((got.field("x-new"), got.field("x-hop")), ("1 | 2".into(), String::new()));
        assert_eq!(got.field("content-length"), "11");
        assert_eq!(got.field("content-encoding"), "identity");
    }
    assert_eq!((revalidated.field("age"), hit.field("age")), ("0".into(), "5".into()));
    assert_eq!(hit.used(), CacheUse::Hit);
}

#[tokio::test]
async fn not_modified_of_another_tag_makes_nothing_fresh() {
    let lab = Lab::new();
    lab.ask(&Ask::get("/a"), |_| ok(&[("cache-control", "max-age=1"), ("etag", "\"a\"")])).await;
    lab.pass(2);
    let news = [("cache-control", "max-age=3600"), ("etag", "\"b\"")];

    let got = lab.ask(&Ask::get("/a"), |_| answer(304, &news, "")).await;
    assert_eq!((got.used(), got.field("etag")), (CacheUse::Revalidated, "\"a\"".into()));

    let got = lab.ask(&Ask::get("/a"), |_| ok(&[])).await;
    assert!(got.is_from_upstream(), "asked about again");
}

#[tokio::test]
async fn what_may_no_longer_be_kept_is_not_kept_any_longer() {
    for news in ["no-store", "private"] {
        for status in [200, 304] {
            let lab = Lab::new();
            let first = [("cache-control", "max-age=1"), ("etag", "\"a\"")];
            lab.ask(&Ask::get("/a"), |_| ok(&first)).await;
            lab.pass(2);
            lab.ask(&Ask::get("/a"), |_| answer(status, &[("cache-control", news)], "x")).await;

            let ask = Ask::get("/a").with("cache-control", "max-stale");
            assert!(lab.ask(&ask, |_| ok(&[])).await.is_from_upstream(), "{news} {status}");
        }
    }
}

#[tokio::test]
async fn the_first_who_finds_it_stale_in_time_has_it_asked_for_and_everybody_goes_on() {
    let lab = Lab::new();
    let field = [("cache-control", "max-age=10, stale-while-revalidate=20"), ("etag", "\"a\"")];
    lab.ask(&Ask::get("/a"), |_| ok(&field)).await;
    lab.pass(12);

    let Found::Refresh(stale, errand) = lab.find(&Ask::get("/a")).await else { panic!() };
    assert_eq!(stale.used, CacheUse::Stale);
    assert_eq!(stale.response.headers()["cache-status"], "enforcer; hit; ttl=-2");
    let Found::Answer(second) = lab.find(&Ask::get("/a")).await else { panic!("one is enough") };
    assert_eq!(second.used, CacheUse::Stale);

    let newer = [("cache-control", "max-age=100"), ("etag", "\"b\"")];
    let got = lab.upstream(errand, &Ask::get("/a"), |asked| {
        assert_eq!(asked["if-none-match"], "\"a\"");
        answer(200, &newer, "newer")
    });
    assert!(got.is_from_upstream());
    let got = lab.kept(&Ask::get("/a")).await;
    assert_eq!((got.used(), got.body()), (CacheUse::Hit, "newer"));
}

#[tokio::test]
async fn after_its_time_nothing_is_used_while_somebody_asks() {
    let lab = Lab::new();
    let field = [("cache-control", "max-age=10, stale-while-revalidate=20")];
    lab.ask(&Ask::get("/a"), |_| ok(&field)).await;
    lab.pass(30);

    assert!(lab.ask(&Ask::get("/a"), |_| ok(&[])).await.is_from_upstream());
}

#[tokio::test]
async fn an_error_is_replaced_by_what_is_kept_if_that_says_so_and_for_so_long() {
    for (status, seconds, expected) in
        [(500, 19, true), (502, 19, true), (503, 19, true), (504, 19, true), (503, 20, false)]
            .into_iter()
            .chain([(404, 1, false), (501, 1, false)])
    {
        let lab = Lab::new();
        let field = [("cache-control", "max-age=10, stale-if-error=10")];
        lab.ask(&Ask::get("/a"), |_| ok(&field)).await;
        lab.pass(seconds.max(10));
        let got = lab.ask(&Ask::get("/a"), |_| answer(status, &[], "error")).await;
        assert_eq!(got.used() == CacheUse::Stale, expected, "{status} after {seconds}");
    }
    let lab = Lab::new();
    lab.ask(&Ask::get("/a"), |_| ok(&[("cache-control", "max-age=10")])).await;
    lab.pass(10);
    assert!(lab.ask(&Ask::get("/a"), |_| answer(503, &[], "x")).await.is_from_upstream());
}

#[tokio::test]
async fn what_is_kept_stands_in_for_an_upstream_that_is_out_of_reach_unless_it_forbids_that() {
    let bounds = Bounds { unreachable: Duration::from_secs(60), ..Bounds::default() };
    for (field, wish, seconds, expected) in [
        ("max-age=10", "x", 69, true),
        ("max-age=10", "x", 70, false),
        ("max-age=10, stale-if-error=5", "x", 15, false),
        ("max-age=10, stale-if-error=500", "x", 300, true),
        ("max-age=10, must-revalidate", "x", 11, false),
        ("max-age=10, proxy-revalidate", "x", 11, false),
        ("s-maxage=10", "x", 11, false),
        ("max-age=10, no-cache", "x", 1, false),
        ("max-age=10", "no-cache", 1, false),
        ("max-age=10", "max-age=5", 11, false),
    ] {
        let lab = Lab::with(bounds, false);
        let fields = [("cache-control", field), ("etag", "\"a\"")];
        lab.ask(&Ask::get("/a"), |_| ok(&fields)).await;
        lab.pass(seconds);
        let ask = Ask::get("/a").with("cache-control", wish);
        let Found::Ask(mut errand) = lab.find(&ask).await else { panic!("{field}") };
        errand.prepare(&mut ask.headers.clone(), lab.now());
        let stands_in = errand.failed(lab.now());
        assert_eq!(stands_in.is_some(), expected, "{field} {wish} after {seconds}");
        assert!(stands_in.is_none_or(|answer| answer.used == CacheUse::Stale));
    }
}

#[tokio::test]
async fn head_is_answered_by_what_get_brought_and_brings_nothing_itself() {
    let lab = Lab::new();
    let head = Ask::get("/a").method("HEAD");
    lab.ask(&Ask::get("/a"), |_| fresh("0123456789")).await;

    let got = lab.kept(&head).await;

    assert_eq!((got.used(), got.body()), (CacheUse::Hit, ""));
    assert_eq!(got.field("content-length"), "10");
}

#[tokio::test]
async fn an_answer_to_head_freshens_what_is_kept_or_shows_that_it_is_another() {
    let first = [("cache-control", "max-age=1"), ("etag", "\"a\""), ("x-a", "1")];
    let same = [("cache-control", "max-age=100"), ("etag", "\"a\""), ("x-a", "2")];
    let other = [("cache-control", "max-age=100"), ("etag", "\"b\"")];
    let longer = [("cache-control", "max-age=100"), ("content-length", "12")];
    for (news, expected) in [(&same[..], true), (&other, false), (&longer, false)] {
        let lab = Lab::new();
        lab.ask(&Ask::get("/a"), |_| ok(&first)).await;
        lab.pass(2);
        let head = lab.ask(&Ask::get("/a").method("HEAD"), |_| answer(200, news, "")).await;
        assert!(head.is_from_upstream(), "a stale answer is not for HEAD either");
        assert_eq!(head.sent("if-none-match"), None, "HEAD is passed on as it is");

        let ask = Ask::get("/a").with("cache-control", "max-stale");
        let got = lab.ask(&ask, |_| ok(&[])).await;
        assert_eq!(!got.is_from_upstream(), expected, "{news:?}");
        if expected {
            assert_eq!((got.used(), got.field("x-a")), (CacheUse::Hit, "2".into()));
        }
    }
}

#[tokio::test]
async fn who_writes_makes_old_what_is_kept_in_every_scope() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "get"] {
        for (status, expected) in
            [(200, true), (204, true), (303, true), (404, false), (500, false)]
        {
            let lab = Lab::new();
            lab.ask(&Ask::get("/a").by("alice"), |_| fresh("hers")).await;
            lab.ask(&Ask::get("/a").by("bob"), |_| fresh("his")).await;
            let write = Ask::get("/a").by("bob").method(method);
            lab.ask(&write, |_| answer(status, &[], "")).await;
            for caller in ["alice", "bob"] {
                let got = lab.ask(&Ask::get("/a").by(caller), |_| ok(&[])).await;
                assert_eq!(got.is_from_upstream(), expected, "{method} {status} {caller}");
            }
        }
    }
}

#[tokio::test]
async fn who_reads_makes_nothing_old() {
    for method in ["HEAD", "OPTIONS", "TRACE", "PROPFIND", "QUERY"] {
        let lab = Lab::new();
        lab.ask(&Ask::get("/a"), |_| fresh("x")).await;
        lab.ask(&Ask::get("/a").method(method), |_| answer(200, &[], "")).await;
        assert!(!lab.ask(&Ask::get("/a"), |_| ok(&[])).await.is_from_upstream(), "{method}");
    }
}

#[tokio::test]
async fn what_the_answer_to_a_write_names_on_the_same_host_is_old_as_well() {
    for (name, reference, expected) in [
        ("location", "/list/a", true),
        ("location", "a", true),
        ("content-location", "https://API.example/list/a", true),
        ("content-location", "https://elsewhere.example/list/a", false),
        ("location", "/list/b", false),
        ("link", "/list/a", false),
    ] {
        let lab = Lab::new();
        lab.ask(&Ask::get("/list/a"), |_| fresh("x")).await;
        let write = Ask::get("/list/new").method("POST");
        lab.ask(&write, |_| answer(201, &[(name, reference)], "")).await;
        let got = lab.ask(&Ask::get("/list/a"), |_| ok(&[])).await;
        assert_eq!(got.is_from_upstream(), expected, "{name}: {reference}");
    }
}

#[tokio::test]
async fn what_was_asked_for_before_a_write_is_not_kept_after_it() {
    let lab = Lab::new();
    let Found::Ask(errand) = lab.find(&Ask::get("/a")).await else { panic!() };
    lab.ask(&Ask::get("/a").method("PUT"), |_| answer(204, &[], "")).await;

    let got = lab.upstream(errand, &Ask::get("/a"), |_| fresh("from before"));

    assert_eq!(got.body(), "from before", "who asked before gets it");
    assert!(lab.ask(&Ask::get("/a"), |_| ok(&[])).await.is_from_upstream());
}
