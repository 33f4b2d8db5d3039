//! Data keys in files of age (age-encryption.org/v1): X25519 recipients only.
//!
//! The format is age's so that a key can be opened with `age --decrypt` on a machine that has never
//! seen this program. A file here holds one data key and nothing else.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bech32::{Bech32, Hrp};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hkdf, hmac};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::{DataKey, KEY_BYTES, NoRandom};

const VERSION: &str = "age-encryption.org/v1";
const STANZA: &str = "-> X25519 ";
const LABEL: &[u8] = b"age-encryption.org/v1/X25519";
const FILE_KEY_BYTES: usize = 16;
const SHARE_BYTES: usize = 32;
const PAYLOAD_NONCE_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// The nonce of the first chunk of a payload, which is also the last.
const ONLY_CHUNK: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// Recipients of one log; more would only make headers long.
pub const RECIPIENTS_MAX: usize = 16;

/// Who can read sealed records: `age1…`, as `age-keygen` prints it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Recipient([u8; SHARE_BYTES]);

/// The private half: `AGE-SECRET-KEY-1…`.
pub struct Identity(StaticSecret);

/// The text is not a key of age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgeKeyError {
    /// Not a recipient.
    #[error("not a recipient; `age-keygen` prints one that begins with `age1`")]
    Recipient,
    /// Not an identity.
    #[error("holds no identity; `age-keygen` writes one that begins with `AGE-SECRET-KEY-1`")]
    Identity,
}

// === impl Recipient ===

impl Recipient {
    const PREFIX: &str = "age";
}

impl FromStr for Recipient {
    type Err = AgeKeyError;

    fn from_str(text: &str) -> Result<Self, AgeKeyError> {
        let key = decode_key(Self::PREFIX, text).ok_or(AgeKeyError::Recipient)?;
        Ok(Self(*key))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = Hrp::parse(Self::PREFIX).map_err(|_never| fmt::Error)?;
        f.write_str(&bech32::encode::<Bech32>(prefix, &self.0).map_err(|_never| fmt::Error)?)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

// === impl Identity ===

impl Identity {
    const PREFIX: &str = "age-secret-key-";

    /// All identities of a file as `age-keygen` writes it: one a line, `#` begins a comment.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, AgeKeyError> {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let identities: Vec<Self> = lines.map(str::parse).collect::<Result<_, _>>()?;
        if identities.is_empty() { Err(AgeKeyError::Identity) } else { Ok(identities) }
    }

    #[cfg(test)]
    pub(crate) fn of(byte: u8) -> Self {
        Self(StaticSecret::from([byte; SHARE_BYTES]))
    }

    /// Whom one encrypts to for this identity.
    pub fn recipient(&self) -> Recipient {
        Recipient(PublicKey::from(&self.0).to_bytes())
    }

    fn unwrap(&self, share: &[u8; SHARE_BYTES], wrapped: &[u8]) -> Option<Vec<u8>> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*share));
        if !shared.was_contributory() {
            return None;
        }
        let key = wrapping_key(shared.as_bytes(), share, &self.recipient())?;
        let mut wrapped = wrapped.to_vec();
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let opened = key.open_in_place(nonce, Aad::empty(), &mut wrapped).ok()?;
        Some(opened.to_vec())
    }
}

impl FromStr for Identity {
    type Err = AgeKeyError;

    fn from_str(text: &str) -> Result<Self, AgeKeyError> {
        let key = decode_key(Self::PREFIX, text).ok_or(AgeKeyError::Identity)?;
        Ok(Self(StaticSecret::from(*key)))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(… of {})", self.recipient())
    }
}

fn decode_key(prefix: &str, text: &str) -> Option<Zeroizing<[u8; SHARE_BYTES]>> {
    let (found, bytes) = bech32::decode(text).ok()?;
    let bytes = Zeroizing::new(bytes);
    let fits = found.as_str().eq_ignore_ascii_case(prefix);
    fits.then(|| bytes.as_slice().try_into().ok().map(Zeroizing::new))?
}

// === a file ===

/// A file of age that every one of `recipients` can open; it holds `key`.
pub(crate) fn wrap(key: &DataKey, recipients: &[Recipient]) -> Result<Vec<u8>, NoRandom> {
    let random = SystemRandom::new();
    let mut file_key = Zeroizing::new([0; FILE_KEY_BYTES]);
    random.fill(&mut *file_key).or(Err(NoRandom))?;
    let mut text = format!("{VERSION}\n");
    for recipient in recipients.iter().take(RECIPIENTS_MAX) {
        let (share, wrapped) = stanza(&file_key, recipient, &random).ok_or(NoRandom)?;
        text.push_str(&format!(
            "{STANZA}{}\n{}\n",
            STANDARD_NO_PAD.encode(share),
            STANDARD_NO_PAD.encode(wrapped)
        ));
    }
    text.push_str("---");
    let mac = header_mac(&*file_key, text.as_bytes()).ok_or(NoRandom)?;
    text.push_str(&format!(" {}\n", STANDARD_NO_PAD.encode(mac)));

    let mut nonce = [0; PAYLOAD_NONCE_BYTES];
    random.fill(&mut nonce).or(Err(NoRandom))?;
    let mut file = text.into_bytes();
    file.extend_from_slice(&nonce);
    let sealing = payload_key(&*file_key, &nonce).ok_or(NoRandom)?;
    let mut payload = Zeroizing::new(key.bytes().to_vec());
    let only = Nonce::assume_unique_for_key(ONLY_CHUNK);
    let tag = sealing.seal_in_place_separate_tag(only, Aad::empty(), &mut payload);
    file.extend_from_slice(&payload);
    file.extend_from_slice(tag.or(Err(NoRandom))?.as_ref());
    Ok(file)
}

