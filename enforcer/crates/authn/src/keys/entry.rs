//! One key in memory: all that a request is compared with, and all that it may know of the key.

use std::sync::Arc;

use enforcer_model::{KeyId, Prefix, Principal, Source, Thumbprint, Timestamp};

use super::notices::Ending;
use super::pepper::{Mac, PepperVersion};
use super::plan::KeyPrefix;
use super::record::{Environment, KeyRecord, SecretForm, SecretRecord};
use super::refused::Refused;
use super::rows::StoredKey;
use super::uses::Uses;
use crate::Identity;
use crate::identity::{KeyFacts, Proof};

/// A key; never changed, only replaced.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) id: KeyId,
    pub(super) environment: Environment,
    networks: Arc<[Prefix]>,
    certificate: Option<Thumbprint>,
    not_before: Option<Timestamp>,
    expires: Option<Timestamp>,
    pub(super) revoked: Option<Timestamp>,
    pub(super) secrets: [Option<Secret>; 2],
}

/// One of its secrets.
#[derive(Clone)]
pub(super) struct Secret {
    /// What a request gets that came with it.
    pub(super) identity: Identity,
    pub(super) number: u32,
    pub(super) form: SecretForm,
    pub(super) prefix: KeyPrefix,
    pub(super) pepper: PepperVersion,
    pub(super) mac: Mac,
    created: Timestamp,
    ends: Option<Timestamp>,
    pub(super) uses: Arc<Uses>,
}

impl Entry {
    /// The entry of a stored key, which goes on counting uses where `before` stopped.
    pub(super) fn new(key: &StoredKey, before: Option<&Self>) -> Self {
        let StoredKey { record, macs } = key;
        let newest = record.newest();
        let mut secrets = record.secrets.iter().zip(macs).map(|(secret, mac)| {
            let known = before.and_then(|before| before.secret(secret.number));
            let uses = match known {
                Some(known) => Arc::clone(&known.uses),
                None => Arc::new(Uses::of(secret.used)),
            };
            Secret {
                identity: identity(record, secret, newest),
                number: secret.number,
                form: secret.form,
                prefix: secret.prefix,
                pepper: PepperVersion(secret.pepper),
                mac: *mac,
                created: secret.created,
                ends: secret.ends,
                uses,
            }
        });
        Self {
            id: record.id,
            environment: record.environment,
            networks: record.networks.clone().into(),
            certificate: record.certificate,
            not_before: record.not_before,
            expires: record.expires,
            // A revocation that the disk refused holds on.
            revoked: match before.and_then(|before| before.revoked) {
                Some(at) => Some(at),
                None => record.revoked.as_ref().map(|revocation| revocation.at),
            },
            secrets: [secrets.next(), secrets.next()],
        }
    }

    pub(super) fn secret(&self, number: u32) -> Option<&Secret> {
        self.secrets.iter().flatten().find(|secret| secret.number == number)
    }

    /// What notices depend on.
    pub(super) fn ending(&self) -> Option<Ending> {
        let newest = self.secrets.iter().flatten().max_by_key(|secret| secret.number)?;
        Some(Ending { key: self.id, expires: self.expires, renewed: newest.created })
    }

    /// Whether the key, with a secret that was right, is good for this connection at `now`.
    pub(super) fn admit(
        &self,
        secret: &Secret,
        source: Source,
        certificate: Option<Thumbprint>,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let id = self.id;
        if let Some(at) = self.revoked {
            return Err(Refused::Revoked { id, at });
        }
        if let Some(at) = secret.ends.filter(|&end| end <= now) {
            return Err(Refused::Replaced { id, at });
        }
        if let Some(at) = self.expires.filter(|&end| end <= now) {
            return Err(Refused::Expired { id, at });
        }
        if let Some(from) = self.not_before.filter(|&start| now < start) {
            return Err(Refused::NotYetValid { id, from });
        }
        let inside = |network: &Prefix| network.contains(source.address());
        if !self.networks.is_empty() && !self.networks.iter().any(inside) {
            return Err(Refused::WrongNetwork { id, from: source });
        }
        if self.certificate.is_some() && self.certificate != certificate {
            return Err(Refused::WrongCertificate { id });
        }
        Ok(())
    }
}

/// Who comes with `secret`. The older of two is told until when it is good and since when there is
/// a newer one.
fn identity(record: &KeyRecord, secret: &SecretRecord, newest: Option<&SecretRecord>) -> Identity {
    let shared = |text: &Option<String>| text.as_deref().map(Arc::from);
    let all = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
    let newer = newest.filter(|newest| newest.number > secret.number);
    let facts = KeyFacts {
        id: record.id,
        name: record.name.as_str().into(),
        owner: shared(&record.owner),
        application: shared(&record.application),
        roles: record.roles.clone().into(),
        scopes: all(&record.scopes),
        routes: all(&record.routes),
        limits: all(&record.limits),
        expires: record.expires,
        retires: newer.and(secret.ends),
        renewed: newer.map(|newer| newer.created),
    };
    Identity {
        principal: Principal::from_key(record.id),
        proof: Proof::Key(Arc::new(facts)),
        certificate: None,
        bound: None,
    }
}
