//! Certificates: read with every policy, swapped without a connection noticing.
//!
//! TLS 1.2 and 1.3 with ring, HTTP/2 and HTTP/1.1 by ALPN, resumption by tickets, no early data: a
//! request in early data could be replayed by anybody who saw it.
//!
//! Where a listener asks clients for certificates, one that is shown must be good, also where none
//! is required. A ticket holds the certificate of the handshake that it was given after, and is
//! worth nothing on another listener or after a reload, because each has keys of its own. Beside
//! that, [`Trust`] asks again: when a session is resumed, after every reload and once in a while,
//! so that neither a ticket nor a long connection outlives the certificate it came with.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use std::time::Duration;

use arc_swap::ArcSwap;
use enforcer_model::{Clock, Timestamp};
use enforcer_policy::{Clients, Policy, Serves, Tls};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use tokio::sync::watch;
use tokio::time::timeout;

/// The TLS settings in force, by listener.
#[derive(Debug)]
pub struct Certificates {
    listeners: ArcSwap<HashMap<Arc<str>, Settings>>,
    /// Told of every reload.
    reloaded: watch::Sender<()>,
}

/// The settings of one listener.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) config: Arc<ServerConfig>,
    /// Who judges the certificates of clients; none where nobody is asked for one.
    clients: Option<Arc<Judge>>,
}

/// Judges the certificates of clients.
#[derive(Debug)]
struct Judge {
    verifier: Arc<dyn ClientCertVerifier>,
    /// What it was made from.
    authorities: Vec<CertificateDer<'static>>,
    revocations: Vec<CertificateRevocationListDer<'static>>,
}

/// The certificate that a client has shown, for as long as its connection lives.
#[derive(Debug)]
pub(crate) struct Trust {
    certificates: Arc<Certificates>,
    listener: Arc<str>,
    chain: Vec<CertificateDer<'static>>,
    reloaded: watch::Receiver<()>,
    /// Who has found the certificate good.
    judge: Option<Arc<Judge>>,
}

