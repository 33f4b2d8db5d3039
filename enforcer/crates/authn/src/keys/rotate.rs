//! A new secret for a key that stays who it is: id, roles, quota and history do not change.
//!
//! The new secret is accepted before it is shown, and the old one until its grace is over, so a
//! caller that changes from one to the other at any time between is never refused. There are never
//! three: a caller that has not changed yet would lose a secret that nobody thinks of any more.

use std::time::Duration;

use enforcer_model::Timestamp;

use super::error::StoreError;
use super::record::{KeyRecord, KeyState, SecretRecord};
use super::rows;
use super::schema;
use super::store::{KeyStore, own_secret};
use super::token::IssuedKey;

impl KeyStore {
    /// What [`KeyStore::rotate`] would refuse, if it would.
    pub fn check_rotation(
        &self,
        id_or_name: &str,
        now: Timestamp,
    ) -> Result<KeyRecord, StoreError> {
        let record = self.show(id_or_name)?;
        let id = record.id;
        match record.state(now) {
            state @ (KeyState::Expired | KeyState::Revoked) => Err(StoreError::Ended { id, state }),
            KeyState::Active | KeyState::NotYetValid => {
                match record.retiring(now).and_then(|secret| secret.ends) {
                    Some(ends) => Err(StoreError::RotationUnderWay { id, ends }),
                    None => Ok(record),
                }
            }
        }
    }

    /// Gives the key another secret, which is in the answer and nowhere else. The one before it is
    /// accepted for `grace` more.
    pub fn rotate(
        &mut self,
        id_or_name: &str,
        grace: Duration,
        now: Timestamp,
    ) -> Result<(KeyRecord, IssuedKey), StoreError> {
        let id = self.check_rotation(id_or_name, now)?.id;
        // A use that is not written yet would be forgotten with the rows that are written here.
        self.flush_uses()?;
        let mut stored = self.stored(id)?;
        let (index, prefix) = (self.index.clone(), self.index.prefix());

        let newest = stored.record.newest().map(|secret| secret.number);
        let newest = newest.ok_or_else(|| StoreError::NoSuchKey(id.to_string()))?;
        let kept = stored.record.secrets.iter().position(|secret| secret.number == newest);
        if let Some(kept) = kept {
            stored.record.secrets.swap(0, kept);
            stored.record.secrets.truncate(1);
            stored.macs.swap(0, kept);
            stored.macs.truncate(1);
        }
        let ends = now.saturating_add(grace);
        stored.record.secrets.iter_mut().for_each(|secret| secret.ends = Some(ends));

        let environment = stored.record.environment;
        let key = IssuedKey::with_fresh_secret(id, prefix, environment, &self.random)
            .map_err(|ring::error::Unspecified| StoreError::Random)?;
        let number = newest.saturating_add(1);
        let (secret, mac) = own_secret(&key, prefix, number, index.pepper(), now)?;
        self.write(|transaction, path| {
            rows::remove_other_secrets(transaction, id, newest)
                .and_then(|()| rows::end_secret(transaction, id, newest, ends))
                .and_then(|()| rows::insert_secret(transaction, id, &secret, &mac))
                .map_err(|error| schema::failed("write", path, error))
        })?;
        stored.record.secrets.push(secret);
        stored.macs.push(mac);
        self.index.put(std::slice::from_ref(&stored));
        Ok((self.told(stored.record), key))
    }

    /// The older of the key's two secrets, which [`KeyStore::finish`] would end.
    pub fn retiring(
        &self,
        id_or_name: &str,
        now: Timestamp,
    ) -> Result<(KeyRecord, SecretRecord), StoreError> {
        let record = self.show(id_or_name)?;
        let retiring = record.retiring(now).cloned();
        let secret = retiring.ok_or(StoreError::NothingToFinish { id: record.id })?;
        Ok((record, secret))
    }

    /// Ends the older of the key's two secrets now; on disk and in force before it returns.
    pub fn finish(&mut self, id_or_name: &str, now: Timestamp) -> Result<KeyRecord, StoreError> {
        let (record, secret) = self.retiring(id_or_name, now)?;
        rows::end_secret(&self.connection, record.id, secret.number, now)
            .map_err(|error| schema::failed("write", &self.path, error))?;
        let stored = self.stored(record.id)?;
        self.index.put(std::slice::from_ref(&stored));
        Ok(self.told(stored.record))
    }
}
