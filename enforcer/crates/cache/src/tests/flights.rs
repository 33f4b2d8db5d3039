//! Single flight: who asks for others, and when they stop waiting.

use std::time::Duration;

use enforcer_model::CacheUse;
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout};

use super::{Ask, Got, Lab, answer, fresh};
use crate::{Bounds, Errand, Found};

async fn leader(lab: &Lab, ask: &Ask) -> Errand {
    match lab.find(ask).await {
        Found::Ask(errand) => errand,
        found @ (Found::Answer(_) | Found::Nothing | Found::Refresh(..)) => panic!("{found:?}"),
    }
}

/// Long enough for whoever does not wait, and much shorter than the wait.
const SOON: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn of_many_who_miss_one_asks_and_the_others_get_what_it_brings() {
    let lab = Lab::new();
    let ask = Ask::get("/a");
    let errand = leader(&lab, &ask).await;
    let followers = async {
        let found = [lab.find(&ask), lab.find(&ask), lab.find(&ask)];
        let [one, two, three] = found;
        tokio::join!(one, two, three)
    };
    let leads = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        lab.upstream(errand, &ask, |_| fresh("for all"));
    };

    let ((one, two, three), ()) = tokio::join!(followers, leads);

    for found in [one, two, three] {
        let Found::Answer(answer) = found else { panic!("{found:?}") };
        assert_eq!((answer.used, &**answer.response.body()), (CacheUse::Hit, &b"for all"[..]));
    }
    assert_eq!(lab.cache.stats().waited, 3);
}

#[tokio::test(start_paused = true)]
async fn whatever_ends_a_flight_without_an_answer_for_others_frees_them_at_once() {
    type End = fn(&Lab, Errand, &Ask);
    let ends: [(&str, End); 4] = [
        ("the leader left", |_, errand, _| drop(errand)),
        ("the upstream is out of reach", |lab, errand, _| drop(errand.failed(lab.now()))),
        ("the answer is not to be kept", |lab, errand, ask| {
            lab.upstream(errand, ask, |_| answer(200, &[("cache-control", "no-store")], ""));
        }),
        ("the answer broke off", |lab, mut errand, _| {
            errand.prepare(&mut http::HeaderMap::new(), lab.now());
            let (mut parts, _) = fresh("").into_parts();
            let length = crate::Length::Told;
            drop(errand.heard(parts.status, &mut parts.headers, length, lab.now()));
        }),
    ];
    for (why, end) in ends {
        let lab = Lab::new();
        let ask = Ask::get("/a");
        let errand = leader(&lab, &ask).await;
        let follows = timeout(SOON, lab.find(&ask));
        let leads = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            end(&lab, errand, &ask);
        };

        let (found, ()) = tokio::join!(follows, leads);

        assert!(matches!(found, Ok(Found::Ask(_))), "{why}: {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_wait_from_the_beginning_of_the_flight() {
    let bounds = Bounds { wait: Duration::from_secs(5), ..Bounds::default() };
    let lab = Lab::with(bounds, false);
    let ask = Ask::get("/a");
    let began = Instant::now();
    let slow = leader(&lab, &ask).await;
    tokio::time::sleep(Duration::from_secs(3)).await;

    let found = lab.find(&ask).await;
    assert!(matches!(found, Found::Ask(_)));
    assert!((5..6).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());

    // Who comes later does not wait at all.
    let found = timeout(SOON, lab.find(&ask)).await;
    let Ok(Found::Ask(errand)) = found else { panic!("{found:?}") };
    // And what such a one brings is kept, while the slow one is still under way.
    lab.upstream(errand, &ask, |_| fresh("quick"));
    let got = lab.kept(&ask).await;
    assert_eq!(got.body(), "quick");
    drop(slow);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_is_not_for_him() {
    let lab = Lab::new();
    let ask = Ask::get("/a").by("alice");
    let fields = [("cache-control", "max-age=1"), ("vary", "foo")];
    lab.ask(&ask.clone().with("foo", "1"), |_| answer(200, &fields, "")).await;
    lab.pass(2);
    let leads = leader(&lab, &ask.clone().with("foo", "1")).await;

    for other in [
        ask.clone().by("bob").with("foo", "1"),
        ask.clone().with("foo", "2"),
        Ask { path: "/b", ..ask.clone() }.with("foo", "1"),
        Ask { query: Some(""), ..ask.clone() }.with("foo", "1"),
        ask.clone().with("foo", "1").with("cache-control", "no-cache"),
        ask.clone().with("foo", "1").with("cache-control", "no-store"),
        ask.clone().with("foo", "1").with("range", "bytes=0-1"),
        ask.clone().with("foo", "1").method("HEAD"),
        ask.clone().with("foo", "1").with("if-none-match", "\"x\""),
    ] {
        let found = timeout(SOON, lab.find(&other)).await;
        assert!(matches!(found, Ok(Found::Ask(_))), "{:?} {found:?}", other.headers);
    }
    let same = timeout(SOON, lab.find(&ask.clone().with("foo", "1"))).await;
    assert!(same.is_err(), "this one waits");
    drop(leads);
}

#[tokio::test(start_paused = true)]
async fn who_turns_out_to_want_another_variant_asks_by_himself_in_the_end() {
    let lab = Lab::new();
    let (one, two) = (Ask::get("/a").with("foo", "1"), Ask::get("/a").with("foo", "2"));
    let errand = leader(&lab, &one).await;
    let fields = [("cache-control", "max-age=60"), ("vary", "foo")];
    let leads = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        lab.upstream(errand, &one, |_| answer(200, &fields, "one"));
    };

    let (found, ()) = tokio::join!(timeout(SOON, lab.find(&two)), leads);

    let Ok(Found::Ask(errand)) = found else { panic!("{found:?}") };
    lab.upstream(errand, &two, |_| answer(200, &fields, "two"));
    assert_eq!(lab.kept(&one).await.body(), "one");
    assert_eq!(lab.kept(&two).await.body(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_who_find_it_stale_ask_about_it_once() {
    let lab = Lab::new();
    let ask = Ask::get("/a");
    let fields = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
    lab.ask(&ask, |_| answer(200, &fields, "x")).await;
    lab.pass(61);
    let asked = std::cell::Cell::new(0);
    let one = || async {
        match lab.find(&ask).await {
            Found::Ask(errand) => {
                asked.set(asked.get() + 1);
                tokio::time::sleep(Duration::from_millis(50)).await;
                lab.upstream(errand, &ask, |_| answer(304, &fields, ""))
            }
            Found::Answer(answer) => Got::Kept(answer.used, answer.response),
            found @ (Found::Nothing | Found::Refresh(..)) => panic!("{found:?}"),
        }
    };
    let all: Vec<_> = (0..100).map(|_| one()).collect();

    let mut got = Vec::new();
    LocalSet::new()
        .run_until(async {
            let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
            std::future::poll_fn(|cx| {
                all.retain_mut(|one| match one.as_mut().poll(cx) {
                    std::task::Poll::Ready(answer) => {
                        got.push(answer);
                        false
                    }
                    std::task::Poll::Pending => true,
                });
                if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
        })
        .await;

    assert_eq!((asked.get(), got.len()), (1, 100));
    assert!(got.iter().all(|got| got.status() == 200 && got.body() == "x"));
}
