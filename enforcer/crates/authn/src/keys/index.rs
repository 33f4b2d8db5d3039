//! The keys in memory: what a request is compared with.
//!
//! Readers load one pointer and never wait, neither for each other nor for a change. A change builds
//! a new map and swaps the pointer, so it is in force on every thread when the swap returns.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use enforcer_model::Timestamp;
use enforcer_model::{KeyId, Moment, Prefix, Principal, Reason, Rejection, Source};

use super::store::{Mac, Pepper};
use crate::identity::{KeyFacts, Proof};
use crate::{Environment, Identity, KeyRecord, Presented, Token, TokenError};

/// All keys, shared by all threads. Only [`crate::KeyStore`] changes them.
#[derive(Clone)]
pub struct ApiKeys(Arc<Index>);

struct Index {
    keys: ArcSwap<HashMap<KeyId, Entry>>,
    pepper: Pepper,
    /// Compared with when an id is unknown, so that this costs what a known one costs.
    nobody: Mac,
}

#[derive(Clone)]
struct Entry {
    identity: Identity,
    environment: Environment,
    mac: Mac,
    networks: Arc<[Prefix]>,
    not_before: Option<Timestamp>,
    expires: Option<Timestamp>,
    revoked: Option<Timestamp>,
}

/// Why a credential was not accepted, for the audit record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its time is over.
    #[error("key {id} expired at {at}")]
    Expired {
        /// Which key.
        id: KeyId,
        /// When.
        at: Timestamp,
    },
    /// Not an API key.
    #[error(transparent)]
    Malformed(TokenError),
    /// Its time has not come.
    #[error("key {id} is not valid before {from}")]
    NotYetValid {
        /// Which key.
        id: KeyId,
        /// From when on.
        from: Timestamp,
    },
    /// It was revoked.
    #[error("key {id} was revoked at {at}")]
    Revoked {
        /// Which key.
        id: KeyId,
        /// When.
        at: Timestamp,
    },
    /// No key has this id.
    #[error("no key has the id {id}")]
    Unknown {
        /// The id that was sent.
        id: KeyId,
    },
    /// It may not be used from there.
    #[error("key {id} may not be used from {from}")]
    WrongNetwork {
        /// Which key.
        id: KeyId,
        /// From where it was used.
        from: Source,
    },
    /// The key exists; the caller does not have it.
    #[error("the secret sent for key {id} is wrong")]
    WrongSecret {
        /// Which key.
        id: KeyId,
    },
}

impl ApiKeys {
    /// Whose key was `presented`, from `source` at `now`.
    ///
    /// Whether a key is revoked, over, too early or far from home is said only about a key whose
    /// secret was right; all else is [`Reason::KeyUnknown`] or [`Reason::KeyMalformed`].
    pub fn identify(
        &self,
        presented: &Presented,
        source: Source,
        now: Moment,
    ) -> Result<Identity, Rejection> {
        self.check(presented, source, now.wall).map_err(Rejection::from)
    }

    fn check(
        &self,
        presented: &Presented,
        source: Source,
        now: Timestamp,
    ) -> Result<Identity, Refused> {
        let token = Token::parse(presented.as_bytes()).map_err(Refused::Malformed)?;
        let id = token.id();
        let keys = self.0.keys.load();
        let entry = keys.get(&id);

        let mac = entry.map_or(&self.0.nobody, |entry| &entry.mac);
        let right = self.0.pepper.verify(token.secret(), mac);
        let Some(entry) = entry else { return Err(Refused::Unknown { id }) };
        if !right || entry.environment != token.environment() {
            return Err(Refused::WrongSecret { id });
        }

        if let Some(at) = entry.revoked {
            return Err(Refused::Revoked { id, at });
        }
        if let Some(at) = entry.expires.filter(|&end| end <= now) {
            return Err(Refused::Expired { id, at });
        }
        if let Some(from) = entry.not_before.filter(|&start| now < start) {
            return Err(Refused::NotYetValid { id, from });
        }
        let inside = |network: &Prefix| network.contains(source.address());
        if !entry.networks.is_empty() && !entry.networks.iter().any(inside) {
            return Err(Refused::WrongNetwork { id, from: source });
        }
        Ok(entry.identity.clone())
    }

    pub(crate) fn new(pepper: Pepper, nobody: Mac, keys: &[(KeyRecord, Mac)]) -> Self {
        let keys = keys.iter().map(|(record, mac)| (record.id, Entry::new(record, *mac)));
        let keys = ArcSwap::from_pointee(keys.collect());
        Self(Arc::new(Index { keys, pepper, nobody }))
    }

    pub(crate) fn pepper(&self) -> &Pepper {
        &self.0.pepper
    }

    pub(crate) fn len(&self) -> usize {
        self.0.keys.load().len()
    }

    pub(crate) fn contains(&self, id: KeyId) -> bool {
        self.0.keys.load().contains_key(&id)
    }

    /// Puts a new key in force. Called by the one owner of the store only, so no change is lost.
    pub(crate) fn insert(&self, record: &KeyRecord, mac: Mac) {
        let mut keys = HashMap::clone(&self.0.keys.load());
        keys.insert(record.id, Entry::new(record, mac));
        self.0.keys.store(Arc::new(keys));
    }

    /// Refuses a key from here on. Called by the one owner of the store only.
    pub(crate) fn revoke(&self, id: KeyId, at: Timestamp) {
        let mut keys = HashMap::clone(&self.0.keys.load());
        if let Some(entry) = keys.get_mut(&id) {
            entry.revoked.get_or_insert(at);
        }
        self.0.keys.store(Arc::new(keys));
    }
}

impl Entry {
    fn new(record: &KeyRecord, mac: Mac) -> Self {
        let facts = KeyFacts {
            id: record.id,
            name: record.name.as_str().into(),
            owner: None,
            application: None,
            roles: record.roles.clone().into(),
            scopes: Box::default(),
            routes: Box::default(),
            limits: Box::default(),
            expires: record.expires,
            retires: None,
        };
        let principal = Principal::from_key(record.id);
        let proof = Proof::Key(Arc::new(facts));
        Self {
            identity: Identity { principal, proof, certificate: None, bound: None },
            environment: record.environment,
            mac,
            networks: record.networks.clone().into(),
            not_before: record.not_before,
            expires: record.expires,
            revoked: record.revoked.as_ref().map(|revocation| revocation.at),
        }
    }
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        let reason = match refused {
            Refused::Expired { .. } => Reason::KeyExpired,
            Refused::Malformed(_) => Reason::KeyMalformed,
            Refused::NotYetValid { .. } => Reason::KeyNotYetValid,
            Refused::Revoked { .. } => Reason::KeyRevoked,
            Refused::Unknown { .. } | Refused::WrongSecret { .. } => Reason::KeyUnknown,
            Refused::WrongNetwork { .. } => Reason::KeyWrongNetwork,
        };
        reason.because(refused)
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({} keys)", self.len())
    }
}
