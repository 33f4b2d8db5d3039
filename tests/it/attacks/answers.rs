//! What answers give away: a route that leaks, and a caller who collects.

use enforcer_tests::lab::{Ask, Family, Http};

use super::{Range, expect_spotless, routes};

/// What the API of the lab answers with is what it is sent.
fn answered_with(body: String, key: &str) -> Ask {
    Ask::post("/v1/orders/echo?say.content-type=application/json", body).key(key)
}

fn people(page: usize) -> String {
    let people = (0..200).map(|n| format!(r#"{{"mail": "person-{page}-{n}@example.com"}}"#));
    format!("[{}]", people.collect::<Vec<_>>().join(","))
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_route_that_gives_a_secret_away_is_told_of_and_the_log_has_the_count_and_not_the_secret() {
    let range = Range::new(&[], "");
    let steady = range.steady();
    let key = range.stage.key("diagnosis", "writer");
    // Put together here, so that no file of this project holds what looks like a secret.
    let secret = format!("ghp_{}", "A1b2".repeat(9));
    let body = format!(r#"{{"env": {{"TOKEN": "{secret}"}}}}"#);

    let client = range.stage.attacker(Family::V4);
    let answer = client.ask(&answered_with(body.clone(), &key)).unwrap();

    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, body.as_bytes()));
    let finding = range.finding("secrets-in-answers");
    assert_eq!(finding["about"], "route:orders", "{finding}");
    assert!(finding["signals"][0].as_str().unwrap().contains("secrets in answers"), "{finding}");
    range.decision(&finding, "notify", "in-force");
    let records = range.stage.records_of("http");
    let leaking: Vec<_> =
        records.iter().filter(|one| one["body"]["exposed"]["secrets"] == 1).collect();
    assert_eq!(leaking.len(), 1, "{records:#?}");
    assert_eq!(leaking[0]["body"]["path"], "/v1/orders/echo");
    let told = range.stage.offline(&["audit", "search", "--since", "1h", "-o", "jsonl"]);
    assert!(told.is_success() && !told.stdout.contains(&secret), "{told}");
    expect_spotless(steady);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_caller_who_collects_personal_data_is_found_and_a_replay_of_the_log_finds_the_same() {
    let range = Range::new(&[], "");
    let steady = range.steady();
    let key = range.stage.key("collector", "writer");
    let mut connection = range.stage.attacker(Family::V4).connect(Http::One).unwrap();
    for n in 0..11 {
        assert_eq!(connection.ask(&answered_with(people(n), &key)).unwrap().status, 200);
    }

    let finding = range.finding("personal-data-collected");

    assert!(finding["about"].as_str().unwrap().starts_with("identity:key:"), "{finding}");
    assert!(!range.decisions(&finding).is_empty());
    let ask = ["rules", "replay", "personal-data-collected", "--since", "1h", "-o", "json"];
    let replayed = range.stage.offline(&ask);
    assert!(replayed.is_success(), "{replayed}");
    let replayed: serde_json::Value = serde_json::from_str(&replayed.stdout).unwrap();
    assert!(replayed.to_string().contains("personal-data-collected"), "{replayed:#}");
    expect_spotless(steady);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn cards_in_answers_and_persons_shown_to_anybody_are_found_and_nobody_is_refused_unasked() {
    let range = Range::new(&[], &routes(0));
    let steady = range.steady();
    let key = range.stage.key("clerk", "writer");
    let mut clerk = range.as_one_of_many("10.88.21.1", Http::One);
    for _ in 0..3 {
        let body = r#"{"card": "4111 1111 1111 1111"}"#.to_owned();
        assert_eq!(clerk.ask(&answered_with(body, &key)).unwrap().status, 200);
    }
    let mut stranger = range.as_one_of_many("10.88.21.2", Http::One);
    for page in 0..2 {
        let page = Ask::post("/open/echo?say.content-type=text/csv", people(page));
        assert_eq!(stranger.ask(&page).unwrap().status, 200);
    }

    let leaking = range.finding("cards-in-answers");
    assert_eq!(leaking["about"], "route:orders", "{leaking}");
    let shown = range.finding("personal-data-without-a-name");
    assert_eq!(shown["about"], "source:10.88.21.2", "{shown}");
    range.decision(&shown, "drop the source", "waiting");
    assert!(range.stage.block_of("10.88.21.2").is_none());
    expect_spotless(steady);
}
