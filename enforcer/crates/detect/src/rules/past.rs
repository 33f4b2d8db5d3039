//! Events from text: records of the audit log, and the compact lines of tests.
//!
//! A record is read as far as it is understood, and what it has besides is passed over: logs outlive
//! versions. A line of a test is written by hand, so a key that it cannot have is an error. What is
//! left out of a line has a default: the time is a second after the line before, the request a
//! served `GET /` of nobody.

use std::net::IpAddr;
use std::time::Duration;

use enforcer_condition::{brief, suggest};
use enforcer_model::{Exposed, Fingerprint, Peer, Prefix, Reason, RequestId, Source, Timestamp};
use serde::Deserialize as _;
use serde_json::{Map, Value};

use crate::{Event, Packets, Request, object};

/// Events that one line of a test may stand for.
const REPEAT_MAX: u64 = 1_000_000;

/// Monday, 2026-01-05 10:00:00 UTC: when a test begins that does not say when.
const BEGIN: Timestamp = Timestamp::from_unix_seconds(1_767_607_200);

/// An event that owns its texts.
#[derive(Clone, Debug, PartialEq)]
pub enum Past {
    /// A request.
    Request(Box<PastRequest>),
    /// What the kernel told.
    Packets(Packets),
}

/// A finished request that owns its texts.
#[derive(Clone, Debug, PartialEq)]
pub struct PastRequest {
    at: Timestamp,
    id: RequestId,
    source: Source,
    through: Option<Source>,
    identity: Option<String>,
    role: Option<String>,
    credential: Option<Fingerprint>,
    ja4: Option<String>,
    user_agent: Option<String>,
    incident: u8,
    region: Option<String>,
    method: String,
    host: Option<String>,
    path: Option<String>,
    route: Option<String>,
    status: u16,
    reason: Option<Reason>,
    permitted: bool,
    upstream: Option<String>,
    bytes_in: u64,
    bytes_out: u64,
    exposed: Exposed,
    duration: Duration,
}

/// Why a line is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PastError(String);

impl Past {
    /// The event that the record `json` of the audit log tells; none when it tells of something
    /// else, or cannot be read.
    pub fn from_record(json: &Value) -> Option<Self> {
        if json.get("class").and_then(Value::as_str) != Some("http") {
            return None;
        }
        let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str);
        let owned = |pointer: &str| text(pointer).map(str::to_owned);
        let number = |pointer: &str| json.pointer(pointer).and_then(Value::as_u64);
        let read = |json: &Value| Exposed::deserialize(json).ok();
        let peer: Peer = text("/body/peer")?.parse().ok()?;
        let named = match text("/body/source") {
            Some(named) => Some(Source::new(named.parse::<IpAddr>().ok()?)),
            None => None,
        };
        let began: Timestamp = text("/body/at").or_else(|| text("/time"))?.parse().ok()?;
        let duration = Duration::from_micros(number("/body/duration_us").unwrap_or(0));
        let id = text("/body/id").and_then(|id| u128::from_str_radix(id, 16).ok());
        Some(Self::Request(Box::new(PastRequest {
            at: began.saturating_add(duration),
            id: RequestId::from_bits(id.unwrap_or(0)),
            source: named.unwrap_or_else(|| peer.source()),
            through: named.map(|_| peer.source()),
            identity: owned("/body/who/principal"),
            role: owned("/body/who/role"),
            credential: text("/body/credential").and_then(fingerprint),
            ja4: owned("/body/ja4"),
            user_agent: owned("/body/user_agent"),
            incident: number("/body/incident").and_then(|it| it.try_into().ok()).unwrap_or(0),
            region: owned("/body/region"),
            method: owned("/body/method")?,
            host: owned("/body/host"),
            path: owned("/body/path"),
            route: owned("/body/route"),
            status: number("/body/status").and_then(|it| it.try_into().ok())?,
            reason: text("/body/reason").and_then(Reason::from_name),
            permitted: text("/body/rule").is_some(),
            upstream: owned("/body/upstream"),
            bytes_in: number("/body/bytes_in").unwrap_or(0),
            bytes_out: number("/body/bytes_out").unwrap_or(0),
            exposed: json.pointer("/body/exposed").and_then(read).unwrap_or_default(),
            duration,
        })))
    }

    /// What it is to detection.
    pub fn event(&self) -> Event<'_> {
        match self {
            Self::Packets(packets) => Event::Packets(*packets),
            Self::Request(past) => Event::Request(Request {
                at: past.at,
                id: past.id,
                source: past.source,
                through: past.through,
                identity: past.identity.as_deref(),
                role: past.role.as_deref(),
                credential: past.credential,
                ja4: past.ja4.as_deref(),
                user_agent: past.user_agent.as_deref(),
                incident: past.incident,
                region: past.region.as_deref(),
                method: &past.method,
                host: past.host.as_deref(),
                path: past.path.as_deref(),
                route: past.route.as_deref(),
                object: past.path.as_deref().and_then(object),
                status: past.status,
                reason: past.reason,
                permitted: past.permitted,
                upstream: past.upstream.as_deref(),
                bytes_in: past.bytes_in,
                bytes_out: past.bytes_out,
                exposed: past.exposed,
                duration: past.duration,
            }),
        }
    }
}

