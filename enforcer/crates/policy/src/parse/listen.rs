//! `[listen.NAME]`: the addresses where clients are met, and how.
//!
//! Clear text is served to this host alone; towards everybody else a plain listener only redirects.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use enforcer_authz::Networks;
use enforcer_model::Prefix;

use crate::codes::{
    ADDRESS_TWICE, MISSING_PART, NO_LISTENER, PLAIN_EXPOSED, REDIRECT_WITHOUT_TLS, TLS_AND_REDIRECT,
};
use crate::grammar::{Fields, Key, MODE, Need, PLACE, Shape};
use crate::parse::tls::{self, Hsts, NamedTls, Tls};
use crate::parse::{Base, proxies};
use crate::problem::Report;
use crate::text::Span;

/// Addresses where clients are met in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// As the policy names it.
    pub name: Arc<str>,
    /// At least one; port 0 lets the system choose.
    pub addresses: Vec<Address>,
    /// Who may connect to its Unix sockets, as `chmod` says it.
    pub mode: u32,
    /// What happens with a connection.
    pub serves: Serves,
    /// What browsers are told; only with TLS.
    pub hsts: Option<Hsts>,
    /// Peers, and those behind them, whose `Forwarded` and `X-Forwarded-For` are believed.
    pub trusted: Arc<Networks>,
    /// Peers that begin every connection with a PROXY header.
    pub proxy_protocol: Arc<Networks>,
}

/// A place where clients are met.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An address and port of this host.
    Tcp(SocketAddr),
    /// A socket in the file system, for clients on this host.
    Unix(PathBuf),
}

/// What a listener does with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serves {
    /// HTTP in clear text; every address is a loopback address.
    Plain,
    /// Answers every request with 308 to the same place under `https`.
    Redirect {
        /// The port of the first TLS listener; 443 when there is none or the system chooses it.
        port: u16,
    },
    /// TLS 1.2 or 1.3.
    Tls(Tls),
}

pub(super) static KEYS: &[Key] = &[
    Key::required(
        "address",
        Shape::OneOrMore(&Shape::Text(&PLACE)),
        "Where to listen: `0.0.0.0:8443`, `[::]:8443` (IPv6 only), `unix:/run/enforcer/api.sock` \
         for clients on this host, or a list of them.",
    ),
    Key::with_default(
        "mode",
        Shape::Text(&MODE),
        Need::Text("0660"),
        "Who may connect to its Unix sockets, as `chmod` says it.",
    ),
    Key::optional("tls", Shape::Table(tls::KEYS), "The certificate; with it the listener is TLS."),
    Key::optional(
        "hsts",
        Shape::Table(tls::HSTS_KEYS),
        "Tell browsers to come back by https only (RFC 6797).",
    ),
    Key::optional(
        "redirect",
        Shape::Choice(&["https"]),
        "Redirect every request to https instead of serving it.",
    ),
    Key::optional(
        "trusted",
        Shape::OneOrMore(&Shape::Text(&crate::grammar::PROXIES)),
        "Proxies whose `Forwarded` and `X-Forwarded-For` are believed, from right to left, as \
         networks or `net:NAME`. Clients of a Unix socket count as `127.0.0.1`.",
    ),
    Key::optional(
        "proxy_protocol",
        Shape::Table(proxies::PROXY_PROTOCOL_KEYS),
        "Peers that speak the PROXY protocol, version 1 or 2.",
    ),
];

