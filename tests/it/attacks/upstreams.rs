//! An upstream that fails in a pattern.

use std::net::SocketAddr;

use enforcer_tests::lab::{Ask, Family, Http, Upstream};

use super::Range;
use crate::stage::orders;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_host_that_fails_in_a_pattern_is_isolated_and_its_routes_go_on_with_the_other() {
    let second: SocketAddr = "127.0.0.1:9001".parse().unwrap();
    let policy = super::detecting(&super::modes(&[("upstream-failing", "auto")]), "")
        .replace("[\"127.0.0.1:9000\"]", "[\"127.0.0.1:9000\", \"127.0.0.1:9001\"]");
    let range = Range::new(&[("upstream-failing", "auto")], "");
    let other = Upstream::start(&range.stage.lab.host, second).unwrap();
    range.stage.apply(&policy);
    let mut connection = range.stage.client(Family::V4).connect(Http::One).unwrap();

    for _ in 0..60 {
        // One of the two hosts has errors for this path; which one it is, is not for the test to say.
        let ask = Ask::get("/v1/orders/status/500").key(&range.key);
        connection.ask(&ask).unwrap();
    }

    let finding = range.finding("upstream-failing");
    assert!(finding["about"].as_str().unwrap().starts_with("upstream:127.0.0.1:900"), "{finding}");
    assert!(!range.decisions(&finding).is_empty());
    let served = connection.ask(&orders().key(&range.key)).unwrap();
    assert_eq!(served.status, 200, "the routes go on");
    drop(other);
}
