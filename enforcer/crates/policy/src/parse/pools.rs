//! The part of `[upstream.NAME]` that becomes an [`enforcer_upstream::Plan`]: the hosts, how they
//! are spoken to, and what happens when they fail.

use std::collections::HashSet;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use enforcer_upstream::{
    Balance, BreakerPlan, EjectPlan, HashKey, HealthPlan, HostPlan, Link, Own, Plan, Protocol,
    RetryPlan, Roots, Target, Tls,
};
use rustls::pki_types::ServerName;

use super::guard::Percent;
use super::{Base, DAY, HOUR, MILLISECOND, SECOND};
use crate::codes::{EXCLUDES, FILE_UNREADABLE, FILE_WRONG, MISSING_PART, NAME_TWICE};
use crate::files;
use crate::grammar::{
    Fields, HASH_KEY, HOST_ADDRESS, Key, Mixed, Need, PATH, PERCENT, SERVER_NAME, Shape, TARGET,
    VALUE,
};
use crate::problem::Report;
use crate::text::Span;

/// Certificates and keys have at most so many bytes.
const FILE_MAX: u64 = 4 << 20;
/// Hosts of one upstream, those that stand in for others included.
const HOSTS_MAX: usize = 256;

/// A host: its address, or a table with it.
pub(super) static HOST: Shape = Shape::TextOr(&HOST_ADDRESS, HOST_KEYS);

static HOST_KEYS: &[Key] = &[
    Key::required(
        "host",
        Shape::Text(&HOST_ADDRESS),
        "Address, name or socket, as it would stand by itself.",
    ),
    Key::with_default(
        "weight",
        Shape::Count(1, 1_000),
        Need::Count(1),
        "Its share, beside the weights of the others.",
    ),
];

pub(super) static TLS_KEYS: &[Key] = &[
    Key::optional(
        "ca",
        Shape::Text(&PATH),
        "PEM file with the authorities that vouch for the hosts; this host's own without it.",
    ),
    Key::optional(
        "name",
        Shape::Text(&SERVER_NAME),
        "The name that certificates must show, instead of the host's own.",
    ),
    Key::optional("certificate", Shape::Text(&PATH), "PEM file with a certificate of our own."),
    Key::optional("key", Shape::Text(&PATH), "PEM file with its private key."),
];

pub(super) static BALANCE_KEYS: &[Key] = &[Key::required(
    "hash",
    Shape::Text(&HASH_KEY),
    "What requests have in common that go to the same host.",
)];

pub(super) static HEALTH_KEYS: &[Key] = &[
    Key::required("path", Shape::Text(&TARGET), "What is asked for."),
    Key::with_default(
        "every",
        Shape::Span(MILLISECOND, DAY),
        Need::Text("5s"),
        "From one question to the next.",
    ),
    Key::with_default(
        "timeout",
        Shape::Span(MILLISECOND, HOUR),
        Need::Text("2s"),
        "For the whole answer.",
    ),
    Key::optional(
        "status",
        Shape::List(&Shape::Count(100, 599)),
        "Answers of a host that is well; 200 without it.",
    ),
    Key::optional("host", Shape::Text(&VALUE), "`Host` of the question; else the host's own name."),
    Key::with_default(
        "healthy",
        Shape::Count(1, 100),
        Need::Count(2),
        "Good answers in a row that bring a host back.",
    ),
    Key::with_default(
        "unhealthy",
        Shape::Count(1, 100),
        Need::Count(3),
        "Bad answers in a row that take a host out.",
    ),
];

pub(super) static EJECT_KEYS: &[Key] = &[
    Key::with_default(
        "failures",
        Shape::Count(1, 10_000),
        Need::Count(5),
        "Failures in a row for which a host is left out.",
    ),
    Key::with_default(
        "rate",
        Shape::Text(&PERCENT),
        Need::Text("50%"),
        "Or this part of its requests within ten seconds, ten requests at least.",
    ),
    Key::with_default(
        "for",
        Shape::Span(MILLISECOND, DAY),
        Need::Text("30s"),
        "For how long; twice as long each time that it fails again soon, up to 16 times.",
    ),
    Key::with_default(
        "most",
        Shape::Text(&PERCENT),
        Need::Text("50%"),
        "Never more than this part of the hosts, unless others stand in for them.",
    ),
];

pub(super) static BREAKER_KEYS: &[Key] = &[
    Key::with_default(
        "errors",
        Shape::Text(&PERCENT),
        Need::Text("50%"),
        "The upstream is left alone when this part of its requests failed…",
    ),
    Key::with_default(
        "requests",
        Shape::Count(1, 1_000_000),
        Need::Count(20),
        "…of at least so many…",
    ),
    Key::with_default(
        "within",
        Shape::Span(MILLISECOND, HOUR),
        Need::Text("10s"),
        "…within this time.",
    ),
    Key::with_default(
        "open",
        Shape::Span(MILLISECOND, HOUR),
        Need::Text("5s"),
        "Requests are answered with 503 for so long; then one is let through to see.",
    ),
];