/// All listeners, and the TLS files that they name.
pub(super) fn read(
    root: Fields<'_>,
    named: &BTreeMap<Arc<str>, Arc<Networks>>,
    base: Base<'_>,
    report: &mut Report,
) -> (Vec<Listener>, Vec<NamedTls>) {
    let entries = root.named("listen");
    if entries.is_empty() && root.is_table("listen") {
        report.add(
            &NO_LISTENER,
            root.span_of("listen"),
            "the policy has no listener",
            "add `[listen.public]` with `address` and `tls`".to_owned(),
        );
    }

    let mut listeners = Vec::new();
    let mut files = Vec::new();
    let mut taken = HashMap::new();
    for entry in &entries {
        let Some(fields) = entry.fields(KEYS) else { continue };
        let addresses = addresses(fields, base);
        for (address, span) in &addresses {
            distinct(address, *span, entry.name, &mut taken, report);
        }
        let serves = match (fields.has("tls"), fields.has("redirect")) {
            (true, true) => {
                report.add(
                    &TLS_AND_REDIRECT,
                    fields.span_of("redirect"),
                    format!("listener `{}` has both `tls` and `redirect`", entry.name),
                    "a listener that redirects speaks clear text; make two listeners".to_owned(),
                );
                continue;
            }
            (true, false) => {
                let Some(named) = tls::read(fields.table("tls"), base, report) else { continue };
                files.push(named.clone());
                Serves::Tls(named.tls)
            }
            (false, true) => Serves::Redirect { port: 0 },
            (false, false) => {
                for (address, span) in addresses.iter().filter(|(address, _)| !address.is_local()) {
                    exposed(address, *span, entry.name, report);
                }
                Serves::Plain
            }
        };
        let addresses: Vec<_> = addresses.into_iter().map(|(address, _)| address).collect();
        let has_part = |key: &str, is: bool, message: &str, hint: &str, report: &mut Report| {
            if fields.has(key) && !is {
                report.add(&MISSING_PART, fields.span_of(key), message, hint.to_owned());
            }
            fields.has(key) && is
        };
        let is_tls = matches!(serves, Serves::Tls(_));
        let message = "`hsts` has no meaning without `tls`: browsers believe it over TLS only";
        let hsts = has_part("hsts", is_tls, message, "add `tls`, or remove it", report)
            .then(|| tls::hsts(fields.table("hsts"), report))
            .flatten();
        let has_file = addresses.iter().any(|address| matches!(address, Address::Unix(_)));
        let message = "`mode` has no meaning without a Unix socket";
        has_part("mode", has_file, message, "add an address `unix:…`, or remove it", report);
        let from = fields.table("proxy_protocol");
        listeners.push(Listener {
            name: entry.name.into(),
            addresses,
            mode: fields.text("mode").and_then(mode).unwrap_or_default(),
            serves,
            hsts,
            trusted: proxies::read(fields, "trusted", named, report),
            proxy_protocol: proxies::read(from, "from", named, report),
        });
    }
    point_redirects(&mut listeners, root, report);
    (listeners, files)
}

impl Listener {
    /// Every network of proxies whose word about clients is believed, one way or the other.
    pub fn proxies(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.trusted.iter().chain(self.proxy_protocol.iter())
    }
}

impl Address {
    /// The address and port, unless it is a socket in the file system.
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Whether only this host can get there.
    fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where clients are met, each with its place in the file; paths are relative to the policy's folder.
fn addresses(fields: Fields<'_>, base: Base<'_>) -> Vec<(Address, Span)> {
    let read = |(text, span): (&str, _)| {
        let address = match text.strip_prefix("unix:") {
            Some(path) => Address::Unix(base.resolve(path)),
            None => Address::Tcp(text.parse().ok()?),
        };
        Some((address, span))
    };
    fields.texts("address").into_iter().filter_map(read).collect()
}

/// `0660` as the number that it is in octal.
pub(crate) fn mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix('0').filter(|digits| digits.len() == 3)?;
    u32::from_str_radix(digits, 8).ok()
}

fn distinct<'a>(
    address: &Address,
    span: Span,
    listener: &'a str,
    taken: &mut HashMap<Address, &'a str>,
    report: &mut Report,
) {
    if address.tcp().is_some_and(|address| address.port() == 0) {
        return;
    }
    if let Some(other) = taken.insert(address.clone(), listener) {
        let message = format!("{address} is listened to twice, by `{other}` and `{listener}`");
        report.add(&ADDRESS_TWICE, span, message, "remove one of the two".to_owned());
    }
}

fn exposed(address: &Address, span: Span, listener: &str, report: &mut Report) {
    report.add(
        &PLAIN_EXPOSED,
        span,
        format!("listener `{listener}` would serve clear text on {address}"),
        "add `tls`, or `redirect = \"https\"`, or listen on `127.0.0.1`, `[::1]` or \
         `unix:PATH`"
            .to_owned(),
    );
}

/// Redirects go to the port of the first TLS listener.
fn point_redirects(listeners: &mut [Listener], root: Fields<'_>, report: &mut Report) {
    let is_tls = |listener: &&Listener| matches!(listener.serves, Serves::Tls(_));
    let target = listeners.iter().filter(is_tls).find_map(|listener| {
        listener.addresses.iter().find_map(|address| address.tcp().map(|tcp| tcp.port()))
    });
    for listener in listeners {
        if let Serves::Redirect { port } = &mut listener.serves {
            *port = target.filter(|&port| port != 0).unwrap_or(443);
            if target.is_none() {
                report.add(
                    &REDIRECT_WITHOUT_TLS,
                    root.span_of("listen"),
                    format!("listener `{}` redirects to https, which nobody serves", listener.name),
                    "add a listener with `tls`, unless another program answers on port 443"
                        .to_owned(),
                );
            }
        }
    }
}