/// The certificate of a client is not good any more.
#[derive(Debug, thiserror::Error)]
#[error("the client certificate is not good any more")]
pub(crate) struct Distrusted(#[source] Option<rustls::Error>);

/// The certificate of a listener cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificates in the file, or no file.
    #[error("listener `{listener}`: no certificate in {}", .file.display())]
    Certificate {
        /// The listener.
        listener: Arc<str>,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// No private key in the file, or no file.
    #[error("listener `{listener}`: no private key in {}", .file.display())]
    Key {
        /// The listener.
        listener: Arc<str>,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// The authorities for clients cannot be read.
    #[error("listener `{listener}`: no authorities for clients in {}", .file.display())]
    Authorities {
        /// The listener.
        listener: Arc<str>,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// One of the authorities for clients is none.
    #[error("listener `{listener}`: an authority in {} cannot be used", .file.display())]
    Authority {
        /// The listener.
        listener: Arc<str>,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
    /// The revocation lists cannot be read.
    #[error("listener `{listener}`: no revocation list in {}", .file.display())]
    RevocationList {
        /// The listener.
        listener: Arc<str>,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// Clients cannot be judged by authorities and lists.
    #[error("listener `{listener}`: client certificates cannot be judged")]
    Judge {
        /// The listener.
        listener: Arc<str>,
        /// What is wrong.
        #[source]
        source: VerifierBuilderError,
    },
    /// They do not fit together, or are of a kind that TLS does not use.
    #[error("listener `{listener}`: certificate and key cannot be used together")]
    Pair {
        /// The listener.
        listener: Arc<str>,
        /// What is wrong with them.
        #[source]
        source: rustls::Error,
    },
}

/// How long a certificate is taken for good without another look: it may expire meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(60);

impl Certificates {
    /// Reads the files of every TLS listener of `policy`.
    pub fn load(policy: &Policy) -> Result<Self, TlsError> {
        let listeners = ArcSwap::from_pointee(read(policy)?);
        Ok(Self { listeners, reloaded: watch::Sender::new(()) })
    }

    /// Reads the files again and puts them in force for handshakes from here on; on an error
    /// nothing changes. A listener that left the policy is served until the restart that closes it.
    ///
    /// Connections of clients whose certificate the new files do not bear out are closed.
    pub fn reload(&self, policy: &Policy) -> Result<(), TlsError> {
        let mut fresh = read(policy)?;
        let mut all = HashMap::clone(&self.listeners.load());
        for (name, fresh) in &mut fresh {
            // The same judge as before: nobody needs to be judged again.
            if let (Some(old), Some(new)) =
                (all.get(name).and_then(|old| old.clients.as_ref()), &mut fresh.clients)
                && old.is_like(new)
            {
                *new = Arc::clone(old);
            }
        }
        all.extend(fresh);
        self.listeners.store(Arc::new(all));
        self.reloaded.send_replace(());
        Ok(())
    }

    pub(crate) fn of(&self, listener: &str) -> Option<Settings> {
        self.listeners.load().get(listener).cloned()
    }
}

impl Trust {
    /// In nobody as yet; to be made before the settings for a handshake are taken, so that no reload
    /// is missed.
    pub(crate) fn new(certificates: &Arc<Certificates>, listener: &Arc<str>) -> Self {
        Self {
            certificates: Arc::clone(certificates),
            listener: Arc::clone(listener),
            chain: Vec::new(),
            reloaded: certificates.reloaded.subscribe(),
            judge: None,
        }
    }

    /// In the holder of `chain`.
    pub(crate) fn of(self, chain: &[CertificateDer<'_>]) -> Self {
        let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
        Self { chain, ..self }
    }

    /// The handshake has just judged the certificate by `settings`.
    pub(crate) fn was_judged_by(&mut self, settings: &Settings) {
        self.judge = settings.clients.clone();
    }

    /// Judges the certificate by what is in force at `now`.
    pub(crate) fn look(&mut self, now: Timestamp) -> Result<(), Distrusted> {
        let settings = self.certificates.of(&self.listener);
        let judge = settings.and_then(|settings| settings.clients).ok_or(Distrusted(None))?;
        let (own, others) = self.chain.split_first().ok_or(Distrusted(None))?;
        let moment = UnixTime::since_unix_epoch(Duration::from_nanos(now.unix_ns()));
        let judged = judge.verifier.verify_client_cert(own, others, moment);
        judged.map_err(|error| Distrusted(Some(error)))?;
        self.judge = Some(judge);
        Ok(())
    }

    /// Waits for a reason to judge the certificate again (a reload with other authorities or lists,
    /// or time that has passed), and does.
    pub(crate) async fn next_look(&mut self, clock: &dyn Clock) -> Result<(), Distrusted> {
        loop {
            match timeout(LOOK_EVERY, self.reloaded.changed()).await {
                Ok(Ok(())) if self.judge_is_the_same() => {}
                Ok(Ok(())) | Err(_) => return self.look(clock.now().wall),
                // There will be no other: the agent is ending.
                Ok(Err(_)) => std::future::pending().await,
            }
        }
    }

    fn judge_is_the_same(&self) -> bool {
        let settings = self.certificates.of(&self.listener);
        match (settings.and_then(|settings| settings.clients), &self.judge) {
            (Some(now), Some(before)) => Arc::ptr_eq(&now, before),
            (Some(_), None) | (None, _) => false,
        }
    }
}

fn read(policy: &Policy) -> Result<HashMap<Arc<str>, Settings>, TlsError> {
    let tls = policy.listeners().iter().filter_map(|listener| match &listener.serves {
        Serves::Tls(tls) => Some((&listener.name, tls)),
        Serves::Plain | Serves::Redirect { .. } => None,
    });
    tls.map(|(name, tls)| Ok((Arc::clone(name), settings(name, tls)?))).collect()
}

fn settings(listener: &Arc<str>, tls: &Tls) -> Result<Settings, TlsError> {
    let certificate = |source| TlsError::Certificate {
        listener: Arc::clone(listener),
        file: tls.certificate.clone(),
        source,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect)
        .map_err(certificate)?;
    if chain.is_empty() {
        return Err(certificate(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|source| TlsError::Key {
        listener: Arc::clone(listener),
        file: tls.key.clone(),
        source,
    })?;
    let pair = |source| TlsError::Pair { listener: Arc::clone(listener), source };
    let provider = Arc::new(ring::default_provider());
    let clients = tls.clients.as_ref();
    let clients = clients.map(|clients| judge(listener, clients, &provider)).transpose()?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(pair)?;
    let builder = match &clients {
        Some(judge) => builder.with_client_cert_verifier(Arc::clone(&judge.verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new().map_err(pair)?;
    Ok(Settings { config: Arc::new(config), clients: clients.map(Arc::new) })
}

/// With a revocation list, every authority above a certificate needs one that is not out of date:
/// what cannot be told is refused.
fn judge(
    listener: &Arc<str>,
    clients: &Clients,
    provider: &Arc<CryptoProvider>,
) -> Result<Judge, TlsError> {
    let unread = |source| TlsError::Authorities {
        listener: Arc::clone(listener),
        file: clients.ca.clone(),
        source,
    };
    let authorities: Vec<_> =
        CertificateDer::pem_file_iter(&clients.ca).and_then(Iterator::collect).map_err(unread)?;
    if authorities.is_empty() {
        return Err(unread(pem::Error::NoItemsFound));
    }
    let mut roots = RootCertStore::empty();
    for authority in &authorities {
        roots.add(authority.clone()).map_err(|source| TlsError::Authority {
            listener: Arc::clone(listener),
            file: clients.ca.clone(),
            source,
        })?;
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let mut revocations = Vec::new();
    if let Some(file) = &clients.crl {
        let unread = |source| TlsError::RevocationList {
            listener: Arc::clone(listener),
            file: file.clone(),
            source,
        };
        revocations = CertificateRevocationListDer::pem_file_iter(file)
            .and_then(Iterator::collect)
            .map_err(unread)?;
        if revocations.is_empty() {
            return Err(unread(pem::Error::NoItemsFound));
        }
        builder = builder.with_crls(revocations.iter().cloned()).enforce_revocation_expiration();
    }
    if !clients.require {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder
        .build()
        .map_err(|source| TlsError::Judge { listener: Arc::clone(listener), source })?;
    Ok(Judge { verifier, authorities, revocations })
}

impl Judge {
    /// Whether both come to the same verdict on every certificate.
    fn is_like(&self, other: &Self) -> bool {
        self.authorities == other.authorities && self.revocations == other.revocations
    }
}
