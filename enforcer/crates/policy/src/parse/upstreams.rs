//! `[upstream.NAME]`: where requests go and how long they wait there.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use enforcer_upstream::Plan;

use super::{DAY, HOUR, Listener, MILLISECOND};
use crate::codes::{NAME_TWICE, UPSTREAM_IS_LISTENER};
use crate::grammar::{Fields, HOST_ADDRESS, Key, Need, Shape};
use crate::problem::Report;

pub(super) static KEYS: &[Key] = &[
    Key::required(
        "hosts",
        Shape::OneOrMore(&Shape::Text(&HOST_ADDRESS)),
        "Addresses with port, asked in turn; one that cannot be reached is passed over.",
    ),
    Key::with_default(
        "connect_timeout",
        Shape::Span(MILLISECOND, HOUR),
        Need::Text("1s"),
        "For the TCP handshake with one host.",
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
];

pub(super) fn read(
    root: Fields<'_>,
    listeners: &[Listener],
    report: &mut Report,
) -> Vec<Arc<Plan>> {
    let mut plans = Vec::new();
    for entry in root.named("upstream") {
        let Some(fields) = entry.fields(KEYS) else { continue };
        let hosts = fields.all_parsed::<SocketAddr>("hosts");
        let mut seen = HashSet::new();
        for &(host, span) in &hosts {
            if !seen.insert(host) {
                let message = format!("host {host} is named twice");
                report.add(&NAME_TWICE, span, message, "remove one of the two".to_owned());
            }
            if let Some(listener) = listeners.iter().find(|listener| meets(listener, host)) {
                let message = format!("{host} is this agent's own listener `{}`", listener.name);
                let hint = "requests would circle; name the address of the service".to_owned();
                report.add(&UPSTREAM_IS_LISTENER, span, message, hint);
            }
        }
        let hosts = hosts.into_iter().map(|(host, _)| host).collect();
        plans.extend(plan(entry.name, hosts, fields).map(Arc::new));
    }
    plans
}

fn plan(name: &str, hosts: Vec<SocketAddr>, fields: Fields<'_>) -> Option<Plan> {
    Some(Plan {
        name: name.into(),
        hosts,
        connect_timeout: fields.duration("connect_timeout")?,
        first_byte: fields.duration("first_byte")?,
        between_bytes: fields.duration("between_bytes")?,
        idle: fields.duration("idle")?,
        connections: super::size(fields.count("connections"))?.get(),
    })
}

/// Whether a connection to `host` certainly ends at the listener.
fn meets(listener: &Listener, host: SocketAddr) -> bool {
    let same_family = |ip: IpAddr| ip.is_ipv4() == host.is_ipv4();
    listener.addresses.iter().any(|address| {
        let every = address.ip().is_unspecified() && same_family(address.ip());
        address.port() == host.port()
            && (address.ip() == host.ip() || (every && host.ip().is_loopback()))
    })
}
