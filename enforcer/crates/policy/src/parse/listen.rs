//! `[listen.NAME]`: the addresses where clients are met, and how.
//!
//! Clear text is served to this host alone; towards everybody else a plain listener only redirects.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::codes::{
    ADDRESS_TWICE, NO_LISTENER, PLAIN_EXPOSED, REDIRECT_WITHOUT_TLS, TLS_AND_REDIRECT,
};
use crate::grammar::{ADDRESS, Fields, Key, Need, PATH, Shape};
use crate::parse::Base;
use crate::problem::Report;
use crate::text::Span;

/// Addresses where clients are met in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// As the policy names it.
    pub name: Arc<str>,
    /// At least one; port 0 lets the system choose.
    pub addresses: Vec<SocketAddr>,
    /// What happens with a connection.
    pub serves: Serves,
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

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM: the certificate and those that vouch for it.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
    /// Which certificates clients may show; none are asked for without it.
    pub clients: Option<Clients>,
}

/// Which certificates clients may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// PEM: the authorities that vouch for them.
    pub ca: PathBuf,
    /// PEM: lists of those that these authorities have revoked.
    pub crl: Option<PathBuf>,
    /// Whether there is no connection without one.
    pub require: bool,
}

/// A listener's TLS files and the places that name them, to be looked at by whoever does I/O.
#[derive(Clone, Debug)]
pub(crate) struct NamedTls {
    pub(crate) tls: Tls,
    pub(crate) certificate: Span,
    pub(crate) key: Span,
    pub(crate) ca: Span,
    pub(crate) crl: Span,
}

pub(super) static KEYS: &[Key] = &[
    Key::required(
        "address",
        Shape::OneOrMore(&Shape::Text(&ADDRESS)),
        "Where to listen: `0.0.0.0:8443`, `[::]:8443` (IPv6 only), or a list of them.",
    ),
    Key::optional("tls", Shape::Table(TLS_KEYS), "The certificate; with it the listener is TLS."),
    Key::optional(
        "redirect",
        Shape::Choice(&["https"]),
        "Redirect every request to https instead of serving it.",
    ),
];

static TLS_KEYS: &[Key] = &[
    Key::required(
        "certificate",
        Shape::Text(&PATH),
        "PEM file with the certificate chain; relative to the policy file.",
    ),
    Key::required(
        "key",
        Shape::Text(&PATH),
        "PEM file with the private key; relative to the policy file.",
    ),
    Key::optional(
        "clients",
        Shape::Table(CLIENTS_KEYS),
        "Ask clients for a certificate, and which are good.",
    ),
];

static CLIENTS_KEYS: &[Key] = &[
    Key::required(
        "ca",
        Shape::Text(&PATH),
        "PEM file with the authorities that vouch for clients; relative to the policy file.",
    ),
    Key::optional(
        "crl",
        Shape::Text(&PATH),
        "PEM file with the lists of certificates that they revoked; relative to the policy file.",
    ),
    Key::with_default(
        "require",
        Shape::Flag,
        Need::False,
        "Refuse a connection without a client certificate.",
    ),
];

/// All listeners, and the TLS files that they name.
pub(super) fn read(
    root: Fields<'_>,
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
        let addresses = fields.all_parsed::<SocketAddr>("address");
        for &(address, span) in &addresses {
            distinct(address, span, entry.name, &mut taken, report);
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
                let Some(named) = tls(fields.table("tls"), base) else { continue };
                files.push(named.clone());
                Serves::Tls(named.tls)
            }
            (false, true) => Serves::Redirect { port: 0 },
            (false, false) => {
                for &(address, span) in addresses.iter().filter(|(a, _)| !a.ip().is_loopback()) {
                    exposed(address, span, entry.name, report);
                }
                Serves::Plain
            }
        };
        let addresses = addresses.into_iter().map(|(address, _)| address).collect();
        listeners.push(Listener { name: entry.name.into(), addresses, serves });
    }
    point_redirects(&mut listeners, root, report);
    (listeners, files)
}

fn tls(fields: Fields<'_>, base: Base<'_>) -> Option<NamedTls> {
    let asked = fields.table("clients");
    let clients = match fields.has("clients") {
        true => Some(Clients {
            ca: base.resolve(asked.text("ca")?),
            crl: asked.text("crl").map(|crl| base.resolve(crl)),
            require: asked.flag("require")?,
        }),
        false => None,
    };
    let tls = Tls {
        certificate: base.resolve(fields.text("certificate")?),
        key: base.resolve(fields.text("key")?),
        clients,
    };
    Some(NamedTls {
        tls,
        certificate: fields.span_of("certificate"),
        key: fields.span_of("key"),
        ca: asked.span_of("ca"),
        crl: asked.span_of("crl"),
    })
}

fn distinct<'a>(
    address: SocketAddr,
    span: Span,
    listener: &'a str,
    taken: &mut HashMap<SocketAddr, &'a str>,
    report: &mut Report,
) {
    if address.port() == 0 {
        return;
    }
    if let Some(other) = taken.insert(address, listener) {
        let message = format!("{address} is listened to twice, by `{other}` and `{listener}`");
        report.add(&ADDRESS_TWICE, span, message, "remove one of the two".to_owned());
    }
}

fn exposed(address: SocketAddr, span: Span, listener: &str, report: &mut Report) {
    report.add(
        &PLAIN_EXPOSED,
        span,
        format!("listener `{listener}` would serve clear text on {address}"),
        "add `tls`, or `redirect = \"https\"`, or listen on `127.0.0.1` or `[::1]`".to_owned(),
    );
}

/// Redirects go to the port of the first TLS listener.
fn point_redirects(listeners: &mut [Listener], root: Fields<'_>, report: &mut Report) {
    let is_tls = |listener: &&Listener| matches!(listener.serves, Serves::Tls(_));
    let first = listeners.iter().find(is_tls).and_then(|listener| listener.addresses.first());
    let target = first.map(SocketAddr::port);
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
