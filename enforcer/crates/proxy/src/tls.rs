//! Certificates: read with every policy, swapped without a connection noticing.
//!
//! TLS 1.2 and 1.3 with ring, HTTP/2 and HTTP/1.1 by ALPN, resumption by tickets, no early data: a
//! request in early data could be replayed by anybody who saw it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use enforcer_policy::{Policy, Serves, Tls};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The TLS settings in force, by listener.
#[derive(Debug)]
pub struct Certificates(ArcSwap<HashMap<Arc<str>, Arc<ServerConfig>>>);

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

impl Certificates {
    /// Reads the files of every TLS listener of `policy`.
    pub fn load(policy: &Policy) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::from_pointee(read(policy)?)))
    }

    /// Reads the files again and puts them in force for handshakes from here on; on an error
    /// nothing changes. A listener that left the policy is served until the restart that closes it.
    pub fn reload(&self, policy: &Policy) -> Result<(), TlsError> {
        let fresh = read(policy)?;
        let mut all = HashMap::clone(&self.0.load());
        all.extend(fresh);
        self.0.store(Arc::new(all));
        Ok(())
    }

    pub(crate) fn of(&self, listener: &str) -> Option<Arc<ServerConfig>> {
        self.0.load().get(listener).map(Arc::clone)
    }
}

fn read(policy: &Policy) -> Result<HashMap<Arc<str>, Arc<ServerConfig>>, TlsError> {
    let tls = policy.listeners().iter().filter_map(|listener| match &listener.serves {
        Serves::Tls(tls) => Some((&listener.name, tls)),
        Serves::Plain | Serves::Redirect { .. } => None,
    });
    tls.map(|(name, tls)| Ok((Arc::clone(name), Arc::new(config(name, tls)?)))).collect()
}

fn config(listener: &Arc<str>, tls: &Tls) -> Result<ServerConfig, TlsError> {
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
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new().map_err(pair)?;
    Ok(config)
}