/// The key in `file`, for the first identity that opens it.
pub(crate) fn unwrap(file: &[u8], identities: &[Identity]) -> Option<DataKey> {
    let payload_bytes = PAYLOAD_NONCE_BYTES + KEY_BYTES + TAG_BYTES;
    let (header, payload) = file.split_at_checked(file.len().checked_sub(payload_bytes)?)?;
    let header = std::str::from_utf8(header).ok()?;
    let (signed, mac) = header.strip_suffix('\n')?.rsplit_once(' ')?;
    let mac = STANDARD_NO_PAD.decode(mac).ok()?;
    let stanzas = signed.strip_suffix("---")?.strip_prefix(VERSION)?.strip_prefix('\n')?;
    let lines: Vec<&str> = stanzas.lines().collect();
    let (pairs, rest) = lines.as_chunks::<2>();
    if !rest.is_empty() || pairs.len() > RECIPIENTS_MAX {
        return None;
    }
    for [share, wrapped] in pairs {
        let share = STANDARD_NO_PAD.decode(share.strip_prefix(STANZA)?).ok()?;
        let share = share.try_into().ok()?;
        let wrapped = STANDARD_NO_PAD.decode(wrapped).ok()?;
        let file_key = identities.iter().find_map(|identity| identity.unwrap(&share, &wrapped));
        let Some(file_key) = file_key.map(Zeroizing::new) else { continue };
        let key = header_mac_key(&file_key)?;
        hmac::verify(&key, signed.as_bytes(), &mac).ok()?;
        let (nonce, sealed) = payload.split_first_chunk::<PAYLOAD_NONCE_BYTES>()?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let only = Nonce::assume_unique_for_key(ONLY_CHUNK);
        let opening = payload_key(&file_key, nonce)?;
        let plain = opening.open_in_place(only, Aad::empty(), &mut sealed).ok()?;
        return Some(DataKey::from_bytes((&*plain).try_into().ok()?));
    }
    None
}

fn stanza(
    file_key: &[u8; FILE_KEY_BYTES],
    recipient: &Recipient,
    random: &SystemRandom,
) -> Option<(Vec<u8>, Vec<u8>)> {
    let secret = EphemeralPrivateKey::generate(&X25519, random).ok()?;
    let share = secret.compute_public_key().ok()?.as_ref().to_vec();
    let peer = UnparsedPublicKey::new(&X25519, recipient.0);
    let key = agree_ephemeral(secret, &peer, |shared| wrapping_key(shared, &share, recipient));
    let mut wrapped = file_key.to_vec();
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    key.ok()??.seal_in_place_append_tag(nonce, Aad::empty(), &mut wrapped).ok()?;
    Some((share, wrapped))
}

fn wrapping_key(shared: &[u8], share: &[u8], recipient: &Recipient) -> Option<LessSafeKey> {
    let salt = [share, &recipient.0].concat();
    let key = expand(&salt, shared, LABEL)?;
    Some(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &*key).ok()?))
}

fn payload_key(file_key: &[u8], nonce: &[u8]) -> Option<LessSafeKey> {
    let key = expand(nonce, file_key, b"payload")?;
    Some(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &*key).ok()?))
}

fn header_mac_key(file_key: &[u8]) -> Option<hmac::Key> {
    Some(hmac::Key::new(hmac::HMAC_SHA256, &*expand(&[], file_key, b"header")?))
}

fn header_mac(file_key: &[u8], header: &[u8]) -> Option<hmac::Tag> {
    Some(hmac::sign(&header_mac_key(file_key)?, header))
}

fn expand(salt: &[u8], secret: &[u8], info: &[u8]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    extracted.expand(&[info], hkdf::HKDF_SHA256).ok()?.fill(&mut *key).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the X25519 recipient in the documentation of age.
    const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    #[test]
    fn a_key_reaches_every_recipient_and_nobody_else() {
        let key = DataKey::generate().unwrap();
        let (alice, bob, eve) = (Identity::of(1), Identity::of(2), Identity::of(3));

        let file = wrap(&key, &[alice.recipient(), bob.recipient()]).unwrap();

        for reader in [alice, bob] {
            assert_eq!(unwrap(&file, &[reader]).unwrap().bytes(), key.bytes());
        }
        assert!(unwrap(&file, &[eve]).is_none());
    }

    #[test]
    fn every_changed_byte_of_a_file_is_refused() {
        let key = DataKey::generate().unwrap();
        let file = wrap(&key, &[Identity::of(1).recipient()]).unwrap();

        for place in 0..file.len() {
            let mut bytes = file.clone();
            bytes[place] ^= 1;
            assert!(unwrap(&bytes, &[Identity::of(1)]).is_none(), "byte {place}");
        }
    }

    #[test]
    fn a_recipient_has_one_spelling() {
        let recipient: Recipient = RECIPIENT.parse().unwrap();

        assert_eq!(recipient.to_string(), RECIPIENT);
        for bad in ["", "age1", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8q"] {
            assert_eq!(bad.parse::<Recipient>(), Err(AgeKeyError::Recipient), "{bad}");
        }
        assert!(Identity::parse_file("# nothing\n").is_err());
    }
}
