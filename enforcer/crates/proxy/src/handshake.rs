//! What happens on a connection before its first request: who it is from, and TLS.

use std::io;
use std::sync::Arc;

use enforcer_authn::Certificate;
use enforcer_model::{Source, SourceBy, TlsVersion};
use enforcer_policy::Policy;
use rustls::{HandshakeKind, ProtocolVersion};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use crate::connections::{Crowded, Registered, Share};
use crate::counters::Counters;
use crate::entry::Origin;
use crate::hello::Overheard;
use crate::proxy_protocol::{self, Announced};
use crate::shared::Shared;
use crate::socket::Socket;
use crate::tls::Trust;

/// A TLS connection whose first bytes were overheard. Boxed: whoever hands it on by value keeps room
/// for it, at every step and for as long as the connection lives.
pub(crate) type Secured = Box<TlsStream<Overheard<Socket>>>;

/// The connection is over, and is counted.
pub(crate) struct Over;

/// Reads whom a peer speaks for that speaks the PROXY protocol; leaves every other alone.
///
/// The client is registered in its peer's place, and is looked up in the quarantine then.
pub(crate) async fn announce(
    socket: &mut Socket,
    origin: &mut Origin,
    registered: &mut Registered,
    policy: &Policy,
    shared: &Shared,
) -> Result<(), Over> {
    let Some(listener) = policy.listener(&origin.listener) else { return Ok(()) };
    if listener.proxy_protocol.covering(origin.source.address()).is_none() {
        return Ok(());
    }
    let read = timeout(policy.timeouts().handshake, proxy_protocol::read(socket)).await;
    let announced = match read {
        Ok(Ok(announced)) => announced,
        Ok(Err(error)) => {
            debug!(%error, peer = %origin.peer, "PROXY header");
            return Err(over(&shared.counters.proxy_headers_refused));
        }
        Err(_elapsed) => return Err(over(&shared.counters.proxy_headers_refused)),
    };
    let Announced::Client(address) = announced else { return Ok(()) };
    let source = Source::new(address);
    origin.source = source;
    origin.source_by = Some(SourceBy::ProxyProtocol);
    let share = Share::of(source, listener.trusted.covering(address).is_some());
    if let Err(crowded) = registered.move_to(source, share, policy.connections()) {
        return Err(crowd(crowded, &shared.counters));
    }
    match shared.quarantine.refuse_source(source, shared.clock.now().wall) {
        Ok(()) => Ok(()),
        Err(_shut_out) => Err(over(&shared.counters.connections_quarantined)),
    }
}

/// Shakes hands, and notes in `origin` what that told; with the trust in the client's certificate.
pub(crate) async fn shake(
    socket: Socket,
    origin: &mut Origin,
    registered: &Registered,
    policy: Arc<Policy>,
    shared: &Shared,
) -> Result<(Secured, Option<Trust>), Over> {
    let Shared { certificates, counters, clock, .. } = shared;
    // A listener whose certificate is gone cannot have been bound; if it were, nobody is served.
    let settings = certificates.of(&origin.listener).ok_or(Over)?;
    // Only where it is asked for: to be told of reloads costs a lock.
    let (trust, settings) = match settings.asks() {
        false => (None, settings),
        true => {
            let trust = Trust::new(certificates, &origin.listener);
            (Some(trust), certificates.of(&origin.listener).ok_or(Over)?)
        }
    };
    let shaking = registered.shake_hands(policy.connections());
    let shaking = shaking.map_err(|crowded| crowd(crowded, counters))?;
    let patience = policy.timeouts().handshake;
    drop(policy);
    let handshake = TlsAcceptor::from(Arc::clone(&settings.config)).accept(Overheard::new(socket));
    let shaken = timeout(patience, handshake).await;
    drop(shaking);
    let mut stream = match shaken {
        Ok(Ok(stream)) => Box::new(stream),
        Ok(Err(error)) if is_about_certificates(&error) => {
            return Err(over(&counters.certificates_refused));
        }
        Ok(Err(_)) | Err(_) => return Err(over(&counters.handshakes_failed)),
    };
    origin.ja4 = stream.get_mut().0.fingerprint();
    // Noted before the look-up, as the source is.
    registered.speaks(origin.ja4.as_ref());
    let now = clock.now().wall;
    if shared.quarantine.refuse_ja4(origin.ja4.as_ref(), origin.source, now).is_err() {
        return Err(over(&counters.connections_quarantined));
    }
    let (_, session) = stream.get_ref();
    let trust = match session.peer_certificates() {
        None => None,
        Some(chain) => {
            let Some(trust) = trust else { return Err(over(&counters.certificates_refused)) };
            let mut trust = trust.of(chain);
            // A ticket is no proof that the certificate behind it is still good.
            let known = match session.handshake_kind() {
                Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) => {
                    trust.was_judged_by(&settings);
                    Ok(())
                }
                Some(_) | None => trust.look(clock.now().wall),
            };
            let read = chain.first().and_then(|own| Certificate::from_der(own).ok());
            let (Ok(()), Some(read)) = (known, read) else {
                return Err(over(&counters.certificates_refused));
            };
            origin.certificate = Some(Arc::new(read));
            Some(trust)
        }
    };
    origin.tls = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => Some(TlsVersion::V1_2),
        _ => Some(TlsVersion::V1_3),
    };
    origin.hsts.clone_from(&settings.hsts);
    origin.shown = Some(settings.shown(session.server_name()));
    Ok((stream, trust))
}

fn over(count: &crate::counters::Count) -> Over {
    count.add_one();
    Over
}

fn crowd(crowded: Crowded, counters: &Counters) -> Over {
    count_crowded(crowded, counters);
    Over
}

pub(crate) fn count_crowded(crowded: Crowded, counters: &Counters) {
    match crowded {
        Crowded::Handshakes => counters.handshakes_over_source.add_one(),
        Crowded::Source => counters.connections_over_source.add_one(),
        Crowded::Total => counters.connections_over_total.add_one(),
    }
}

/// Whether a handshake failed because of what the client showed of itself, or did not show.
fn is_about_certificates(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(
        error,
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
    )
}
