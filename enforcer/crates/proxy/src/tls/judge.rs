//! Who judges the certificates of clients.

use std::sync::Arc;

use enforcer_policy::Clients;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use super::TlsError;

/// Judges the certificates of clients.
#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) verifier: Arc<dyn ClientCertVerifier>,
    /// What it was made from.
    authorities: Vec<CertificateDer<'static>>,
    revocations: Vec<CertificateRevocationListDer<'static>>,
    require: bool,
}

/// With a revocation list, every authority above a certificate needs one that is not out of date:
/// what cannot be told is refused.
pub(super) fn judge(
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
    Ok(Judge { verifier, authorities, revocations, require: clients.require })
}

impl Judge {
    /// Whether both come to the same verdict on every certificate.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.authorities == other.authorities && self.revocations == other.revocations
    }

    /// Whether both let the same clients in.
    pub(super) fn asks_like(&self, other: &Self) -> bool {
        self.is_like(other) && self.require == other.require
    }
}
