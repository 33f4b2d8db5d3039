//! Whose an answer is (RFC 9111, 3.5): nothing crosses from one caller to another unasked.

use proptest::prelude::*;

use super::{Ask, Lab, answer, fresh, ok};
use crate::Bounds;

#[tokio::test]
async fn each_caller_has_its_own_whatever_the_answer_says() {
    for field in
        ["max-age=3600", "public, max-age=3600", "s-maxage=3600", "must-revalidate, max-age=9"]
    {
        let lab = Lab::new();
        let fields = [("cache-control", field)];
        lab.ask(&Ask::get("/me").by("alice"), |_| answer(200, &fields, "alice")).await;

        let bob = lab.ask(&Ask::get("/me").by("bob"), |_| answer(200, &fields, "bob")).await;
        assert_eq!(bob.body(), "bob", "{field}");
        let nobody = lab.ask(&Ask::get("/me"), |_| answer(200, &fields, "nobody")).await;
        assert_eq!(nobody.body(), "nobody", "{field}");
        let alice = lab.kept(&Ask::get("/me").by("alice")).await;
        assert_eq!(alice.body(), "alice", "{field}");
    }
}

#[tokio::test]
async fn callers_share_where_route_and_answer_both_say_so() {
    for (field, expected) in [
        ("max-age=3600", false),
        ("public, max-age=3600", true),
        ("s-maxage=3600", true),
        ("max-age=3600, must-revalidate", true),
        ("max-age=3600, proxy-revalidate", false),
    ] {
        let lab = Lab::with(Bounds::default(), true);
        lab.ask(&Ask::get("/a").by("alice"), |_| ok(&[("cache-control", field)])).await;
        let bob = lab.ask(&Ask::get("/a").by("bob"), |_| ok(&[])).await;
        assert_eq!(!bob.is_from_upstream(), expected, "{field}");
    }
}

#[tokio::test]
async fn news_for_one_caller_do_not_reach_the_others() {
    let lab = Lab::with(Bounds::default(), true);
    let shared = [("cache-control", "public, max-age=1"), ("etag", "\"a\"")];
    lab.ask(&Ask::get("/a").by("alice"), |_| ok(&shared)).await;
    lab.pass(2);
    let news = [("cache-control", "max-age=600"), ("etag", "\"a\""), ("x-user", "alice")];
    lab.ask(&Ask::get("/a").by("alice"), |_| answer(304, &news, "")).await;

    let bob = lab.ask(&Ask::get("/a").by("bob"), |_| answer(304, &shared, "")).await;
    assert_eq!(
        (bob.field("x-user"), bob.field("cache-status")),
        (String::new(), "enforcer; fwd=stale; fwd-status=304".into())
    );

    // The same for a cookie on a route for everybody.
    let lab = Lab::new();
    let plain = [("cache-control", "max-age=1"), ("etag", "\"a\"")];
    lab.ask(&Ask::get("/a"), |_| ok(&plain)).await;
    lab.pass(2);
    lab.ask(&Ask::get("/a").with("cookie", "s=alice"), |_| answer(304, &news, "")).await;
    let nobody = lab.ask(&Ask::get("/a"), |_| answer(304, &plain, "")).await;
    assert_eq!(nobody.field("x-user"), "");
}

#[tokio::test]
async fn a_path_made_to_look_like_a_file_gives_nobody_what_is_another_callers() {
    let lab = Lab::with(Bounds::default(), true);
    // The upstream takes the end of the path for nothing and answers with the account.
    let ask = Ask::get("/account/x.css");
    lab.ask(&ask.clone().by("victim"), |_| fresh("the victim's")).await;

    let got = lab.ask(&ask.clone().by("attacker"), |_| fresh("the attacker's")).await;
    assert_eq!(got.body(), "the attacker's");
    let got = lab.ask(&ask, |_| fresh("nobody's")).await;
    assert_eq!(got.body(), "nobody's");
}

proptest! {
    /// Whatever answers say, in whatever order callers come: who gets an answer that is kept gets one
    /// that was given to the same caller, or one that says that it is for others.
    #[test]
    fn no_answer_crosses_unasked(
        shared in any::<bool>(),
        requests in proptest::collection::vec((0..3_u8, 0..3_u8, 0..8_u8), 1..60),
    ) {
        const CALLERS: [&str; 3] = ["alice", "bob", "carol"];
        const PATHS: [&str; 3] = ["/a", "/b", "/c"];
        const FIELDS: [&str; 8] = [
            "max-age=60",
            "public, max-age=60",
            "private, max-age=60",
            "no-store",
            "s-maxage=60",
            "max-age=60, must-revalidate",
            "no-cache",
            "max-age=60, no-cache=\"x\"",
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let lab = Lab::with(Bounds::default(), shared);
            for (caller, path, field) in requests {
                let (name, field) = (CALLERS[usize::from(caller)], FIELDS[usize::from(field)]);
                let ask = Ask::get(PATHS[usize::from(path)]).by(name);
                let fields = [("cache-control", field), ("x-for", name)];
                let got = lab.ask(&ask, |_| ok(&fields)).await;
                if got.is_from_upstream() {
                    continue;
                }
                let (whose, said) = (got.field("x-for"), got.field("cache-control"));
                let is_for_others = said.contains("public")
                    || said.contains("s-maxage")
                    || said.contains("must-revalidate");
                assert!(
                    whose == name || (shared && is_for_others),
                    "{name} got what was {whose}'s: {said}"
                );
                assert!(!said.contains("private") && !said.contains("no-store"), "{said}");
            }
        });
    }
}
