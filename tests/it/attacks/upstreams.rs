//! An upstream that fails in a pattern.

use std::net::SocketAddr;

use enforcer_tests::lab::{DEADLINE, Family, Http, Upstream, wait_until};

use super::{Outcome, Range};
use crate::stage::orders;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_host_that_fails_in_a_pattern_is_isolated_and_its_routes_go_on_with_the_other() {
    let second: SocketAddr = "127.0.0.1:9001".parse().unwrap();
    // Left to the rule: health would eject a host that fails every time.
    let policy = super::detecting(&super::modes(&[]), "")
        .replace("[\"127.0.0.1:9000\"]", "[\"127.0.0.1:9000\", \"127.0.0.1:9001\"]\neject = false");
    let range = Range::new(&[], "");
    let failing = Upstream::failing(&range.stage.lab.host, second).unwrap();
    range.stage.apply(&policy);
    let mut connection = range.stage.client(Family::V4).connect(Http::One).unwrap();

    wait_until("most answers of a host are errors", DEADLINE, || {
        connection.ask(&orders().key(&range.key)).unwrap();
        failing.requests() >= 20
    })
    .unwrap();

    let asked = range.expect(&Outcome {
        rule: "upstream-failing",
        about: "upstream:127.0.0.1:9001",
        words: "requests in 1m",
        decided: ("isolate the upstream", "waiting", 5),
    });
    range.approve(&asked);
    let before = failing.requests();
    for _ in 0..20 {
        let served = connection.ask(&orders().key(&range.key)).unwrap();
        assert_eq!(served.status, 200, "the routes go on");
    }
    assert_eq!(failing.requests(), before, "it gets nothing more");
    range.take_back(&asked);
    wait_until("it gets something again", DEADLINE, || {
        connection.ask(&orders().key(&range.key)).unwrap();
        failing.requests() > before
    })
    .unwrap();
    range.expect_whole_log();
}
