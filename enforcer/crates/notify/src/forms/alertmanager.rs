//! Prometheus' Alertmanager, API v2: an alert for each incident, told again until it is over.
//!
//! Labels tell alerts apart, and routes and silences are written for them, so none of them is an
//! address or a client's word: those are annotations. An alert whose severity changes is another
//! one to Alertmanager, so the old one is ended in the same request.

use std::collections::BTreeMap;
use std::time::Duration;

use enforcer_model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{counts, left_out};
use crate::bundle::IncidentNews;
use crate::{Bundle, Severity};

/// Alerts that go on; of more the oldest are told no more, and end by themselves.
const FIRING_MAX: usize = 200;
/// How long an alert that belongs to no incident lasts.
const SINGLE: Duration = Duration::from_secs(900);
/// How long a test lasts.
const TEST: Duration = Duration::from_secs(60);
/// An alert is told to last for so many times of telling it again.
const SPARE: u32 = 4;

/// Alerts that go on, by their incident.
pub(crate) type Firing = BTreeMap<String, Alert>;

/// An alert that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    severity: Severity,
    rule: Option<String>,
    since: Timestamp,
    summary: String,
}

/// What is posted: the alerts of `bundle`, and all that go on.
pub(crate) fn body(
    bundle: Option<&Bundle>,
    firing: &Firing,
    host: &str,
    now: Timestamp,
    resend: Duration,
) -> Vec<u8> {
    let lasting = now.saturating_add(resend.saturating_mul(SPARE));
    let mut next = firing.clone();
    let mut alerts = Vec::new();
    if let Some(bundle) = bundle {
        alerts.extend(ended(bundle, firing, host, now));
        after(bundle, &mut next, now);
        if bundle.incidents.is_empty() || bundle.digest.is_some() {
            alerts.push(single(bundle, host, now));
        }
    }
    alerts.extend(next.iter().map(|(id, alert)| told(id, alert, host, lasting)));
    Value::Array(alerts).to_string().into_bytes()
}

/// What goes on once `bundle` was told.
pub(crate) fn after(bundle: &Bundle, firing: &mut Firing, now: Timestamp) {
    if bundle.is_test() {
        return;
    }
    for news in &bundle.incidents {
        if news.is_closed {
            firing.remove(&news.id);
            continue;
        }
        let known = firing.get(&news.id);
        let alert = Alert {
            severity: known.map_or(news.severity, |known| known.severity.max(news.severity)),
            rule: known.map_or_else(
                || news.rule.as_deref().map(str::to_owned),
                |known| known.rule.clone(),
            ),
            since: known.map_or(news.at.min(now), |known| known.since),
            summary: news.title.clone(),
        };
        firing.insert(news.id.clone(), alert);
    }
    while firing.len() > FIRING_MAX {
        let oldest = firing.iter().min_by_key(|(_, alert)| alert.since).map(|(id, _)| id.clone());
        let Some(oldest) = oldest else { break };
        firing.remove(&oldest);
    }
}

/// Alerts that end with `bundle`: those of incidents that are over, and those that become others.
fn ended(bundle: &Bundle, firing: &Firing, host: &str, now: Timestamp) -> Vec<Value> {
    let is_over = |news: &IncidentNews, known: Option<&Alert>| {
        news.is_closed || known.is_some_and(|known| known.severity < news.severity)
    };
    let over = bundle.incidents.iter().filter(|news| is_over(news, firing.get(&news.id)));
    over.map(|news| {
        let begun = Alert {
            severity: news.severity,
            rule: news.rule.as_deref().map(str::to_owned),
            since: bundle.since,
            summary: news.title.clone(),
        };
        let alert = firing.get(&news.id).unwrap_or(&begun);
        let mut told = told(&news.id, alert, host, now);
        // What ends before it began is refused.
        if alert.since > now
            && let Some(fields) = told.as_object_mut()
        {
            fields.insert("startsAt".to_owned(), json!(now));
        }
        told
    })
    .collect()
}

fn told(id: &str, alert: &Alert, host: &str, until: Timestamp) -> Value {
    let mut labels = json!({
        "alertname": "EnforcerIncident",
        "instance": host,
        "incident": id,
        "severity": alert.severity,
    });
    if let (Some(rule), Some(labels)) = (&alert.rule, labels.as_object_mut()) {
        labels.insert("rule".to_owned(), json!(rule));
    }
    json!({
        "labels": labels,
        "annotations": { "summary": alert.summary },
        "startsAt": alert.since,
        "endsAt": until,
    })
}

