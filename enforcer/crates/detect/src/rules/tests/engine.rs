//! What is counted, and when that is a finding.

use proptest::prelude::*;

use super::*;
use crate::{EVIDENCE_MAX, Entity, Signal};

const REFUSED: &str = "
id: r
key: source
when: credential_refused
event_count: {gte: 5, off: 2, within: 10s}
";

#[test]
fn a_burst_makes_one_finding_and_going_on_one_for_each_window() {
    let steady = r#"{"reason":"key-unknown","after":"500ms","repeat":81}"#;

    let found = found(REFUSED, steady);

    let first = found[0].at;
    let seconds: Vec<u64> = found.iter().map(|it| it.at.since(first).as_secs()).collect();
    assert_eq!(seconds, [0, 10, 20, 30]);
}

#[test]
fn a_finding_comes_again_only_after_the_count_was_below_the_off_threshold() {
    let burst = r#"{"reason":"key-unknown","after":"100ms","repeat":6}"#;
    let rests = r#"{"reason":"key-unknown","after":"9s"}"#;
    // The pause lets all but one of the burst lapse, so the next burst is a new one within the window
    // of the first finding's successor.
    let lines = format!("{burst}\n{rests}\n{rests}\n{burst}");

    assert_eq!(found(REFUSED, &lines).len(), 2);
    assert_eq!(found(REFUSED, &format!("{burst}\n{burst}")).len(), 1);
}

#[test]
fn what_is_spread_wider_than_the_window_is_no_finding() {
    let slow = r#"{"reason":"key-unknown","after":"3s","repeat":500}"#;

    assert_eq!(found(REFUSED, slow), []);
}

#[test]
fn our_own_denials_are_never_counted() {
    let all = "id: r\nkey: source\nevent_count: {gte: 2, within: 1m}";
    for reason in ["quarantined", "limit-source", "limit-key", "quota-used", "shed", "internal"] {
        let line = format!("{{\"reason\":\"{reason}\",\"after\":\"1s\",\"repeat\":50}}");
        assert_eq!(found(all, &line), [], "{reason}");
    }
    // A permitted request whose credential was taken back was cut by us.
    let cut = r#"{"reason":"key-revoked","permitted":true,"after":"1s","repeat":50}"#;
    assert_eq!(found(all, cut), []);
    assert_eq!(found(all, "{\"reason\":\"no-route\",\"repeat\":2}").len(), 1);
}

#[test]
fn hosts_that_change_their_address_at_will_are_counted_as_one() {
    let by_source = "id: r\nkey: source\nevent_count: {gte: 5, within: 1m}";
    let by_network = "id: r\nkey: network\nevent_count: {gte: 5, within: 1m}";
    let v6 = r#"{"source":"2001:db8::{n}","repeat":5}"#;
    let v4 = r#"{"source":"203.0.113.{n}","repeat":5}"#;
    let apart = r#"{"source":"203.0.{n}.1","repeat":50}"#;
    let wide = r#"{"source":"2001:db8:0:{n}::1","repeat":5}"#;

    let about = |text, lines| -> Vec<String> {
        found(text, lines).iter().map(|it| it.about.to_string()).collect()
    };

    assert_eq!(about(by_source, v6), ["source:2001:db8::/64"]);
    assert_eq!(about(by_source, v4), Vec::<String>::new());
    assert_eq!(about(by_network, v4), ["source:203.0.113.0/24"]);
    assert_eq!(about(by_network, apart), Vec::<String>::new());
    assert_eq!(about(by_network, wide), ["source:2001:db8::/48"]);
    assert_eq!(about(by_source, wide), Vec::<String>::new());
}

#[test]
fn what_a_proxy_says_is_counted_apart_from_what_packets_show() {
    let rule = "id: r\nkey: source\nevent_count: {gte: 5, within: 1m}";
    let direct = r#"{"source":"203.0.113.7","repeat":4}"#;
    let named = r#"{"source":"203.0.113.7","through":"10.0.0.1","repeat":4}"#;

    assert_eq!(found(rule, &format!("{direct}\n{named}")), []);
    let found = found(rule, &format!("{direct}\n{named}\n{named}"));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].scene.through.map(|it| it.to_string()).as_deref(), Some("10.0.0.1"));
    assert!(found[0].explanation().contains("by the word of the proxy 10.0.0.1"));
}

