//! How a personal value becomes a handle and sealed bytes, and how it comes back.
//!
//! While a segment grows, one secret, its seed, gives every value its handle, and every handle its
//! key. When the segment is closed the seed is destroyed and each key stands alone: a handle says
//! nothing of its value, and nothing else on the disk leads from a value to it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use enforcer_model::PersonalKind as Kind;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

/// Bytes of every secret here.
pub(crate) const SECRET_BYTES: usize = 32;
/// Bytes of a handle, and of a tag.
pub(crate) const HANDLE_BYTES: usize = 8;
/// The length of a value is told in steps of this many bytes.
const PADDING: usize = 16;
/// What a sealed value is bound to, beside its kind and handle.
const CONTEXT: &[u8] = b"enforcer-subject/1";

/// Stands for a personal value in the records of one segment: `~` and eleven characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle([u8; HANDLE_BYTES]);

/// The secret of a segment that grows.
pub(crate) struct Seed {
    bytes: Zeroizing<[u8; SECRET_BYTES]>,
    hmac: hmac::Key,
}

/// The secret that values are looked up by in a closed segment; it leads to no handle.
pub(crate) struct TagSecret {
    bytes: Zeroizing<[u8; SECRET_BYTES]>,
    hmac: hmac::Key,
}

/// Seals one value and nothing else, ever.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SealKey(Zeroizing<[u8; SECRET_BYTES]>);

/// The system gave no random bytes, or a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's cryptography failed")]
pub(crate) struct SealError;

// === impl Handle ===

impl Handle {
    /// Length of its text.
    pub(crate) const TEXT_BYTES: usize = 12;

    pub(crate) const fn from_bytes(bytes: [u8; HANDLE_BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn bytes(self) -> [u8; HANDLE_BYTES] {
        self.0
    }

    /// The handle that `text` is, in its only spelling.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (b'~', digits) = text.split_first()? else { return None };
        let mut bytes = [0; HANDLE_BYTES];
        let fits = digits.len() == Self::TEXT_BYTES - 1
            && URL_SAFE_NO_PAD.decode_slice(digits, &mut bytes) == Ok(HANDLE_BYTES);
        fits.then_some(Self(bytes))
    }

    pub(crate) fn text(self) -> [u8; Self::TEXT_BYTES] {
        let mut text = [b'~'; Self::TEXT_BYTES];
        if let Some(digits) = text.get_mut(1..) {
            // Eleven characters are what eight bytes take.
            let written = URL_SAFE_NO_PAD.encode_slice(self.0, digits);
            debug_assert_eq!(written, Ok(Self::TEXT_BYTES - 1));
        }
        text
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Handle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Seed ===

impl Seed {
    pub(crate) fn random() -> Result<Self, SealError> {
        Ok(Self::from_bytes(random()?))
    }

    pub(crate) fn from_bytes(bytes: Zeroizing<[u8; SECRET_BYTES]>) -> Self {
        let hmac = hmac::Key::new(hmac::HMAC_SHA256, &*bytes);
        Self { bytes, hmac }
    }

    pub(crate) fn bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.bytes
    }

    /// The first bytes of `HMAC(seed, "h" ‖ kind ‖ value)`.
    pub(crate) fn handle(&self, kind: Kind, value: &[u8]) -> Handle {
        Handle(short(&self.hmac, b"h", kind, value))
    }

    /// `HMAC(seed, "s" ‖ handle)`: one for each value.
    pub(crate) fn key(&self, handle: Handle) -> SealKey {
        let mut context = hmac::Context::with_key(&self.hmac);
        context.update(b"s");
        context.update(&handle.0);
        let mut key = Zeroizing::new([0; SECRET_BYTES]);
        key.copy_from_slice(context.sign().as_ref());
        SealKey(key)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(…)")
    }
}

// === impl TagSecret ===

impl TagSecret {
    pub(crate) fn random() -> Result<Self, SealError> {
        Ok(Self::from_bytes(random()?))
    }

    pub(crate) fn from_bytes(bytes: Zeroizing<[u8; SECRET_BYTES]>) -> Self {
        let hmac = hmac::Key::new(hmac::HMAC_SHA256, &*bytes);
        Self { bytes, hmac }
    }

    pub(crate) fn bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.bytes
    }

    /// The first bytes of `HMAC(secret, "t" ‖ kind ‖ value)`.
    pub(crate) fn tag(&self, kind: Kind, value: &[u8]) -> [u8; HANDLE_BYTES] {
        short(&self.hmac, b"t", kind, value)
    }
}

impl fmt::Debug for TagSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagSecret(…)")
    }
}

// === impl SealKey ===

