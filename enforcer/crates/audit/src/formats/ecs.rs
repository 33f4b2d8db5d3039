//! Elastic Common Schema.

use serde_json::{Map, Value, json};

use super::fields::{Fields, put};

/// The version of the schema whose names these are.
pub const VERSION: &str = "9.4.0";

pub(super) fn event(record: &Fields<'_>, origin: &str, version: &str) -> Value {
    let mut event = Map::new();
    put(&mut event, "@timestamp", record.some("at").unwrap_or_else(|| record.envelope("time")));
    put(&mut event, "ecs.version", VERSION);
    put(&mut event, "message", record.message());
    put(&mut event, "event.module", "enforcer");
    put(&mut event, "event.dataset", format!("enforcer.{}", record.class()));
    put(&mut event, "event.provider", origin);
    put(&mut event, "event.id", format!("{origin}/{}", record.index));
    put(&mut event, "event.sequence", record.index);
    put(&mut event, "event.created", record.envelope("time"));
    put(&mut event, "event.original", record.text);
    put(&mut event, "host.boot.id", record.envelope("boot"));
    put(&mut event, "observer.vendor", "enforcer");
    put(&mut event, "observer.product", "enforcer");
    put(&mut event, "observer.version", version);
    put(&mut event, "observer.type", "firewall");
    let (kind, categories, types) = sorts(record);
    put(&mut event, "event.kind", kind);
    put(&mut event, "event.category", categories);
    put(&mut event, "event.type", types);
    put(&mut event, "event.outcome", outcome(record));
    let action = record.some("what").or(record.some("verb")).unwrap_or_else(|| record.class());
    put(&mut event, "event.action", action);
    let why = ["reason", "block/reason", "why", "cause"];
    put(&mut event, "event.reason", why.into_iter().find_map(|name| record.some(name)));
    put(&mut event, "rule.name", record.some("rule"));
    put(&mut event, "labels", labels(record));
    endpoint(record, &mut event);
    if record.class() == "http" {
        request(record, &mut event);
    } else {
        put(&mut event, "user.name", record.author());
        put(&mut event, "user.id", record.operator_uid().map(|uid| uid.to_string()));
    }
    Value::Object(event)
}

/// `event.kind`, `event.category`, `event.type`.
fn sorts(record: &Fields<'_>) -> (&'static str, Vec<&'static str>, Vec<&'static str>) {
    let is_refused = record.some("reason").is_some();
    match record.class() {
        "http" if record.number("status") == Some(401) => {
            ("event", vec!["authentication", "web"], vec!["start", "denied"])
        }
        "http" => {
            let verdict = if is_refused { "denied" } else { "allowed" };
            ("event", vec!["web"], vec!["access", verdict])
        }
        "admin" => ("event", vec!["configuration"], vec!["admin", "change"]),
        "block" | "list" => ("event", vec!["network"], vec!["change", "denied"]),
        "finding" => ("alert", vec!["intrusion_detection"], vec!["info"]),
        "kernel-summary" => ("metric", vec!["network"], vec!["info"]),
        "gap" => ("event", vec!["host"], vec!["error"]),
        "config" | "endpoint" | "upstream" | "certificate" | "cache" => {
            ("event", vec!["configuration"], vec!["change"])
        }
        _ => ("event", vec!["host"], vec!["info"]),
    }
}

fn outcome(record: &Fields<'_>) -> &'static str {
    let is_refused = record.some("reason").is_some()
        || record.number("status").is_some_and(|status| status >= 400);
    match (record.class(), record.text("outcome"), record.text("what")) {
        ("http", ..) if is_refused => "failure",
        ("http", ..) | ("admin", "done", _) => "success",
        ("admin", ..) | (_, _, "refused") => "failure",
        _ => "unknown",
    }
}

/// What the schema has no name for.
fn labels(record: &Fields<'_>) -> Value {
    let mut labels = Map::new();
    let names = [
        ("block", "block/id"),
        ("cache", "cache"),
        ("credential", "credential"),
        ("listener", "listener"),
        ("outcome", "outcome"),
        ("peer", "peer"),
        ("policy", "policy"),
        ("route", "route"),
        ("target", "target"),
        ("upstream", "upstream"),
    ];
    for (label, name) in names {
        put(&mut labels, label, record.some(name));
    }
    let arguments = record.list("arguments").join(" ");
    put(&mut labels, "arguments", arguments);
    Value::Object(labels)
}

fn endpoint(record: &Fields<'_>, event: &mut Map<String, Value>) {
    let Some(endpoint) = record.endpoint() else { return };
    put(event, "source.address", endpoint.name);
    if let Some(ip) = endpoint.ip {
        put(event, "source.ip", ip.to_string());
        put(event, "related.ip", json!([ip.to_string()]));
    }
    put(event, "source.port", endpoint.port);
}

fn request(record: &Fields<'_>, event: &mut Map<String, Value>) {
    put(event, "http.request.id", record.some("id"));
    put(event, "http.request.method", record.some("method"));
    put(event, "http.version", record.some("http"));
    put(event, "http.request.body.bytes", record.number("bytes_in"));
    put(event, "http.response.body.bytes", record.number("bytes_out"));
    put(event, "http.response.status_code", record.number("status"));
    put(event, "url.domain", record.some("host"));
    put(event, "url.path", record.some("path"));
    let nanoseconds = record.number("duration_us").map(|us| us.saturating_mul(1_000));
    put(event, "event.duration", nanoseconds);
    put(event, "tls.version", record.some("tls"));
    put(event, "tls.established", record.some("tls").map(|_version| true));
    put(event, "user.id", record.some("who/principal"));
    put(event, "user.roles", json!(record.list("who/roles")));
    let user = record.some("who/principal").map(|name| json!([name]));
    put(event, "related.user", user);
    put(event, "source.geo.region_name", record.some("region"));
}
