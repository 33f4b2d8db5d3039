//! What a witness says: from this moment on I know this tree head (C2SP tlog-cosignature, Ed25519).
//!
//! A cosignature is one more signature line under a checkpoint, over its text and a time. Keys are
//! written like those of logs, with another type, so that neither can pass for the other.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::merkle::{HASH_BYTES, Hash, sha256};
use crate::note::{Checkpoint, KeyError, NoteError, decode, encode, parse_origin};

/// The signature type of timestamped Ed25519 in key ids and encoded keys.
const COSIGNATURE_TYPE: u8 = 4;
const KEY_ID_BYTES: usize = 4;
const SIGNATURE_BYTES: usize = 64;
/// A checkpoint and the signatures of some dozens of witnesses.
const NOTE_BYTES_MAX: usize = 16 << 10;
/// Later times are no times (tlog-cosignature).
const TIME_MAX: u64 = (1 << 63) - 1;

/// The public key of a witness, as logs keep it: `name+id+base64`, one line.
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    public: [u8; HASH_BYTES],
}

/// The key that a witness cosigns with. Its text form is Go's `PRIVATE+KEY+name+id+base64`.
pub struct Cosigner {
    seed: Zeroizing<[u8; HASH_BYTES]>,
    pair: Ed25519KeyPair,
    key: WitnessKey,
}

/// A text with signature lines, none of them verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNote<'a> {
    text: &'a str,
    lines: Vec<Line<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line<'a> {
    whole: &'a str,
    name: &'a str,
    id: [u8; KEY_ID_BYTES],
    signature: Vec<u8>,
}

// === impl SignedNote ===

impl<'a> SignedNote<'a> {
    /// The parts of `note`, which must be in the form of C2SP signed-note.
    pub fn parse(note: &'a str) -> Result<Self, NoteError> {
        let plain = !note.chars().any(|c| c < ' ' && c != '\n');
        if note.len() > NOTE_BYTES_MAX || !plain {
            return Err(NoteError::Form);
        }
        let (body, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
        // The text keeps the first of the two newlines.
        let text = note.get(..=body.len()).ok_or(NoteError::Form)?;
        let lines = signatures.strip_suffix('\n').ok_or(NoteError::Form)?.split('\n');
        let lines = lines.map(Line::parse).collect::<Option<_>>().ok_or(NoteError::Form)?;
        Ok(Self { text, lines })
    }

    /// What is signed.
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// The tree head that it claims to be.
    pub fn claims(&self) -> Result<Checkpoint, NoteError> {
        Checkpoint::parse(self.text).ok_or(NoteError::Form)
    }

    /// When `witness` cosigned it, in seconds since 1970; none when it did not. A line that claims
    /// to be from that key and is not makes the note a bad one.
    pub fn cosigned_by(&self, witness: &WitnessKey) -> Result<Option<u64>, NoteError> {
        let mut time = None;
        for line in self.lines_of(witness) {
            time = time.max(Some(witness.check(self.text, &line.signature)?));
        }
        Ok(time)
    }

    /// The signature lines of `witness`, each with its newline.
    pub fn lines_by(&self, witness: &WitnessKey) -> String {
        self.lines_of(witness).map(|line| format!("{}\n", line.whole)).collect()
    }

    fn lines_of(&self, witness: &WitnessKey) -> impl Iterator<Item = &Line<'a>> {
        let id = witness.id();
        self.lines.iter().filter(move |line| line.name == witness.name && line.id == id)
    }
}

impl<'a> Line<'a> {
    fn parse(whole: &'a str) -> Option<Self> {
        let (name, encoded) = whole.strip_prefix("— ")?.split_once(' ')?;
        let bytes = decode(encoded)?;
        let (id, signature) = bytes.split_first_chunk()?;
        (!name.is_empty()).then(|| Self { whole, name, id: *id, signature: signature.to_vec() })
    }
}

// === impl WitnessKey ===

impl WitnessKey {
    /// The name of the witness.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 32 bytes of the key (RFC 8032).
    pub const fn bytes(&self) -> &[u8; HASH_BYTES] {
        &self.public
    }

    /// The first four bytes of the hash that binds name and key.
    pub fn id(&self) -> [u8; KEY_ID_BYTES] {
        let named = [self.name.as_bytes(), b"\n", &[COSIGNATURE_TYPE], &self.public].concat();
        let [a, b, c, d, ..] = sha256(&named);
        [a, b, c, d]
    }

