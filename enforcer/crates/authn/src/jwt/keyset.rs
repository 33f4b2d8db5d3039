//! The keys of an issuer: a JWK set (RFC 7517 section 5), or one configured secret.
//!
//! One bad entry does not take the others with it: it is skipped, and says why. A document that is
//! not one, or that is over a bound, is refused as a whole, so that whoever holds an earlier set can
//! keep it. Two different keys under one name are both skipped, because a token cannot say which it
//! means.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::error::JwtError;
use super::json::{self, Json, JsonError};
use super::key::{Key, SecretTooShort, Skipped};
use super::{Algorithm, Header};

/// The keys that an issuer's tokens can name.
#[derive(Clone, Debug)]
pub struct KeySet {
    named: HashMap<Arc<str>, Key>,
    skipped: Vec<(Box<str>, Skipped)>,
    /// The keys are one secret, and a token cannot choose another.
    secret: Option<Key>,
}

/// The document is not a key set, or more than is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not JSON with one meaning.
    #[error("the key set is no strict JSON object")]
    Json(#[source] JsonError),
    /// No `keys`, or not a list.
    #[error("the document has no list `keys`, so it is no key set (RFC 7517)")]
    NoKeys,
    /// Too many bytes.
    #[error("a key set of {found} bytes; at most {} are read", KeySet::DOCUMENT_MAX)]
    TooLong {
        /// How many there are.
        found: usize,
    },
    /// Too many entries.
    #[error("a key set of {found} entries; at most {} are taken", KeySet::KEYS_MAX)]
    TooMany {
        /// How many there are.
        found: usize,
    },
}

/// The entries of a document, as they are read.
#[derive(Default)]
struct Draft {
    named: HashMap<Arc<str>, Key>,
    /// Names that two different keys have.
    contested: HashSet<Arc<str>>,
    skipped: Vec<(Box<str>, Skipped)>,
}

impl KeySet {
    /// Bytes in a document.
    pub const DOCUMENT_MAX: usize = 8 << 20;
    /// Entries in a document. Ten thousand are served well; each takes less than two kilobytes.
    pub const KEYS_MAX: usize = 16_384;
    /// Values in a document: what its parsing may take in memory, whatever the bytes are.
    const VALUES_MAX: usize = Self::KEYS_MAX * 20;

    /// The usable keys of `document`.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        if document.len() > Self::DOCUMENT_MAX {
            return Err(KeySetError::TooLong { found: document.len() });
        }
        let table = json::object(document, Self::VALUES_MAX).map_err(KeySetError::Json)?;
        let Some(Json::List(entries)) = table.get("keys") else { return Err(KeySetError::NoKeys) };
        if entries.len() > Self::KEYS_MAX {
            return Err(KeySetError::TooMany { found: entries.len() });
        }
        let mut draft = Draft::default();
        for (number, entry) in entries.iter().enumerate() {
            match read(entry) {
                Ok(key) => draft.take(key),
                Err(reason) => draft.skipped.push((label(entry, number), reason)),
            }
        }
        Ok(Self { named: draft.named, skipped: draft.skipped, secret: None })
    }

    /// The one secret that the operator shares with an issuer; for HS256 and nothing else.
    pub fn of_secret(secret: &[u8]) -> Result<Self, SecretTooShort> {
        let secret = Some(Key::from_secret(secret)?);
        Ok(Self { named: HashMap::new(), skipped: Vec::new(), secret })
    }

    /// The key that a token with this header has to be signed with.
    ///
    /// The name is looked up as it is and means nothing else. A token without one is matched when
    /// there is exactly one key.
    pub fn find(&self, header: &Header) -> Result<&Key, JwtError> {
        let key = match (&self.secret, header.key_id()) {
            (Some(secret), _) => secret,
            (None, Some(kid)) => self
                .named
                .get(kid)
                .filter(|key| key.key_id() == Some(kid))
                .ok_or(JwtError::KeyUnknown)?,
            (None, None) => {
                let mut keys = self.named.values();
                match (keys.next(), keys.next()) {
                    (Some(only), None) => only,
                    (None | Some(_), _) => return Err(JwtError::KeyNotNamed),
                }
            }
        };
        let algorithm: Algorithm = header.algorithm();
        if key.algorithms().contains(algorithm) {
            Ok(key)
        } else {
            Err(JwtError::AlgorithmOfKey(algorithm))
        }
    }

    /// All usable keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.named.values().chain(&self.secret)
    }

    /// How many keys are usable.
    pub fn len(&self) -> usize {
        self.keys().count()
    }

    /// Whether no key is usable.
    pub fn is_empty(&self) -> bool {
        self.keys().next().is_none()
    }

    /// The entries that are not used: their `kid` or `#number` from 1, and why.
    pub fn skipped(&self) -> impl Iterator<Item = (&str, Skipped)> {
        self.skipped.iter().map(|(label, reason)| (&**label, *reason))
    }
}

fn read(entry: &Json<'_>) -> Result<Key, Skipped> {
    match entry {
        Json::Table(jwk) => Key::from_jwk(jwk),
        Json::Null | Json::Flag(_) | Json::Number(_) | Json::Text(_) | Json::List(_) => {
            Err(Skipped::NotAnObject)
        }
    }
}

impl Draft {
    /// The same key twice is one key; different keys of one name are none.
    fn take(&mut self, key: Key) {
        let name = Arc::clone(key.name());
        let mut skip = |times| {
            let skipped = (Box::from(&*name), Skipped::Duplicate);
            self.skipped.extend(std::iter::repeat_n(skipped, times));
        };
        if self.contested.contains(&name) {
            return skip(1);
        }
        match self.named.entry(Arc::clone(&name)) {
            Entry::Vacant(free) => {
                free.insert(key);
            }
            Entry::Occupied(other) if is_same(other.get(), &key) => {}
            Entry::Occupied(other) => {
                other.remove();
                skip(2);
                self.contested.insert(name);
            }
        }
    }
}

fn is_same(one: &Key, other: &Key) -> bool {
    one.thumbprint() == other.thumbprint()
        && one.algorithms() == other.algorithms()
        && one.key_id() == other.key_id()
}

fn label(entry: &Json<'_>, number: usize) -> Box<str> {
    let kid = match entry {
        Json::Table(jwk) => jwk.get("kid").and_then(Json::text),
        Json::Null | Json::Flag(_) | Json::Number(_) | Json::Text(_) | Json::List(_) => None,
    };
    kid.filter(|kid| kid.len() <= Key::KID_LENGTH_MAX)
        .map_or_else(|| format!("#{}", number + 1).into(), Box::from)
}
