//! How the hosts of an upstream are known, and how we are known to them.
//!
//! TLS 1.2 or 1.3. Certificates chain up to the roots that the policy pins, or to the system's, and
//! show the name that the policy gives, or the host's own. Sessions are resumed; they are kept for
//! [`SESSIONS_MAX`] names, and the oldest makes room.

use std::fmt;
use std::sync::Arc;

use ring::digest;
use rustls::client::Resumption;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::plan::Protocol;

/// Names of which a session is kept.
const SESSIONS_MAX: usize = 256;

/// Roots, a name, and a certificate of our own.
pub struct Tls {
    /// The name that certificates must show; else that of the host.
    name: Option<ServerName<'static>>,
    /// SHA-256 of all that it is made of.
    made_of: [u8; 32],
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot vouch for anybody.
    #[error("a certificate in it cannot vouch for anybody")]
    Authority(#[source] rustls::Error),
    /// Not PEM, or not of certificates.
    #[error("it holds no certificates in PEM")]
    Certificates(#[source] pem::Error),
    /// There is none.
    #[error("it holds no certificate")]
    Empty,
    /// The private key cannot be read.
    #[error("it holds no private key in PEM")]
    Key(#[source] pem::Error),
    /// They do not belong together, or are of no use for TLS.
    #[error("certificate and key cannot be used together")]
    Own(#[source] rustls::Error),
    /// The system's roots cannot be read.
    #[error("this host has no store of roots that can be read")]
    System,
    /// The library refuses.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// Whom to believe.
#[derive(Clone, Copy, Debug)]
pub enum Roots<'a> {
    /// These alone, in PEM.
    Pinned(&'a [u8]),
    /// Those of this host.
    System,
    /// Nobody: for policies that are only looked at, without their files.
    None,
}

/// A certificate of our own, as files hold it.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// PEM: the certificate and those that vouch for it.
    pub chain: &'a [u8],
    /// PEM: its private key.
    pub key: &'a [u8],
}

impl Tls {
    /// Believes `roots`; `name` is what certificates must show instead of the host's own name.
    pub fn new(
        roots: Roots<'_>,
        name: Option<ServerName<'static>>,
        own: Option<Own<'_>>,
    ) -> Result<Self, TlsError> {
        let made_of = fingerprint(roots, name.as_ref(), own);
        let builder =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(TlsError::Setup)?
                .with_root_certificates(store(roots)?);
        let mut http1 = match own {
            None => builder.with_no_client_auth(),
            Some(Own { chain, key }) => {
                let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Key)?;
                builder.with_client_auth_cert(certificates(chain)?, key).map_err(TlsError::Own)?
            }
        };
        let mut http2 = http1.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        http2.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        for config in [&mut http1, &mut http2] {
            config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        }
        Ok(Self { name, made_of, http1: Arc::new(http1), http2: Arc::new(http2) })
    }

    /// For a connection that will speak `protocol`.
    pub(crate) const fn config(&self, protocol: Protocol) -> &Arc<ClientConfig> {
        match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        }
    }

    /// What the certificate of every host must show; none where it is the host's own name.
    pub(crate) const fn name(&self) -> Option<&ServerName<'static>> {
        self.name.as_ref()
    }
}

fn store(roots: Roots<'_>) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::None => {}
        Roots::Pinned(pem) => {
            for certificate in certificates(pem)? {
                store.add(certificate).map_err(TlsError::Authority)?;
            }
        }
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _ignored) = store.add_parsable_certificates(found.certs);
            if added == 0 {
                return Err(TlsError::System);
            }
        }
    }
    Ok(store)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(TlsError::Certificates)?;
    if read.is_empty() { Err(TlsError::Empty) } else { Ok(read) }
}

fn fingerprint(
    roots: Roots<'_>,
    name: Option<&ServerName<'static>>,
    own: Option<Own<'_>>,
) -> [u8; 32] {
    let mut sum = digest::Context::new(&digest::SHA256);
    let mut part = |bytes: &[u8]| {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        sum.update(&length.to_be_bytes());
        sum.update(bytes);
    };
    match roots {
        Roots::None => part(b"none"),
        Roots::System => part(b"system"),
        Roots::Pinned(pem) => {
            part(b"pinned");
            part(pem);
        }
    }
    part(name.map(ServerName::to_str).unwrap_or_default().as_bytes());
    if let Some(Own { chain, key }) = own {
        part(chain);
        part(key);
    }
    let mut made_of = [0; 32];
    for (to, from) in made_of.iter_mut().zip(sum.finish().as_ref()) {
        *to = *from;
    }
    made_of
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.made_of == other.made_of
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}
