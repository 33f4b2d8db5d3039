//! Those who try doors: with malformed requests, lists of paths, other people's objects, addresses of the
//! inside. Each from an address or with a key of its own, and each is found by the rule that is for it.

use enforcer_tests::lab::{
    Ask, Family, Http, INSIDE, KeyGuesses, SMUGGLED, Upstream, countries, send_raw, word_list,
};

use super::{Outcome, Range, expect_spotless, routes};
use crate::stage::{Stage, orders};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn each_way_of_trying_doors_without_a_name_is_found_and_only_who_tries_is_dropped() {
    let range = Range::new(&[], &routes(0));
    let steady = range.steady();
    let from = |address: &str| range.as_one_of_many(address, Http::One);
    let smuggler = range.stage.attacker(Family::V4).at("10.88.20.1".parse().unwrap());

    for _ in 0..20 {
        assert_eq!(send_raw(&smuggler, SMUGGLED).unwrap(), 400);
    }
    let mut lister = from("10.88.20.2");
    for ask in word_list("/x", 30) {
        assert_eq!(lister.ask(&ask).unwrap().status, 404);
    }
    let mut stranger = from("10.88.20.3");
    for ask in word_list("/v1", 30) {
        assert_eq!(stranger.ask(&ask).unwrap().status, 401);
    }
    let mut polluter = from("10.88.20.4");
    for _ in 0..10 {
        let twice = orders().key("enf_live_a").key("enf_live_b");
        assert_eq!(polluter.ask(&twice).unwrap().status, 401);
    }
    let mut forger = from("10.88.20.5");
    for path in INSIDE {
        assert_eq!(forger.ask(&Ask::get(path)).unwrap().status, 401);
    }
    let stale = KeyGuesses::default().next().unwrap();
    let mut hammer = from("10.88.20.6");
    for _ in 0..60 {
        assert_eq!(hammer.ask(&orders().key(&stale)).unwrap().status, 401);
    }
    let mut copier = from("10.88.20.7");
    for object in 0..720 {
        assert_eq!(copier.ask(&Ask::get(&format!("/open/{object}"))).unwrap().status, 200);
    }

    let drop = "drop the source";
    let outcomes = [
        ("malformed-requests", "10.88.20.1", "20 requests", "in-force", 15),
        ("undocumented-routes", "10.88.20.2", "30 different paths", "in-force", 30),
        ("unauthenticated-probing", "10.88.20.3", "30 different paths", "waiting", 15),
        ("parameter-pollution", "10.88.20.4", "10 requests", "waiting", 15),
        ("ssrf", "10.88.20.5", "5 requests", "waiting", 30),
        ("repeated-401", "10.88.20.6", "60 requests", "waiting", 15),
        ("slow-scraping-anonymous", "10.88.20.7", "different objects", "waiting", 60),
    ];
    for (rule, address, words, state, minutes) in outcomes {
        let about = &*format!("source:{address}");
        let decided = (drop, state, minutes);
        let decision = range.expect(&Outcome { rule, about, words, decided });
        if state == "waiting" {
            assert!(range.stage.block_of(address).is_none(), "{rule}: nothing is done unasked");
            range.approve(&decision);
        }
        assert!(range.stage.block_of(address).is_some(), "{rule}");
        range.take_back(&decision);
        assert!(range.stage.block_of(address).is_none(), "{rule}");
    }
    expect_spotless(steady);
    range.expect_whole_log();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn each_way_of_going_too_far_under_a_name_is_found_by_its_own_rule() {
    let others = ["object-enumeration", "odd-hours"].map(|rule| (rule, "off"));
    let modes = super::modes(&[&[("credential-stuffing", "observe")], &others[..]].concat());
    let more = routes(40) + "\n[region]\ndatabase = \"country.mmdb\"\n";
    let mut stage = Stage::without_agent(&super::detecting(&modes, &more));
    let lab = countries(&[("10.77.1.0/24", "DE"), ("10.88.0.0/16", "BR")]).unwrap();
    std::fs::write(stage.site.folder().join("country.mmdb"), lab).unwrap();
    stage.start();
    let range = Range::on(stage);
    let _flaky = Upstream::start(&range.stage.lab.host, "127.0.0.1:9001".parse().unwrap()).unwrap();
    let steady = range.steady();
    let key = |name: &str| range.stage.key(name, "reader");
    let from = |address: &str| range.as_one_of_many(address, Http::One);

    let (guesser, mut connection) = (key("guesser"), from("10.88.30.1"));
    for object in 1_000..1_020 {
        let ask = Ask::get(&format!("/v1/status/404/orders/{object}")).key(&guesser);
        assert_eq!(connection.ask(&ask).unwrap().status, 404);
    }
    let wanderer = key("wanderer");
    for network in 31..37 {
        let mut connection = from(&format!("10.88.{network}.1"));
        assert_eq!(connection.ask(&orders().key(&wanderer)).unwrap().status, 200);
    }
    let (curious, mut connection) = (key("curious"), from("10.88.40.1"));
    for n in 0..40 {
        let ask = Ask::get(&format!("/parts/{n}/x")).key(&curious);
        assert_eq!(connection.ask(&ask).unwrap().status, 200);
    }
    let (nostalgic, mut connection) = (key("nostalgic"), from("10.88.40.2"));
    for ask in word_list("/v1/status/410", 20) {
        assert_eq!(connection.ask(&ask.key(&nostalgic)).unwrap().status, 410);
    }
    let (hasty, mut connection) = (range.stage.key("hasty", "writer"), from("10.88.40.3"));
    for _ in 0..5 {
        let ask = Ask::post("/v1/status/409/pay", "{}").key(&hasty);
        assert_eq!(connection.ask(&ask).unwrap().status, 409);
    }
    assert_eq!(connection.ask(&Ask::post("/v1/pay", "{}").key(&hasty)).unwrap().status, 200);
    let mut lucky = from("10.88.40.4");
    for guess in KeyGuesses::default().skip(5_000).take(10) {
        assert_eq!(lucky.ask(&orders().key(&guess)).unwrap().status, 401);
    }
    let found = key("found");
    assert_eq!(lucky.ask(&orders().key(&found)).unwrap().status, 200);
    let (unlucky, mut connection) = (key("unlucky"), from("10.88.40.5"));
    for _ in 0..20 {
        // The answer begins, and breaks off: some clients see that as no answer.
        drop(connection.ask(&Ask::get("/flaky/break/10").key(&unlucky)));
        connection = from("10.88.40.5");
    }
    let (traveller, here) = (key("traveller"), range.stage.client(Family::V4));
    assert_eq!(here.ask(&orders().key(&traveller)).unwrap().status, 200);
    assert_eq!(from("10.88.40.6").ask(&orders().key(&traveller)).unwrap().status, 200);

    let (tighten, notify) = ("tighten to 25 %", "notify");
    let outcomes = [
        ("object-guessing", "identity:key:", "20 different objects", (tighten, "waiting", 30)),
        ("token-many-networks", "credential:", "6 different networks", (tighten, "waiting", 10)),
        ("new-routes", "identity:key:", "40 different routes", (notify, "observed", 60)),
        ("deprecated-routes", "identity:key:", "20 different paths", (notify, "observed", 60)),
        ("out-of-sequence", "identity:key:", "in this order", (notify, "observed", 60)),
        ("guessed-then-served", "source:10.88.40.4", "in this order", (notify, "observed", 60)),
        ("upstream-drift", "upstream:127.0.0.1:9001", "20 requests", (notify, "observed", 60)),
        ("impossible-travel", "credential:", "2 different regions", (tighten, "observed", 30)),
    ];
    for (rule, about, words, decided) in outcomes {
        range.expect(&Outcome { rule, about, words, decided });
    }
    expect_spotless(steady);
    range.expect_whole_log();
}
