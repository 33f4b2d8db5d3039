//! The TLS files that a policy names: there, PEM, and a pair.

use std::path::Path;

use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::codes::{Code, TLS_FILE, TLS_MISMATCH, TLS_PEM};
use crate::files;
use crate::parse::{CertificateFiles, NamedTls};
use crate::problem::Report;
use crate::text::Span;

/// The largest certificate or key file, in bytes.
const FILE_MAX: u64 = 1 << 20;

pub(crate) fn check(files: &[NamedTls], report: &mut Report) {
    for named in files {
        for (files, &(certificate, at_key)) in named.tls.certificates.iter().zip(&named.pairs) {
            let chain = contents(&files.certificate, certificate, report)
                .and_then(|pem| certificates(&pem, &files.certificate, certificate, report));
            let key = contents(&files.key, at_key, report)
                .and_then(|pem| private_key(&pem, &files.key, at_key, report));
            if let (Some(chain), Some(key)) = (chain, key) {
                pair(chain, key, files, at_key, report);
            }
        }
        clients(named, report);
    }
}

/// The authorities of clients and what they revoked.
fn clients(named: &NamedTls, report: &mut Report) {
    let Some(clients) = &named.tls.clients else { return };
    if let Some(chain) = contents(&clients.ca, named.ca, report)
        .and_then(|pem| certificates(&pem, &clients.ca, named.ca, report))
    {
        let mut roots = RootCertStore::empty();
        for authority in chain {
            if let Err(error) = roots.add(authority) {
                let message = format!("{} holds no authority: {error}", clients.ca.display());
                let hint = "it holds the certificates that vouch for those of clients".to_owned();
                report.add(&TLS_PEM, named.ca, message, hint);
            }
        }
    }
    let Some(file) = &clients.crl else { return };
    let Some(pem) = contents(file, named.crl, report) else { return };
    let hint = "it begins with `-----BEGIN X509 CRL-----`; convert DER with `openssl crl`";
    let lists = CertificateRevocationListDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let message = match lists {
        Ok(lists) if !lists.is_empty() => return,
        Ok(_) => format!("{} holds no revocation list", file.display()),
        Err(error) => format!("{} is not PEM: {error}", file.display()),
    };
    report.add(&TLS_PEM, named.crl, message, hint.to_owned());
}

fn contents(file: &Path, span: Span, report: &mut Report) -> Option<Vec<u8>> {
    files::contents(file, FILE_MAX, &TLS_FILE, span, report)
}

fn certificates(
    pem: &[u8],
    file: &Path,
    span: Span,
    report: &mut Report,
) -> Option<Vec<CertificateDer<'static>>> {
    let hint = "it begins with `-----BEGIN CERTIFICATE-----`";
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(chain) if chain.is_empty() => {
            let message = format!("{} holds no certificate", file.display());
            refuse(&TLS_PEM, span, message, hint, report)
        }
        Ok(chain) => Some(chain),
        Err(error) => {
            let message = format!("{} is not PEM: {error}", file.display());
            refuse(&TLS_PEM, span, message, hint, report)
        }
    }
}

fn private_key(
    pem: &[u8],
    file: &Path,
    span: Span,
    report: &mut Report,
) -> Option<PrivateKeyDer<'static>> {
    files::private(file, span, report);
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Some(key),
        Err(pem::Error::NoItemsFound) => {
            let message = format!("{} holds no private key", file.display());
            let hint =
                "it begins with `-----BEGIN PRIVATE KEY-----`; an encrypted key is of no use here";
            refuse(&TLS_PEM, span, message, hint, report)
        }
        Err(error) => {
            let message = format!("{} is not PEM: {error}", file.display());
            refuse(&TLS_PEM, span, message, "write the key to the file again", report)
        }
    }
}

fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    files: &CertificateFiles,
    at: Span,
    report: &mut Report,
) {
    if let Err(error) = CertifiedKey::from_der(chain, key, &default_provider()) {
        let message = format!(
            "{} and {} do not serve TLS together: {error}",
            files.certificate.display(),
            files.key.display()
        );
        let hint = "the first certificate of the file must be the one that was issued for this key";
        report.add(&TLS_MISMATCH, at, message, hint.to_owned());
    }
}

fn refuse<T>(
    code: &'static Code,
    span: Span,
    message: String,
    hint: &str,
    report: &mut Report,
) -> Option<T> {
    report.add(code, span, message, hint.to_owned());
    None
}
