//! `[upstream.NAME]`: where requests go and how long they wait there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use enforcer_authz::Roles;
use enforcer_limits::{Class, GatePlan};
use enforcer_model::Role;
use enforcer_upstream::{Plan, Target};

use super::{Address, Base, DAY, HOUR, Listener, MILLISECOND, pools, unknown_name};
use crate::codes::{MISSING_PART, NAME_TWICE, UPSTREAM_IS_LISTENER};
use crate::grammar::{BALANCE, Fields, Key, NAME, Need, Shape};
use crate::problem::Report;

pub(super) static KEYS: &[Key] = &[
    Key::required(
        "hosts",
        Shape::OneOrMore(&pools::HOST),
        "Addresses, names or sockets (`unix:/run/orders.sock`), with a weight where that differs.",
    ),
    Key::optional(
        "backup",
        Shape::List(&Shape::List(&pools::HOST)),
        "Hosts that stand in while fewer than half of those before them are well, list by list.",
    ),
    Key::with_default(
        "protocol",
        Shape::Choice(&["http1", "http2"]),
        Need::Text("http1"),
        "What is spoken: HTTP/2 is agreed on in the handshake of TLS, and known beforehand without.",
    ),
    Key::optional(
        "tls",
        Shape::Table(pools::TLS_KEYS),
        "Speak TLS; `{}` believes the authorities of this host.",
    ),
    Key::with_default(
        "balance",
        Shape::TextOr(&BALANCE, pools::BALANCE_KEYS),
        Need::Text("least-loaded"),
        "Who is asked: the less loaded of two at random, each in turn, or the same for the same key.",
    ),
    Key::optional(
        "health",
        Shape::Table(pools::HEALTH_KEYS),
        "Ask each host whether it is well; one that is not is left out.",
    ),
    Key::with_default(
        "eject",
        Shape::FlagOr(pools::EJECT_KEYS),
        Need::True,
        "Leave a host out for a while that fails requests.",
    ),
    Key::optional(
        "breaker",
        Shape::Table(pools::BREAKER_KEYS),
        "Answer with 503 at once while too many requests fail.",
    ),
    Key::optional(
        "retry",
        Shape::Table(pools::RETRY_KEYS),
        "Send a request again, where that cannot do it twice.",
    ),
    Key::optional(
        "slow_start",
        Shape::Span(MILLISECOND, HOUR),
        "A host that comes back gets its full share after this long.",
    ),
    Key::with_default(
        "dns",
        Shape::Span(pools::DNS_MIN, DAY),
        Need::Text("30s"),
        "How often names are looked up again.",
    ),
    Key::optional(
        "body_rate",
        Shape::Size(1, 1 << 30),
        "Bytes that the body of an answer must make in a second, while the client waits for them.",
    ),
    Key::with_default(
        "connect_timeout",
        Shape::Span(MILLISECOND, HOUR),
        Need::Text("1s"),
        "For the connection to one host, TLS included.",
    ),
    Key::with_default(
        "first_byte",
        Shape::Span(MILLISECOND, HOUR),
        Need::Text("10s"),
        "From the request sent to the head of the answer.",
    ),
    Key::with_default(
        "between_bytes",
        Shape::Span(MILLISECOND, HOUR),
        Need::Text("30s"),
        "Between two parts of the answer's body.",
    ),
    Key::with_default(
        "idle",
        Shape::Span(MILLISECOND, DAY),
        Need::Text("60s"),
        "An unused connection is closed after this long.",
    ),
    Key::with_default(
        "connections",
        Shape::Count(1, 65_536),
        Need::Count(512),
        "Open connections per thread; when all are in use, requests are refused.",
    ),
    Key::optional(
        "concurrent",
        Shape::Count(1, 1 << 20),
        "Requests that it has at the same time, over all threads; more are refused.",
    ),
    Key::optional(
        "shed",
        Shape::List(&Shape::Text(&NAME)),
        "Roles, and `anonymous`, that are turned away first when it is nearly full: from 80 % of \
         `concurrent` on, in this order.",
    ),
    Key::with_default(
        "identity",
        Shape::Flag,
        Need::True,
        "Tell it who is calling, in a signed statement (`Enforcer-Identity`).",
    ),
    Key::with_default(
        "errors",
        Shape::Choice(&["hide", "pass"]),
        Need::Text("hide"),
        "What clients see of its 5xx answers: a problem document in their place, or what it said. \
         Problem documents of its own and gRPC pass.",
    ),
    Key::with_default(
        "forward_credential",
        Shape::Flag,
        Need::False,
        "Let it have the credential that was accepted here. API keys of ours never pass.",
    ),
];

