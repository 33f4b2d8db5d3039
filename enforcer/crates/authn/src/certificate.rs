//! Who a client certificate says its holder is.
//!
//! TLS has verified the certificate before it comes here: against the listener's authorities, its
//! dates and the revocation lists. This module reads three things from it, once per connection: the
//! thumbprint that tokens and keys are bound to (RFC 8705), the SPIFFE id, and the DNS names.
//!
//! It is read by `rustls-webpki`, which has just verified it and is in the tree for that: one
//! parser, so that there is one meaning. A subject's common name is nobody's name here.

use std::sync::Arc;

use enforcer_model::{Principal, Thumbprint};
use ring::digest;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::identity::{Certificate, Identity, Proof};

/// The bytes are not a certificate of X.509, version 3.
#[derive(Debug, thiserror::Error)]
#[error("not a certificate that TLS would accept")]
pub struct CertificateError(#[source] webpki::Error);

/// The longest SPIFFE id and trust domain name, in bytes (SPIFFE-ID, sections 2.1 and 2.3).
const SPIFFE_MAX: usize = 2048;
const TRUST_DOMAIN_MAX: usize = 255;

impl Certificate {
    /// Reads `der`, which TLS has verified.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let wrapped = CertificateDer::from(der);
        let parsed = EndEntityCert::try_from(&wrapped).map_err(CertificateError)?;
        let mut thumbprint = Thumbprint([0; 32]);
        let digest = digest::digest(&digest::SHA256, der);
        thumbprint.0.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);

        // More than one URI is more than one name, and none of them counts (X509-SVID, section 2).
        let mut uris = parsed.valid_uri_names();
        let spiffe = match (uris.next(), uris.next()) {
            (Some(only), None) if is_spiffe(only) => Some(only.into()),
            (Some(_) | None, _) => None,
        };
        let names = parsed.valid_dns_names().map(Arc::from).collect();
        Ok(Self { thumbprint, spiffe, names })
    }
}

impl Identity {
    /// The holder of `certificate`, who shows nothing else: its SPIFFE id, or else its thumbprint.
    ///
    /// What such a caller may do, and whether anything, is for the roles to say.
    pub fn from_certificate(certificate: &Arc<Certificate>) -> Self {
        let principal = match &certificate.spiffe {
            Some(id) => Principal::from_spiffe(id),
            None => Principal::from_certificate(certificate.thumbprint),
        };
        Self {
            principal,
            proof: Proof::Certificate,
            certificate: Some(Arc::clone(certificate)),
            bound: None,
        }
    }

    /// The same caller on a connection with this client certificate.
    #[must_use]
    pub fn with_certificate(self, certificate: Option<Arc<Certificate>>) -> Self {
        Self { certificate, ..self }
    }
}

