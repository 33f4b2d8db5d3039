//! Conditional requests and ranges, answered from what is kept (RFC 9110, 13 and 14).

use enforcer_model::CacheUse;

use super::{Ask, Got, Lab, answer, fresh, ok};

const CHANGED: &str = "Wed, 01 Jan 2020 00:00:00 GMT";

/// What a request with `conditions` gets of an answer with `fields`.
async fn got(fields: &[(&str, &str)], conditions: &[(&'static str, &str)]) -> Got {
    let lab = Lab::new();
    let mut all = vec![("cache-control", "max-age=3600"), ("content-type", "text/plain")];
    all.extend(fields);
    lab.ask(&Ask::get("/a"), |_| ok(&all)).await;
    let ask = conditions.iter().fold(Ask::get("/a"), |ask, (name, value)| ask.with(name, value));
    lab.ask(&ask, |_| ok(&[])).await
}

#[tokio::test]
async fn a_client_that_has_it_is_told_so() {
    for (tag, asked, expected) in [
        ("\"a\"", "\"a\"", 304),
        ("\"a\"", "W/\"a\"", 304),
        ("W/\"a\"", "\"a\"", 304),
        ("\"a\"", "\"x\", \"a\", \"y\"", 304),
        ("\"a\"", "*", 304),
        ("\"a\"", "\"b\"", 200),
        ("\"a\"", "a", 200),
        ("\"a\"", "\"A\"", 200),
    ] {
        let got = got(&[("etag", tag)], &[("if-none-match", asked)]).await;
        assert_eq!((got.status(), got.used()), (expected, CacheUse::Hit), "{tag} {asked}");
        if expected == 304 {
            assert_eq!((got.body(), got.field("etag")), ("", tag.to_owned()));
            assert_eq!(got.field("cache-control"), "max-age=3600");
            assert_eq!(
                (got.field("content-type"), got.field("content-length")),
                Default::default()
            );
        }
    }
    let two_lines =
        got(&[("etag", "\"a\"")], &[("if-none-match", "\"x\""), ("if-none-match", "\"a\"")]);
    assert_eq!(two_lines.await.status(), 304);
}

#[tokio::test]
async fn a_date_is_compared_unless_there_is_a_tag() {
    for (asked, expected) in [
        (CHANGED, 304),
        ("Thu, 02 Jan 2020 00:00:00 GMT", 304),
        ("Wednesday, 01-Jan-20 00:00:00 GMT", 304),
        ("Tue, 31 Dec 2019 23:59:59 GMT", 200),
        ("yesterday", 200),
    ] {
        let got = got(&[("last-modified", CHANGED)], &[("if-modified-since", asked)]).await;
        assert_eq!((got.status(), got.used()), (expected, CacheUse::Hit), "{asked}");
    }
    let fields = [("last-modified", CHANGED), ("etag", "\"a\"")];
    let disagreeing =
        [("if-none-match", "\"a\""), ("if-modified-since", "Tue, 31 Dec 2019 23:59:59 GMT")];
    assert_eq!(got(&fields, &disagreeing).await.status(), 304);
    let disagreeing = [("if-none-match", "\"b\""), ("if-modified-since", CHANGED)];
    assert_eq!(got(&fields, &disagreeing).await.status(), 200);
}

#[tokio::test]
async fn without_a_date_of_change_that_of_the_answer_counts() {
    let lab = Lab::new();
    lab.ask(&Ask::get("/a"), |_| fresh("x")).await;
    for (ahead, expected) in [(0, 304), (-1, 200)] {
        let ask = Ask::get("/a").with("if-modified-since", &lab.date(ahead));
        assert_eq!(lab.kept(&ask).await.status(), expected, "{ahead}");
    }
}

#[tokio::test]
async fn what_was_no_success_is_never_not_modified() {
    let lab = Lab::new();
    let fields = [("cache-control", "max-age=3600"), ("etag", "\"a\"")];
    lab.ask(&Ask::get("/a"), |_| answer(404, &fields, "none")).await;

    let got = lab.kept(&Ask::get("/a").with("if-none-match", "\"a\"")).await;

    assert_eq!((got.status(), got.body()), (404, "none"));
}

#[tokio::test]
async fn what_only_the_owner_can_judge_goes_past() {
    for name in ["if-match", "if-unmodified-since"] {
        let got = got(&[("etag", "\"a\"")], &[(name, "\"a\"")]).await;
        assert_eq!(got.sent(name), Some("\"a\""));
        assert_eq!(got.field("cache-status"), "enforcer; fwd=bypass; fwd-status=200");
    }
}

#[tokio::test]
async fn conditions_go_on_where_nothing_is_kept_and_their_304_is_the_clients() {
    let lab = Lab::new();
    let ask = Ask::get("/a").with("if-none-match", "\"a\"");

    let got = lab.ask(&ask, |_| answer(304, &[("etag", "\"a\"")], "")).await;

    assert_eq!((got.status(), got.sent("if-none-match")), (304, Some("\"a\"")));
    assert!(lab.ask(&Ask::get("/a"), |_| ok(&[])).await.is_from_upstream());
}

#[tokio::test]
async fn after_it_was_found_right_the_clients_own_condition_is_judged() {
    let lab = Lab::new();
    let fields = [("cache-control", "max-age=1"), ("last-modified", CHANGED)];
    lab.ask(&Ask::get("/a"), |_| ok(&fields)).await;
    lab.pass(2);

    let ask = Ask::get("/a").with("if-modified-since", CHANGED);
    let got = lab.ask(&ask, |_| answer(304, &fields, "")).await;

    assert_eq!((got.status(), got.used()), (304, CacheUse::Revalidated));
}

#[tokio::test]
async fn a_range_is_cut_from_the_whole() {
    for (range, expected, body, told) in [
        ("bytes=0-1", 206, "01", "bytes 0-1/11"),
        ("bytes=1-", 206, "123456789A", "bytes 1-10/11"),
        ("bytes=-1", 206, "A", "bytes 10-10/11"),
        ("bytes=0-99", 206, "0123456789A", "bytes 0-10/11"),
        ("bytes=11-", 416, "", "bytes */11"),
        ("bytes=0-1,3-4", 200, "0123456789A", ""),
        ("pages=1-2", 200, "0123456789A", ""),
        ("bytes=x", 200, "0123456789A", ""),
    ] {
        let got = got(&[], &[("range", range)]).await;
        assert_eq!(
            (got.status(), got.body(), &*got.field("content-range")),
            (expected, body, told)
        );
        assert_eq!(got.field("content-length"), body.len().to_string(), "{range}");
        assert_eq!(got.used(), CacheUse::Hit);
    }
}

#[tokio::test]
async fn a_range_of_another_answer_gets_the_whole() {
    let strong = [("etag", "\"a\""), ("last-modified", CHANGED)];
    let weak = [("etag", "W/\"a\"")];
    for (fields, asked, expected) in [
        (&strong[..], "\"a\"", 206),
        (&strong, "\"b\"", 200),
        (&strong, "W/\"a\"", 200),
        (&weak, "W/\"a\"", 200),
        (&strong, CHANGED, 206),
        (&strong, "Wed, 01 Jan 2020 00:00:01 GMT", 200),
        (&[], CHANGED, 200),
    ] {
        let got = got(fields, &[("range", "bytes=0-1"), ("if-range", asked)]).await;
        assert_eq!(got.status(), expected, "{asked}");
    }
}

#[tokio::test]
async fn head_has_no_range_and_not_modified_comes_first() {
    let lab = Lab::new();
    let fields = [("cache-control", "max-age=3600"), ("etag", "\"a\"")];
    lab.ask(&Ask::get("/a"), |_| ok(&fields)).await;

    let head = Ask::get("/a").method("HEAD").with("range", "bytes=0-1");
    let got = lab.kept(&head).await;
    assert_eq!((got.status(), got.body()), (200, ""));
    assert_eq!(got.field("content-length"), "11");

    let both = Ask::get("/a").with("range", "bytes=0-1").with("if-none-match", "\"a\"");
    assert_eq!(lab.kept(&both).await.status(), 304);
}
