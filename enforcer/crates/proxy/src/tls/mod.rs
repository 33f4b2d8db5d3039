//! Certificates: read with every policy, swapped without a connection noticing.
//!
//! TLS 1.2 and 1.3 with ring, HTTP/2 and HTTP/1.1 by ALPN, resumption by tickets, no early data: a
//! request in early data could be replayed by anybody who saw it.
//!
//! Tickets are worth something on the listener that gave them, for twelve hours at most, and only
//! for the name that was asked for. They outlive a reload: a new certificate takes nothing from a
//! session, whose secrets do not depend on it. They end with a reload after which other clients are
//! let in: a ticket holds the certificate that its client has shown, and [`Trust`] judges that
//! again.
//!
//! What can be read is put in force as a whole or not at all. Only a staple that cannot be used is
//! left out, told, and missed by nobody who did not ask for it.

mod der;
mod error;
mod facts;
mod judge;
mod ocsp;
mod shelf;
#[cfg(test)]
mod tests;
mod trust;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use enforcer_model::{Clock, Reason, Rejection, Timestamp};
use enforcer_policy::{Hsts, Listener, Policy, Serves, Tls};
use http::HeaderValue;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use tokio::sync::watch;
use tracing::warn;

pub use error::TlsError;
pub(crate) use trust::Trust;

use judge::{Judge, judge};
use shelf::Shelf;

/// The TLS settings in force, by listener.
pub struct Certificates {
    listeners: ArcSwap<All>,
    clock: Arc<dyn Clock>,
    /// Told of every reload.
    reloaded: watch::Sender<()>,
}

type All = HashMap<Arc<str>, Arc<Settings>>;

/// The settings of one listener.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) config: Arc<ServerConfig>,
    /// What browsers are told.
    pub(crate) hsts: Option<HeaderValue>,
    /// Who judges the certificates of clients; none where nobody is asked for one.
    clients: Option<Arc<Judge>>,
    shelf: Arc<Shelf>,
    tickets: Arc<dyn ProducesTickets>,
}

/// A certificate in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The listener that shows it.
    pub listener: Arc<str>,
    /// Whether it is shown to clients that ask for no name of any.
    pub default: bool,
    /// Where it was read from.
    pub file: PathBuf,
    /// The DNS names that it is for, in order.
    pub names: Vec<String>,
    /// Whom it was issued to.
    pub subject: String,
    /// Who vouches for it.
    pub issuer: String,
    /// When its time begins.
    pub not_before: Timestamp,
    /// When its time is over.
    pub not_after: Timestamp,
    /// SHA-256 of the certificate, in hex.
    pub sha256: String,
    /// Its staple; none where the policy names none.
    pub staple: Option<HeldStaple>,
}

/// A staple that the policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldStaple {
    /// Where it was read from.
    pub file: PathBuf,
    /// When its authority knew what it says.
    pub this_update: Option<Timestamp>,
    /// Until when it counts.
    pub next_update: Option<Timestamp>,
    /// Why it is not stapled; none when it is.
    pub problem: Option<String>,
}

/// What a connection has shown of itself, for what its requests ask for.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    settings: Arc<Settings>,
    /// The name that the client asked for.
    name: Option<Box<str>>,
    /// Whether that is a name of the certificate that it got.
    is_for_name: bool,
}

/// The request is for a host that the connection is not for.
#[derive(Debug, thiserror::Error)]
enum Misdirected {
    #[error("another certificate than the one of this connection is for `{0}`")]
    Elsewhere(Box<str>),
    #[error("the connection is for `{name}`, the request for `{host}`")]
    Other { name: Box<str>, host: Box<str> },
}

impl Certificates {
    /// Reads the files of every TLS listener of `policy`.
    pub fn load(policy: &Policy, clock: &Arc<dyn Clock>) -> Result<Self, TlsError> {
        let listeners = ArcSwap::from_pointee(read(policy, &All::new(), clock)?);
        Ok(Self { listeners, clock: Arc::clone(clock), reloaded: watch::Sender::new(()) })
    }

