//! What answers give away: a route that leaks, and a caller who collects.

use enforcer_tests::lab::{Ask, Family, Http};

use super::{Range, expect_spotless};

/// What the API of the lab answers with is what it is sent.
fn answered_with(body: String, key: &str) -> Ask {
    Ask::post("/v1/orders/echo?say.content-type=application/json", body).key(key)
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
    let page = |page: usize| {
        let people = (0..200).map(|n| format!(r#"{{"mail": "person-{page}-{n}@example.com"}}"#));
        format!("[{}]", people.collect::<Vec<_>>().join(","))
    };
    let mut connection = range.stage.attacker(Family::V4).connect(Http::One).unwrap();
    for n in 0..11 {
        assert_eq!(connection.ask(&answered_with(page(n), &key)).unwrap().status, 200);
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
