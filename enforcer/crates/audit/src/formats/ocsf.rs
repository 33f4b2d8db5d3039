//! Open Cybersecurity Schema Framework.
//!
//! A request is HTTP Activity, or Authentication when nobody was recognised; what an operator asked
//! for is API Activity, a finding Detection Finding, a block Network Activity that is refused or
//! opened. What started and stopped is Application Lifecycle, what else changed Entity Management,
//! and missing records are Event Log Activity.

use serde_json::{Map, Value, json};

use super::fields::{Endpoint, Fields, put};

/// The version of the schema.
pub const VERSION: &str = "1.8.0";

/// A class of events, with its category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    ApiActivity = 6_003,
    ApplicationLifecycle = 6_002,
    Authentication = 3_002,
    DetectionFinding = 2_004,
    EntityManagement = 3_004,
    EventLogActivity = 1_008,
    HttpActivity = 4_002,
    NetworkActivity = 4_001,
}

/// Every class has it: none of its activities fits.
const OTHER: u64 = 99;

pub(super) fn event(record: &Fields<'_>, origin: &str, version: &str) -> Value {
    let class = Class::of(record);
    let (activity, activity_name) = activity(class, record);
    let uid = class.uid();
    let mut event = Map::new();
    put(&mut event, "class_uid", uid);
    put(&mut event, "category_uid", uid / 1_000);
    put(&mut event, "activity_id", activity);
    put(&mut event, "activity_name", activity_name);
    put(&mut event, "type_uid", uid * 100 + activity);
    put(&mut event, "time", record.millis());
    put(&mut event, "severity_id", severity(record));
    put(&mut event, "message", record.message());
    put(&mut event, "raw_data", record.text);
    put(&mut event, "metadata.version", VERSION);
    put(&mut event, "metadata.product.name", "enforcer");
    put(&mut event, "metadata.product.vendor_name", "enforcer");
    put(&mut event, "metadata.product.version", version);
    put(&mut event, "metadata.log_name", origin);
    put(&mut event, "metadata.log_provider", "enforcer");
    put(&mut event, "metadata.event_code", record.class());
    put(&mut event, "metadata.uid", format!("{origin}/{}", record.index));
    put(&mut event, "metadata.sequence", record.index);
    put(&mut event, "metadata.original_time", record.envelope("time"));
    put(&mut event, "metadata.profiles", json!(["security_control"]));
    let (status, detail) = status(record);
    put(&mut event, "status_id", status);
    put(&mut event, "status_detail", detail);
    put(&mut event, "duration", record.number("duration_us").map(|us| us / 1_000));
    match class {
        Class::HttpActivity => http(record, &mut event),
        Class::Authentication => authentication(record, &mut event),
        Class::ApiActivity => api(record, &mut event),
        Class::DetectionFinding => finding(record, origin, &mut event),
        Class::NetworkActivity => network(record, &mut event),
        Class::ApplicationLifecycle => lifecycle(record, version, &mut event),
        Class::EntityManagement => entity(record, &mut event),
        Class::EventLogActivity => put(&mut event, "log_name", origin),
    }
    Value::Object(event)
}

impl Class {
    fn of(record: &Fields<'_>) -> Self {
        match record.class() {
            "http" if record.number("status") == Some(401) && record.some("reason").is_some() => {
                Self::Authentication
            }
            "http" => Self::HttpActivity,
            "admin" => Self::ApiActivity,
            "decision" | "finding" | "incident" => Self::DetectionFinding,
            "block" | "kernel-summary" => Self::NetworkActivity,
            "config" => Self::ApplicationLifecycle,
            "endpoint" | "upstream" | "certificate" | "cache" | "list" | "key" | "subject" => {
                Self::EntityManagement
            }
            _ => Self::EventLogActivity,
        }
    }

    const fn uid(self) -> u64 {
        #[expect(clippy::as_conversions, reason = "the discriminants are the numbers")]
        let uid = self as u64;
        uid
    }
}

