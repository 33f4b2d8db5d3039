//! The certificates of one listener, and which of them a client gets to see.
//!
//! The one for just the name that the client asks for, else one with a wildcard for it, else the
//! first of the policy: clients that ask for no name, or by address, must be served as well. Of
//! several for one name (RSA beside ECDSA) the first that the client can verify.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use enforcer_model::{Clock, Timestamp};
use enforcer_policy::{CertificateFiles, Tls};
use ring::digest::{SHA256, digest};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::facts::{Facts, Names};
use super::ocsp::{self, Staple};
use super::{Held, HeldStaple, TlsError};

/// The certificates of one listener.
pub(crate) struct Shelf {
    all: Vec<Own>,
    exact: HashMap<Box<str>, Group>,
    /// By what stands behind `*.`.
    below: HashMap<Box<str>, Group>,
    default: Group,
    clock: Arc<dyn Clock>,
}

/// Places of certificates for one name.
type Group = Vec<usize>;

/// One certificate of ours.
struct Own {
    files: CertificateFiles,
    plain: Arc<CertifiedKey>,
    stapled: Option<(Arc<CertifiedKey>, Staple)>,
    /// Why there is no staple though the policy names a file.
    useless: Option<String>,
    facts: Facts,
    names: Names,
}

impl Shelf {
    /// Reads every certificate of `tls`.
    pub(super) fn read(
        listener: &Arc<str>,
        tls: &Tls,
        provider: &CryptoProvider,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let read = |files| Own::read(listener, files, provider);
        let all = tls.certificates.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let (mut exact, mut below) = (HashMap::new(), HashMap::new());
        for (place, own) in all.iter().enumerate() {
            for name in own.names.exact() {
                exact.entry(Box::from(name)).or_insert_with(Group::new).push(place);
            }
            for parent in own.names.below() {
                below.entry(Box::from(parent)).or_insert_with(Group::new).push(place);
            }
        }
        // With the first go those of another kind of key for the same name.
        let mut default: Group = vec![0];
        let first = all.first().and_then(|own| own.names.exact().min());
        let beside = first.and_then(|name| exact.get(name)).into_iter().flatten();
        default.extend(beside.filter(|place| **place != 0));
        Ok(Self { all, exact, below, default, clock: Arc::clone(clock) })
    }

    /// Those for `name`; the default ones, and that they are, when none is.
    fn group(&self, name: Option<&str>) -> (&Group, bool) {
        let found = name.and_then(|name| {
            let parent = || name.split_once('.').and_then(|(_, parent)| self.below.get(parent));
            self.exact.get(name).or_else(parent)
        });
        found.map_or((&self.default, false), |group| (group, true))
    }

    fn own(&self, group: &Group) -> impl Iterator<Item = &Own> {
        group.iter().filter_map(|place| self.all.get(*place))
    }

    /// Whether what a client gets to see who asks for `name` is for `host`.
    pub(super) fn shows(&self, name: Option<&str>, host: &str) -> bool {
        let (group, _) = self.group(name);
        self.own(group).all(|own| own.names.cover(host))
    }

    /// Whether one of them is for `host`.
    pub(super) fn covers(&self, host: &str) -> bool {
        self.group(Some(host)).1
    }

    /// What an operator is told of each.
    pub(super) fn held(&self, listener: &Arc<str>) -> impl Iterator<Item = Held> {
        let now = self.clock.now().wall;
        self.all.iter().enumerate().map(move |(place, own)| own.held(listener, place == 0, now))
    }

    /// What somebody should see to, in a sentence each.
    pub(super) fn warnings(&self, now: Timestamp) -> Vec<String> {
        self.all.iter().enumerate().flat_map(|(place, own)| own.warnings(place, now)).collect()
    }
}

impl ResolvesServerCert for Shelf {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (group, _) = self.group(hello.server_name());
        let mut own = self.own(group);
        let chosen = match group.as_slice() {
            [_] => own.next(),
            _ => {
                let verified =
                    |own: &&Own| own.plain.key.choose_scheme(hello.signature_schemes()).is_some();
                own.find(verified).or_else(|| self.own(group).next())
            }
        }?;
        Some(chosen.shown(self.clock.now().wall))
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|own| &own.files.certificate)).finish()
    }
}