/// What clients see of an upstream's own failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errors {
    /// Their status, in a document of ours.
    Hidden,
    /// What the upstream said.
    Passed,
}

/// An upstream with what its routes do.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) plan: Arc<Plan>,
    pub(crate) gate: Option<Arc<GatePlan>>,
    pub(crate) identity: bool,
    pub(crate) forward_credential: bool,
    pub(crate) errors: Errors,
}

pub(super) fn read(
    root: Fields<'_>,
    listeners: &[Listener],
    roles: &Roles,
    base: Base<'_>,
    report: &mut Report,
) -> Vec<Upstream> {
    let own = Own::of(listeners);
    let mut upstreams = Vec::new();
    for entry in root.named("upstream") {
        let Some(fields) = entry.fields(KEYS) else { continue };
        let (plan, hosts) = pools::read(entry.name, fields, base, report);
        for (host, span) in &hosts {
            if let Some(listener) = own.meets(host) {
                let message = format!("{host} is this agent's own listener `{listener}`");
                let hint = "requests would circle; name the address of the service".to_owned();
                report.add(&UPSTREAM_IS_LISTENER, *span, message, hint);
            }
        }
        let gate = gate(entry.name, fields, root, roles, report);
        upstreams.extend(upstream(plan, gate, fields));
    }
    upstreams
}

fn upstream(
    plan: Option<Plan>,
    gate: Option<Option<GatePlan>>,
    fields: Fields<'_>,
) -> Option<Upstream> {
    Some(Upstream {
        plan: Arc::new(plan?),
        gate: gate?.map(Arc::new),
        identity: fields.flag("identity")?,
        forward_credential: fields.flag("forward_credential")?,
        errors: match fields.text("errors")? {
            "pass" => Errors::Passed,
            _ => Errors::Hidden,
        },
    })
}

/// How many requests it takes; inner `None` where that is not limited.
fn gate(
    name: &str,
    fields: Fields<'_>,
    root: Fields<'_>,
    roles: &Roles,
    report: &mut Report,
) -> Option<Option<GatePlan>> {
    let mut shed: Vec<Class> = Vec::new();
    for (word, span) in fields.texts("shed") {
        let class = match word {
            "anonymous" => Class::Anonymous,
            role => Class::Role(Role::new(role)),
        };
        let defined = root.named("role");
        if word != "anonymous" && !defined.iter().any(|role| role.name == word) {
            let known = defined.iter().map(|role| role.name).chain(["anonymous"]);
            unknown_name("role", word, span, known, report);
        } else if shed.contains(&class) {
            let message = format!("`{word}` is named twice");
            report.add(&NAME_TWICE, span, message, "once is enough".to_owned());
        } else if word == "anonymous" || roles.index(word).is_some() {
            shed.push(class);
        }
    }
    if !fields.has("concurrent") {
        if fields.has("shed") {
            let message = "`shed` has no meaning without `concurrent`";
            let hint = "add `concurrent = 500`, or remove it".to_owned();
            report.add(&MISSING_PART, fields.span_of("shed"), message, hint);
        }
        return Some(None);
    }
    let concurrent = NonZeroU32::new(u32::try_from(fields.count("concurrent")?).ok()?)?;
    Some(Some(GatePlan { name: name.into(), concurrent, shed: shed.into() }))
}

/// Where this agent listens, to be asked for many hosts.
struct Own<'a> {
    addresses: HashMap<SocketAddr, &'a str>,
    /// Ports on every address of a family.
    every: HashMap<(bool, u16), &'a str>,
    sockets: HashMap<&'a Path, &'a str>,
}

impl<'a> Own<'a> {
    fn of(listeners: &'a [Listener]) -> Self {
        let mut own =
            Self { addresses: HashMap::new(), every: HashMap::new(), sockets: HashMap::new() };
        for listener in listeners {
            for address in &listener.addresses {
                if let Address::Unix(path) = address {
                    own.sockets.insert(path, &listener.name);
                }
            }
            for address in listener.addresses.iter().filter_map(Address::tcp) {
                own.addresses.insert(address, &listener.name);
                if address.ip().is_unspecified() {
                    own.every.insert((address.is_ipv4(), address.port()), &listener.name);
                }
            }
        }
        own
    }

    /// The listener at which a connection to `host` certainly ends.
    fn meets(&self, host: &Target) -> Option<&'a str> {
        let host = match host {
            Target::Address(address) => *address,
            Target::Name { .. } => return None,
            Target::Unix(path) => return self.sockets.get(&**path).copied(),
        };
        let every = || self.every.get(&(host.is_ipv4(), host.port()));
        let own = self.addresses.get(&host);
        own.or_else(|| every().filter(|_| host.ip().is_loopback())).copied()
    }
}