    /// The time in a signature over `text`, once it holds.
    fn check(&self, text: &str, signature: &[u8]) -> Result<u64, NoteError> {
        let (time, signature) = signature.split_first_chunk().ok_or(NoteError::Signature)?;
        let time = u64::from_be_bytes(*time);
        if signature.len() != SIGNATURE_BYTES || !(1..=TIME_MAX).contains(&time) {
            return Err(NoteError::Signature);
        }
        let key = UnparsedPublicKey::new(&ED25519, &self.public);
        let held = key.verify(cosigned_text(text, time).as_bytes(), signature);
        held.map(|()| time).or(Err(NoteError::Signature))
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_key(&self.name, self.id(), &self.public))
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessKey({self})")
    }
}

impl FromStr for WitnessKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, public) = decode_key(text)?;
        let key = Self { name: name.to_owned(), public: *public };
        if key.to_string() == text { Ok(key) } else { Err(KeyError::Id) }
    }
}

// === impl Cosigner ===

impl Cosigner {
    const PREFIX: &str = "PRIVATE+KEY+";

    /// A new key for the witness `name`.
    pub fn generate(name: &str) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; HASH_BYTES]);
        SystemRandom::new().fill(&mut *seed).or(Err(KeyError::Random))?;
        Self::from_seed(name, seed)
    }

    fn from_seed(name: &str, seed: Zeroizing<[u8; HASH_BYTES]>) -> Result<Self, KeyError> {
        let name = parse_origin(name)?.to_owned();
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).or(Err(KeyError::Form))?;
        let public = pair.public_key().as_ref().try_into().or(Err(KeyError::Form))?;
        Ok(Self { seed, pair, key: WitnessKey { name, public } })
    }

    /// The key that `text` is.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, seed) = decode_key(text.strip_prefix(Self::PREFIX).ok_or(KeyError::Form)?)?;
        let key = Self::from_seed(name, seed)?;
        if *key.to_text() == text { Ok(key) } else { Err(KeyError::Id) }
    }

    /// The form that [`Cosigner::parse`] reads. Secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(encode_key(&self.key.name, self.key.id(), &self.seed));
        Zeroizing::new(format!("{}{}", Self::PREFIX, *encoded))
    }

    /// The public half.
    pub const fn key(&self) -> &WitnessKey {
        &self.key
    }

    /// The signature line over the `text` of a checkpoint as of `time`, in seconds since 1970.
    pub fn cosign(&self, text: &str, time: u64) -> String {
        let signature = self.pair.sign(cosigned_text(text, time).as_bytes());
        let signature =
            [self.key.id().as_slice(), &time.to_be_bytes(), signature.as_ref()].concat();
        format!("— {} {}\n", self.key.name, encode(&signature))
    }
}

impl fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cosigner(… of {})", self.key)
    }
}

