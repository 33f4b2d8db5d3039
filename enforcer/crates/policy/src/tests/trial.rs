//! Requests in sentences, and the tests that a policy brings along.

use expect_test::expect;
use proptest::prelude::*;

use super::{read, shipped};
use crate::Policy;
use crate::trial::{Expected, Past, Replayed, Request, judge, run};

const POLICY: &str = r#"version = 1
[listen.local]
address = "127.0.0.1:8080"
[issuer.corp]
url = "https://idp.example.com"
audience = ["https://api.example.com"]
algs = ["ES256"]
[role]
reader = { from = ["key"] }
writer = { includes = ["reader"], from = ["issuer:corp/api.write"] }
[net]
office = ["198.51.100.0/24"]
[time]
work = { days = "mon-fri", hours = "08:00-18:00", zone = "UTC" }
[limit]
per_key = { by = "key", rate = "100/s" }
at_night = { by = "ip", rate = "1/s", when = "!time.work" }
[upstream.orders]
hosts = ["127.0.0.1:9000"]
[incident.3]
require = { orders = "mtls" }
[[route]]
name = "orders"
match = "api.example.com/v1/orders/{**}"
upstream = "orders"
limits = ["per_key", "at_night"]
  [[route.allow]]
  method = "GET"
  role = "reader"
  [[route.allow]]
  method = ["POST", "DELETE"]
  role = "writer"
  when = 'ip in net.office || claims.level >= 3'
  [[route.deny]]
  name = "freeze"
  method = "DELETE"
  when = 'incident >= 2'
[[route]]
name = "night"
match = "api.example.com/v1/night"
upstream = "orders"
  [[route.allow]]
  method = "GET"
  role = "reader"
  when = 'time.work'
"#;

fn answer(text: &str) -> String {
    let request: Request = text.parse().unwrap_or_else(|error| panic!("{error}"));
    judge(&policy(""), &request, None).unwrap().verdict.to_string()
}