#[test]
fn different_values_are_counted_exactly_and_only_inside_the_window() {
    let rule = "id: r\nkey: identity\nvalue_count: {field: object_id, gte: 60, within: 10m}";
    let reads = |count: u32, after: &str| {
        format!(
            "{{\"identity\":\"key:a\",\"route\":\"o\",\"path\":\"/o/{{n}}\",\"after\":\"{after}\",\
             \"repeat\":{count}}}"
        )
    };

    assert_eq!(found(rule, &reads(59, "1s")), []);
    assert_eq!(found(rule, &reads(60, "1s")).len(), 1);
    // The same ones again and again.
    assert_eq!(found(rule, &format!("{0}\n{0}\n{0}", reads(59, "1s"))), []);
    // One every eleven seconds: at most 55 in ten minutes.
    assert_eq!(found(rule, &reads(500, "11s")), []);
    let found = found(rule, &reads(60, "1s"));
    assert_eq!(found[0].explanation(), "r: 60 different objects in 10m; the rule allows 59");
}

#[test]
fn one_object_of_two_routes_is_two_objects() {
    let rule = "id: r\nkey: identity\nvalue_count: {field: object_id, gte: 2, within: 10m}";
    let read = |route: &str| {
        format!("{{\"identity\":\"key:a\",\"route\":\"{route}\",\"path\":\"/{route}/17\"}}")
    };

    assert_eq!(found(rule, &format!("{}\n{}", read("a"), read("b"))).len(), 1);
    assert_eq!(found(rule, &format!("{}\n{}", read("a"), read("a"))), []);
}

#[test]
fn a_large_number_of_different_values_is_met_within_a_quarter() {
    let rule = "id: r\nkey: source\nvalue_count: {field: path, gte: 5000, within: 1h}";
    for _ in 0..8 {
        let mut rules = Rules::new(&rules(rule));
        let (mut count, mut found) = (0, Vec::new());
        events(r#"{"path":"/{n}","after":"10ms","repeat":20000}"#, |past| {
            rules.observe(&past.event(), &mut found);
            count += 1;
            if found.is_empty() {
                std::ops::ControlFlow::Continue(())
            } else {
                std::ops::ControlFlow::Break(())
            }
        })
        .unwrap();

        assert!((3_400..7_200).contains(&count), "found with {count}");
    }
}

#[test]
fn a_sum_and_a_share_make_findings_that_say_their_numbers() {
    let sum = "id: r\nkey: identity\nvalue_sum: {field: bytes_out, gte: 1MiB, within: 1h}";
    let share =
        "id: r\nkey: upstream\nratio: {of: 'status >= 500', gte: 50%, at_least: 10, within: 1m}";
    let bytes = r#"{"identity":"key:a","bytes_out":300000,"repeat":4}"#;
    let failing = r#"{"upstream":"10.0.0.7:80","status":503,"repeat":9}"#;
    let one_more = r#"{"upstream":"10.0.0.7:80","status":200}"#;

    assert_eq!(
        found(sum, bytes)[0].explanation(),
        "r: 1.1 MiB to clients in 1h; the rule allows less than 1.0 MiB"
    );
    assert_eq!(found(share, failing), []);
    assert_eq!(
        found(share, &format!("{failing}\n{one_more}"))[0].explanation(),
        "r: 90 % of 10 requests in 1m; the rule allows less than 50 %"
    );
}

