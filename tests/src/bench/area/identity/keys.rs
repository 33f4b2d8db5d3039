//! The check of a good API key among 10,000.

use std::hint::black_box;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use enforcer_authn::{ApiKeys, KeyStore, NewKey, Pepper, Presented};
use enforcer_model::{Clock, Moment, Role, Source, SystemClock};
use ring::hmac;
use tempfile::TempDir;

use super::super::super::{Effort, Row, Target};
use super::{each, shuffled, versus, world};
use crate::oracle::Random;

const KEYS: usize = 10_000;
const MOST: f64 = 1_000.0;

/// A store with its keys, and how each is presented.
pub(super) struct Keys {
    pub(super) index: ApiKeys,
    /// In random order, with the number of the key's role.
    pub(super) issued: Vec<(usize, String)>,
    pub(super) folder: TempDir,
    pub(super) now: Moment,
    _store: KeyStore,
}

impl Keys {
    /// Issues all keys, in memory where there is a file system of that kind: a disk has no say in
    /// what is measured.
    pub(super) fn issue() -> Result<Self> {
        let folder = folder()?;
        let now = SystemClock.now();
        let pepper = Pepper::load_or_create(&folder.path().join("pepper"))?;
        let mut store = KeyStore::open(&folder.path().join("keys.db"), pepper)?;
        let mut issued = Vec::with_capacity(KEYS);
        for n in 0..KEYS {
            let role = n % world::ROLES;
            let new = NewKey {
                name: format!("key {n}"),
                owner: Some("payments".to_owned()),
                application: Some(format!("app-{}", n % 500)),
                roles: vec![Role::new(&format!("role{role:02}"))],
                ..NewKey::default()
            };
            let (_, key) = store.issue(new, now.wall)?;
            issued.push((role, key.expose().to_owned()));
        }
        let order = shuffled(KEYS, &mut Random::new(0x6e15));
        let issued = order.into_iter().map(|n| issued[n].clone()).collect();
        Ok(Self { index: store.index(), issued, folder, now, _store: store })
    }
}

/// A private folder that is not on a disk, if there can be one.
pub(super) fn folder() -> Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    folder.context("a folder for the stores")
}

pub(super) fn measure(keys: &Keys, effort: Effort) -> Result<Vec<Row>> {
    let presented: Vec<Presented> =
        keys.issued.iter().map(|(_, key)| Presented::bearer(key.as_bytes())).collect();
    let source = Source::new([198, 51, 100, 7].into());
    let good =
        presented.iter().filter(|key| keys.index.identify(key, source, None, keys.now).is_ok());
    ensure!(good.count() == KEYS, "a good key is refused");
    let pepper = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
    let row = versus(
        "API key check, 10,000 keys",
        "one HMAC of 43 bytes, ring alone",
        effort,
        || {
            each(KEYS, |n| {
                let who = keys.index.identify(&presented[n], source, None, keys.now);
                Ok(black_box(who).is_ok())
            })
        },
        || {
            each(KEYS, |n| {
                let secret = presented[n].as_bytes().get(..43).context("a short key")?;
                Ok(black_box(hmac::sign(&pepper, secret)).as_ref()[0] == 0)
            })
        },
    )?;
    Ok(vec![row.target(Target::AtMost(MOST))])
}