    /// Reads the files again and puts them in force for handshakes from here on; on an error
    /// nothing changes. A listener that left the policy is served until the restart that closes it.
    ///
    /// Connections of clients whose certificate the new files do not bear out are closed.
    pub fn reload(&self, policy: &Policy) -> Result<(), TlsError> {
        let before = self.listeners.load();
        let mut all = All::clone(&before);
        all.extend(read(policy, &before, &self.clock)?);
        self.listeners.store(Arc::new(all));
        self.reloaded.send_replace(());
        self.warn();
        Ok(())
    }

    /// Reads the files again, one listener after the other: one whose files cannot be used, or hold a
    /// new certificate that is not valid, stays as it is, and the others do not wait for it. The names
    /// of all of them, with why nothing of them has changed.
    pub fn reload_each(&self, policy: &Policy) -> Vec<(Arc<str>, Option<String>)> {
        let before = self.listeners.load();
        let mut all = All::clone(&before);
        let read = secure(policy).map(|(listener, tls)| {
            let was = before.get(&listener.name).map(AsRef::as_ref);
            let fresh = settings(listener, tls, was, &self.clock).map_err(|error| told(&error));
            let now = self.clock.now().wall;
            let fresh = fresh.and_then(|fresh| fresh.timely(&listener.name, was, now));
            (Arc::clone(&listener.name), fresh)
        });
        let mut outcome = Vec::new();
        for (name, fresh) in read {
            let refused = match fresh {
                Ok(fresh) => {
                    all.insert(Arc::clone(&name), Arc::new(fresh));
                    None
                }
                Err(why) => Some(why),
            };
            outcome.push((name, refused));
        }
        self.listeners.store(Arc::new(all));
        self.reloaded.send_replace(());
        self.warn();
        outcome
    }

    /// Every certificate in force, listener by listener.
    pub fn list(&self) -> Vec<Held> {
        let all = self.listeners.load();
        let mut held: Vec<Held> =
            all.iter().flat_map(|(name, settings)| settings.shelf.held(name)).collect();
        // Those of one listener stay in the order of the policy.
        held.sort_by(|one, other| one.listener.cmp(&other.listener));
        held
    }

    /// Says what somebody should see to.
    pub fn warn(&self) {
        let now = self.clock.now().wall;
        for (listener, settings) in self.listeners.load().iter() {
            for warning in settings.shelf.warnings(now) {
                warn!(%listener, warning, "certificate");
            }
        }
    }

    pub(crate) fn of(&self, listener: &str) -> Option<Arc<Settings>> {
        self.listeners.load().get(listener).cloned()
    }