#[test]
fn a_sequence_is_found_in_its_order_alone_and_one_event_is_no_two_steps() {
    let rule = "
id: r
key: identity
temporal_ordered:
  within: 1m
  steps:
    - {when: 'status == 401'}
    - {when: 'status >= 400'}
    - {when: 'status == 200'}
";
    let event = |status: u16| format!("{{\"identity\":\"key:a\",\"status\":{status}}}\n");
    let run =
        |list: &[u16]| found(rule, &list.iter().map(|it| event(*it)).collect::<String>()).len();

    assert_eq!(run(&[401, 404, 200]), 1);
    assert_eq!(run(&[401, 200, 302, 404, 200]), 1);
    assert_eq!(run(&[401, 200]), 0);
    assert_eq!(run(&[404, 401, 200]), 0);
    let slow = r#"{"identity":"key:a","status":401}
        {"identity":"key:a","status":401,"after":"50s"}
        {"identity":"key:a","status":200,"after":"50s"}"#;
    assert_eq!(found(rule, slow), []);
}

#[test]
fn steps_in_any_order_are_found_when_the_last_one_comes() {
    let rule = "
id: r
key: credential
temporal: {within: 1m, steps: [{when: 'region == \"DE\"'}, {when: 'region == \"BR\"'}]}
";
    let event = |who: &str, region: &str| {
        format!("{{\"identity\":\"key:a\",\"credential\":\"{who}\",\"region\":\"{region}\"}}\n")
    };

    assert_eq!(found(rule, &(event("c", "BR") + &event("c", "DE"))).len(), 1);
    assert_eq!(found(rule, &(event("c", "DE") + &event("c", "BR"))).len(), 1);
    assert_eq!(found(rule, &(event("c", "DE") + &event("d", "BR"))), []);
}

#[test]
fn a_finding_of_an_earlier_rule_is_a_step_and_a_silent_rule_tells_nobody() {
    let rules = "
- id: first
  key: source
  when: credential_refused
  event_count: {gte: 3, within: 1m}
  silent: true
- id: second
  key: source
  temporal_ordered: {within: 1m, steps: [{rule: first}, {when: '!refused'}]}
";
    let lines = "{\"reason\":\"key-unknown\",\"repeat\":3}\n{}";

    let found = found(rules, lines);

    let names: Vec<&str> = found.iter().map(|it| &*it.rule).collect();
    assert_eq!(names, ["second"]);
}

#[test]
fn a_finding_names_its_requests_its_scene_and_its_responses() {
    let rule = "
id: r
title: many requests
key: identity
event_count: {gte: 40, within: 1h}
respond: [{action: tighten, ttl: 10m, to: 50%}, {action: deny_identity, ttl: 1h, mode: approve}]
mode: auto
";
    let lines = r#"{"identity":"token:corp/alice","credential":"c","ja4":"t13d","route":"orders","upstream":"10.0.0.7:80","repeat":40}"#;

    let finding = found(rule, lines).remove(0);

    assert_eq!(finding.about, "identity:token:corp/alice".parse::<Entity>().unwrap());
    assert_eq!(finding.evidence.len(), EVIDENCE_MAX);
    let newest = enforcer_model::RequestId::from_bits(40);
    assert_eq!(finding.evidence.last(), Some(&newest));
    assert_eq!(finding.scene.route.as_deref(), Some("orders"));
    assert_eq!(finding.scene.upstream.as_deref(), Some("10.0.0.7:80"));
    assert_eq!(finding.scene.ja4.as_deref(), Some("t13d"));
    assert!(finding.scene.credential.is_some());
    let actions: Vec<String> = finding.respond.iter().map(|it| it.action.to_string()).collect();
    assert_eq!(actions, ["tighten to 50 %", "deny the identity"]);
    assert_eq!(finding.explanation(), "many requests: 40 requests in 1h; the rule allows 39");
}