pub(super) static RETRY_KEYS: &[Key] = &[
    Key::with_default(
        "attempts",
        Shape::Count(0, 5),
        Need::Count(1),
        "How often a request is sent again, where that is safe; 0 for never.",
    ),
    Key::with_default(
        "budget",
        Shape::Text(&PERCENT),
        Need::Text("20%"),
        "The part of all requests that retries may be, beside one a second.",
    ),
];

/// The shortest time between two look-ups of a name.
pub(super) const DNS_MIN: Duration = SECOND;

/// The plan, and its hosts with their places.
pub(super) fn read(
    name: &str,
    fields: Fields<'_>,
    base: Base<'_>,
    report: &mut Report,
) -> (Option<Plan>, Vec<(Target, Span)>) {
    let mut named = Vec::new();
    let mut tiers = vec![tier(fields.mixed("hosts"), &mut named)];
    for backup in fields.mixed_lists("backup") {
        tiers.push(tier(backup, &mut named));
    }
    let mut seen = HashSet::new();
    for (host, span) in &named {
        if !seen.insert(host) {
            let message = format!("host {host} is named twice");
            report.add(&NAME_TWICE, *span, message, "remove one of the two".to_owned());
        }
    }
    if let Some((_, span)) = named.get(HOSTS_MAX) {
        let message = format!("upstream `{name}` has more than {HOSTS_MAX} hosts");
        report.add(&crate::codes::TOO_MANY, *span, message, "make several upstreams".to_owned());
    }
    let tls = tls(fields, &named, base, report);
    (plan(name, tiers, tls, fields), named)
}

fn tier(hosts: Vec<Mixed<'_>>, named: &mut Vec<(Target, Span)>) -> Vec<HostPlan> {
    let host = |text: &str, weight: u64, span, named: &mut Vec<(Target, Span)>| {
        let target: Target = text.parse().ok()?;
        named.push((target.clone(), span));
        let weight = NonZeroU16::new(u16::try_from(weight).ok()?)?;
        Some(HostPlan { name: target.to_string().into(), target, weight })
    };
    let read = hosts.into_iter().filter_map(|written| match written {
        Mixed::Text(text, span) => host(text, 1, span, named),
        Mixed::Table(fields) => {
            host(fields.text("host")?, fields.count("weight")?, fields.span_of("host"), named)
        }
    });
    read.collect()
}

fn plan(
    name: &str,
    tiers: Vec<Vec<HostPlan>>,
    tls: Option<Option<Arc<Tls>>>,
    fields: Fields<'_>,
) -> Option<Plan> {
    Some(Plan {
        name: name.into(),
        tiers,
        protocol: match fields.text("protocol")? {
            "http2" => Protocol::Http2,
            _ => Protocol::Http1,
        },
        tls: tls?,
        balance: balance(fields)?,
        health: match fields.has("health") {
            true => Some(health(fields.table("health"))?),
            false => None,
        },
        eject: match (fields.is_table("eject"), fields.flag("eject")) {
            (false, Some(false)) => None,
            (true, _) | (false, _) => Some(eject(fields.table("eject"))?),
        },
        breaker: match fields.has("breaker") {
            true => Some(breaker(fields.table("breaker"))?),
            false => None,
        },
        retry: retry(fields.table("retry"))?,
        slow_start: match fields.has("slow_start") {
            true => fields.duration("slow_start")?,
            false => Duration::ZERO,
        },
        dns: fields.duration("dns")?,
        connect_timeout: fields.duration("connect_timeout")?,
        first_byte: fields.duration("first_byte")?,
        between_bytes: fields.duration("between_bytes")?,
        body_rate_min: match fields.has("body_rate") {
            true => fields.size("body_rate")?.0,
            false => 0,
        },
        idle: fields.duration("idle")?,
        connections: super::size(fields.count("connections"))?.get(),
        link: Link::default(),
    })
}

fn balance(fields: Fields<'_>) -> Option<Balance> {
    if fields.is_table("balance") {
        let key = fields.table("balance").text("hash")?;
        return Some(Balance::Hash(match key {
            "ip" => HashKey::Ip,
            "path" => HashKey::Path,
            "principal" => HashKey::Principal,
            header => HashKey::Header(header.strip_prefix("header.")?.parse().ok()?),
        }));
    }
    Some(match fields.text("balance")? {
        "round-robin" => Balance::RoundRobin,
        _ => Balance::LeastLoaded,
    })
}