    /// Whether another listener than that of `settings` has a certificate for `host`.
    fn is_elsewhere(&self, host: &str, settings: &Arc<Settings>) -> bool {
        let all = self.listeners.load();
        all.values().any(|other| !Arc::ptr_eq(other, settings) && other.shelf.covers(host))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl Settings {
    /// These, unless one of their certificates is new and not valid at `now`.
    fn timely(
        self,
        listener: &Arc<str>,
        before: Option<&Self>,
        now: Timestamp,
    ) -> Result<Self, String> {
        let known: Vec<Held> =
            before.into_iter().flat_map(|before| before.shelf.held(listener)).collect();
        let is_known = |held: &Held| known.iter().any(|known| known.sha256 == held.sha256);
        let fresh = self.shelf.held(listener).filter(|held| !is_known(held));
        let untimely = fresh.into_iter().find_map(|held| {
            let file = held.file.display();
            let (from, until) = (held.not_before, held.not_after);
            if until <= now {
                return Some(format!("the certificate in {file} has expired on {until}"));
            }
            (from > now).then(|| format!("the certificate in {file} is not valid before {from}"))
        });
        untimely.map_or(Ok(self), Err)
    }

    /// Whether clients are asked for a certificate.
    pub(crate) const fn asks(&self) -> bool {
        self.clients.is_some()
    }

    /// What a connection has shown whose client asked for `name`.
    pub(crate) fn shown(self: Arc<Self>, name: Option<&str>) -> Shown {
        let is_for_name = name.is_some_and(|name| self.shelf.shows(Some(name), name));
        Shown { settings: self, name: name.map(Into::into), is_for_name }
    }
}

impl Shown {
    /// Refuses a host that the connection is not for, so that its client makes another (RFC 9110,
    /// 15.5.20): browsers use one connection for several names, and a connection that was let in for
    /// one must not reach what another is for.
    ///
    /// Who asks for an address, or for the name that was asked for in the handshake, is served
    /// although no certificate says that name: whether to go on was for the client to decide.
    pub(crate) fn refuse_misdirected(
        &self,
        host: &str,
        certificates: &Certificates,
    ) -> Result<(), Rejection> {
        let asked = self.name.as_deref();
        if self.is_for_name && asked == Some(host) {
            return Ok(());
        }
        let is_address = host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
        if is_address || self.settings.shelf.shows(asked, host) {
            return Ok(());
        }
        let misdirected = match asked {
            _ if self.settings.shelf.covers(host)
                || certificates.is_elsewhere(host, &self.settings) =>
            {
                Misdirected::Elsewhere(host.into())
            }
            Some(name) if name != host => {
                Misdirected::Other { name: name.into(), host: host.into() }
            }
            Some(_) | None => return Ok(()),
        };
        Err(Reason::HostMisdirected.because(misdirected))
    }
}

fn read(policy: &Policy, before: &All, clock: &Arc<dyn Clock>) -> Result<All, TlsError> {
    let tls = secure(policy);
    tls.map(|(listener, tls)| {
        let before = before.get(&listener.name).map(AsRef::as_ref);
        let settings = settings(listener, tls, before, clock)?;
        Ok((Arc::clone(&listener.name), Arc::new(settings)))
    })
    .collect()
}

/// The listeners with TLS.
fn secure(policy: &Policy) -> impl Iterator<Item = (&Listener, &Tls)> {
    policy.listeners().iter().filter_map(|listener| match &listener.serves {
        Serves::Tls(tls) => Some((listener, tls)),
        Serves::Plain | Serves::Redirect { .. } => None,
    })
}

/// An error with its causes on one line.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn settings(
    listener: &Listener,
    tls: &Tls,
    before: Option<&Settings>,
    clock: &Arc<dyn Clock>,
) -> Result<Settings, TlsError> {
    let name = &listener.name;
    let provider = Arc::new(provider());
    let shelf = Arc::new(Shelf::read(name, tls, &provider, clock)?);
    let clients = tls.clients.as_ref();
    let clients = clients.map(|clients| judge(name, clients, &provider)).transpose()?;
    let failed = |source| TlsError::Settings { listener: Arc::clone(name), source };
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(failed)?;
    let builder = match &clients {
        Some(judge) => builder.with_client_cert_verifier(Arc::clone(&judge.verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::<Shelf>::clone(&shelf));
    // Clients that speak nothing newer say so; what follows is read as any HTTP/1 is.
    config.alpn_protocols = [&b"h2"[..], b"http/1.1", b"http/1.0"].map(<[u8]>::to_vec).to_vec();
    let judged = before.and_then(|before| before.clients.as_ref());
    let lets_in_the_same = match (judged, &clients) {
        (Some(before), Some(now)) => before.asks_like(now),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    let tickets = match before.filter(|_| lets_in_the_same) {
        Some(before) => Arc::clone(&before.tickets),
        None => ring::Ticketer::new().map_err(failed)?,
    };
    config.ticketer = Arc::clone(&tickets);
    // Tickets hold all that a session needs; nothing is kept here, nor locked.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    let clients = clients.map(|fresh| match judged {
        // The same judge as before: nobody needs to be judged again.
        Some(before) if before.is_like(&fresh) => Arc::clone(before),
        Some(_) | None => Arc::new(fresh),
    });
    let hsts = listener.hsts.and_then(|hsts| HeaderValue::try_from(said(hsts)).ok());
    Ok(Settings { config: Arc::new(config), hsts, clients, shelf, tickets })
}

/// Ciphers and groups of Mozilla's intermediate configuration that ring has, in its order; a client
/// that has an order of its own gets the first of those.
fn provider() -> CryptoProvider {
    use ring::cipher_suite as suite;
    use ring::kx_group as group;
    CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![group::X25519, group::SECP256R1, group::SECP384R1],
        ..ring::default_provider()
    }
}

/// RFC 6797, section 6.1.
fn said(hsts: Hsts) -> String {
    let mut text = format!("max-age={}", hsts.age.as_secs());
    if hsts.subdomains {
        text.push_str("; includeSubDomains");
    }
    if hsts.preload {
        text.push_str("; preload");
    }
    text
}
