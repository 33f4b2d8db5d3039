//! Keys and signatures in the forms of C2SP signed-note: Ed25519 only, text in, text out.
//!
//! Everything here has exactly one spelling: base64 with spare bits set, a number with a leading
//! zero or a key whose id does not fit its name is refused, so that no byte of a signed text can
//! change without being noticed.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::merkle::{HASH_BYTES, Hash, sha256};

/// The signature type of plain Ed25519 in key ids and encoded keys.
const ED25519_TYPE: u8 = 1;
const KEY_ID_BYTES: usize = 4;
/// Bytes of a signature (RFC 8032).
pub(crate) const SIGNATURE_BYTES: usize = 64;
/// A checkpoint has three lines and few signatures; anything much longer is not one.
const NOTE_BYTES_MAX: usize = 16 << 10;
/// Longer names would only serve to fill the log.
const ORIGIN_BYTES_MAX: usize = 255;

/// The public key of a log, as others keep it: `origin+id+base64`, one line.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    origin: String,
    public: [u8; HASH_BYTES],
}

/// The key that signs checkpoints. Its text form is Go's `PRIVATE+KEY+origin+id+base64`.
pub(crate) struct SigningKey {
    seed: Zeroizing<[u8; HASH_BYTES]>,
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

/// A tree head: what a checkpoint says once its signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The name of the log.
    pub origin: String,
    /// Leaves of the tree.
    pub size: u64,
    /// Its root.
    pub root: Hash,
}

/// The text is not a key of this kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not in the form of one.
    #[error("not a key; a public key looks like `host.example/enforcer+1234abcd+AX…`")]
    Form,
    /// The id in the middle is not the hash of the rest.
    #[error("the key's id does not belong to its name and bytes: it was altered or mistyped")]
    Id,
    /// The name cannot stand in a signed note.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes for a new key")]
    Random,
}

/// The text cannot name a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name a log: at most 255 bytes without spaces, `+` or control characters, such \
     as `host.example/enforcer`"
)]
pub struct OriginError(pub(crate) String);

/// The text is not a checkpoint that the key has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a signed note, or not in its only spelling.
    #[error("not a checkpoint in the form of C2SP tlog-checkpoint")]
    Form,
    /// Nothing in it was signed by the key.
    #[error("not signed by the log's key")]
    Unsigned,
    /// Signed by the key, it says, yet the text is another one.
    #[error("the signature does not fit the text")]
    Signature,
    /// The first line is not the key's name.
    #[error("of another log")]
    Origin,
}

// === impl VerifierKey ===

impl VerifierKey {
    /// The name of the log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The 32 bytes of the key (RFC 8032).
    pub const fn bytes(&self) -> &[u8; HASH_BYTES] {
        &self.public
    }

    /// The first four bytes of the hash that binds name and key.
    pub fn id(&self) -> [u8; KEY_ID_BYTES] {
        let named = [self.origin.as_bytes(), b"\n", &[ED25519_TYPE], &self.public].concat();
        let [a, b, c, d, ..] = sha256(&named);
        [a, b, c, d]
    }

    /// The checkpoint that stands in `note`, once the signature holds.
    pub fn open(&self, note: &str) -> Result<Checkpoint, NoteError> {
        let text = self.signed_text(note)?;
        let checkpoint = Checkpoint::parse(text).ok_or(NoteError::Form)?;
        if checkpoint.origin == self.origin { Ok(checkpoint) } else { Err(NoteError::Origin) }
    }

    /// Whether `signature` is this key's over `bytes`.
    pub(crate) fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.public).verify(bytes, signature).is_ok()
    }

    /// The text of `note` without its signatures; refuses a bad signature of ours, ignores others'.
    pub(crate) fn signed_text<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let plain = !note.chars().any(|c| c < ' ' && c != '\n');
        if note.len() > NOTE_BYTES_MAX || !plain {
            return Err(NoteError::Form);
        }
        let (body, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
        // The text keeps the first of the two newlines.
        let text = note.get(..=body.len()).ok_or(NoteError::Form)?;
        let signatures = signatures.strip_suffix('\n').ok_or(NoteError::Form)?;
        let mut signed = false;
        for line in signatures.split('\n') {
            let line = line.strip_prefix("— ").ok_or(NoteError::Form)?;
            let (name, encoded) = line.split_once(' ').ok_or(NoteError::Form)?;
            let bytes = decode(encoded).ok_or(NoteError::Form)?;
            let (id, signature) = bytes.split_first_chunk().ok_or(NoteError::Form)?;
            if name != self.origin || *id != self.id() {
                continue;
            }
            if !self.verifies(text.as_bytes(), signature) {
                return Err(NoteError::Signature);
            }
            signed = true;
        }
        if signed { Ok(text) } else { Err(NoteError::Unsigned) }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_key(&self.origin, self.id(), &self.public))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (origin, id, public) = decode_key(text)?;
        let key = Self { origin: origin.to_owned(), public: *public };
        if encode_key(origin, key.id(), &key.public) == text && id == key.id() {
            Ok(key)
        } else {
            Err(KeyError::Id)
        }
    }
}