fn activity(class: Class, record: &Fields<'_>) -> (u64, &'static str) {
    let what = record.text("what");
    match class {
        Class::HttpActivity => match record.text("method") {
            "CONNECT" => (1, "Connect"),
            "DELETE" => (2, "Delete"),
            "GET" => (3, "Get"),
            "HEAD" => (4, "Head"),
            "OPTIONS" => (5, "Options"),
            "POST" => (6, "Post"),
            "PUT" => (7, "Put"),
            "TRACE" => (8, "Trace"),
            "PATCH" => (9, "Patch"),
            _ => (OTHER, "Other"),
        },
        Class::Authentication => (1, "Logon"),
        Class::ApiActivity => {
            let verb = record.text("verb");
            let reads = ["audit ", "trail", "explain"].iter().any(|word| verb.starts_with(word));
            let creates = ["quarantine", "keys issue", "keys import", "tokens revoke"];
            let ends = ["release", "keys revoke", "tokens restore", "cache purge"];
            match verb {
                _ if reads => (2, "Read"),
                _ if creates.contains(&verb) => (1, "Create"),
                _ if ends.contains(&verb) => (4, "Delete"),
                _ => (3, "Update"),
            }
        }
        Class::DetectionFinding => match (record.class(), what) {
            ("incident", "closed") => (3, "Close"),
            ("decision", "asked" | "observed" | "ordered" | "refused") => (1, "Create"),
            ("decision", _) => (2, "Update"),
            _ => (1, "Create"),
        },
        Class::NetworkActivity => match (record.class(), what) {
            ("kernel-summary", _) => (6, "Traffic"),
            (_, "applied" | "restored" | "aggregated" | "reconciled") => (5, "Refuse"),
            (_, "expired" | "released") => (1, "Open"),
            _ => (OTHER, "Other"),
        },
        Class::ApplicationLifecycle => match what {
            "started" | "kernel-attached" => (3, "Start"),
            "stopped" | "kernel-detached" | "kernel-lost" | "handing-over" => (4, "Stop"),
            "policy-applied" | "policy-confirmed" | "incident-level" => (8, "Update"),
            _ => (OTHER, "Other"),
        },
        Class::EntityManagement => match (record.class(), what) {
            ("list", "imported") => (1, "Create"),
            ("list", "expired" | "released") | ("cache", _) => (4, "Delete"),
            (_, "disabled" | "drained" | "isolated") => (9, "Disable"),
            (_, "enabled" | "undrained" | "returned") => (8, "Enable"),
            _ => (3, "Update"),
        },
        Class::EventLogActivity => (OTHER, "Other"),
    }
}

/// From 1, informational, to 4, high.
fn severity(record: &Fields<'_>) -> u64 {
    match (record.class(), record.text("what")) {
        ("gap", _) | ("config", "kernel-lost") => 4,
        ("decision" | "finding", _) | ("incident", "opened") => 3,
        ("block", "applied") | ("list", "imported") => 2,
        ("http", _) if record.some("reason").is_some() => 2,
        _ => 1,
    }
}

/// 1 success, 2 failure, 0 unknown; and why.
fn status(record: &Fields<'_>) -> (u64, Option<String>) {
    let detail = ["reason", "block/reason", "why", "detail"];
    let detail = detail.into_iter().find_map(|name| record.some(name)).map(str::to_owned);
    let status = match (record.class(), record.text("outcome"), record.text("what")) {
        ("http", ..) => {
            let is_refused = record.number("status").is_some_and(|status| status >= 400);
            if is_refused { 2 } else { 1 }
        }
        (_, "done", _) | ("decision", _, "rolled-back" | "undone") => 1,
        ("decision", _, "failed" | "not-undone" | "partly") => 2,
        (_, "failed" | "refused", _) | (_, _, "refused") => 2,
        (_, _, "applied" | "released" | "expired" | "started" | "stopped") => 1,
        _ => 0,
    };
    (status, detail)
}

fn endpoint(event: &mut Map<String, Value>, path: &str, endpoint: &Endpoint) {
    match endpoint.ip {
        Some(ip) => put(event, &format!("{path}.ip"), ip.to_string()),
        None => put(event, &format!("{path}.name"), endpoint.name.as_str()),
    }
    put(event, &format!("{path}.port"), endpoint.port);
}

/// What every event about a request says.
fn exchange(record: &Fields<'_>, event: &mut Map<String, Value>) {
    let is_refused = record.some("reason").is_some();
    put(event, "action_id", if is_refused { 2 } else { 1 });
    put(event, "disposition_id", if is_refused { 2 } else { 1 });
    if let Some(source) = record.endpoint() {
        endpoint(event, "src_endpoint", &source);
    }
    put(event, "dst_endpoint.hostname", record.some("host"));
    let has_host = record.some("host").is_some();
    put(event, "dst_endpoint.svc_name", record.some("route").filter(|_| has_host));
    put(event, "http_request.uid", record.some("id"));
    put(event, "http_request.http_method", record.some("method"));
    put(event, "http_request.version", record.some("http"));
    put(event, "http_request.body_length", record.number("bytes_in"));
    put(event, "http_request.url.path", record.some("path"));
    let has_path = record.some("path").is_some();
    put(event, "http_request.url.hostname", record.some("host").filter(|_| has_path));
    put(event, "http_response.code", record.number("status"));
    put(event, "http_response.body_length", record.number("bytes_out"));
    let latency = record.number("duration_us").map(|us| us / 1_000);
    put(event, "http_response.latency", latency);
    put(event, "status_code", record.number("status").map(|status| status.to_string()));
    put(event, "unmapped", unmapped(record));
}

