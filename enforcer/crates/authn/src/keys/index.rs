//! The keys in memory: what a request is compared with.
//!
//! Readers load one pointer and never wait, neither for each other nor for a change. A change builds
//! a new table and swaps the pointer, so it is in force on every thread when the swap returns. The
//! only thing a request writes is when and from where a secret was used.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use enforcer_model::{KeyId, Moment, Rejection, Source, Thumbprint, Timestamp};
use ring::digest;
use subtle::ConstantTimeEq as _;

use super::entry::{Entry, Secret};
use super::notices::{NoticeMark, due};
use super::pepper::{Mac, Pepper, PepperVersion};
use super::plan::{KeyPlan, KeyPrefix};
use super::record::{KeyRecord, SecretForm};
use super::refused::Refused;
use super::rows::StoredKey;
use super::token::Token;
use super::uses::LastUse;
use crate::{Identity, KeyFacts, Presented, Proof};

/// All keys, shared by all threads. Only [`crate::KeyStore`] changes them.
#[derive(Clone)]
pub struct ApiKeys(Arc<Index>);

struct Index {
    table: ArcSwap<Table>,
    pepper: Pepper,
    /// Compared with when an id is unknown, so that this costs what a known one costs.
    nobody: Mac,
}

#[derive(Clone)]
struct Table {
    keys: HashMap<KeyId, Arc<Entry>>,
    /// Which key an imported secret belongs to. What is looked up here is an HMAC, which nobody can
    /// choose without the pepper, so the time of a look-up tells nothing.
    imported: HashMap<Mac, KeyId>,
    /// What new keys begin with.
    prefix: KeyPrefix,
    /// What keys begin with: `enf`, the policy's prefix, and those of keys that there are.
    prefixes: Vec<KeyPrefix>,
    /// The versions that some secret is stored under; each costs every check one HMAC.
    peppers: Vec<PepperVersion>,
}

impl ApiKeys {
    /// Bytes in the longest secret that can be imported.
    pub const IMPORTED_LENGTH_MAX: usize = 256;

    /// Whose key was `presented`, from `source`, over a connection with this client certificate, at
    /// `now`.
    ///
    /// Whether a key is revoked, over, too early, far from home or without its certificate is said
    /// only about a key whose secret was right; all else is [`enforcer_model::Reason::KeyUnknown`]
    /// or [`enforcer_model::Reason::KeyMalformed`].
    pub fn identify(
        &self,
        presented: &Presented,
        source: Source,
        certificate: Option<Thumbprint>,
        now: Moment,
    ) -> Result<Identity, Rejection> {
        self.check(presented.as_bytes(), source, certificate, now.wall).map_err(Rejection::from)
    }

    /// Whether `credential` is for this index to judge and for nobody else: it begins as a key does,
    /// well-formed or not, or was imported. Three parts between two dots are a token and no key.
    pub fn looks_like_key(&self, credential: &[u8]) -> bool {
        let table = self.0.table.load();
        let is_three_parts = || credential.iter().filter(|byte| **byte == b'.').count() == 2;
        Token::begins(credential, &table.prefixes)
            || (!is_three_parts() && self.imported(&table, credential).is_some())
    }

    /// Whether nothing about the key has changed since [`Self::identify`] found `facts`. Where
    /// something has, whoever holds them asks again.
    pub fn is_current(&self, facts: &Arc<KeyFacts>) -> bool {
        let table = self.0.table.load();
        let Some(entry) = table.keys.get(&facts.id) else { return false };
        let known = |secret: &Secret| match secret.identity.proof() {
            Proof::Key(known) => Arc::ptr_eq(known, facts),
            Proof::Certificate | Proof::Token(_) => false,
        };
        entry.revoked.is_none() && entry.secrets.iter().flatten().any(known)
    }