/// The keys of a line.
const KEYS: &[&str] = &[
    "at",
    "after",
    "repeat",
    "source",
    "through",
    "identity",
    "role",
    "credential",
    "ja4",
    "user_agent",
    "incident",
    "region",
    "method",
    "host",
    "path",
    "route",
    "status",
    "reason",
    "permitted",
    "upstream",
    "bytes_in",
    "bytes_out",
    "exposed",
    "duration_ms",
    "packets",
    "opening",
];

/// Calls `take` with every event of `lines`, in order, until it says that it has enough.
///
/// Records of the audit log and compact lines may stand side by side; empty lines and those that
/// begin with `#` are passed over.
pub fn events(
    lines: &str,
    mut take: impl FnMut(&Past) -> std::ops::ControlFlow<()>,
) -> Result<(), PastError> {
    let mut script = Script { now: None, count: 0 };
    for (n, line) in lines.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: String| PastError(format!("line {}: {what}", n + 1));
        let json: Value = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        if json.get("class").is_some() {
            if let Some(past) = Past::from_record(&json)
                && take(&past).is_break()
            {
                return Ok(());
            }
            continue;
        }
        let Value::Object(fields) = &json else {
            return Err(wrong("an event is a table, such as `{\"status\": 401}`".to_owned()));
        };
        let repeat = match fields.get("repeat") {
            None => 1,
            Some(count) => count
                .as_u64()
                .filter(|count| (1..=REPEAT_MAX).contains(count))
                .ok_or_else(|| wrong(format!("`repeat` is from 1 to {REPEAT_MAX}")))?,
        };
        for copy in 0..repeat {
            let past = script.event(fields, copy).map_err(wrong)?;
            if take(&past).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Where a file of events has come to.
struct Script {
    now: Option<Timestamp>,
    count: u128,
}

impl Script {
    /// The event of a line; `{n}` in its texts is `copy`.
    fn event(&mut self, fields: &Map<String, Value>, copy: u64) -> Result<Past, String> {
        if let Some(key) = fields.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let hint = match suggest(key, KEYS.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("there are: {}", KEYS.join(", ")),
            };
            return Err(format!("an event has no `{}`; {hint}", brief(key)));
        }
        let line = Line { fields, copy };
        let at = self.time(line)?;
        self.now = Some(at);
        self.count += 1;
        let source = match line.text("source")? {
            Some(source) => source,
            None => "198.51.100.1".to_owned(),
        };
        if fields.contains_key("packets") || fields.contains_key("opening") {
            let source: Prefix = match source.parse::<IpAddr>() {
                Ok(address) => Source::new(address).into(),
                Err(_) => source.parse().map_err(|error| format!("{error}"))?,
            };
            let count = line.number("packets")?.unwrap_or(1).max(1);
            let opening = line.flag("opening")?.unwrap_or(false);
            return Ok(Past::Packets(Packets { at, source, count, opening }));
        }
        let address = |text: &str| {
            let address: Result<IpAddr, _> = text.parse();
            address.map(Source::new).map_err(|_error| format!("`{}` is no address", brief(text)))
        };
        let reason = match line.text("reason")? {
            None => None,
            Some(name) => Some(
                Reason::from_name(&name)
                    .ok_or_else(|| format!("no reason is called `{}`", brief(&name)))?,
            ),
        };
        let status = match line.number("status")? {
            Some(status) => u16::try_from(status).ok().filter(|status| (100..600).contains(status)),
            None => Some(reason.map_or(200, Reason::status)),
        };
        let through = line.text("through")?;
        Ok(Past::Request(Box::new(PastRequest {
            at,
            id: RequestId::from_bits(self.count),
            source: address(&source)?,
            through: through.as_deref().map(address).transpose()?,
            identity: line.text("identity")?,
            role: line.text("role")?,
            credential: line
                .text("credential")?
                .map(|text| fingerprint(&text).unwrap_or(made(&text))),
            ja4: line.text("ja4")?,
            user_agent: line.text("user_agent")?,
            incident: line.number("incident")?.map_or(0, |it| it.min(5).try_into().unwrap_or(5)),
            region: line.text("region")?,
            method: line.text("method")?.unwrap_or_else(|| "GET".to_owned()),
            host: Some(line.text("host")?.unwrap_or_else(|| "api.example.com".to_owned())),
            path: Some(line.text("path")?.unwrap_or_else(|| "/".to_owned())),
            route: line.text("route")?,
            status: status.ok_or("`status` is from 100 to 599")?,
            reason,
            permitted: line.flag("permitted")?.unwrap_or(reason.is_none()),
            upstream: line.text("upstream")?,
            bytes_in: line.number("bytes_in")?.unwrap_or(0),
            bytes_out: line.number("bytes_out")?.unwrap_or(0),
            exposed: line.exposed()?,
            duration: Duration::from_millis(line.number("duration_ms")?.unwrap_or(0)),
        })))
    }

    fn time(&self, line: Line<'_>) -> Result<Timestamp, String> {
        if line.copy == 0
            && let Some(at) = line.text("at")?
        {
            return at.parse().map_err(|error| format!("{error}"));
        }
        let after = match line.text("after")? {
            None => Duration::from_secs(1),
            Some(text) => super::read::duration(&text)
                .ok_or_else(|| format!("`{}` is no span of time", brief(&text)))?,
        };
        Ok(self.now.map_or(BEGIN, |now| now.saturating_add(after)))
    }
}

/// One line, and which copy of it.
#[derive(Clone, Copy)]
struct Line<'a> {
    fields: &'a Map<String, Value>,
    copy: u64,
}

