//! Keys of a segment: one random secret each, from which everything else about it is derived.
//!
//! The secret seals the segment's records, salts their leaves and keys their index. It lies beside
//! the log while the segment is hot, and in the segment's header wrapped to recipients whose
//! private keys this host does not hold ([`age`]).

pub(crate) mod age;
mod keyring;
#[cfg(test)]
mod tests;

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

pub(crate) use keyring::{Keyring, Vault, destroy};

/// Bytes of a data key.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes of the salt before each record.
pub(crate) const SALT_BYTES: usize = 16;
/// Bytes that tell whether a key belongs to a segment.
pub(crate) const CHECK_BYTES: usize = 16;
/// Bytes of a block's nonce.
pub(crate) const NONCE_BYTES: usize = NONCE_LEN;

/// The salt of a record: it hides the record behind its leaf hash.
pub(crate) type Salt = [u8; SALT_BYTES];

/// Salts that are made at once.
const SALTS: usize = 16;

/// The salts of one segment, most of which are asked for in their order.
#[derive(Debug, Default)]
pub(crate) struct Salts {
    /// Of the records from 16 times this on.
    made: Option<(u64, [Salt; SALTS])>,
}

/// The secret of one segment.
pub(crate) struct DataKey(Zeroizing<[u8; KEY_BYTES]>);

/// What a segment is written and read with.
pub(crate) struct SegmentKeys {
    seal: LessSafeKey,
    salt: LessSafeKey,
    index: Zeroizing<[u8; KEY_BYTES]>,
    check: [u8; CHECK_BYTES],
}

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes for a new key")]
pub(crate) struct NoRandom;

/// A block cannot be opened with this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unopened;

// === impl DataKey ===

impl DataKey {
    pub(crate) fn generate() -> Result<Self, NoRandom> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new().fill(&mut *bytes).or(Err(NoRandom))?;
        Ok(Self(bytes))
    }

    pub(crate) fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Everything that is derived from it.
    pub(crate) fn derive(&self) -> Option<SegmentKeys> {
        let seal = UnboundKey::new(&AES_256_GCM, &*self.part(b"seal")).ok()?;
        let salt = UnboundKey::new(&AES_256_GCM, &*self.part(b"salt")).ok()?;
        let check = self.part(b"check");
        let (check, _) = check.split_first_chunk()?;
        Some(SegmentKeys {
            seal: LessSafeKey::new(seal),
            salt: LessSafeKey::new(salt),
            index: self.part(b"index"),
            check: *check,
        })
    }

    fn part(&self, name: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.0);
        let tag = hmac::sign(&key, &[b"enforcer-audit/2 ", name].concat());
        let mut part = Zeroizing::new([0; KEY_BYTES]);
        part.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        part
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(…)")
    }
}

// === impl Salts ===

impl Salts {
    /// The salt of the record at `index`, always with the same keys.
    pub(crate) fn get(&mut self, keys: &SegmentKeys, index: u64) -> Salt {
        let width = u64::try_from(SALTS).unwrap_or(u64::MAX);
        let (group, place) = (index / width, usize::try_from(index % width).unwrap_or_default());
        if self.made.is_none_or(|(made, _)| made != group) {
            // Sealing fails for gigabytes only.
            self.made = keys.salts(group).map(|salts| (group, salts));
        }
        self.made.and_then(|(_, salts)| salts.get(place).copied()).unwrap_or_default()
    }
}

// === impl SegmentKeys ===

impl SegmentKeys {
    /// The salt of the record at `index`.
    #[cfg(test)]
    pub(crate) fn salt(&self, index: u64) -> Salt {
        Salts::default().get(self, index)
    }

    /// What AES-256 makes of sixteen blocks: twelve bytes that count the groups of sixteen records,
    /// and four that count from 2 in each. That is the key stream of GCM.
    fn salts(&self, group: u64) -> Option<[Salt; SALTS]> {
        let mut nonce = [0; NONCE_BYTES];
        nonce.iter_mut().rev().zip(group.to_le_bytes()).for_each(|(to, from)| *to = from);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let mut salts = [[0; SALT_BYTES]; SALTS];
        let sealed =
            self.salt.seal_in_place_separate_tag(nonce, Aad::empty(), salts.as_flattened_mut());
        sealed.ok().map(|_tag| salts)
    }

    /// The key of the segment's index.
    pub(crate) fn index(&self) -> &[u8; KEY_BYTES] {
        &self.index
    }

    /// What the header says of the key.
    pub(crate) const fn check(&self) -> &[u8; CHECK_BYTES] {
        &self.check
    }

    /// Appends `plain` to `sealed`, encrypted; `plain` is used up.
    pub(crate) fn seal(
        &self,
        nonce: [u8; NONCE_BYTES],
        aad: &[u8],
        plain: &mut [u8],
        sealed: &mut Vec<u8>,
    ) -> Result<(), Unopened> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.seal.seal_in_place_separate_tag(nonce, Aad::from(aad), plain);
        let tag = tag.or(Err(Unopened))?;
        sealed.extend_from_slice(plain);
        sealed.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// What was sealed, in place.
    pub(crate) fn open<'a>(
        &self,
        nonce: [u8; NONCE_BYTES],
        aad: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], Unopened> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.seal
            .open_in_place(nonce, Aad::from(aad), sealed)
            .map(|plain| &*plain)
            .or(Err(Unopened))
    }
}

impl fmt::Debug for SegmentKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SegmentKeys(…)")
    }
}