fn health(fields: Fields<'_>) -> Option<HealthPlan> {
    let statuses = fields.counts("status").into_iter();
    let status: Vec<u16> = statuses.filter_map(|(one, _)| u16::try_from(one).ok()).collect();
    Some(HealthPlan {
        path: fields.parsed("path")?,
        host: match fields.has("host") {
            true => Some(fields.parsed("host")?),
            false => None,
        },
        every: fields.duration("every")?,
        timeout: fields.duration("timeout")?,
        status: if status.is_empty() { vec![200] } else { status },
        healthy: number(fields, "healthy")?,
        unhealthy: number(fields, "unhealthy")?,
    })
}

fn eject(fields: Fields<'_>) -> Option<EjectPlan> {
    Some(EjectPlan {
        failures: number(fields, "failures")?,
        rate_percent: percent(fields, "rate")?,
        period: fields.duration("for")?,
        most_percent: percent(fields, "most")?,
    })
}

fn breaker(fields: Fields<'_>) -> Option<BreakerPlan> {
    Some(BreakerPlan {
        errors_percent: percent(fields, "errors")?,
        requests: number(fields, "requests")?,
        within: fields.duration("within")?,
        open: fields.duration("open")?,
    })
}

fn retry(fields: Fields<'_>) -> Option<RetryPlan> {
    Some(RetryPlan {
        attempts: number(fields, "attempts")?,
        budget_percent: percent(fields, "budget")?,
    })
}

fn number(fields: Fields<'_>, key: &str) -> Option<u32> {
    u32::try_from(fields.count(key)?).ok()
}

fn percent(fields: Fields<'_>, key: &str) -> Option<u8> {
    fields.parsed::<Percent>(key).map(Percent::get)
}

/// How the hosts are known; inner `None` for clear text.
fn tls(
    fields: Fields<'_>,
    hosts: &[(Target, Span)],
    base: Base<'_>,
    report: &mut Report,
) -> Option<Option<Arc<Tls>>> {
    if !fields.has("tls") {
        return Some(None);
    }
    let fields = fields.table("tls");
    if let (true, false) | (false, true) = (fields.has("certificate"), fields.has("key")) {
        let message = "a certificate of our own has a `certificate` and a `key`";
        let hint = "add the other one, or remove both".to_owned();
        report.add(&MISSING_PART, fields.span(), message, hint);
        return None;
    }
    let nameless = hosts.iter().find(|(host, _)| host.certified_as().is_none());
    if let (Some((host, span)), false) = (nameless, fields.has("name")) {
        let message = format!("nothing says which name the certificate of {host} has to show");
        let hint = "add `name = \"orders.internal\"` to `tls`, or speak clear text".to_owned();
        report.add(&EXCLUDES, *span, message, hint);
        return None;
    }
    let name = match fields.text("name") {
        Some(name) => Some(ServerName::try_from(name.to_owned()).ok()?),
        None => None,
    };
    let ca = contents(fields, "ca", base, report)?;
    let chain = contents(fields, "certificate", base, report)?;
    let key = contents(fields, "key", base, report)?;
    if base.reads_files && fields.has("key") {
        let file = base.resolve(fields.text("key")?);
        files::private(&file, fields.span_of("key"), report);
    }
    let roots = match (&ca, base.reads_files) {
        (_, false) => Roots::None,
        (Some(pem), true) => Roots::Pinned(pem),
        (None, true) => Roots::System,
    };
    let own = match (&chain, &key) {
        (Some(chain), Some(key)) => Some(Own { chain, key }),
        (_, _) => None,
    };
    match Tls::new(roots, name, own) {
        Ok(tls) => Some(Some(Arc::new(tls))),
        Err(error) => {
            let key = if own.is_some() && ca.is_none() { "certificate" } else { "ca" };
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            let message = format!("`tls` cannot be used: {error}{}", cause.unwrap_or_default());
            let hint = "PEM begins with `-----BEGIN`; pin authorities with `ca = \"FILE\"`";
            report.add(&FILE_WRONG, fields.span_of(key), message, hint.to_owned());
            None
        }
    }
}

/// The contents of the file that `key` names; inner `None` where there is none, or none is read.
fn contents(
    fields: Fields<'_>,
    key: &str,
    base: Base<'_>,
    report: &mut Report,
) -> Option<Option<Vec<u8>>> {
    if !fields.has(key) || !base.reads_files {
        return Some(None);
    }
    let file = base.resolve(fields.text(key)?);
    let span = fields.span_of(key);
    Some(Some(files::contents(&file, FILE_MAX, &FILE_UNREADABLE, span, report)?))
}
