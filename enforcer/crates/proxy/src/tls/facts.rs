//! What a certificate of ours says of itself: for whom, by whom, for how long.

use std::collections::HashSet;

use enforcer_model::Timestamp;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::der::{BIT_STRING, Der, INTEGER, SEQUENCE};

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) subject: String,
    pub(super) issuer: String,
    /// The issuer's name as it stands in the certificate.
    pub(super) issuer_der: Box<[u8]>,
    pub(super) serial: Box<[u8]>,
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    /// The bits of the public key, as OCSP hashes them.
    pub(super) public_key: Box<[u8]>,
}

/// The DNS names that a certificate is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    exact: HashSet<Box<str>>,
    /// What stands behind `*.`.
    below: HashSet<Box<str>>,
}

impl Facts {
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let mut certificate = Der(der).sequence()?.sequence()?;
        certificate.optional(0xa0);
        let serial = certificate.expect(INTEGER)?.inside.into();
        certificate.sequence()?;
        let issuer = certificate.expect(SEQUENCE)?;
        let mut validity = certificate.sequence()?;
        let (from, until) = (validity.next()?.time()?, validity.next()?.time()?);
        let subject = certificate.expect(SEQUENCE)?;
        let mut key = certificate.sequence()?;
        key.sequence()?;
        let (_unused, public_key) = key.expect(BIT_STRING)?.inside.split_first()?;
        Some(Self {
            subject: subject.name()?,
            issuer: issuer.name()?,
            issuer_der: issuer.whole.into(),
            serial,
            from,
            until,
            public_key: public_key.into(),
        })
    }
}

impl Names {
    /// Those in the certificate's list of alternative names; a common name is nobody's name.
    pub(super) fn read(der: &CertificateDer<'_>) -> Result<Self, webpki::Error> {
        let mut names = Self::default();
        for name in EndEntityCert::try_from(der)?.valid_dns_names() {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            match name.strip_prefix("*.") {
                Some(parent) => drop(names.below.insert(parent.into())),
                None => drop(names.exact.insert(name.into())),
            }
        }
        Ok(names)
    }

    /// Whether the certificate is for `host`; a wildcard stands for one label (RFC 6125, 6.4.3).
    pub(super) fn cover(&self, host: &str) -> bool {
        let below = || host.split_once('.').is_some_and(|(_, parent)| self.below.contains(parent));
        self.exact.contains(host) || below()
    }

    /// The names by themselves.
    pub(super) fn exact(&self) -> impl Iterator<Item = &str> {
        self.exact.iter().map(AsRef::as_ref)
    }

    /// The names under which every label is covered.
    pub(super) fn below(&self) -> impl Iterator<Item = &str> {
        self.below.iter().map(AsRef::as_ref)
    }

    /// All of them as the certificate writes them, in order.
    pub(super) fn all(&self) -> Vec<String> {
        let wild = self.below().map(|parent| format!("*.{parent}"));
        let mut all: Vec<String> = self.exact().map(str::to_owned).chain(wild).collect();
        all.sort_unstable();
        all
    }

    /// Whether it is for no name at all.
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty()
    }
}