    fn check(
        &self,
        text: &[u8],
        source: Source,
        certificate: Option<Thumbprint>,
        now: Timestamp,
    ) -> Result<Identity, Refused> {
        let table = self.0.table.load();
        let (entry, secret) = match Token::parse_with(text, &table.prefixes) {
            Ok(token) => self.own(&table, &token)?,
            Err(error) if Token::begins(text, &table.prefixes) => {
                return Err(Refused::Malformed(error));
            }
            Err(error) if table.imported.is_empty() || text.len() > Self::IMPORTED_LENGTH_MAX => {
                return Err(Refused::Malformed(error));
            }
            Err(_) => self.imported(&table, text).ok_or(Refused::UnknownHash)?,
        };
        entry.admit(secret, source, certificate, now)?;
        secret.uses.note(now, source.address());
        Ok(secret.identity.clone())
    }

    /// The key and the secret that `token` is. Known or unknown, first or second secret: it takes
    /// one HMAC for each pepper and two comparisons, each as long as the others.
    fn own<'t>(
        &self,
        table: &'t Table,
        token: &Token<'_>,
    ) -> Result<(&'t Entry, &'t Secret), Refused> {
        let id = token.id();
        let entry = table.keys.get(&id).map(|entry| &**entry);
        let secrets =
            entry.map_or([None, None], |entry| entry.secrets.each_ref().map(Option::as_ref));
        let mut right = None;
        for version in &table.peppers {
            let mac = self.0.pepper.mac(*version, token.secret()).unwrap_or(self.0.nobody);
            for secret in secrets {
                let known = secret.map_or(&self.0.nobody, |secret| &secret.mac);
                let same = bool::from(mac.ct_eq(known));
                right = right.or(secret.filter(|secret| same && secret.pepper == *version));
            }
        }
        let Some(entry) = entry else { return Err(Refused::Unknown { id }) };
        right
            .filter(|secret| secret.form == SecretForm::Own && secret.prefix == token.prefix())
            .filter(|_| entry.environment == token.environment())
            .map(|secret| (entry, secret))
            .ok_or(Refused::WrongSecret { id })
    }

    /// The key and the secret that was imported as the SHA-256 of `text`.
    fn imported<'t>(&self, table: &'t Table, text: &[u8]) -> Option<(&'t Entry, &'t Secret)> {
        if table.imported.is_empty() || text.len() > Self::IMPORTED_LENGTH_MAX {
            return None;
        }
        let hash = digest::digest(&digest::SHA256, text);
        table.peppers.iter().find_map(|version| {
            let mac = self.0.pepper.mac(*version, hash.as_ref())?;
            let entry = table.keys.get(table.imported.get(&mac)?)?;
            let secret = entry.secrets.iter().flatten().find(|secret| secret.mac == mac)?;
            Some((&**entry, secret))
        })
    }

    pub(super) fn new(pepper: Pepper, nobody: Mac, keys: &[StoredKey]) -> Self {
        let mut table = Table {
            keys: HashMap::new(),
            imported: HashMap::new(),
            prefix: KeyPrefix::ENF,
            prefixes: Vec::new(),
            peppers: Vec::new(),
        };
        keys.iter().for_each(|key| table.put(key));
        table.settle(&pepper);
        Self(Arc::new(Index { table: ArcSwap::from_pointee(table), pepper, nobody }))
    }

    pub(super) fn pepper(&self) -> &Pepper {
        &self.0.pepper
    }

    pub(super) fn prefix(&self) -> KeyPrefix {
        self.0.table.load().prefix
    }

    pub(super) fn len(&self) -> usize {
        self.0.table.load().keys.len()
    }

    pub(super) fn contains(&self, id: KeyId) -> bool {
        self.0.table.load().keys.contains_key(&id)
    }

    /// Whether a secret with this SHA-256 was imported.
    pub(super) fn knows_hash(&self, hash: &[u8; digest::SHA256_OUTPUT_LEN]) -> bool {
        let table = self.0.table.load();
        let macs = table.peppers.iter().filter_map(|version| self.0.pepper.mac(*version, hash));
        macs.into_iter().any(|mac| table.imported.contains_key(&mac))
    }

    /// The notices that are due about keys that are not revoked, as far as `is_fresh` admits them.
    pub(super) fn due_notices(
        &self,
        plan: &KeyPlan,
        now: Timestamp,
        is_fresh: impl Fn(&NoticeMark) -> bool,
    ) -> Vec<NoticeMark> {
        let table = self.0.table.load();
        let alive = table.keys.values().filter(|entry| entry.revoked.is_none());
        let due =
            alive.filter_map(|entry| entry.ending()).flat_map(|ending| due(&ending, plan, now));
        due.filter(is_fresh).collect()
    }

    /// Puts keys in force as they are stored. Called by the one owner of the store only, as is
    /// everything that changes, so no change is lost.
    pub(super) fn put(&self, keys: &[StoredKey]) {
        self.change(|table| keys.iter().for_each(|key| table.put(key)));
    }

    /// Refuses a key from here on.
    pub(super) fn revoke(&self, id: KeyId, at: Timestamp) {
        self.change(|table| {
            if let Some(entry) = table.keys.get_mut(&id) {
                Arc::make_mut(entry).revoked.get_or_insert(at);
            }
        });
    }

    /// Accepts what begins with `prefix` as a key.
    pub(super) fn accept_prefix(&self, prefix: KeyPrefix) {
        self.change(|table| table.prefix = prefix);
    }

    /// Fills in the last uses, which memory knows better than the disk.
    pub(super) fn tell_uses(&self, record: &mut KeyRecord) {
        let table = self.0.table.load();
        let Some(entry) = table.keys.get(&record.id) else { return };
        for secret in &mut record.secrets {
            if let Some(known) = entry.secret(secret.number) {
                secret.used = known.uses.last();
            }
        }
    }

    /// At most `most` uses that were not asked for yet.
    pub(super) fn take_unwritten_uses(&self, most: usize) -> Vec<UnwrittenUse> {
        let table = self.0.table.load();
        let secrets = table
            .keys
            .values()
            .flat_map(|entry| entry.secrets.iter().flatten().map(move |secret| (entry.id, secret)));
        let unwritten = secrets.filter(|(_, secret)| secret.uses.take_unwritten());
        let uses = unwritten.filter_map(|(key, secret)| {
            Some(UnwrittenUse { key, number: secret.number, last: secret.uses.last()? })
        });
        uses.take(most).collect()
    }

    /// What was taken could not be written, and is due again.
    pub(super) fn put_back(&self, uses: &[UnwrittenUse]) {
        let table = self.0.table.load();
        for unwritten in uses {
            let entry = table.keys.get(&unwritten.key);
            if let Some(secret) = entry.and_then(|entry| entry.secret(unwritten.number)) {
                secret.uses.still_unwritten();
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Table)) {
        let mut table = Table::clone(&self.0.table.load());
        change(&mut table);
        table.settle(&self.0.pepper);
        self.0.table.store(Arc::new(table));
    }
}