impl Line<'_> {
    fn text(self, name: &str) -> Result<Option<String>, String> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.contains("{n}") => {
                Ok(Some(text.replace("{n}", &self.copy.to_string())))
            }
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(format!("`{name}` is a text"))
            }
        }
    }

    fn number(self, name: &str) -> Result<Option<u64>, String> {
        match self.fields.get(name) {
            None => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| format!("`{name}` is a whole number"))
            }
        }
    }

    fn exposed(self) -> Result<Exposed, String> {
        let Some(value) = self.fields.get("exposed") else { return Ok(Exposed::default()) };
        Exposed::deserialize(value).map_err(|_other| {
            "`exposed` is a table such as `{\"secrets\": 1, \"emails\": 20}`".to_owned()
        })
    }

    fn flag(self, name: &str) -> Result<Option<bool>, String> {
        match self.fields.get(name) {
            None => Ok(None),
            Some(value) => {
                value.as_bool().map(Some).ok_or_else(|| format!("`{name}` is true or false"))
            }
        }
    }
}

fn fingerprint(text: &str) -> Option<Fingerprint> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bits = u128::from_str_radix(text, 16).ok().filter(|_| digits)?;
    Some(Fingerprint(bits.to_be_bytes()))
}

/// A fingerprint for a credential that a test only names (FNV-1a).
fn made(text: &str) -> Fingerprint {
    let hash = text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    Fingerprint(hash.to_be_bytes())
}