fn policy(tests: &str) -> Policy {
    read(&format!("{POLICY}{tests}")).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn a_request_takes_the_way_of_a_real_one() {
    for (text, wanted) in [
        ("GET api.example.com/v1/orders/7 as reader", "allow: orders.allow[1]"),
        ("GET api.example.com/v1/orders/7 as writer", "allow: orders.allow[1]"),
        ("GET api.example.com/v1/orders/7", "deny: no credential in the request"),
        (
            "DELETE api.example.com/v1/orders/7 as writer from 203.0.113.9",
            "deny: no allow rule matched (orders.allow[2].when)",
        ),
        (
            "DELETE api.example.com/v1/orders/7 as writer from 198.51.100.7",
            "allow: orders.allow[2]",
        ),
        ("POST api.example.com/v1/orders/7 as writer claims.level=3", "allow: orders.allow[2]"),
        (
            "POST api.example.com/v1/orders/7 as writer claims.level=\"3\"",
            "deny: no allow rule matched (orders.allow[2].when)",
        ),
        (
            "DELETE api.example.com/v1/orders/7 as writer from 198.51.100.7 incident 2",
            "deny: orders.freeze matched",
        ),
        ("GET api.example.com/v1/orders/7 as reader incident 3", "deny: `mtls` is required"),
        (
            "GET api.example.com/v1/orders/7 as reader with mtls incident 3",
            "allow: orders.allow[1]",
        ),
        ("GET api.example.com/v2 as reader", "404: no-route (no route matches host and path)"),
        (
            "GET api.example.com/v1/orders/../x as reader",
            "400: path-dot-segment (dot segment at 11)",
        ),
        ("GET API.example.com/v1/orders as reader", "allow: orders.allow[1]"),
        (
            "POST api.example.com/v1/orders as reader",
            "deny: no allow rule matched (orders.allow[2].role)",
        ),
        (
            "POST api.example.com/v1/orders with token scope=api.write from 198.51.100.7",
            "allow: orders.allow[2]",
        ),
        (
            "GET api.example.com/v1/orders as writer with key",
            "deny: no allow rule matched (orders.allow[1].role)",
        ),
    ] {
        assert_eq!(answer(text), wanted, "{text}");
    }
}

#[test]
fn what_is_charged_is_told() {
    let request: Request =
        "GET api.example.com/v1/orders as reader at 2026-11-22T10:00Z".parse().unwrap();

    let judged = judge(&policy(""), &request, None).unwrap();

    let charged: Vec<&str> = judged.charges.iter().map(|charge| &*charge.limit).collect();
    assert_eq!(charged, ["per_key", "at_night"]);
    assert_eq!(judged.route.as_deref(), Some("orders"));
    assert_eq!(judged.assumed.len(), 2, "{:?}", judged.assumed);
}

#[test]
fn a_sentence_that_is_not_understood_shows_the_part_and_the_way_out() {
    let refused = |text: &str| text.parse::<Request>().unwrap_err().to_string();

    expect![[r#"
        `form` is not understood
          | GET api.example.com/v1 form 1.2.3.4
          |                        ^^^^
          = hint: did you mean `from`?"#]]
    .assert_eq(&refused("GET api.example.com/v1 form 1.2.3.4"));
    for (text, wanted) in [
        ("", "the method is missing"),
        ("GET", "host and path is missing"),
        ("GET api.example.com", "`api.example.com` has no path"),
        ("GET /v1", "the host is missing"),
        ("G(T a/b", "`G(T` is not a method"),
        ("GET a/b from here", "`here` is not an address"),
        ("GET a/b from", "nothing follows `from`"),
        ("GET a/b from 1.1.1.1 from 1.1.1.2", "`from` stands there twice"),
        ("GET a/b incident 6", "`6` is not an incident level"),
        ("GET a/b at noon", "`noon` is not a time"),
        ("GET a/b with password", "`password` proves nothing"),
        ("GET a/b claims.x=\"y", "a quote is not closed"),
    ] {
        assert!(refused(text).starts_with(wanted), "{text}: {}", refused(text));
    }
}

#[test]
fn an_answer_that_depends_on_the_hour_wants_one() {
    let ask = |text: &str| judge(&policy(""), &text.parse().unwrap(), None);

    let ambiguous = ask("GET api.example.com/v1/night as reader").unwrap_err();

    assert!(ambiguous.to_string().contains("depends on time.work"), "{ambiguous}");
    assert!(ambiguous.hint.starts_with("add a time, such as `at 2026-"), "{}", ambiguous.hint);
    let at = |time: &str| {
        let text = format!("GET api.example.com/v1/night as reader at {time}");
        ask(&text).unwrap().verdict.is_allowed()
    };
    assert!(at("2026-11-23T10:00Z"));
    assert!(!at("2026-11-22T10:00Z"));
}

#[test]
fn tests_pass_fail_and_cover_rules() {
    let tests = r#"
[[test]]
do = "GET api.example.com/v1/orders/7 as reader"
expect = "allow: orders.allow[1]"
[[test]]
do = "DELETE api.example.com/v1/orders/7 as writer from 203.0.113.9"
expect = "allow"
"#;

    let report = run(&policy(tests));

    assert!(!report.passed());
    let [failed] = &*report.failures().collect::<Vec<_>>() else { panic!() };
    assert_eq!(
        failed.failure.as_deref(),
        Some("expected `allow`, got `deny: no allow rule matched (orders.allow[2].when)`")
    );
    let texts = |rules: &[std::sync::Arc<str>]| -> Vec<String> {
        rules.iter().map(ToString::to_string).collect()
    };
    assert_eq!(texts(&report.coverage.decisive), ["orders.allow[1]"]);
    assert_eq!(
        texts(&report.coverage.idle),
        ["orders.freeze", "orders.allow[2]", "night.allow[1]"]
    );
    expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites tests="2" failures="1">
          <testsuite name="a&amp;b.toml" tests="2" failures="1" errors="0" skipped="0">
            <testcase classname="a&amp;b.toml" name="GET api.example.com/v1/orders/7 as reader" file="a&amp;b.toml" line="47"/>
            <testcase classname="a&amp;b.toml" name="DELETE api.example.com/v1/orders/7 as writer from 203.0.113.9" file="a&amp;b.toml" line="50">
              <failure message="expected `allow`, got `deny: no allow rule matched (orders.allow[2].when)`">expected `allow`, got `deny: no allow rule matched (orders.allow[2].when)`
        hint: `enforcer policy explain 'DELETE api.example.com/v1/orders/7 as writer from 203.0.113.9'` shows what each rule says</failure>
            </testcase>
          </testsuite>
        </testsuites>
    "#]]
    .assert_eq(&report.junit("a&b.toml"));
}

#[test]
fn the_tests_of_every_shipped_policy_pass() {
    for (name, text) in shipped() {
        let report = run(&read(&text).unwrap());
        let failures: Vec<_> = report.failures().collect();
        assert!(failures.is_empty(), "{name}: {failures:#?}");
    }
}

#[test]
fn a_recorded_request_is_asked_again_and_what_is_not_recorded_is_told() {
    let record = |reason: &str, method: &str| {
        format!(
            r#"{{"class":"http","time":"2026-11-22T10:00:00Z","body":{{"at":"2026-11-22T10:00:00Z",
            "peer":"198.51.100.7:4711","method":"{method}","host":"api.example.com",
            "path":"/v1/orders/7","route":"orders","status":200,"reason":{reason},
            "policy":"00","who":{{"principal":"token:corp/alice","kind":"token","role":"writer",
            "roles":["writer"],"scopes":["api.write"],"issuer":"corp"}}}}}}"#
        )
    };
    let past = |reason: &str, method: &str| {
        Past::read(7, &serde_json::from_str(&record(reason, method)).unwrap()).unwrap()
    };

    let allowed = past("null", "DELETE");

    assert_eq!(
        allowed.request.to_string(),
        "DELETE api.example.com/v1/orders/7 as writer,token:corp/alice from 198.51.100.7 with token \
         issuer=corp scope=api.write at 2026-11-22T10:00:00Z"
    );
    assert_eq!(allowed.unknown, ["headers", "the query", "claims"]);
    assert_eq!(allowed.replay(&policy("")), Replayed::Same);
    assert!(matches!(past("null", "PATCH").replay(&policy("")), Replayed::Refuses(_)));
    assert!(matches!(past("\"not-allowed\"", "GET").replay(&policy("")), Replayed::Allows(_)));
    assert_eq!(past("\"limit-key\"", "GET").replay(&policy("")), Replayed::NotByPolicy);
    let other = serde_json::json!({ "class": "block", "body": {} });
    assert!(Past::read(8, &other).unwrap_err().to_string().contains("not a request"));
}

proptest! {
    #[test]
    fn whatever_is_read_from_a_sentence_is_printed_so_that_it_reads_the_same(
        words in proptest::collection::vec("[ -~]{0,12}|as|from|with|claims\\.[a-z.\"]{1,6}=[a-z\\[\\],\"7]{0,6}|1\\.2\\.3\\.4|token|scope=[ -~]{0,5}", 0..8),
    ) {
        let text = format!("GET a.example/b {}", words.join(" "));

        if let Ok(request) = text.parse::<Request>() {
            let printed = request.to_string();
            prop_assert_eq!(printed.parse::<Request>(), Ok(request), "{}", printed);
        }
    }

    #[test]
    fn no_sentence_and_no_expectation_breaks_the_reader(text in "\\PC{0,80}") {
        if let Err(error) = text.parse::<Request>() {
            prop_assert!(!error.to_string().is_empty());
        }
        if let Ok(expected) = text.parse::<Expected>() {
            prop_assert_eq!(expected.to_string().parse::<Expected>(), Ok(expected));
        }
    }
}
