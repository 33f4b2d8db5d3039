//! What comes to be kept (RFC 9111, 3), and what of it.

use super::{Ask, Got, Lab, answer, fresh, ok};
use crate::{Bounds, Scope};
use enforcer_model::Bytes;

/// Whether the answer to `ask` is used for the same request again.
async fn is_kept(ask: &Ask, status: u16, fields: &[(&str, &str)]) -> bool {
    let lab = Lab::new();
    lab.ask(ask, |_| answer(status, fields, "body")).await;
    !lab.ask(ask, |_| ok(&[])).await.is_from_upstream()
}

#[tokio::test]
async fn what_forbids_to_be_kept_is_not_however_it_is_written() {
    for field in [
        "no-store",
        "No-StOrE",
        "no-store=1",
        "no-store =x",
        "max-age=3600, no-store",
        "no-store, max-age=3600",
        "max-age=3600,no-store",
        "private",
        "PRIVATE, max-age=3600",
        "public, private, max-age=3600",
        "private=\"\", max-age=3600",
        "private=\"not a name\", max-age=3600",
        "no-cache, max-age=3600",
        "max-age=3600, No-CaChE",
        // Where the string ends nobody can say, nor what it hides.
        "max-age=3600, extension=\"no-store",
    ] {
        assert!(!is_kept(&Ask::get("/a"), 200, &[("cache-control", field)]).await, "{field}");
    }
    let lines = [("cache-control", "max-age=3600"), ("cache-control", "no-store")];
    assert!(!is_kept(&Ask::get("/a"), 200, &lines).await);
    let quoted = [("cache-control", "max-age=3600, extension=\"no-store, private\"")];
    assert!(is_kept(&Ask::get("/a"), 200, &quoted).await, "what is quoted is no directive");
}

#[tokio::test]
async fn any_status_that_says_how_long_it_is_good_is_kept_but_parts_and_nothing_new() {
    for status in [200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 503, 599] {
        let fields = [("cache-control", "max-age=3600")];
        assert!(is_kept(&Ask::get("/a"), status, &fields).await, "{status}");
    }
    for status in [206, 304] {
        let fields = [("cache-control", "max-age=3600")];
        assert!(!is_kept(&Ask::get("/a"), status, &fields).await, "{status}");
    }
}

#[tokio::test]
async fn no_store_yields_to_must_understand_where_the_status_is_understood() {
    let fields = [("cache-control", "max-age=3600, no-store, must-understand")];

    assert!(is_kept(&Ask::get("/a"), 200, &fields).await);
    assert!(!is_kept(&Ask::get("/a"), 599, &fields).await);
}

#[tokio::test]
async fn what_is_for_one_client_is_not_kept_for_others() {
    let hour = ("cache-control", "max-age=3600");

    assert!(!is_kept(&Ask::get("/a"), 200, &[hour, ("set-cookie", "a=b")]).await);
    assert!(!is_kept(&Ask::get("/a"), 200, &[hour, ("vary", "*")]).await);
    assert!(!is_kept(&Ask::get("/a"), 200, &[hour, ("trailer", "x-sum")]).await);
    assert!(is_kept(&Ask::get("/a"), 200, &[hour]).await);
}

#[tokio::test]
async fn what_a_credential_brought_is_kept_only_if_it_says_that_it_is_for_others() {
    for (name, secret, for_authorization) in
        [("authorization", "Basic QTpC", true), ("cookie", "s=1", false), ("x-api-key", "k", false)]
    {
        let ask = Ask::get("/a").with(name, secret);
        for (field, expected) in [
            ("max-age=3600", false),
            ("max-age=3600, public", true),
            ("max-age=3600, s-maxage=3600", true),
            ("max-age=3600, must-revalidate", for_authorization),
            ("max-age=3600, public=\"x\"", false),
        ] {
            let kept = is_kept(&ask, 200, &[("cache-control", field)]).await;
            assert_eq!(kept, expected, "{name} {field}");
        }
    }
    // Others have it as well then, and a client with a credential has what is everybody's.
    let lab = Lab::new();
    lab.ask(&Ask::get("/a"), |_| fresh("everybody's")).await;
    let got = lab.kept(&Ask::get("/a").with("cookie", "s=1")).await;
    assert_eq!(got.body(), "everybody's");
}

#[tokio::test]
async fn only_get_is_kept_and_what_has_a_body_is_nobody_elses_business() {
    for method in ["POST", "PUT", "OPTIONS", "QUERY", "FOO", "HEAD"] {
        let lab = Lab::new();
        lab.ask(&Ask::get("/a").method(method), |_| fresh("x")).await;
        let got = lab.ask(&Ask::get("/a"), |_| fresh("y")).await;
        assert!(got.is_from_upstream(), "{method}");
    }
    let lab = Lab::new();
    let fat = Ask { has_body: true, ..Ask::get("/a") };
    lab.ask(&fat, |_| fresh("poison")).await;
    let got = lab.ask(&Ask::get("/a"), |_| fresh("good")).await;
    assert_eq!(got.body(), "good");
    let got = lab.ask(&fat, |_| fresh("its own")).await;
    assert_eq!(got.body(), "its own", "nor does such a request get what is kept");
}

