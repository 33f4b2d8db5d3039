//! Conditions over events.

use super::*;

fn holds(when: &str, line: &str) -> bool {
    let when = When::parse(when).unwrap();
    let mut holds = None;
    events(line, |past| {
        holds = Some(when.holds(&past.event()));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    holds.unwrap()
}

#[test]
fn a_condition_reads_every_attribute_of_a_request() {
    let line = r#"{"at":"2026-01-10T23:30:00Z","source":"203.0.113.7","through":"10.0.0.1","identity":"key:k7Qx2mP9aB3c","role":"reader","credential":"c","ja4":"t13d","user_agent":"curl/8","incident":2,"region":"DE","method":"POST","host":"api.example.com","path":"/v1/orders/17","route":"orders","status":503,"reason":"upstream-paused","upstream":"10.0.0.7:80","bytes_in":5,"bytes_out":7,"duration_ms":1500}"#;
    for when in [
        "status == 503",
        "status >= 500 && status < 600",
        "500 <= status",
        "status in [401, 503]",
        "!(status in [200])",
        "method == \"POST\"",
        "host.endsWith(\".example.com\")",
        "path.startsWith(\"/v1/\")",
        "path.contains(\"orders\")",
        "route == \"orders\" && route.has_object_id",
        "object_id == \"17\"",
        "identity in [\"key:k7Qx2mP9aB3c\"]",
        "!anonymous && role != \"writer\"",
        "has(credential) && has(ja4)",
        "refused && has(reason) && !credential_refused",
        "source in [\"203.0.113.0/24\"] && ip in [\"203.0.113.7\", \"10.0.0.0/8\"]",
        "proxied == true",
        "region == \"DE\"",
        "user_agent.startsWith(\"curl\")",
        "upstream == \"10.0.0.7:80\"",
        "bytes_in == 5 && bytes_out > 6 && duration_ms >= 1500",
        "incident >= 2",
        "hour == 23 && weekday == 6",
        "status == 200 || true",
    ] {
        assert!(holds(when, line), "{when}");
    }
}

#[test]
fn what_is_absent_is_unknown_and_makes_no_condition_true() {
    for when in [
        "region == \"DE\"",
        "region != \"DE\"",
        "!(region == \"DE\")",
        "!(region == \"DE\") && status == 200",
        "has(region)",
        "packets >= 1",
        "!opening",
    ] {
        assert!(!holds(when, "{}"), "{when}");
    }
    assert!(holds("region == \"DE\" || status == 200", "{}"));
    assert!(!holds("status >= 100", "{\"packets\":1}"));
    assert!(holds("packets >= 5 && opening", "{\"packets\":5,\"opening\":true}"));
    assert!(holds("source in [\"198.51.100.0/24\"]", "{\"packets\":5}"));
}

#[test]
fn mistakes_are_told_where_they_are_with_what_to_write() {
    for (when, at, told) in [
        ("statuz >= 500", "statuz", "did you mean `status`?"),
        ("status >= \"500\"", "\"500\"", "write `500` without quotes"),
        ("status == 900", "status == 900", "it is between 100 and 599"),
        ("status > 599", "status > 599", "it is between 100 and 599"),
        ("reason == \"no-rote\"", "\"no-rote\"", "did you mean `no-route`?"),
        (
            "reason == \"quarantined\"",
            "\"quarantined\"",
            "our own denials are no evidence: a block must not feed itself",
        ),
        ("method == \"post\"", "\"post\"", "write `POST`"),
        ("source in [\"10.0.0.1/8\"]", "\"10.0.0.1/8\"", "write `10.0.0.0/8`"),
        (
            "source == \"10.0.0.1\"",
            "source == \"10.0.0.1\"",
            "write `source in [\"192.0.2.0/24\"]`",
        ),
        ("path.matches(\"x\")", "matches", "there are: startsWith, endsWith, contains"),
        ("status", "status", "compare it: `status >= 500`"),
        ("status = 500", "=", "write `==`"),
        ("claims.tenant == \"a\"", "claims.tenant", "there are: status"),
        ("packets >= 1 && status == 200", "packets >= 1 && status == 200", "use two rules"),
        ("", "", "write a condition"),
    ] {
        let problems = When::parse(when).unwrap_err();

        let problem = &problems[0];
        assert_eq!(when.get(problem.span.clone()), Some(at), "{when}: {problem}");
        assert!(problem.hint.contains(told), "{when}: {problem}");
    }
}

#[test]
fn all_mistakes_of_a_condition_are_told_at_once() {
    let problems = When::parse("statuz >= 500 && metod == \"GET\" || roude == \"x\"").unwrap_err();

    assert_eq!(problems.len(), 3);
}
