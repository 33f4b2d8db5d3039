//! A certificate for the lab's names, signed by itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rcgen::{CertificateParams, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A key and a certificate that a client of the lab trusts.
#[derive(Clone, Debug)]
pub struct Certificate {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
}

impl Certificate {
    /// For these names or addresses.
    pub fn for_names(names: &[&str]) -> Result<Self> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names)?.self_signed(&key)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// Writes `cert.pem` and `key.pem`, the latter for its owner only, into the folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("cert.pem"), &self.certificate_pem)?;
        let key = folder.join("key.pem");
        fs::write(&key, &self.key_pem)?;
        fs::set_permissions(&key, Permissions::from_mode(0o600))?;
        Ok(())
    }

    /// The public half.
    pub fn pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A client's view: this certificate and no other is trusted, and `own` is shown to whoever asks.
    pub(super) fn trusting(
        &self,
        protocols: &[&[u8]],
        own: Option<&Self>,
    ) -> Result<Arc<rustls::ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes())?;
                builder.with_client_auth_cert(vec![own.certificate.clone()], key)?
            }
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }
}