fn cosigned_text(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

fn encode_key(name: &str, id: [u8; KEY_ID_BYTES], key: &Hash) -> String {
    let mut bytes = Zeroizing::new(vec![COSIGNATURE_TYPE]);
    bytes.extend_from_slice(key);
    format!("{name}+{:08x}+{}", u32::from_be_bytes(id), encode(&bytes))
}

fn decode_key(text: &str) -> Result<(&str, Zeroizing<Hash>), KeyError> {
    // Base64 has plus signs of its own, so the first two separate.
    let (name, rest) = text.split_once('+').ok_or(KeyError::Form)?;
    let (_id, encoded) = rest.split_once('+').ok_or(KeyError::Form)?;
    let bytes = Zeroizing::new(decode(encoded).ok_or(KeyError::Form)?);
    let Some((&COSIGNATURE_TYPE, key)) = bytes.split_first() else { return Err(KeyError::Form) };
    Ok((parse_origin(name)?, Zeroizing::new(key.try_into().or(Err(KeyError::Form))?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::{SigningKey, VerifierKey};

    const TEXT: &str = "host.example/enforcer\n5\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    #[test]
    fn a_cosignature_is_laid_out_as_the_specification_says() {
        let cosigner = Cosigner::from_seed("witness.example/w1", Zeroizing::new([7; 32])).unwrap();

        let line = cosigner.cosign(TEXT, 1_679_315_147);

        let encoded = line.strip_prefix("— witness.example/w1 ").unwrap().trim_end();
        let bytes = decode(encoded).unwrap();
        let mut named = b"witness.example/w1\n\x04".to_vec();
        named.extend_from_slice(cosigner.key().bytes());
        assert_eq!(bytes[..4], sha256(&named)[..4]);
        assert_eq!(bytes[4..12], 1_679_315_147_u64.to_be_bytes());
        let message = format!("cosignature/v1\ntime 1679315147\n{TEXT}");
        let key = UnparsedPublicKey::new(&ED25519, cosigner.key().bytes());
        key.verify(message.as_bytes(), &bytes[12..]).unwrap();
    }

    #[test]
    fn a_checkpoint_keeps_the_logs_signature_beside_those_of_its_witnesses() {
        let log = SigningKey::generate("host.example/enforcer").unwrap();
        let (one, two) = (witness("one"), witness("two"));
        let note = log.sign(5, [1; 32]);
        let text = SignedNote::parse(&note).unwrap().text().to_owned();

        let cosigned = format!("{note}{}{}", one.cosign(&text, 100), two.cosign(&text, 200));

        let parsed = SignedNote::parse(&cosigned).unwrap();
        assert_eq!(parsed.cosigned_by(one.key()), Ok(Some(100)));
        assert_eq!(parsed.cosigned_by(two.key()), Ok(Some(200)));
        assert_eq!(parsed.cosigned_by(witness("one").key()), Ok(None), "another key of that name");
        assert_eq!(parsed.lines_by(two.key()), two.cosign(&text, 200));
        assert_eq!(log.verifier().open(&cosigned).unwrap(), parsed.claims().unwrap());
    }

    #[test]
    fn every_changed_byte_of_a_cosignature_is_refused() {
        let log = SigningKey::generate("host.example/enforcer").unwrap();
        let cosigner = witness("w1");
        let note = log.sign(5, [1; 32]);
        let text = SignedNote::parse(&note).unwrap().text().to_owned();
        let line = cosigner.cosign(&text, 1_679_315_147);

        for place in 0..line.len() {
            for flip in [1, 4, 32, 128] {
                let mut bytes = line.clone().into_bytes();
                bytes[place] ^= flip;
                let Ok(altered) = String::from_utf8(bytes) else { continue };
                let note = format!("{note}{altered}");
                let time = SignedNote::parse(&note).and_then(|n| n.cosigned_by(cosigner.key()));
                assert!(!matches!(time, Ok(Some(_))), "byte {place}: {altered}");
            }
        }
    }

    #[test]
    fn a_time_that_is_none_is_no_cosignature() {
        let cosigner = witness("w1");
        for time in [0, TIME_MAX + 1, u64::MAX] {
            let note = format!("{TEXT}\n{}", cosigner.cosign(TEXT, time));
            let note = SignedNote::parse(&note).unwrap();
            assert_eq!(note.cosigned_by(cosigner.key()), Err(NoteError::Signature));
        }
    }

    #[test]
    fn the_key_of_a_log_is_not_the_key_of_a_witness_nor_the_other_way_round() {
        let log = SigningKey::generate("same.name").unwrap();
        let cosigner = Cosigner::from_seed("same.name", Zeroizing::new([3; 32])).unwrap();
        let same = SigningKey::from_seed("same.name", Zeroizing::new([3; 32])).unwrap();

        assert!(log.verifier().to_string().parse::<WitnessKey>().is_err());
        assert!(cosigner.key().to_string().parse::<VerifierKey>().is_err());
        assert_ne!(same.verifier().id(), cosigner.key().id());
        let note = same.sign(5, [1; 32]);
        assert_eq!(SignedNote::parse(&note).unwrap().cosigned_by(cosigner.key()), Ok(None));
    }

    #[test]
    fn keys_survive_being_written_and_the_secret_half_is_never_printed() {
        let cosigner = witness("w1");

        let again = Cosigner::parse(&cosigner.to_text()).unwrap();

        assert_eq!(again.key(), cosigner.key());
        assert_eq!(cosigner.key().to_string().parse(), Ok(cosigner.key().clone()));
        let secret = encode(&*cosigner.seed);
        assert!(!format!("{cosigner:?}").contains(secret.get(4..40).unwrap()));
        for altered in ["", "w1", "w1+00000000+BA==", "PRIVATE+KEY+w1+00000000+BA=="] {
            assert!(altered.parse::<WitnessKey>().is_err());
            assert!(Cosigner::parse(altered).is_err());
        }
    }

    fn witness(name: &str) -> Cosigner {
        Cosigner::generate(name).unwrap()
    }
}
