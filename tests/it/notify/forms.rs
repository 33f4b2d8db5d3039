//! What Slack and `PagerDuty` get, held against the rules that they document for their fields.

use std::sync::mpsc::Receiver;

use enforcer_tests::lab::DEADLINE;
use serde_json::Value;

use super::post::{Post, receiver};
use super::{LOOPBACK, policy, stage, time};
use crate::stage::Stage;

/// Words of somebody who would like to break out of any form.
pub(super) const HOSTILE: &str =
    r#"<!channel> <https://evil.example|click> & "quotes" \ | = ] [x y="z"] é 💥 %s ${x} `id`"#;

const ROUTING_KEY: &str = "0123456789abcdef0123456789abcdef";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_incident_triggers_is_acknowledged_by_who_takes_it_up_and_resolved() {
    let stage = stage();
    stage.file("routing", ROUTING_KEY);
    let (address, posts) = receiver(&stage, &["202 Accepted"]);
    stage.apply(&policy(&[format!(
        "[notify.page]\nkind = 'pagerduty'\nurl = 'http://{address}/v2/enqueue'\n\
         secret = 'routing'\nseverity = 'warning'\ngroup_wait = '0s'\n{LOOPBACK}\n"
    )]));

    open(&stage, HOSTILE);
    let trigger = event(&posts);
    assert_eq!(trigger["event_action"], "trigger");
    assert_eq!(trigger["payload"]["summary"], HOSTILE);
    let words = ["incident", "tighten", "--route", "orders", "--rate", "5/m"];
    let tightened =
        stage.enforcer(&[&words[..], &["--incident", "INC-0001", "--reason", "x"]].concat());
    assert!(tightened.is_success(), "{tightened}");
    while event(&posts)["event_action"] != "acknowledge" {}
    let closed = stage.enforcer(&["incident", "close", "INC-0001", "--reason", "over"]);
    assert!(closed.is_success(), "{closed}");

    let resolve = loop {
        let event = event(&posts);
        assert_eq!(event["dedup_key"], trigger["dedup_key"]);
        if event["event_action"] == "resolve" {
            break event;
        }
    };
    assert!(resolve.get("payload").is_none());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_slack_gets_keeps_to_its_bounds_and_rings_nobodys_bell() {
    let stage = stage();
    let (address, posts) = receiver(&stage, &["200 OK"]);
    stage.file("slack", &format!("http://{address}/services/T0/B0/secret"));
    stage.apply(&policy(&[format!(
        "[notify.chat]\nkind = 'slack'\nurl_file = 'slack'\nseverity = 'info'\n\
         group_wait = '0s'\n{LOOPBACK}\n"
    )]));

    open(&stage, HOSTILE);
    let told = message(&posts);
    open(&stage, &"& < > 💥 ".repeat(60));
    message(&posts);

    assert!(told["text"].as_str().unwrap().contains("&lt;!channel&gt;"), "{told}");
    let listed = stage.enforcer(&["notify", "list", "--json"]);
    assert!(!listed.stdout.contains("secret"), "the path of the URL is a secret: {listed}");
}

/// Opens an incident with these words.
fn open(stage: &Stage, words: &str) {
    let reason: String = words.chars().take(500).collect();
    let opened = stage.enforcer(&["incident", "open", "--reason", &reason]);
    assert!(opened.is_success(), "{opened}");
}

/// The next event, held against the fields of the Events API v2.
fn event(posts: &Receiver<Post>) -> Value {
    let post = posts.recv_timeout(DEADLINE).unwrap();
    assert!(post.head.starts_with("POST /v2/enqueue HTTP/1.1"), "{}", post.head);
    assert_eq!(post.field("content-type"), "application/json");
    assert!(post.body.len() <= 512 << 10);
    let event = post.body();
    let text = |value: &Value, most: usize| {
        let text = value.as_str().unwrap_or_else(|| panic!("{value} of {event}"));
        assert!(!text.is_empty() && text.chars().count() <= most, "{event}");
        text.to_owned()
    };
    let known = ["routing_key", "event_action", "dedup_key", "payload", "client"];
    assert!(event.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{event}");
    assert_eq!(event["routing_key"], ROUTING_KEY);
    text(&event["dedup_key"], 255);
    match text(&event["event_action"], 20).as_str() {
        "trigger" => {
            let payload = &event["payload"];
            text(&payload["summary"], 1_024);
            text(&payload["source"], 255);
            time(&payload["timestamp"]);
            let severity = text(&payload["severity"], 20);
            assert!(["critical", "error", "warning", "info"].contains(&severity.as_str()));
            for field in ["component", "class"] {
                text(&payload[field], 255);
            }
            assert!(payload["custom_details"].is_object());
        }
        "acknowledge" | "resolve" => assert!(event.get("payload").is_none(), "{event}"),
        other => panic!("{other}: {event}"),
    }
    event
}

/// The next message, held against what Slack documents of blocks and of escaping.
fn message(posts: &Receiver<Post>) -> Value {
    let post = posts.recv_timeout(DEADLINE).unwrap();
    assert!(post.head.starts_with("POST /services/T0/B0/secret HTTP/1.1"), "{}", post.head);
    let message = post.body();
    let escaped = |value: &Value, most: usize| {
        let text = value.as_str().unwrap_or_else(|| panic!("{value} of {message}"));
        assert!(!text.is_empty() && text.chars().count() <= most, "{message}");
        assert!(!text.contains(['<', '>']), "{text}");
        let entities = ["&amp;", "&lt;", "&gt;"];
        let known: usize = entities.iter().map(|entity| text.matches(entity).count()).sum();
        assert_eq!(text.matches('&').count(), known, "{text}");
    };
    escaped(&message["text"], 40_000);
    let blocks = message["blocks"].as_array().unwrap();
    assert!((1..=50).contains(&blocks.len()));
    for block in blocks {
        match block["type"].as_str().unwrap() {
            "header" => {
                assert_eq!(block["text"]["type"], "plain_text");
                escaped(&block["text"]["text"], 150);
            }
            "section" => {
                assert_eq!(block["text"]["type"], "mrkdwn");
                escaped(&block["text"]["text"], 3_000);
            }
            "context" => {
                let elements = block["elements"].as_array().unwrap();
                assert!((1..=10).contains(&elements.len()));
                elements.iter().for_each(|one| escaped(&one["text"], 3_000));
            }
            other => panic!("{other} is no block: {message}"),
        }
    }
    message
}
