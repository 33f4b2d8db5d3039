//! How much is kept, what gives way, and what an operator removes.

use enforcer_model::Bytes;
use http::HeaderValue;

use super::{Ask, Lab, answer, fresh};
use crate::{Bounds, Found, What};

const PATHS: [&str; 4] = ["/v1/a", "/v1/a/b", "/v1/ab", "/v2"];

fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

#[tokio::test]
async fn what_is_kept_never_exceeds_its_bound_by_more_than_the_slack() {
    let memory = 1 << 20;
    let lab = Lab::with(Bounds { memory: Bytes(memory), ..Bounds::default() }, false);
    let body = leaked("x".repeat(10_000));
    let field = HeaderValue::from_str(&"h".repeat(5_000)).unwrap();
    for n in 0..500 {
        let ask = Ask::get(leaked(format!("/{n}")));
        lab.ask(&ask, |_| {
            let mut answer = fresh(body);
            answer.headers_mut().insert("x-long", field.clone());
            answer
        })
        .await;
        let counted = lab.cache.stats();
        assert!(counted.bytes <= memory + memory / 16, "{n}: {}", counted.bytes);
        assert!(counted.bytes >= counted.entries * 15_000, "heads and bodies count: {counted:?}");
    }
    let stats = lab.cache.stats();
    assert!(stats.evicted >= 400, "{stats:?}");
    assert!(stats.entries >= 30, "the room is used: {stats:?}");
    assert_eq!(stats.arriving, 0);
}

#[tokio::test]
async fn what_is_kept_holds_no_buffer_that_it_came_in() {
    let lab = Lab::new();
    let buffer = bytes::Bytes::from(vec![b'v'; 1 << 16]);
    let Found::Ask(mut errand) = lab.find(&Ask::get("/a")).await else { panic!() };
    errand.prepare(&mut http::HeaderMap::new(), lab.now());
    let (mut parts, _) = fresh("").into_parts();
    parts.headers.insert("x-part", HeaderValue::from_maybe_shared(buffer.slice(..3)).unwrap());
    let heard = errand.heard(parts.status, &mut parts.headers, crate::Length::Told, lab.now());
    let crate::Heard::Fill(mut fill) = heard else { panic!() };
    fill.push(&buffer.slice(..5));
    fill.complete();
    drop((parts, fill));

    assert!(buffer.is_unique());
    assert_eq!(lab.kept(&Ask::get("/a")).await.field("x-part"), "vvv");
}

#[tokio::test]
async fn answers_that_arrive_take_a_part_of_the_memory_at_most() {
    let memory = Bytes(4 << 20);
    let lab = Lab::with(Bounds { memory, ..Bounds::default() }, false);
    let megabyte = (1 << 20).to_string();
    let mut arriving = Vec::new();
    for path in ["/1", "/2"] {
        let Found::Ask(mut errand) = lab.find(&Ask::get(path)).await else { panic!() };
        errand.prepare(&mut http::HeaderMap::new(), lab.now());
        let fields = [("cache-control", "max-age=60"), ("content-length", &*megabyte)];
        let (mut parts, _) = answer(200, &fields, "").into_parts();
        let length = crate::Length::Told;
        arriving.push(errand.heard(parts.status, &mut parts.headers, length, lab.now()));
    }
    assert!(matches!(arriving[0], crate::Heard::Fill(_)));
    assert!(matches!(arriving[1], crate::Heard::Pass), "it goes to the client and is not kept");
    assert_eq!(lab.cache.stats().arriving, 1 << 20);
    drop(arriving);
    assert_eq!(lab.cache.stats().arriving, 0);
}

#[tokio::test]
async fn an_operator_is_rid_of_what_is_named_and_of_nothing_else() {
    for (what, expected) in [
        (What::All, &[][..]),
        (What::Route("api".into()), &[]),
        (What::Route("other".into()), &PATHS),
        (What::Host("api.example".into()), &[]),
        (What::Host("example".into()), &PATHS),
        (
            What::Target { host: "api.example".into(), target: "/v1/a".into() },
            &["/v1/a/b", "/v1/ab", "/v2"],
        ),
        (What::Target { host: "api.example".into(), target: "/v1/a?x".into() }, &PATHS),
        (What::Under { host: "api.example".into(), path: "/v1/a".into() }, &["/v1/ab", "/v2"]),
        (What::Under { host: "api.example".into(), path: "/v1/a/".into() }, &["/v1/ab", "/v2"]),
        (What::Under { host: "api.example".into(), path: "/".into() }, &[]),
        (What::Under { host: "other".into(), path: "/".into() }, &PATHS),
    ] {
        let lab = Lab::new();
        for path in PATHS {
            lab.ask(&Ask::get(path).by("alice"), |_| fresh("x")).await;
        }
        let removed = lab.cache.purge(&what);

        assert_eq!(usize::try_from(removed).unwrap(), PATHS.len() - expected.len(), "{what:?}");
        assert_eq!(lab.cache.stats().purged, removed);
        for path in PATHS {
            let got = lab.ask(&Ask::get(path).by("alice"), |_| answer(200, &[], "")).await;
            assert_eq!(!got.is_from_upstream(), expected.contains(&path), "{what:?} {path}");
        }
    }
}

#[tokio::test]
async fn what_arrives_while_something_is_purged_is_not_kept() {
    let lab = Lab::new();
    let Found::Ask(errand) = lab.find(&Ask::get("/a")).await else { panic!() };
    lab.cache.purge(&What::All);

    lab.upstream(errand, &Ask::get("/a"), |_| fresh("from before"));

    assert!(lab.ask(&Ask::get("/a"), |_| answer(200, &[], "")).await.is_from_upstream());
}

#[tokio::test]
async fn other_bounds_keep_what_there_is_and_another_memory_begins_empty() {
    let lab = Lab::new();
    lab.ask(&Ask::get("/a"), |_| fresh("x")).await;

    lab.cache.resize(Bounds { entry: Bytes(5), ..Bounds::default() });
    assert!(!lab.kept(&Ask::get("/a")).await.is_from_upstream());
    lab.cache.resize(Bounds { memory: Bytes(1 << 20), ..Bounds::default() });
    assert!(lab.ask(&Ask::get("/a"), |_| answer(200, &[], "")).await.is_from_upstream());
    assert_eq!(lab.cache.stats().memory, 1 << 20);
}

#[tokio::test]
async fn counts_tell_what_was_done() {
    let lab = Lab::new();
    let short = [("cache-control", "max-age=1, stale-if-error=100"), ("etag", "\"a\"")];
    lab.ask(&Ask::get("/a"), |_| answer(200, &short, "x")).await;
    lab.kept(&Ask::get("/a")).await;
    lab.pass(2);
    lab.ask(&Ask::get("/a"), |_| answer(503, &[], "")).await;
    lab.ask(&Ask::get("/a"), |_| answer(304, &[], "")).await;
    lab.ask(&Ask::get("/a").method("POST"), |_| answer(200, &[], "")).await;

    let stats = lab.cache.stats();

    assert_eq!((stats.misses, stats.hits, stats.stale, stats.revalidated), (2, 1, 1, 1));
    assert_eq!((stats.stored, stats.changed), (1, 1));
    assert_eq!(stats.routes.len(), 1);
    assert_eq!((&*stats.routes[0].route, stats.routes[0].entries), ("api", 1));
}
