//! More than anybody needs: of requests, from one network or in all, of bytes, of the upstream's time.

use std::time::Duration;

use enforcer_tests::lab::{Ask, Family, Http, wait_until};

use super::{Outcome, Range, expect_spotless, routes};
use crate::stage::orders;

/// Requests of one connection that are under way at once.
const AT_ONCE: usize = 50;

/// For a surge on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// A level at which the thresholds of rules are a hundredth of what they are.
const ALERT: &str = "[incident.1]\nsensitivity = 0.01\n";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_surge_from_many_addresses_of_one_network_is_dropped_and_a_network_that_callers_share_is_not() {
    let range = Range::new(&[("surge-network", "auto")], "[incident.1]\nsensitivity = 0.2\n");
    let level = ["incident", "open", "--level", "1", "--reason", "a surge"];
    assert!(range.stage.enforcer(&level).is_success());
    let client = range.stage.client(Family::V4);
    let steady = client.steadily(orders().key(&range.key), Duration::from_millis(100));
    let spread = |network: u8, addresses: u8, each: usize| {
        for host in 1..=addresses {
            let mut connection =
                range.as_one_of_many(&format!("10.88.{network}.{host}"), Http::Two);
            for answer in connection.ask_at_once(&vec![Ask::get("/healthz"); each]).unwrap() {
                // The last one's answers may meet the block.
                assert!(host == addresses || answer.unwrap().status == 200);
            }
        }
    };

    // A fifth of what is too much in quiet times, and of no address more than a handful.
    spread(60, 150, 8);

    let decision = range.expect(&Outcome {
        rule: "surge-network",
        about: "source:10.88.60.0/24",
        words: "requests in 1m",
        decided: ("drop the source", "in-force", 10),
    });
    assert!(range.stage.block_of("10.88.60.0/24").is_some());
    assert!(!range.stage.reaches(&["10.88.60.7", "10.88.60.231"]), "dropped in the kernel");
    assert!(range.stage.reaches(&["10.88.61.7"]), "a network beside it");
    assert!(range.findings("surge-source").is_empty(), "no address alone is a surge");
    range.take_back(&decision);
    assert!(range.stage.reaches(&["10.88.60.7"]));

    // The same from where callers are known behind few addresses, as behind a carrier's.
    let keys: Vec<String> =
        (0..6).map(|n| range.stage.key(&format!("subscriber-{n}"), "reader")).collect();
    let mut shared: Vec<_> =
        (1..=2).map(|host| range.as_one_of_many(&format!("10.88.62.{host}"), Http::One)).collect();
    let mut all_are_served = || {
        for (n, key) in keys.iter().enumerate() {
            let answer = shared[n % 2].ask(&orders().key(key)).unwrap();
            assert_eq!(answer.status, 200);
        }
    };
    all_are_served();
    wait_until("the surge is found", PATIENCE, || {
        spread(62, 2, AT_ONCE);
        range.findings("surge-network").iter().any(|one| one["about"] == "source:10.88.62.0/24")
    })
    .unwrap();
    let findings = range.findings("surge-network");
    let finding = findings.iter().find(|one| one["about"] == "source:10.88.62.0/24").unwrap();
    range.decision(finding, "drop the source", "waiting");
    assert!(range.stage.block_of("10.88.62.0/24").is_none(), "callers share it");
    all_are_served();
    expect_spotless(steady);
    range.expect_whole_log();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn whoever_takes_more_than_anybody_needs_is_found_by_what_he_takes() {
    // Of a hundredth every object and every network is one of many.
    let others = [
        "insider-bulk-read",
        "object-enumeration",
        "slow-scraping",
        "slow-scraping-anonymous",
        "token-in-two-hands",
        "token-many-networks",
    ];
    let modes = [&[("surge-everyone", "auto")], &others.map(|rule| (rule, "off"))[..]].concat();
    let range = Range::new(&modes, &(routes(0) + ALERT));
    // Of so little nobody is suspected, even now.
    let client = range.stage.client(Family::V4);
    let steady = client.steadily(orders().key(&range.key), Duration::from_millis(2_500));
    let keys = ["busy", "greedy", "slow", "large"].map(|name| range.stage.key(name, "reader"));
    let [busy, greedy, slow, large] = &keys;
    let level = ["incident", "open", "--level", "1", "--reason", "a surge"];
    assert!(range.stage.enforcer(&level).is_success());
    // What is sensitive is told with the level, and takes hold within a moment.
    std::thread::sleep(Duration::from_millis(300));
    let at_once = |address: &str, ask: &Ask, times: usize| {
        let mut connection = range.as_one_of_many(address, Http::Two);
        let mut left = times;
        while left > 0 {
            let asks = vec![ask.clone(); left.min(AT_ONCE)];
            left -= asks.len();
            for answer in connection.ask_at_once(&asks).unwrap() {
                assert_eq!(answer.unwrap().status, 200);
            }
        }
    };

    at_once("10.88.70.1", &Ask::get("/healthz"), 30);
    at_once("10.88.71.1", &orders().key(busy), 60);
    let mebibytes = Ask::get("/v1/bytes/4194304").key(greedy);
    at_once("10.88.72.1", &mebibytes, 11);
    at_once("10.88.73.1", &Ask::get("/open/bytes/4194304"), 11);
    at_once("10.88.74.1", &Ask::get("/v1/drip/2/600").key(slow), 30);
    at_once("10.88.75.1", &Ask::get("/v1/bytes/10485760").key(large), 1);
    // A hundredth of all that anybody may ask, and nobody's own.
    for host in 1..=50 {
        at_once(&format!("10.88.{}.1", 100 + host), &Ask::get("/healthz"), 20);
    }

    let tighten = "tighten to 25 %";
    let outcomes = [
        ("surge-source", "source:10.88.70.1", "requests in 1m", ("drop the source", "waiting", 10)),
        ("surge-identity", "identity:key:", "requests in 1m", (tighten, "waiting", 10)),
        ("volume-identity", "identity:key:", "to clients in 1h", (tighten, "waiting", 30)),
        ("volume-source", "source:10.88.73.1", "in 1h", ("drop the source", "waiting", 30)),
        ("cost", "identity:key:", "in 5m", ("notify", "observed", 60)),
        ("large-answers", "identity:key:", "requests in 10m", ("notify", "observed", 60)),
        ("surge-everyone", "everyone", "requests in 1m", ("notify", "in-force", 60)),
    ];
    for (rule, about, words, decided) in outcomes {
        range.expect(&Outcome { rule, about, words, decided });
    }
    expect_spotless(steady);
    range.expect_whole_log();
}