fn http(record: &Fields<'_>, event: &mut Map<String, Value>) {
    exchange(record, event);
    put(event, "tls.version", record.some("tls"));
    put(event, "app_name", record.some("route"));
    let traffic = record.number("bytes_in").zip(record.number("bytes_out"));
    if let Some((bytes_in, bytes_out)) = traffic {
        put(event, "traffic.bytes_in", bytes_in);
        put(event, "traffic.bytes_out", bytes_out);
        put(event, "traffic.bytes", bytes_in.saturating_add(bytes_out));
    }
}

fn authentication(record: &Fields<'_>, event: &mut Map<String, Value>) {
    exchange(record, event);
    // Nobody was recognised; of whom it may have been, the fingerprint of the credential is known.
    put(event, "user.name", record.some("who/principal").unwrap_or("unknown"));
    put(event, "user.type_id", 0);
    put(event, "user.credential_uid", record.some("credential"));
    put(event, "service.name", record.some("route").unwrap_or_else(|| record.text("listener")));
    if record.some("route").or(record.some("listener")).is_none() {
        put(event, "service.name", "enforcer");
    }
    put(event, "is_remote", true);
}

fn api(record: &Fields<'_>, event: &mut Map<String, Value>) {
    put(event, "api.operation", record.some("verb").unwrap_or("unknown"));
    put(event, "api.service.name", "enforcer admin socket");
    operator(record, event);
    // Operators speak to the agent through a socket of this host.
    put(event, "src_endpoint.name", "admin socket");
    let is_refused = record.text("outcome") == "refused";
    put(event, "action_id", if is_refused { 2 } else { 1 });
    put(event, "unmapped", unmapped(record));
}

fn operator(record: &Fields<'_>, event: &mut Map<String, Value>) {
    match record.operator_uid() {
        Some(uid) => {
            put(event, "actor.user.name", record.author());
            put(event, "actor.user.uid", uid.to_string());
        }
        None => {
            let author = record.author();
            let author = if author.is_empty() { "agent".to_owned() } else { author };
            put(event, "actor.app_name", author);
        }
    }
}

fn finding(record: &Fields<'_>, origin: &str, event: &mut Map<String, Value>) {
    put(event, "finding_info.uid", format!("{origin}/{}", record.index));
    put(event, "finding_info.title", record.message());
    put(event, "finding_info.analytic.name", record.some("rule").unwrap_or("unknown"));
    put(event, "finding_info.analytic.type_id", 1);
    put(event, "finding_info.related_events_count", record.number("failures"));
    put(event, "is_alert", true);
    let blocked = record.some("block").is_some();
    put(event, "action_id", if blocked { 2 } else { 3 });
    put(event, "disposition_id", if blocked { 2 } else { 15 });
    if let Some(target) = record.endpoint() {
        let mut evidence = Map::new();
        endpoint(&mut evidence, "src_endpoint", &target);
        put(event, "evidences", json!([evidence]));
    }
    put(event, "unmapped", unmapped(record));
}

fn network(record: &Fields<'_>, event: &mut Map<String, Value>) {
    if record.class() == "kernel-summary" {
        put(event, "dst_endpoint.name", "this host");
        let counts = record.value("counts").and_then(Value::as_array);
        let sum = |name: &str| {
            let numbers =
                counts.into_iter().flatten().filter_map(|count| count.get(name)?.as_u64());
            numbers.fold(0_u64, u64::saturating_add)
        };
        put(event, "traffic.packets", sum("packets"));
        put(event, "traffic.bytes", sum("bytes"));
    } else if let Some(target) = record.endpoint() {
        endpoint(event, "src_endpoint", &target);
        put(
            event,
            "action_id",
            if activity(Class::NetworkActivity, record).0 == 5 { 2 } else { 1 },
        );
    } else {
        put(event, "src_endpoint.name", "unknown");
    }
    put(event, "unmapped", unmapped(record));
}

fn lifecycle(record: &Fields<'_>, version: &str, event: &mut Map<String, Value>) {
    put(event, "app.name", "enforcer");
    put(event, "app.version", version);
    put(event, "app.uid", record.some("program"));
    put(event, "unmapped", unmapped(record));
}

fn entity(record: &Fields<'_>, event: &mut Map<String, Value>) {
    let names = ["list", "endpoint", "upstream", "listener", "purged", "host"];
    let name = names.into_iter().find_map(|name| record.some(name));
    put(event, "entity.name", name.unwrap_or_else(|| record.class()));
    put(event, "entity.type", record.class());
    operator(record, event);
    put(event, "unmapped", unmapped(record));
}

/// What the class has no field for, under the names of the record.
fn unmapped(record: &Fields<'_>) -> Value {
    let mut rest = Map::new();
    let names = [
        "arguments",
        "block",
        "cache",
        "credential",
        "counts",
        "ja4",
        "layers",
        "mode",
        "peer",
        "policy",
        "reason",
        "region",
        "rule",
        "target",
        "upstream",
        "what",
        "who",
    ];
    for name in names {
        if let Some(value) = record.value(name).filter(|value| !value.is_null()) {
            put(&mut rest, name, value.clone());
        }
    }
    Value::Object(rest)
}
