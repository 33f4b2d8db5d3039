//! Standard Webhooks: `{type, timestamp, data}`, with an id that stays and a time that does not.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use crate::{Bundle, SigningKey, signatures};

/// The payload.
pub(crate) fn body(bundle: &Bundle, host: &str) -> Vec<u8> {
    let kind = match (&bundle.digest, bundle.is_test()) {
        (Some(_), _) => "enforcer.digest",
        (None, true) => "enforcer.test",
        (None, false) => "enforcer.notices",
    };
    let mut data = json!({
        "host": host,
        "title": bundle.title(),
        "severity": bundle.severity,
        "count": bundle.count,
        "since": bundle.since,
        "until": bundle.until,
        "dropped_before": bundle.lost,
        "notices": bundle.notices.iter().map(told).collect::<Vec<_>>(),
    });
    let more = match &bundle.digest {
        None => json!({ "group": bundle.group }),
        Some(digest) => json!({
            "kinds": digest.kinds,
            "rules": digest.rules,
            "about": digest.about,
            "incidents": bundle.incidents.iter().map(|one| json!({
                "id": one.id, "at": one.at, "severity": one.severity, "title": one.title,
                "closed": one.is_closed,
            })).collect::<Vec<_>>(),
        }),
    };
    if let (Some(data), serde_json::Value::Object(more)) = (data.as_object_mut(), more) {
        data.extend(more);
    }
    json!({ "type": kind, "timestamp": bundle.until, "data": data }).to_string().into_bytes()
}

/// A notice with every field, so that what reads it needs no exceptions.
fn told(notice: &crate::Notice) -> serde_json::Value {
    let facts: serde_json::Map<_, _> =
        notice.facts().iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "kind": notice.kind(),
        "severity": notice.severity(),
        "at": notice.at(),
        "title": notice.title(),
        "text": notice.text(),
        "about": notice.about(),
        "incident": notice.incident(),
        "decision": notice.decision(),
        "rule": notice.rule(),
        "facts": facts,
    })
}

/// Who sent it, when, and that nobody changed it.
pub(crate) fn headers(
    keys: &[SigningKey],
    id: &str,
    unix_seconds: u64,
    body: &[u8],
) -> Option<HeaderMap> {
    let signed = signatures(keys, id, unix_seconds, body);
    let fields = [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", unix_seconds.to_string()),
        ("webhook-signature", signed),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.insert(HeaderName::from_static(name), HeaderValue::try_from(value).ok()?);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::forms::tests::{bundle, closed, digest, notice};

    #[test]
    fn the_payload_has_type_timestamp_and_data_and_is_the_same_in_each_try() {
        let bundle = bundle(vec![notice(), closed()]);
        let payload: Value = serde_json::from_slice(&body(&bundle, "edge-1")).unwrap();

        assert_eq!(payload["type"], "enforcer.notices");
        assert_eq!(payload["timestamp"], payload["data"]["until"]);
        let data = &payload["data"];
        assert_eq!((&data["host"], &data["severity"]), (&"edge-1".into(), &"error".into()));
        assert_eq!((&data["count"], &data["dropped_before"]), (&2.into(), &3.into()));
        assert_eq!(data["group"], "incident/INC-0042");
        let first = &data["notices"][0];
        assert_eq!(first["kind"], "incident-opened");
        assert_eq!(first["about"], "source:192.0.2.7");
        assert_eq!(first["facts"]["route"], "orders");
        assert_eq!(data["notices"][1]["rule"], Value::Null);
        assert_eq!(body(&bundle, "edge-1"), body(&bundle, "edge-1"));
    }

    #[test]
    fn a_digest_has_a_type_of_its_own_with_its_counts() {
        let payload: Value = serde_json::from_slice(&body(&digest(57), "edge-1")).unwrap();

        assert_eq!(payload["type"], "enforcer.digest");
        let data = &payload["data"];
        assert_eq!(data["rules"], serde_json::json!([{ "what": "stuffing", "count": 57 }]));
        assert_eq!((data["notices"].as_array().unwrap().len(), &data["count"]), (20, &57.into()));
        assert_eq!(data["group"], Value::Null);
    }

    #[test]
    fn the_fields_say_which_when_and_by_whom() {
        let keys = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap()];
        let headers = headers(
            &keys,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );

        let headers = headers.unwrap();
        assert_eq!(headers["webhook-id"], "msg_p5jXN8AQM9LWM0D4loKWxJek");
        assert_eq!(headers["webhook-timestamp"], "1614265330");
        let signed = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(headers["webhook-signature"], signed);
    }
}
