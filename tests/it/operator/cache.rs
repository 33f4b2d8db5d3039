//! Answers that are kept, and getting rid of them.

use enforcer_tests::lab::{Ask, Family, Http};

use super::bodies;
use crate::stage::{Hook, Stage, policy};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_purge_says_how_many_went_and_unknown_names_are_told() {
    let stage = Stage::new(Hook::Native);
    let stats = stage.json(&["cache", "stats"]);
    assert_eq!(stats["entries"], 0);
    assert!(stats["memory"].as_u64().unwrap() > 0);

    let cases: [(&[&str], i32, &str); 5] = [
        (&["cache", "purge"], 2, "--route"),
        (&["cache", "purge", "--all", "--route", "orders"], 2, "cannot be used with"),
        (&["cache", "purge", "--route", "ordres"], 3, "did you mean `orders`?"),
        (&["cache", "purge", "--url", "https://api.test/a/../b"], 2, "https://"),
        (
            &["cache", "purge", "--url", "https://api.test/v1/orders?a=b", "--reason", "stale"],
            0,
            "",
        ),
    ];
    for (words, code, said) in cases {
        let output = stage.enforcer(words);
        assert_eq!(output.code, Some(code), "{words:?}: {output}");
        assert!(output.stderr.contains(said), "{words:?}: {output}");
    }
    let record = bodies(&stage, "cache").pop().unwrap();
    assert_eq!(record["purged"], "url https://api.test/v1/orders?a=b");
    assert_eq!(record["entries"], 0);
    assert_eq!(record["reason"], "stale");
    assert_eq!(record["author"]["operator"]["name"], "root");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_is_purged_is_asked_of_the_upstream_again() {
    let cached = policy(Hook::Native).replace(
        "match    = \"api.test/healthz\"",
        "match    = \"api.test/cached/{**}\"\ncache    = true",
    );
    let stage = Stage::with_policy(&cached);
    let mut connection = stage.client(Family::V4).connect(Http::One).unwrap();
    let mut ask = |target: &str| connection.ask(&Ask::get(target)).unwrap().status;
    let targets = ["/cached/a/fresh", "/cached/b/fresh"];
    for target in targets {
        assert_eq!([ask(target), ask(target)], [200, 200]);
    }
    assert_eq!(stage.upstream.requests(), 2, "the second time each was kept");
    assert_eq!(stage.json(&["cache", "stats"])["entries"], 2);

    let one = stage.json(&["cache", "purge", "--url", "https://api.test/cached/a/fresh"]);
    assert_eq!((&one["entries"], &one["left"]), (&1.into(), &1.into()), "{one}");
    assert_eq!([ask(targets[0]), ask(targets[1])], [200, 200]);
    assert_eq!(stage.upstream.requests(), 3);
    for (what, name) in
        [("--prefix", "api.test/cached"), ("--route", "health"), ("--host", "api.test")]
    {
        let purged = stage.json(&["cache", "purge", what, name]);
        assert_eq!((&purged["entries"], &purged["left"]), (&2.into(), &0.into()), "{purged}");
        assert_eq!([ask(targets[0]), ask(targets[1])], [200, 200]);
    }
    assert_eq!(stage.upstream.requests(), 9);
}