impl SealKey {
    pub(crate) fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// AES-256-GCM in base64. The nonce is zero: a key belongs to one handle of one segment, and the
    /// handle to one value.
    pub(crate) fn seal(
        &self,
        kind: Kind,
        handle: Handle,
        value: &[u8],
    ) -> Result<String, SealError> {
        let mut bytes = value.to_vec();
        bytes.resize(value.len().max(1).next_multiple_of(PADDING), 0);
        self.cipher()?
            .seal_in_place_append_tag(nonce(), Aad::from(bound(kind, handle)), &mut bytes)
            .map_err(|_unspecified| SealError)?;
        Ok(STANDARD.encode(bytes))
    }

    /// The value; none when `sealed` was not made by this key for this handle.
    pub(crate) fn open(&self, kind: Kind, handle: Handle, sealed: &str) -> Option<Vec<u8>> {
        let mut bytes = STANDARD.decode(sealed).ok()?;
        let aad = Aad::from(bound(kind, handle));
        let padded = self.cipher().ok()?.open_in_place(nonce(), aad, &mut bytes).ok()?.len();
        bytes.truncate(padded);
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(end);
        Some(bytes)
    }

    fn cipher(&self) -> Result<LessSafeKey, SealError> {
        let key = UnboundKey::new(&AES_256_GCM, &*self.0).map_err(|_unspecified| SealError)?;
        Ok(LessSafeKey::new(key))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(…)")
    }
}

const fn byte(kind: Kind) -> u8 {
    match kind {
        Kind::Address => 1,
        Kind::Principal => 2,
        Kind::Text => 3,
        Kind::UserAgent => 4,
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn bound(kind: Kind, handle: Handle) -> [u8; CONTEXT.len() + 1 + HANDLE_BYTES] {
    let mut bytes = [0; CONTEXT.len() + 1 + HANDLE_BYTES];
    let parts = CONTEXT.iter().copied().chain([byte(kind)]).chain(handle.0);
    for (place, byte) in bytes.iter_mut().zip(parts) {
        *place = byte;
    }
    bytes
}

fn short(key: &hmac::Key, domain: &[u8], kind: Kind, value: &[u8]) -> [u8; HANDLE_BYTES] {
    let mut context = hmac::Context::with_key(key);
    context.update(domain);
    context.update(&[byte(kind)]);
    context.update(value);
    let mut bytes = [0; HANDLE_BYTES];
    for (place, byte) in bytes.iter_mut().zip(context.sign().as_ref()) {
        *place = *byte;
    }
    bytes
}

fn random() -> Result<Zeroizing<[u8; SECRET_BYTES]>, SealError> {
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    SystemRandom::new().fill(&mut *bytes).map_err(|_unspecified| SealError)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_with_its_key_alone() {
        let seed = Seed::random().unwrap();
        let handle = seed.handle(Kind::Address, b"203.0.113.7");
        let sealed = seed.key(handle).seal(Kind::Address, handle, b"203.0.113.7").unwrap();

        let open = |seed: &Seed, kind, handle| seed.key(handle).open(kind, handle, &sealed);

        assert_eq!(open(&seed, Kind::Address, handle).unwrap(), b"203.0.113.7");
        assert_eq!(open(&Seed::random().unwrap(), Kind::Address, handle), None);
        assert_eq!(open(&seed, Kind::Text, handle), None);
        let other = seed.handle(Kind::Address, b"203.0.113.8");
        assert_eq!(seed.key(handle).open(Kind::Address, other, &sealed), None);
    }

    #[test]
    fn the_length_of_an_address_is_not_told() {
        let seed = Seed::random().unwrap();
        let length = |value: &[u8]| {
            let handle = seed.handle(Kind::Address, value);
            seed.key(handle).seal(Kind::Address, handle, value).unwrap().len()
        };

        assert_eq!(length(b"1.2.3.4"), length(b"203.0.113.107"));
        assert_eq!(length(b""), length(b"x"));
    }

    #[test]
    fn a_value_has_another_handle_in_every_segment_and_kind() {
        let (one, other) = (Seed::random().unwrap(), Seed::random().unwrap());

        let handle = one.handle(Kind::Principal, b"alice");

        assert_eq!(handle, one.handle(Kind::Principal, b"alice"));
        assert_ne!(handle, other.handle(Kind::Principal, b"alice"));
        assert_ne!(handle, one.handle(Kind::Text, b"alice"));
        assert_ne!(handle.bytes(), TagSecret::random().unwrap().tag(Kind::Principal, b"alice"));
    }

    #[test]
    fn a_handle_has_one_spelling() {
        let handle = Handle::from_bytes([0xff; HANDLE_BYTES]);
        assert_eq!(handle.to_string(), "~__________8");
        assert_eq!(Handle::parse(b"~__________8"), Some(handle));
        for bad in ["~__________9", "~_________8", "~__________8=", "__________8", "", "~"] {
            assert_eq!(Handle::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
