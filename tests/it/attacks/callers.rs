//! Callers with a right to something: who reads what is not theirs, who is in two places at once.

use enforcer_tests::lab::{Ask, Family, Http};

use super::{Outcome, Range, expect_spotless, name_of, read_objects};
use crate::stage::orders;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_caller_that_reads_object_after_object_is_slowed_down_and_denied_when_an_operator_says_so() {
    let range = Range::new(&[("object-enumeration", "auto")], "");
    let steady = range.steady();
    let key = range.stage.key("scraper", "reader");
    let mut connection = range.stage.attacker(Family::V4).connect(Http::One).unwrap();

    assert_eq!(read_objects(&mut connection, &key, 1_000..1_060), 200);

    let finding = range.finding("object-enumeration");
    assert!(finding["about"].as_str().unwrap().starts_with("identity:key:"), "{finding}");
    assert!(finding["signals"][0].as_str().unwrap().contains("60"), "{finding}");
    let slower = range.decisions(&finding).into_iter().find(|one| {
        one["action"].as_str().unwrap().starts_with("tighten") && one["state"] == "in-force"
    });
    let slower = match slower {
        Some(slower) => slower,
        None => {
            let action = range.decisions(&finding)[0]["action"].as_str().unwrap().to_owned();
            range.decision(&finding, &action, "in-force")
        }
    };
    range.expect_recorded(&finding, &slower);
    expect_spotless(steady);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_approved_denial_of_a_caller_holds_until_it_is_taken_back() {
    let range = Range::new(&[("insider-bulk-read", "approve"), ("object-enumeration", "off")], "");
    let steady = range.steady();
    let key = range.stage.key("insider", "reader");
    let mut connection = range.stage.attacker(Family::V4).connect(Http::One).unwrap();
    // Many objects are counted to within some percent.
    read_objects(&mut connection, &key, 10_000..10_600);

    let finding = range.finding("insider-bulk-read");
    let asked = range.decisions(&finding);
    assert_eq!(asked[0]["state"], "waiting", "{asked:#?}");
    assert_eq!(connection.ask(&orders().key(&key)).unwrap().status, 200, "nothing is done unasked");
    let id = asked[0]["id"].as_str().unwrap();

    let approved = range.stage.enforcer(&["incident", "approve", id, "--reason", "it is a leak"]);

    assert!(approved.is_success(), "{approved}");
    let action = asked[0]["action"].as_str().unwrap();
    let held = range.decision(&finding, action, "in-force");
    assert!(held["author"].to_string().contains("operator"), "{held}");
    range.expect_recorded(&finding, &held);
    range.take_back(&held);
    range.decision(&finding, action, "rolled-back");
    assert_eq!(connection.ask(&orders().key(&key)).unwrap().status, 200);
    expect_spotless(steady);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_credential_in_two_hands_is_found_by_its_networks_and_clients_together() {
    let range = Range::new(&[("token-in-two-hands", "auto")], "");
    let steady = range.steady();
    let key = range.stage.key("shared", "reader");
    let mut one = range.stage.client(Family::V4).connect(Http::One).unwrap();
    let mut other = range.stage.attacker(Family::V4).connect(Http::Two).unwrap();
    for _ in 0..3 {
        assert_eq!(one.ask(&orders().key(&key)).unwrap().status, 200);
        assert_eq!(other.ask(&orders().key(&key)).unwrap().status, 200);
    }

    let slower = range.expect(&Outcome {
        rule: "token-in-two-hands",
        about: "credential:",
        words: "within 5m",
        decided: ("tighten to 25 %", "in-force", 10),
    });
    range.take_back(&slower);
    assert_eq!(one.ask(&orders().key(&key)).unwrap().status, 200);
    expect_spotless(steady);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_caller_that_tries_what_it_may_not_do_is_found() {
    let range = Range::new(&[("admin-probing", "auto")], "");
    let steady = range.steady();
    let key = range.stage.key("prober", "reader");
    let mut connection = range.stage.attacker(Family::V4).connect(Http::One).unwrap();
    for n in 0..12 {
        let ask = Ask::post(&format!("/v1/admin/tool-{n}"), "x").key(&key);
        let refused = connection.ask(&ask).unwrap();
        assert!([403, 429].contains(&refused.status.as_u16()), "{}", refused.status);
    }

    let slower = range.expect(&Outcome {
        rule: "admin-probing",
        about: &format!("identity:{}", name_of(&key)),
        words: "10 different paths",
        decided: ("tighten to 25 %", "in-force", 15),
    });
    range.take_back(&slower);
    expect_spotless(steady);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_caller_that_reads_slowly_for_long_is_found_by_what_it_has_read_in_all() {
    let others = ["object-enumeration", "insider-bulk-read", "odd-hours"].map(|rule| (rule, "off"));
    let range = Range::new(&[&[("slow-scraping", "observe")], &others[..]].concat(), "");
    let key = range.stage.key("scraper", "reader");
    let mut connection = range.stage.attacker(Family::V4).connect(Http::One).unwrap();

    // Many objects are counted to within some percent.
    assert_eq!(read_objects(&mut connection, &key, 20_000..20_720), 200);

    let finding = range.finding("slow-scraping");
    let decisions = range.decisions(&finding);
    assert!(decisions.iter().all(|one| one["state"] == "observed"), "{decisions:#?}");
    let rows = range.stage.json(&["rules", "list"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["id"] == "slow-scraping");
    assert!(row.unwrap()["counts"]["would_have_acted"].as_u64().unwrap() >= 1, "{row:?}");
}