fn single(bundle: &Bundle, host: &str, now: Timestamp) -> Value {
    let (name, lasts) = match (&bundle.digest, bundle.is_test()) {
        (Some(_), _) => ("EnforcerDigest", SINGLE),
        (None, true) => ("EnforcerTest", TEST),
        (None, false) => ("EnforcerNotice", SINGLE),
    };
    let mut labels = json!({
        "alertname": name,
        "instance": host,
        "severity": bundle.severity,
    });
    let first = bundle.notices.last();
    if let (Some(first), Some(labels), None) = (first, labels.as_object_mut(), &bundle.digest) {
        labels.insert("kind".to_owned(), json!(first.kind()));
        labels.extend(first.rule().map(|rule| ("rule".to_owned(), json!(rule))));
        // Tells groups apart without saying whom they are about.
        let digest = ring::digest::digest(&ring::digest::SHA256, bundle.group.as_bytes());
        let digits: String =
            digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        labels.insert("group".to_owned(), json!(digits));
    }
    let mut annotations = json!({ "summary": bundle.title() });
    if let Some(annotations) = annotations.as_object_mut() {
        let text = first.map(|notice| notice.text()).filter(|text| !text.is_empty());
        let about = first.and_then(|notice| notice.about()).map(str::to_owned);
        let about = match &bundle.digest {
            Some(digest) => Some(counts(&digest.about)),
            None => about,
        };
        annotations.extend(text.map(|text| ("description".to_owned(), json!(text))));
        annotations.extend(about.map(|about| ("about".to_owned(), json!(about))));
        let left_out = left_out(bundle);
        if !left_out.is_empty() {
            annotations.insert("left_out".to_owned(), json!(left_out.join("; ")));
        }
    }
    json!({
        "labels": labels,
        "annotations": annotations,
        "startsAt": bundle.since.min(now),
        "endsAt": now.saturating_add(lasts),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forms::tests::{at, bundle, closed, digest, notice};
    use crate::{Kind, Notice};

    const MINUTE: Duration = Duration::from_secs(60);

    fn posted(bundle: Option<&Bundle>, firing: &Firing, now: Timestamp) -> Vec<Value> {
        serde_json::from_slice(&body(bundle, firing, "edge-1", now, MINUTE)).unwrap()
    }

    #[test]
    fn an_incident_fires_is_told_again_and_ends() {
        let mut firing = Firing::new();
        let opened = bundle(vec![notice()]);
        let [alert] = &*posted(Some(&opened), &firing, at(5)) else { panic!() };
        assert_eq!(alert["labels"]["incident"], "INC-0042");
        assert_eq!(alert["startsAt"], at(0).to_string());
        assert_eq!(alert["endsAt"], at(5 + 240).to_string());
        after(&opened, &mut firing, at(5));

        let [again] = &*posted(None, &firing, at(65)) else { panic!() };
        assert_eq!((&again["labels"], &again["startsAt"]), (&alert["labels"], &alert["startsAt"]));
        assert_eq!(again["endsAt"], at(65 + 240).to_string());

        let over = bundle(vec![closed()]);
        let [ended] = &*posted(Some(&over), &firing, at(70)) else { panic!() };
        assert_eq!(
            (&ended["labels"], &ended["endsAt"]),
            (&alert["labels"], &at(70).to_string().into())
        );
        after(&over, &mut firing, at(70));
        assert!(firing.is_empty());
    }

    #[test]
    fn an_alert_that_becomes_graver_ends_as_what_it_was() {
        let mut firing = Firing::new();
        after(&bundle(vec![notice()]), &mut firing, at(5));
        let graver = Notice::new(Kind::IncidentChanged, Severity::Critical, at(30), "level 2")
            .with_incident("INC-0042");

        let alerts = posted(Some(&bundle(vec![graver])), &firing, at(31));

        let [old, new] = &*alerts else { panic!("{alerts:?}") };
        assert_eq!(
            (&old["labels"]["severity"], &old["endsAt"]),
            (&"error".into(), &at(31).to_string().into())
        );
        assert_eq!(new["labels"]["severity"], "critical");
        assert_eq!(new["startsAt"], at(0).to_string());
    }

    #[test]
    fn no_label_is_an_address_or_a_clients_word() {
        let finding = Notice::new(Kind::Finding, Severity::Error, at(0), "192.0.2.7 did it")
            .with_rule("stuffing")
            .with_about("source:192.0.2.7")
            .with_text("words of 192.0.2.7");
        for told in [bundle(vec![finding]), bundle(vec![notice()]), digest(57)] {
            for alert in posted(Some(&told), &Firing::new(), at(1)) {
                assert!(!alert["labels"].to_string().contains("192.0.2"), "{alert}");
                assert!(alert["annotations"]["summary"].is_string());
                let (from, until) = (&alert["startsAt"], &alert["endsAt"]);
                assert!(from.as_str() < until.as_str(), "{alert}");
            }
        }
    }

    #[test]
    fn no_more_alerts_go_on_than_there_is_room_for() {
        let mut firing = Firing::new();
        for number in 0..300 {
            let opened = Notice::new(Kind::IncidentOpened, Severity::Error, at(number), "t")
                .with_incident(format!("INC-{number:04}"));
            after(&bundle(vec![opened]), &mut firing, at(number));
        }
        assert_eq!(firing.len(), FIRING_MAX);
        assert!(firing.contains_key("INC-0299") && !firing.contains_key("INC-0000"));
    }
}