/// Whether `uri` is a SPIFFE id in its one spelling: no port, user, query, fragment or escape, and
/// a path of plain segments, so that a pattern over ids cannot be walked around.
fn is_spiffe(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("spiffe://").filter(|_| uri.len() <= SPIFFE_MAX) else {
        return false;
    };
    let (domain, path) = match rest.split_once('/') {
        Some((domain, path)) => (domain, Some(path)),
        None => (rest, None),
    };
    let in_domain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    let in_path = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let segment = |text: &str| !matches!(text, "" | "." | "..") && text.bytes().all(in_path);
    (1..=TRUST_DOMAIN_MAX).contains(&domain.len())
        && domain.bytes().all(in_domain)
        && path.is_none_or(|path| path.split('/').all(segment))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn a_certificate_is_known_by_thumbprint_spiffe_id_and_names() {
        let id = "spiffe://example.com/ns/pay/api";
        let der = certificate(&[uri(id), dns("pay.example.com"), dns("*.pay.example.com")]);

        let certificate = Certificate::from_der(&der).unwrap();

        let digest = digest::digest(&digest::SHA256, &der);
        assert_eq!(certificate.thumbprint.0, digest.as_ref());
        assert_eq!(certificate.spiffe.as_deref(), Some(id));
        assert_eq!(certificate.names.len(), 2);
        assert_eq!(&*certificate.names[0], "pay.example.com");
    }

    #[test]
    fn a_second_uri_takes_the_spiffe_id_away() {
        for others in [
            &["spiffe://example.com/a", "spiffe://example.com/b"][..],
            &["spiffe://example.com/a", "https://example.com/"],
            &["https://example.com/", "spiffe://example.com/a"],
            &["spiffe://example.com/a", "spiffe://example.com/a"],
            &["https://example.com/"],
            &[],
        ] {
            let names: Vec<_> =
                others.iter().map(|text| uri(text)).chain([dns("a.test")]).collect();

            let certificate = Certificate::from_der(&certificate(&names)).unwrap();

            assert_eq!(certificate.spiffe, None, "{others:?}");
        }
    }

    #[test]
    fn an_id_has_one_spelling_and_every_other_is_none() {
        for id in [
            "spiffe://example.com",
            "spiffe://example.com/ns/pay/api",
            "spiffe://my_domain-1.example/A.b_c-d/..a/b..",
            "spiffe://1/2",
        ] {
            assert!(is_spiffe(id), "{id}");
        }
        for id in [
            "",
            "spiffe://",
            "spiffe:///ns/pay",
            "SPIFFE://example.com/a",
            "spiffe:example.com/a",
            "spiffe://Example.com/a",
            "spiffe://example.com:443/a",
            "spiffe://user@example.com/a",
            "spiffe://[::1]/a",
            "spiffe://example.com/",
            "spiffe://example.com/a/",
            "spiffe://example.com//a",
            "spiffe://example.com/a//b",
            "spiffe://example.com/a/./b",
            "spiffe://example.com/a/../b",
            "spiffe://example.com/a/%2e%2e/b",
            "spiffe://example.com/a%2fb",
            "spiffe://example.com/a?b",
            "spiffe://example.com/a#b",
            "spiffe://example.com?b",
            "spiffe://example.com#b",
            "spiffe://example.com/a b",
            "spiffe://example.com/\u{e9}",
            "https://example.com/a",
        ] {
            assert!(!is_spiffe(id), "{id}");
        }
    }

    #[test]
    fn an_id_and_its_domain_have_a_longest_length() {
        let id = |length: usize| format!("spiffe://a/{}", "a".repeat(length - 11));
        let domain = |length: usize| format!("spiffe://{}/a", "a".repeat(length));

        assert!(is_spiffe(&id(2048)) && !is_spiffe(&id(2049)));
        assert!(is_spiffe(&domain(255)) && !is_spiffe(&domain(256)));
    }

    #[test]
    fn the_holder_is_called_by_the_spiffe_id_or_else_by_the_thumbprint() {
        let read =
            |names: &[SanType]| Arc::new(Certificate::from_der(&certificate(names)).unwrap());
        let (workload, other) = (read(&[uri("spiffe://example.com/a")]), read(&[dns("a.test")]));

        let known = Identity::from_certificate(&workload);
        let unknown = Identity::from_certificate(&other);

        assert_eq!(known.principal().as_str(), "spiffe://example.com/a");
        assert_eq!(unknown.principal().as_str(), format!("cert:{}", other.thumbprint));
        assert_eq!(known.certificate(), Some(&*workload));
        assert_eq!((known.proof(), known.bound()), (&Proof::Certificate, None));
        assert_eq!(known.with_certificate(None).certificate(), None);
    }

    #[test]
    fn what_is_no_certificate_is_refused_and_never_panics() {
        let der = certificate(&[uri("spiffe://example.com/a")]);
        for end in 0..der.len() {
            assert!(Certificate::from_der(&der[..end]).is_err(), "{end}");
        }
        for at in 0..der.len() {
            let mut changed = der.clone();
            changed[at] ^= 0xFF;
            drop(Certificate::from_der(&changed));
        }
    }

    proptest! {
        #[test]
        fn whatever_passes_for_an_id_is_plain(text in "(spiffe://)?[ -~]{0,40}") {
            if is_spiffe(&text) {
                let rest = text.strip_prefix("spiffe://").unwrap();
                prop_assert!(!rest.contains([':', '@', '?', '#', '%', ' ', '*']));
                prop_assert!(rest.split('/').all(|part| !matches!(part, "" | "." | "..") || part == rest));
            }
        }
    }

    fn certificate(names: &[SanType]) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }
}
