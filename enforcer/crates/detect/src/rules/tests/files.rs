//! Files of rules, right and wrong.

use std::time::Duration;

use super::*;
use crate::{Action, Mode};

/// The problems of a file: line, column, message and hint.
fn wrong(text: &str) -> Vec<(usize, usize, String)> {
    let problems = read(text, &[]).expect_err("the file has a mistake");
    problems
        .into_iter()
        .map(|it| (it.line, it.column, format!("{}; {}", it.message, it.hint)))
        .collect()
}

#[test]
fn a_file_in_every_form_that_yaml_has_for_it_is_the_same_rule() {
    let block = "
# a comment
id: bola
owasp: [API1:2023]
when: 'route.has_object_id && status < 400'
key: identity
value_count: {field: object_id, gte: 60, within: 10m}
or_profile: {signals: [distinct_resources, novelty], bits: \">= 22\"}
respond:
  - {action: tighten, ttl: 10m}
  - {action: deny_identity, ttl: 30m, mode: approve}
limits: {max_share_of_identities: 1%}
tests:
  - {events: tests/bola.jsonl, expect: fire, within_events: 61}
  - {events: tests/export-job.jsonl, expect: quiet}
";
    let other = "---
- \"id\": \"bola\"
  owasp:
    - 'API1:2023'
  when: >-
    route.has_object_id
    && status < 400
  key: identity
  value_count:
    field: object_id
    gt: 59
    within: 10m
  or_profile:
    signals:
    - distinct_resources
    - novelty
    bits: 22
  respond: [
    {\"action\": tighten, ttl: 600s},
    {action: deny_identity, ttl: 30m, mode: approve},
  ]
  limits:
    max_share_of_identities: 1.0%
  tests:
    - events: tests/bola.jsonl
      expect: fire
      within_events: 61
    - {events: tests/export-job.jsonl, expect: quiet}
...
";

    let (a, b) = (rules(block).remove(0), rules(other).remove(0));

    assert_eq!(RulePlan { when: None, ..(*a).clone() }, RulePlan { when: None, ..(*b).clone() });
    assert_eq!(&*a.id, "bola");
    assert_eq!(a.mode, Mode::Observe, "a new rule only observes");
    assert_eq!(a.max_share_of_identities, Some(10));
    assert_eq!(a.respond[1].action, Action::DenyIdentity);
    assert_eq!(a.respond[1].mode, Some(Mode::Approve));
    assert_eq!(a.respond[0].ttl, Duration::from_secs(600));
    let threshold = Threshold { on: 60, off: 30, within: Duration::from_secs(600) };
    assert_eq!(a.pattern, Pattern::ValueCount(Field::ObjectId, threshold));
    assert_eq!(a.tests[0].expect, Expected::Fire(Some(61)));
    assert_eq!(a.or_profile.as_ref().map(|or| or.signals.len()), Some(2));
}

#[test]
fn every_mistake_is_told_with_its_line_its_column_and_what_to_write() {
    let good = "id: r\nkey: source\n";
    for (text, line, column, told) in [
        (
            "id: r\nkey: source\nevent_cuont: {gte: 5, within: 1m}",
            3,
            1,
            "did you mean `event_count`?",
        ),
        ("id: r\nkey: sauce\nevent_count: {gte: 5, within: 1m}", 2, 6, "did you mean `source`?"),
        ("id: R!\nkey: source\nevent_count: {gte: 5, within: 1m}", 1, 5, "small letters"),
        (
            "id: r\nkey: source\nwhen: 'statuz >= 500'\nevent_count: {gte: 5, within: 1m}",
            3,
            8,
            "did you mean `status`?",
        ),
        (
            "id: r\nkey: source\nwhen: >-\n  status >= 500\n  && roude == \"x\"\nevent_count: {gte: 5, within: 1m}",
            5,
            6,
            "did you mean `route`?",
        ),
        (
            "id: r\nkey: source\nwhen: status >= 500 && roude == \"x\"\nevent_count: {gte: 5, within: 1m}",
            3,
            24,
            "did you mean `route`?",
        ),
        ("id: r\nkey: source\nevent_count: {gte: 0, within: 1m}", 3, 20, "write it as `gte: 1`"),
        ("id: r\nkey: source\nevent_count: {gte: 5, within: ten}", 3, 31, "no span of time"),
        ("id: r\nkey: source\nevent_count: {gte: 5, within: 90d}", 3, 31, "from 1s to 31d"),
        ("id: r\nkey: source\nevent_count: {within: 1m}", 3, 14, "write `gte: 60`"),
        (
            "id: r\nkey: source\nevent_count: {gte: 5, off: 6, within: 1m}",
            3,
            23,
            "at most the threshold",
        ),
        ("id: r\nid: s\nkey: source\nevent_count: {gte: 5, within: 1m}", 2, 1, "stands here twice"),
        (
            "id: r\nkey: identity\nvalue_count: {field: identity, gte: 5, within: 1m}",
            3,
            14,
            "only one",
        ),
        (
            "id: r\nkey: source\nevent_count: {gte: 5, within: 1m}\nratio: {of: refused, gte: 5%, at_least: 5, within: 1m}",
            4,
            1,
            "use two rules",
        ),
        ("id: r\nkey: source", 1, 1, "write one of: event_count"),
        (
            "id: r\nkey: identity\nevent_count: {gte: 5, within: 1m}\nrespond: [{action: drop, ttl: 5m}]",
            4,
            20,
            "use `key: source`",
        ),
        (
            "id: r\nkey: source\nevent_count: {gte: 5, within: 1m}\nrespond: [{action: dropp, ttl: 5m}]",
            4,
            20,
            "did you mean `drop`?",
        ),
        (
            "id: r\nkey: source\nevent_count: {gte: 5, within: 1m}\nrespond: [{action: drop}]",
            4,
            11,
            "ends by itself",
        ),
        (
            "id: r\nkey: source\nevent_count: {gte: 5, within: 1m}\nowasp: [API11:2023]",
            4,
            9,
            "up to `API10:2023`",
        ),
        (
            "id: r\nkey: source\ntemporal: {within: 1m, steps: [{when: refused}, {rule: nobody}]}",
            3,
            56,
            "stands before this one",
        ),
        (
            "id: r\nkey: identity\nwhen: 'packets > 1'\nevent_count: {gte: 5, within: 1m}",
            3,
            1,
            "`source`, `network` or `everyone`",
        ),
        (
            "id: r\nkey: source\nevent_count: {gte: 5, within: 1m}\ntests: [{events: a, expect: fier}]",
            4,
            29,
            "did you mean `fire`?",
        ),
        (
            "id: r\nkey: identity\nor_profile: {signals: [bytes], bits: '>= 22'}\nevent_count: {gte: 5, within: 1m}",
            3,
            38,
            "from 1 to 18",
        ),
        ("id: &a r\nkey: source", 1, 5, "anchors are not read"),
        ("id: !!str r\nkey: source", 1, 5, "tags are not read"),
        ("id: [r\nkey: source", 2, 4, "not YAML"),
        ("", 1, 1, "the file has no rule"),
    ] {
        let problems = wrong(text);

        let found =
            problems.iter().any(|(l, c, what)| (*l, *c) == (line, column) && what.contains(told));
        assert!(found, "{text}\n{problems:?}");
        assert!(!text.starts_with(good) || !problems.is_empty());
    }
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_in_the_order_of_the_file() {
    let text = "
- id: one
  key: nobody
  event_count: {gte: x, within: 1m}
- id: two
  keyy: source
  event_count: {gte: 5, within: 1m}
- id: three
  key: source
  event_count: {gte: 5, within: 1m}
  mode: automatic
";

    let lines: Vec<usize> = wrong(text).into_iter().map(|(line, ..)| line).collect();

    assert_eq!(lines, [3, 4, 5, 6, 11]);
}

#[test]
fn two_rules_of_one_name_are_refused_across_files() {
    let known = rules("id: r\nkey: source\nevent_count: {gte: 5, within: 1m}");

    let problems =
        read("id: r\nkey: identity\nevent_count: {gte: 5, within: 1m}", &known).unwrap_err();

    assert_eq!(problems[0].message, "two rules are called `r`");
}

#[test]
fn a_problem_is_shown_with_its_line_and_a_caret() {
    let text = "id: r\nkey: source\nwhen: 'statuz >= 500'\nevent_count: {gte: 5, within: 1m}";

    let problem = read(text, &[]).unwrap_err().remove(0);

    assert_eq!(
        problem.shown("rules.yaml"),
        "error: no event has `statuz`\n \
         --> rules.yaml:3:8\n  \
         |\n3 | when: 'statuz >= 500'\n  \
         |        ^^^^^^\n  \
         = hint: did you mean `status`?"
    );
}

#[test]
fn a_file_that_is_too_large_too_deep_or_too_long_is_refused() {
    let large = format!("# {}\nid: r", "x".repeat(FILE_BYTES_MAX));
    let deep = format!("id: {}{}", "[".repeat(200), "]".repeat(200));
    let many = format!("id: [{}]", "a, ".repeat(30_000));

    for (text, told) in [(large, "more than"), (deep, "nested deeper"), (many, "more than 20000")] {
        let problems = wrong(&text);
        assert!(problems[0].2.contains(told), "{:?}", problems[0]);
    }
}

#[test]
fn lines_of_events_are_strict_and_records_are_not() {
    let count = |lines: &str| {
        let mut count = 0;
        events(lines, |_| {
            count += 1;
            std::ops::ControlFlow::Continue(())
        })
        .map(|()| count)
    };

    assert_eq!(count("# nothing\n\n{}\n{\"repeat\":3}"), Ok(4));
    assert_eq!(count("{\"class\":\"admin\",\"x\":1}"), Ok(0));
    for (line, told) in [
        ("{\"statuss\":1}", "did you mean `status`?"),
        ("{\"status\":\"x\"}", "`status` is a whole number"),
        ("{\"source\":\"x\"}", "`x` is no address"),
        ("{\"reason\":\"x\"}", "no reason is called `x`"),
        ("[]", "an event is a table"),
        ("{", "line 1: "),
        ("{\"repeat\":0}", "`repeat` is from 1"),
    ] {
        let error = count(line).unwrap_err().to_string();
        assert!(error.contains(told), "{line}: {error}");
    }
}

#[test]
fn a_rule_is_told_in_plain_words() {
    let plan = rules(
        "
id: bola
title: one caller read object after object
owasp: [API1:2023]
when: 'route.has_object_id'
key: identity
value_count: {field: object_id, gte: 60, within: 10m}
respond: [{action: tighten, ttl: 10m}, {action: deny_identity, ttl: 30m, mode: approve}]
mode: auto
",
    )
    .remove(0);

    assert_eq!(
        words(&plan),
        [
            "bola: one caller read object after object",
            "  owasp     API1:2023",
            "  severity  medium",
            "  looks at  events of which this is true: route.has_object_id",
            "  finds     60 different objects within 10m, by caller",
            "  again     once it was below 30, or 10m later",
            "  mode      auto: done unasked",
            "  follows   tighten to 25 % for 10m",
            "  then      deny the identity for 30m (approve: an operator is asked)",
        ]
    );
}
