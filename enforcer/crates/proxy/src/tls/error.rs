//! Why the files of a listener cannot be used.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::server::VerifierBuilderError;
use rustls_pki_types::pem;

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
    #[error(
        "listener `{listener}`: the certificate in {} and its key cannot be used together",
        .file.display()
    )]
    Pair {
        /// The listener.
        listener: Arc<str>,
        /// The file of the certificate.
        file: PathBuf,
        /// What is wrong with them.
        #[source]
        source: rustls::Error,
    },
    /// TLS cannot be set up.
    #[error("listener `{listener}`: TLS cannot be set up")]
    Settings {
        /// The listener.
        listener: Arc<str>,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
}