// === impl SigningKey ===

impl SigningKey {
    const PREFIX: &str = "PRIVATE+KEY+";

    pub(crate) fn generate(origin: &str) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; HASH_BYTES]);
        SystemRandom::new().fill(&mut *seed).or(Err(KeyError::Random))?;
        Self::from_seed(origin, seed)
    }

    pub(crate) fn from_seed(
        origin: &str,
        seed: Zeroizing<[u8; HASH_BYTES]>,
    ) -> Result<Self, KeyError> {
        let origin = parse_origin(origin)?.to_owned();
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).or(Err(KeyError::Form))?;
        let public = pair.public_key().as_ref().try_into().or(Err(KeyError::Form))?;
        Ok(Self { seed, pair, verifier: VerifierKey { origin, public } })
    }

    pub(crate) fn parse(text: &str) -> Result<Self, KeyError> {
        let encoded = text.strip_prefix(Self::PREFIX).ok_or(KeyError::Form)?;
        let (origin, id, seed) = decode_key(encoded)?;
        let key = Self::from_seed(origin, seed)?;
        if *key.to_text() == text && id == key.verifier.id() { Ok(key) } else { Err(KeyError::Id) }
    }

    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        let encoded =
            Zeroizing::new(encode_key(&self.verifier.origin, self.verifier.id(), &self.seed));
        Zeroizing::new(format!("{}{}", Self::PREFIX, *encoded))
    }

    pub(crate) const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The signed note over a tree head.
    pub(crate) fn sign(&self, size: u64, root: Hash) -> String {
        let checkpoint = Checkpoint { origin: self.verifier.origin.clone(), size, root };
        self.sign_text(&checkpoint.to_string())
    }

    /// The bare signature over `bytes`.
    pub(crate) fn sign_bytes(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut signature = [0; SIGNATURE_BYTES];
        let made = self.pair.sign(bytes);
        signature.iter_mut().zip(made.as_ref()).for_each(|(to, from)| *to = *from);
        signature
    }

    /// The signed note with this text.
    pub(crate) fn sign_text(&self, text: &str) -> String {
        let signature = self.sign_bytes(text.as_bytes());
        let signature = [self.verifier.id().as_slice(), &signature].concat();
        format!("{text}\n— {} {}\n", self.verifier.origin, STANDARD.encode(signature))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(… of {})", self.verifier)
    }
}

// === impl Checkpoint ===

impl Checkpoint {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split_terminator('\n');
        let origin = lines.next()?.to_owned();
        let size = parse_number(lines.next()?)?;
        let root = decode(lines.next()?)?.try_into().ok()?;
        // Later lines are extensions, which the specification allows and this log does not write.
        (!origin.is_empty() && lines.all(|line| !line.is_empty())).then_some(Self {
            origin,
            size,
            root,
        })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, size, root } = self;
        writeln!(f, "{origin}\n{size}\n{}", encode(root))
    }
}

/// A decimal number in its only spelling.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    let number = text.parse::<u64>().ok()?;
    (number.to_string() == text).then_some(number)
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of canonical base64; padding is required, spare bits are zero.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// `origin` itself, when it can stand in a signed note.
pub(crate) fn parse_origin(origin: &str) -> Result<&str, OriginError> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if origin.is_empty() || origin.len() > ORIGIN_BYTES_MAX || origin.contains(odd) {
        return Err(OriginError(origin.to_owned()));
    }
    Ok(origin)
}

fn encode_key(origin: &str, id: [u8; KEY_ID_BYTES], key: &[u8; HASH_BYTES]) -> String {
    let mut bytes = Zeroizing::new(vec![ED25519_TYPE]);
    bytes.extend_from_slice(key);
    format!("{origin}+{:08x}+{}", u32::from_be_bytes(id), encode(&bytes))
}

