//! Whom the certificate of a receiver must lead back to.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// Certificate authorities.
#[derive(Clone, Default)]
pub enum Roots {
    /// Those of the operating system, read when they are needed.
    #[default]
    System,
    /// Those of one file and no others.
    These(Arc<RootCertStore>),
}

/// There is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The file has no certificate.
    #[error("there is no certificate in it; write authorities in PEM")]
    Empty,
    /// The file is not PEM.
    #[error("it is not PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// The system has none.
    #[error(
        "this system has no certificate authorities; install `ca-certificates`, or name a file with `ca`"
    )]
    System,
    /// One of them cannot be used, or TLS cannot be set up.
    #[error("the authorities cannot be used")]
    Tls(#[source] rustls::Error),
}

impl Roots {
    /// The authorities in a PEM file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RootsError> {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            store.add(certificate.map_err(RootsError::Pem)?).map_err(RootsError::Tls)?;
        }
        if store.is_empty() { Err(RootsError::Empty) } else { Ok(Self::These(Arc::new(store))) }
    }

    /// What makes TLS connections that trust nobody else.
    pub(crate) fn connector(&self, alpn: &[&[u8]]) -> Result<TlsConnector, RootsError> {
        let roots = match self {
            Self::These(store) => Arc::clone(store),
            Self::System => {
                let mut store = RootCertStore::empty();
                // One that nobody can read takes nothing from the others.
                let found = rustls_native_certs::load_native_certs();
                let (added, _ignored) = store.add_parsable_certificates(found.certs);
                if added == 0 {
                    return Err(RootsError::System);
                }
                Arc::new(store)
            }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(RootsError::Tls)?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("System"),
            Self::These(store) => write!(f, "These({} authorities)", store.len()),
        }
    }
}

impl Eq for Roots {}

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::System, Self::System) => true,
            (Self::These(ours), Self::These(theirs)) => ours.roots == theirs.roots,
            (Self::System, Self::These(_)) | (Self::These(_), Self::System) => false,
        }
    }
}