#[tokio::test]
async fn fields_of_one_connection_or_one_exchange_are_not_kept() {
    let lab = Lab::new();
    let fields = [
        ("cache-control", "max-age=3600, no-cache=\"x-once, set-cookie\", private=\"x-mine\""),
        ("connection", "x-hop, close"),
        ("x-hop", "1"),
        ("x-once", "1"),
        ("x-mine", "1"),
        ("set-cookie", "a=b"),
        ("x-stays", "1"),
        ("x-stays", "2"),
        ("keep-alive", "x"),
        ("proxy-authenticate", "x"),
        ("proxy-authentication-info", "x"),
        ("x-request-id", "7"),
    ];
    lab.ask(&Ask::get("/a"), |_| ok(&fields)).await;

    let got = lab.kept(&Ask::get("/a")).await;

    for (name, _) in &fields[1..] {
        let expected = if *name == "x-stays" { "1 | 2" } else { "" };
        assert_eq!(got.field(name), expected, "{name}");
    }
}

#[tokio::test]
async fn a_body_that_is_longer_than_an_entry_may_be_is_not_kept() {
    let bounds = Bounds { entry: Bytes(10), ..Bounds::default() };
    for (declared, body, expected) in [
        (Some("10"), "0123456789", true),
        (Some("11"), "0123456789A", false),
        (None, "0123456789", true),
        (None, "0123456789A", false),
        // Cut short, or longer than it said.
        (Some("10"), "012345678", false),
        (Some("5"), "0123456789", false),
        (Some("+5"), "01234", false),
        (Some("5, 5"), "01234", false),
    ] {
        let lab = Lab::with(bounds, false);
        let mut fields = vec![("cache-control", "max-age=3600")];
        fields.extend(declared.map(|length| ("content-length", length)));
        lab.ask(&Ask::get("/a"), |_| answer(200, &fields, body)).await;
        let got = lab.ask(&Ask::get("/a"), |_| ok(&[])).await;
        assert_eq!(!got.is_from_upstream(), expected, "{declared:?} {body}");
    }
}

#[tokio::test]
async fn what_ends_with_its_connection_may_be_cut_short_and_is_not_kept() {
    let lab = Lab::new();
    let crate::Found::Ask(mut errand) = lab.find(&Ask::get("/a")).await else { panic!() };
    errand.prepare(&mut http::HeaderMap::new(), lab.now());
    let (mut parts, _) = fresh("x").into_parts();

    let heard =
        errand.heard(parts.status, &mut parts.headers, crate::Length::UntilClosed, lab.now());

    assert!(matches!(heard, crate::Heard::Pass), "{heard:?}");
}

#[tokio::test]
async fn targets_that_differ_in_a_byte_are_different_targets() {
    let lab = Lab::new();
    let base = Ask { query: Some("a=1"), ..Ask::get("/a") };
    lab.ask(&base, |_| fresh("base")).await;

    for other in [
        Ask { host: "api.example2", ..base.clone() },
        Ask { path: "/A", ..base.clone() },
        Ask { path: "/a/", ..base.clone() },
        Ask { path: "/%61", ..base.clone() },
        Ask { query: None, ..base.clone() },
        Ask { query: Some(""), ..base.clone() },
        Ask { query: Some("a=1&"), ..base.clone() },
        Ask { query: Some("a=%31"), ..base.clone() },
        Ask { query: Some("A=1"), ..base.clone() },
        Ask { path: "/a?a=1", query: None, ..base.clone() },
        Ask { secure: false, ..base.clone() },
    ] {
        let got = lab.ask(&other, |_| answer(200, &[], "other")).await;
        assert_eq!(got.body(), "other", "{:?}", other.target());
    }
    assert_eq!(lab.ask(&base, |_| ok(&[])).await.body(), "base");
}

#[tokio::test]
async fn what_came_another_way_is_not_used() {
    let mut lab = Lab::new();
    lab.ask(&Ask::get("/a"), |_| fresh("x")).await;
    for (route, via) in [("other", "service"), ("api", "another service")] {
        lab.plan = crate::Plan { route: route.into(), via: via.into(), shared: false }.into();
        let got = lab.ask(&Ask::get("/a"), |_| ok(&[])).await;
        assert!(got.is_from_upstream(), "{route} {via}");
    }
}

#[tokio::test]
async fn a_range_leaves_nothing_behind() {
    let lab = Lab::new();
    let part = Ask::get("/a").with("range", "bytes=0-1");
    for status in [200, 206, 416, 404] {
        let got =
            lab.ask(&part, |_| answer(status, &[("cache-control", "max-age=3600")], "01")).await;
        assert!(matches!(got, Got::Upstream(..)), "{got:?}");
        assert_eq!(got.sent("range"), Some("bytes=0-1"));
    }
    assert!(lab.ask(&Ask::get("/a"), |_| ok(&[])).await.is_from_upstream());
    assert_eq!(part.scope, Scope::Everyone);
}

#[tokio::test]
async fn the_upstream_is_told_of_only_by_cache_status() {
    let lab = Lab::new();
    let upstream_said = [("cache-control", "max-age=3600"), ("cache-status", "origin; hit")];

    let first = lab.ask(&Ask::get("/a"), |_| ok(&upstream_said)).await;
    assert_eq!(
        first.field("cache-status"),
        "origin; hit | enforcer; fwd=uri-miss; fwd-status=200; stored"
    );
    let second = lab.kept(&Ask::get("/a")).await;
    assert_eq!(second.field("cache-status"), "origin; hit | enforcer; hit; ttl=3600");
    let posted = lab.ask(&Ask::get("/b").method("POST"), |_| ok(&[])).await;
    assert_eq!(posted.field("cache-status"), "enforcer; fwd=method; fwd-status=200");
}
