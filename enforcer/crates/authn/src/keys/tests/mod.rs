//! The promises of the crate about keys, from their issue to their end.

mod files;
mod import;
mod life;
mod notices;
mod rotation;
mod upgrade;

use std::path::{Path, PathBuf};

use enforcer_model::{Clock, Moment, Prefix, Rejection, Role, Source, SystemClock, Thumbprint};
use enforcer_model::{KeyId, Timestamp};
use http::{HeaderMap, HeaderValue};
use tempfile::TempDir;

use crate::{ApiKeys, Identity, IssuedKey, KeyRecord, KeyStore, NewKey, Pepper, Presented};
use crate::{Proof, StoreError};

const NOW: u64 = 1_800_000_000;

/// A state directory with an open store.
#[derive(Debug)]
struct Home {
    store: KeyStore,
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        Self::try_open(TempDir::new().unwrap()).unwrap()
    }

    fn try_open(folder: TempDir) -> Result<Self, StoreError> {
        let pepper = Pepper::load_or_create(&state(&folder).join("pepper")).unwrap();
        let store = KeyStore::open(&state(&folder).join("keys.db"), pepper)?;
        Ok(Self { store, folder })
    }

    /// The error of an opening, the folder left as it is.
    fn try_open_kept(folder: &TempDir) -> Result<KeyStore, StoreError> {
        let pepper = Pepper::load_or_create(&state(folder).join("pepper")).unwrap();
        KeyStore::open(&state(folder).join("keys.db"), pepper)
    }

    fn close(self) -> TempDir {
        let Self { store, folder } = self;
        drop(store);
        folder
    }

    fn restart(self) -> Self {
        Self::try_open(self.close()).unwrap()
    }

    fn directory(&self) -> PathBuf {
        state(&self.folder)
    }

    fn database(&self) -> PathBuf {
        self.directory().join("keys.db")
    }

    fn pepper(&self) -> Pepper {
        Pepper::load_or_create(&self.directory().join("pepper")).unwrap()
    }

    fn keys(&self) -> ApiKeys {
        self.store.index()
    }

    fn issue(&mut self, change: impl FnOnce(&mut NewKey)) -> (KeyRecord, IssuedKey) {
        self.try_issue(change).unwrap()
    }

    fn try_issue(
        &mut self,
        change: impl FnOnce(&mut NewKey),
    ) -> Result<(KeyRecord, IssuedKey), StoreError> {
        let count = self.store.list().unwrap().len();
        let mut new = NewKey { name: format!("key {count}"), ..new_key() };
        change(&mut new);
        self.store.issue(new, now())
    }

    fn identify(&self, key: &str) -> Result<Identity, Rejection> {
        identify(&self.keys(), key, "192.0.2.1", NOW)
    }
}

fn pragma(home: &Home, sql: &str) -> i64 {
    home.store.connection().query_row(&format!("PRAGMA {sql}"), [], |row| row.get(0)).unwrap()
}

fn identify(keys: &ApiKeys, key: &str, from: &str, at: u64) -> Result<Identity, Rejection> {
    identify_with(keys, key, from, None, at)
}

fn identify_with(
    keys: &ApiKeys,
    key: &str,
    from: &str,
    certificate: Option<Thumbprint>,
    at: u64,
) -> Result<Identity, Rejection> {
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", HeaderValue::from_str(key).unwrap());
    let presented = Presented::from_headers(&headers)?.unwrap();
    let now = Moment { wall: Timestamp::from_unix_seconds(at), ..SystemClock.now() };
    keys.identify(&presented, Source::new(from.parse().unwrap()), certificate, now)
}

/// `text` with the checksum that its first 65 bytes ask for, as any attacker can compute it.
fn with_checksum(text: &str) -> String {
    let covered = text.get(..65).unwrap();
    let checksum = super::token::checksum_of(covered.as_bytes());
    covered.chars().chain(checksum.map(char::from)).collect()
}

fn new_key() -> NewKey {
    NewKey { name: "test".into(), roles: roles(&["reader"]), ..NewKey::default() }
}

fn roles(names: &[&str]) -> Vec<Role> {
    names.iter().map(|name| Role::new(name)).collect()
}

fn networks(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn id() -> KeyId {
    "k7Qx2mP9aB3c".parse().unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(NOW)
}

fn state(folder: &TempDir) -> PathBuf {
    Path::join(folder.path(), "state")
}

fn roles_of(who: &Identity) -> Vec<Role> {
    match who.proof() {
        Proof::Key(key) => key.roles.to_vec(),
        Proof::Certificate | Proof::Token(_) => Vec::new(),
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds)
}