/// A use that the disk does not know.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnwrittenUse {
    pub(super) key: KeyId,
    pub(super) number: u32,
    pub(super) last: LastUse,
}

impl Table {
    fn put(&mut self, key: &StoredKey) {
        let before = self.keys.get(&key.record.id);
        let entry = Arc::new(Entry::new(key, before.map(|before| &**before)));
        for secret in before.iter().flat_map(|before| before.secrets.iter().flatten()) {
            self.imported.remove(&secret.mac);
        }
        for secret in entry.secrets.iter().flatten() {
            if secret.form == SecretForm::Imported {
                self.imported.insert(secret.mac, entry.id);
            }
        }
        self.keys.insert(entry.id, entry);
    }

    /// Brings up to date what follows from the keys.
    fn settle(&mut self, pepper: &Pepper) {
        let secrets = || self.keys.values().flat_map(|entry| entry.secrets.iter().flatten());
        let peppers: BTreeSet<_> = secrets().map(|secret| secret.pepper).collect();
        let own = secrets().filter(|secret| secret.form == SecretForm::Own);
        let mut prefixes = vec![KeyPrefix::ENF];
        for prefix in std::iter::once(self.prefix).chain(own.map(|secret| secret.prefix)) {
            if !prefixes.contains(&prefix) {
                prefixes.push(prefix);
            }
        }
        self.prefixes = prefixes;
        self.peppers = peppers.into_iter().collect();
        if self.peppers.is_empty() {
            self.peppers.push(pepper.current());
        }
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({} keys)", self.len())
    }
}