impl Own {
    fn read(
        listener: &Arc<str>,
        files: &CertificateFiles,
        provider: &CryptoProvider,
    ) -> Result<Self, TlsError> {
        let file = &files.certificate;
        let unread = |source| TlsError::Certificate {
            listener: Arc::clone(listener),
            file: file.clone(),
            source,
        };
        let chain: Vec<_> =
            CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(unread)?;
        let Some(own) = chain.first() else { return Err(unread(pem::Error::NoItemsFound)) };
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| TlsError::Key {
            listener: Arc::clone(listener),
            file: files.key.clone(),
            source,
        })?;
        let pair =
            |source| TlsError::Pair { listener: Arc::clone(listener), file: file.clone(), source };
        let malformed = || pair(rustls::CertificateError::BadEncoding.into());
        let facts = Facts::read(own).ok_or_else(malformed)?;
        let names = Names::read(own).ok().ok_or_else(malformed)?;
        let plain = CertifiedKey::from_der(chain, key, provider).map_err(pair)?;
        let mut own = Self {
            files: files.clone(),
            plain: Arc::new(plain),
            stapled: None,
            useless: None,
            facts,
            names,
        };
        if let Some(file) = &files.ocsp {
            match own.staple(file) {
                Ok(staple) => {
                    let key = CertifiedKey {
                        ocsp: Some(staple.der.clone()),
                        ..CertifiedKey::clone(&own.plain)
                    };
                    own.stapled = Some((Arc::new(key), staple));
                }
                Err(why) => own.useless = Some(why),
            }
        }
        Ok(own)
    }

    /// What the authority says, as far as it can be stapled.
    fn staple(&self, file: &Path) -> Result<Staple, String> {
        let size = std::fs::metadata(file).map_err(|error| error.to_string())?.len();
        if size > ocsp::BYTES_MAX {
            return Err(format!("it has {size} bytes, more than {}", ocsp::BYTES_MAX));
        }
        let der = std::fs::read(file).map_err(|error| error.to_string())?;
        // Who vouches comes next in the chain, or is the certificate itself.
        let issuer = self.plain.cert.get(1).and_then(|issuer| Facts::read(issuer));
        let own = (self.facts.subject == self.facts.issuer).then_some(&self.facts);
        let key = issuer.as_ref().or(own).map(|issuer| &*issuer.public_key);
        ocsp::read(der, &self.facts, key).map_err(|useless| useless.to_string())
    }

    /// With its staple, as long as that counts.
    fn shown(&self, now: Timestamp) -> Arc<CertifiedKey> {
        let stapled = self.stapled.as_ref().filter(|(_, staple)| staple.counts(now));
        Arc::clone(stapled.map_or(&self.plain, |(key, _)| key))
    }

    fn held(&self, listener: &Arc<str>, default: bool, now: Timestamp) -> Held {
        let sha256 = self.plain.cert.first().map(|der| digest(&SHA256, der));
        let sha256 = sha256.as_ref().map(AsRef::as_ref).unwrap_or_default();
        Held {
            listener: Arc::clone(listener),
            default,
            file: self.files.certificate.clone(),
            names: self.names.all(),
            subject: self.facts.subject.clone(),
            issuer: self.facts.issuer.clone(),
            not_before: self.facts.from,
            not_after: self.facts.until,
            sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
            staple: self.files.ocsp.as_ref().map(|file| self.held_staple(file, now)),
        }
    }

    fn held_staple(&self, file: &Path, now: Timestamp) -> HeldStaple {
        let staple = self.stapled.as_ref().map(|(_, staple)| staple);
        HeldStaple {
            file: file.to_owned(),
            this_update: staple.map(|staple| staple.from),
            next_update: staple.and_then(|staple| staple.until),
            problem: match staple {
                Some(staple) => staple.problem(now),
                None => self.useless.clone(),
            },
        }
    }

    fn warnings(&self, place: usize, now: Timestamp) -> Vec<String> {
        let file = self.files.certificate.display();
        let mut warnings = Vec::new();
        if self.facts.until <= now {
            let until = self.facts.until;
            warnings.push(format!("the certificate in {file} has expired on {until}"));
        }
        if self.facts.from > now {
            let from = self.facts.from;
            warnings.push(format!("the certificate in {file} is not valid before {from}"));
        }
        if place > 0 && self.names.is_empty() {
            warnings.push(format!("the certificate in {file} is for no name: nobody gets it"));
        }
        if let Some(ocsp) = &self.files.ocsp
            && let Some(problem) = self.held_staple(ocsp, now).problem
        {
            warnings.push(format!("{} is not stapled: {problem}", ocsp.display()));
        }
        warnings
    }
}

impl Staple {
    fn counts(&self, now: Timestamp) -> bool {
        self.problem(now).is_none()
    }

    /// Why it does not count at `now`.
    fn problem(&self, now: Timestamp) -> Option<String> {
        match self.until {
            _ if self.from > now => Some(format!("it is not valid before {}", self.from)),
            Some(until) if until <= now => Some(format!("it has expired on {until}")),
            Some(_) | None => None,
        }
    }
}