type KeyParts<'a> = (&'a str, [u8; KEY_ID_BYTES], Zeroizing<[u8; HASH_BYTES]>);

fn decode_key(text: &str) -> Result<KeyParts<'_>, KeyError> {
    // Base64 has plus signs of its own, so the first two separate.
    let (origin, rest) = text.split_once('+').ok_or(KeyError::Form)?;
    let (id, encoded) = rest.split_once('+').ok_or(KeyError::Form)?;
    let id = u32::from_str_radix(id, 16).or(Err(KeyError::Form))?;
    let bytes = Zeroizing::new(decode(encoded).ok_or(KeyError::Form)?);
    let Some((&ED25519_TYPE, key)) = bytes.split_first() else { return Err(KeyError::Form) };
    let key = Zeroizing::new(key.try_into().or(Err(KeyError::Form))?);
    Ok((parse_origin(origin)?, id.to_be_bytes(), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The published example of golang.org/x/mod/sumdb/note.
    const PRIVATE: &str =
        "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const PUBLIC: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                        then you don't know what your problem is.\n";
    const SIGNATURE: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN\
                             1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn the_published_example_of_signed_notes_is_reproduced_byte_for_byte() {
        let key = SigningKey::parse(PRIVATE).unwrap();

        assert_eq!(key.verifier().to_string(), PUBLIC);
        assert_eq!(key.to_text().as_str(), PRIVATE);
        assert_eq!(key.sign_text(TEXT), format!("{TEXT}\n{SIGNATURE}"));
        let verifier: VerifierKey = PUBLIC.parse().unwrap();
        assert_eq!(verifier.signed_text(&format!("{TEXT}\n{SIGNATURE}")), Ok(TEXT));
    }

    #[test]
    fn a_checkpoint_survives_signing_and_opening() {
        let key = SigningKey::generate("host.example/enforcer").unwrap();

        let note = key.sign(20_852_163, [7; 32]);

        let opened = key.verifier().open(&note).unwrap();
        assert_eq!((opened.size, opened.root), (20_852_163, [7; 32]));
        assert!(note.starts_with("host.example/enforcer\n20852163\nBwcH"));
    }

    #[test]
    fn every_changed_byte_of_a_checkpoint_is_refused() {
        let key = SigningKey::generate("host.example/enforcer").unwrap();
        let note = key.sign(5, [9; 32]);

        for place in 0..note.len() {
            for flip in [1, 4, 32, 128] {
                let mut bytes = note.clone().into_bytes();
                bytes[place] ^= flip;
                if let Ok(altered) = std::str::from_utf8(&bytes) {
                    assert!(key.verifier().open(altered).is_err(), "byte {place}: {altered}");
                }
            }
        }
    }

    #[test]
    fn every_changed_byte_of_a_key_is_refused_or_makes_another_key() {
        let key = SigningKey::parse(PRIVATE).unwrap();

        for place in 0..PUBLIC.len() {
            let mut bytes = PUBLIC.as_bytes().to_vec();
            bytes[place] ^= 1;
            let altered = String::from_utf8(bytes).unwrap();
            assert!(altered.parse::<VerifierKey>().is_err(), "{altered}");
        }
        for place in 0..PRIVATE.len() {
            let mut bytes = PRIVATE.as_bytes().to_vec();
            bytes[place] ^= 1;
            let altered = String::from_utf8(bytes).unwrap();
            assert!(SigningKey::parse(&altered).is_err(), "{altered}");
        }
        assert!(!format!("{key:?}").contains("AYEK"), "the secret half is never printed");
    }

    #[test]
    fn signatures_of_unknown_keys_are_ignored_and_a_note_without_ours_is_refused() {
        let ours = SigningKey::generate("host.example/enforcer").unwrap();
        let witness = SigningKey::generate("witness.example").unwrap();
        let note = ours.sign(1, [1; 32]);
        let cosigned = format!("{note}— witness.example {}\n", encode(&[1; 68]));

        assert!(ours.verifier().open(&cosigned).is_ok());
        assert_eq!(witness.verifier().open(&note), Err(NoteError::Unsigned));
    }

    #[test]
    fn a_name_that_cannot_stand_in_a_note_is_refused() {
        for origin in ["", "a b", "a+b", "a\nb", "a\u{2003}b", &"x".repeat(256)] {
            assert!(SigningKey::generate(origin).is_err(), "{origin:?}");
        }
    }
}