#[test]
fn a_reload_keeps_what_unchanged_rules_have_counted() {
    let with = |mode: &str, gte: u32| {
        rules(&format!("id: r\nkey: source\nmode: {mode}\nevent_count: {{gte: {gte}, within: 1h}}"))
    };
    let mut engine = Rules::new(&with("observe", 5));
    let run = |engine: &mut Rules, lines: &str| {
        let mut found = Vec::new();
        events(lines, |past| {
            engine.observe(&past.event(), &mut found);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        found.len()
    };

    assert_eq!(run(&mut engine, "{\"repeat\":4}"), 0);
    engine.replace(&with("auto", 5));
    assert_eq!(run(&mut engine, "{}"), 1);
    engine.replace(&with("auto", 6));
    assert_eq!(run(&mut engine, "{\"repeat\":5}"), 0);
}

#[test]
fn a_surprised_profile_completes_a_rule_once_in_its_window() {
    let text = "
id: r
key: identity
value_count: {field: object_id, gte: 60, within: 10m}
or_profile: {signals: [novelty, distinct_resources], bits: '>= 22'}
";
    let mut engine = Rules::new(&rules(text));
    let signal = |text: &str, bits| Signal { text: text.to_owned(), bits: Some(bits) };
    let strong = [
        ("novelty", signal("140 objects never read before", 15.0)),
        ("hours", signal("at night", 30.0)),
        ("distinct_resources", signal("400 objects; usual 3", 20.0)),
    ];
    let weak = [("novelty", signal("a new object", 15.0)), ("hours", signal("at night", 30.0))];
    let mut found = Vec::new();

    events("{\"identity\":\"key:a\",\"repeat\":3}", |past| {
        engine.surprised(&past.event(), &weak, &mut found);
        assert!(found.len() <= 1);
        engine.surprised(&past.event(), &strong, &mut found);
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();

    assert_eq!(found.len(), 1);
    assert_eq!(found[0].explanation(), "400 objects; usual 3; 140 objects never read before");
}

#[test]
fn a_flood_of_new_sources_does_not_wash_out_who_does_more() {
    let mut engine = Rules::new(&rules("id: r\nkey: source\nevent_count: {gte: 20, within: 1h}"));
    let mut found = Vec::new();
    let mut take = |lines: &str| {
        events(lines, |past| {
            engine.observe(&past.event(), &mut found);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    };

    take(r#"{"source":"203.0.113.7","after":"1ms","repeat":19}"#);
    for net in 0..20 {
        take(&format!(
            "{{\"source\":\"2001:db8:{net}:{{n}}::1\",\"after\":\"1ms\",\"repeat\":9999}}"
        ));
    }
    take(r#"{"source":"203.0.113.7","after":"1ms"}"#);

    assert_eq!(found.len(), 1);
    let counters = engine.counters().next().unwrap();
    assert!(counters.keys <= KEYS_MAX, "{counters:?}");
    assert!(counters.bytes <= TABLE_BYTES_MAX + (1 << 20), "{counters:?}");
    assert_eq!(counters.matched, 19 + 20 * 9_999 + 1);
}

#[test]
fn many_values_of_many_keys_stay_in_the_memory_that_is_stated() {
    let text = "id: r\nkey: identity\nvalue_count: {field: object_id, gte: 150, within: 1h}";
    let mut engine = Rules::new(&rules(text));
    let mut found = Vec::new();
    let mut most = 0;

    for who in 0..17_000 {
        let line = format!(
            "{{\"identity\":\"key:{who}\",\"route\":\"o\",\"path\":\"/o/{{n}}\",\"after\":\"0s\",\
             \"repeat\":66}}"
        );
        events(&line, |past| {
            engine.observe(&past.event(), &mut found);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        most = most.max(engine.bytes());
    }

    assert!(most <= TABLE_BYTES_MAX + (1 << 20), "{most}");
    assert_eq!(found, []);
}

#[test]
fn what_is_older_than_its_window_is_forgotten() {
    let mut engine = Rules::new(&rules("id: r\nkey: source\nevent_count: {gte: 20, within: 1m}"));
    let mut last = None;
    events(r#"{"source":"203.0.113.{n}","repeat":50}"#, |past| {
        engine.observe(&past.event(), &mut Vec::new());
        last = Some(past.event().at());
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    let last = last.unwrap();

    engine.forget_old(last);
    assert_eq!(engine.counters().next().unwrap().keys, 50);
    engine.forget_old(last.saturating_add(std::time::Duration::from_secs(70)));
    assert_eq!(engine.counters().next().unwrap().keys, 0);
}

#[test]
fn a_replay_says_whom_a_rule_would_have_refused_and_what_that_would_have_cost() {
    let text = "
id: r
key: identity
value_count: {field: object_id, gte: 10, within: 10m}
respond: [{action: deny_identity, ttl: 5m}]
";
    let lines = r#"{"identity":"key:a","route":"o","path":"/o/{n}","repeat":10}
        {"identity":"key:a","route":"o","path":"/o/1","after":"10s","repeat":40}
        {"identity":"key:b","route":"o","path":"/o/1","repeat":10}"#;
    let mut pasts = Vec::new();
    events(lines, |past| {
        pasts.push(past.clone());
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();

    let report = replay(&rules(text), pasts.into_iter());

    assert_eq!((report.events, report.identities), (60, 2));
    let rule = &report.rules[0];
    assert_eq!((rule.findings, rule.would_have_blocked), (1, 1));
    // Five minutes at one request every ten seconds, the last one at their end.
    assert_eq!((rule.would_have_refused, rule.identities_refused), (29, 1));
    assert!((rule.share_of_identities - 50.0).abs() < 0.01);
    assert_eq!(rule.entities[0].entity.to_string(), "identity:key:a");
    assert_eq!(rule.entities[0].would_have_refused, 29);
}

#[test]
fn a_record_of_the_audit_log_is_the_event_that_it_was() {
    let record = serde_json::json!({
        "class": "http", "time": "2026-01-05T10:00:00Z", "some_new_field": 1,
        "body": {
            "id": "0000000000000000000000000000002a", "at": "2026-01-05T10:00:00Z",
            "peer": "10.0.0.1:443", "source": "203.0.113.7", "method": "GET",
            "path": "/v1/orders/17", "status": 401, "reason": "key-unknown", "ja4": "t13d",
            "credential": "00112233445566778899aabbccddeeff", "duration_us": 1_500_000,
            "who": null, "future": {"x": 1}
        }
    });

    let past = Past::from_record(&record).unwrap();

    let crate::Event::Request(request) = past.event() else { panic!() };
    assert_eq!(request.source.to_string(), "203.0.113.7");
    assert_eq!(request.through.map(|it| it.to_string()).as_deref(), Some("10.0.0.1"));
    assert_eq!(request.object, Some("17"));
    assert_eq!(request.at.to_string(), "2026-01-05T10:00:01.500000Z");
    assert_eq!(request.id, enforcer_model::RequestId::from_bits(42));
    assert!(request.credential.is_some() && !request.permitted);
    assert_eq!(Past::from_record(&serde_json::json!({"class": "admin"})), None);
    assert_eq!(Past::from_record(&serde_json::json!({"class": "http", "body": 5})), None);
}

proptest! {
    /// The plainest way to count, and ours.
    #[test]
    fn a_count_is_found_when_the_plainest_way_finds_it(
        gaps in proptest::collection::vec(0_u64..8_000, 1..200),
        on in 2_u64..12,
    ) {
        let text = format!("id: r\nkey: source\nevent_count: {{gte: {on}, off: 1, within: 10s}}");
        let mut rules = Rules::new(&rules(&text));
        let (mut now, mut times, mut last) = (0, Vec::new(), None::<u64>);
        let lines: String = gaps.iter().map(|gap| format!("{{\"after\":\"{gap}ms\"}}\n")).collect();
        let mut gaps = gaps.iter();
        let mut outcome = Ok(());

        events(&lines, |past| {
            now += gaps.next().copied().unwrap_or_default();
            times.push(now);
            let mut found = Vec::new();
            rules.observe(&past.event(), &mut found);
            let inside = |span: u64| times.iter().filter(|at| now - **at < span).fold(0, |n, _| n + 1);
            let armed = last.is_none_or(|last| now - last >= 10_000);
            // What is counted lies between the window and a fifteenth more.
            if armed && inside(10_000) >= on && found.is_empty() {
                outcome = Err("missed");
            }
            if !found.is_empty() && inside(10_800) < on {
                outcome = Err("too early");
            }
            if !found.is_empty() {
                last = Some(now);
            }
            std::ops::ControlFlow::Continue(())
        }).unwrap();

        prop_assert_eq!(outcome, Ok(()));
    }
}
