//! `PagerDuty`'s Events API v2: one alert for each incident, by its id.
//!
//! An incident that opens triggers, one that an operator takes up is acknowledged, one that is over
//! is resolved. What belongs to no incident is an alert by its group. A storm is one alert; what
//! ended meanwhile is resolved beside it.

use serde_json::{Map, Value, json};

use super::{counts, left_out};
use crate::bundle::IncidentNews;
use crate::{Bundle, Routing};

/// Characters in a summary.
const SUMMARY_MAX: usize = 1_024;
/// Characters in the key of an alert.
const KEY_MAX: usize = 255;

/// The events, each a request of its own, in their order.
pub(crate) fn events(bundle: &Bundle, routing: &Routing, host: &str) -> Vec<Value> {
    let key = |what: &str| key(host, what);
    if bundle.is_test() {
        // It rings, and stops.
        let key = key(&format!("test/{}", bundle.id));
        return vec![trigger(bundle, &key, routing, host), step("resolve", &key, routing)];
    }
    let closed = bundle.incidents.iter().filter(|one| one.is_closed);
    if bundle.digest.is_some() {
        let mut events = vec![trigger(bundle, &key("storm"), routing, host)];
        events.extend(closed.map(|one| step("resolve", &key(&one.id), routing)));
        return events;
    }
    let Some(incident) = bundle.incidents.first() else {
        return vec![trigger(bundle, &key(&bundle.group), routing, host)];
    };
    let key = key(&incident.id);
    match incident {
        IncidentNews { is_closed: true, .. } => vec![step("resolve", &key, routing)],
        // Acknowledged is what was triggered before: what is only a step triggers nothing.
        IncidentNews { is_taken_up: true, .. } => {
            vec![trigger(bundle, &key, routing, host), step("acknowledge", &key, routing)]
        }
        IncidentNews { .. } => vec![trigger(bundle, &key, routing, host)],
    }
}

fn key(host: &str, what: &str) -> String {
    let whole = format!("enforcer/{host}/{what}");
    if whole.chars().count() <= KEY_MAX {
        return whole;
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, whole.as_bytes());
    let digits: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("enforcer/{digits}")
}

fn trigger(bundle: &Bundle, key: &str, routing: &Routing, host: &str) -> Value {
    let rules: Vec<_> = bundle.notices.iter().filter_map(|notice| notice.rule()).collect();
    let mut details = Map::new();
    let mut tell = |name: &str, value: Value| drop(details.insert(name.to_owned(), value));
    tell("count", json!(bundle.count));
    if let Some(digest) = &bundle.digest {
        tell("kinds", json!(counts(&digest.kinds)));
        tell("rules", json!(counts(&digest.rules)));
        tell("about", json!(counts(&digest.about)));
    }
    tell("notices", json!(bundle.notices.iter().map(|notice| json!({
        "kind": notice.kind(),
        "at": notice.at(),
        "title": notice.title(),
        "text": notice.text(),
        "about": notice.about(),
        "decision": notice.decision(),
        "rule": notice.rule(),
        "facts": notice.facts().iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>(),
    })).collect::<Vec<_>>()));
    let left_out = left_out(bundle);
    if !left_out.is_empty() {
        tell("left_out", json!(left_out.join("; ")));
    }
    json!({
        "routing_key": routing.expose(),
        "event_action": "trigger",
        "dedup_key": key,
        "client": "enforcer",
        "payload": {
            "summary": crate::notice::cut(&bundle.title(), SUMMARY_MAX),
            "source": host,
            "severity": bundle.severity,
            "timestamp": bundle.since,
            "component": "enforcer",
            "class": rules.first().copied().unwrap_or_else(|| {
                bundle.notices.first().map_or("notice", |notice| notice.kind().as_str())
            }),
            "custom_details": details,
        },
    })
}

fn step(action: &str, key: &str, routing: &Routing) -> Value {
    json!({ "routing_key": routing.expose(), "event_action": action, "dedup_key": key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forms::tests::{at, bundle, closed, digest, notice};
    use crate::{Kind, Notice, Severity};

    fn told(bundle: &Bundle) -> Vec<Value> {
        events(bundle, &Routing::new("R0UT1NG").unwrap(), "edge-1")
    }

    fn actions(bundle: &Bundle) -> Vec<(String, String)> {
        let word = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
        told(bundle).iter().map(|one| (word(one, "event_action"), word(one, "dedup_key"))).collect()
    }

    #[test]
    fn an_incident_triggers_is_acknowledged_and_resolved_by_its_id() {
        let key = "enforcer/edge-1/INC-0042".to_owned();
        let of = |action: &str| (action.to_owned(), key.clone());
        let taken_up = notice().by_operator("alice");

        assert_eq!(actions(&bundle(vec![notice()])), [of("trigger")]);
        assert_eq!(actions(&bundle(vec![taken_up])), [of("trigger"), of("acknowledge")]);
        assert_eq!(actions(&bundle(vec![notice(), closed()])), [of("resolve")]);
        assert_eq!(actions(&bundle(vec![closed(), notice()])), [of("trigger")]);
    }

    #[test]
    fn an_event_has_the_fields_and_bounds_of_the_api() {
        let long = Notice::new(Kind::Finding, Severity::Critical, at(0), &"x".repeat(500))
            .with_rule(&"r".repeat(300))
            .with_about("a".repeat(300));
        for notice in [notice(), long] {
            let [event] = &*told(&bundle(vec![notice])) else { panic!() };

            assert_eq!(event["routing_key"], "R0UT1NG");
            assert!(event["dedup_key"].as_str().unwrap().chars().count() <= 255);
            let payload = &event["payload"];
            assert!(payload["summary"].as_str().unwrap().chars().count() <= 1_024);
            assert_eq!(payload["source"], "edge-1");
            let severity = payload["severity"].as_str().unwrap();
            assert!(["critical", "error", "warning", "info"].contains(&severity));
            assert_eq!(payload["timestamp"], at(0).to_string());
            assert!(event.to_string().len() < 512 << 10);
        }
    }

    #[test]
    fn a_storm_is_one_alert_and_what_ended_in_it_is_resolved() {
        assert_eq!(
            actions(&digest(57)),
            [("trigger".to_owned(), "enforcer/edge-1/storm".to_owned())]
        );
        let mut ended = digest(57);
        ended.incidents = bundle(vec![closed()]).incidents;
        assert_eq!(
            actions(&ended)[1],
            ("resolve".to_owned(), "enforcer/edge-1/INC-0042".to_owned())
        );
    }

    #[test]
    fn a_test_rings_and_stops() {
        let test = Notice::new(Kind::Test, Severity::Info, at(0), "a test");
        let told = actions(&Bundle::single("msg_1".to_owned(), test));

        let [(first, key), (second, same)] = &*told else { panic!("{told:?}") };
        assert_eq!((first.as_str(), second.as_str()), ("trigger", "resolve"));
        assert_eq!(key, same);
    }
}
