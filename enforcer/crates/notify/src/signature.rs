//! Signatures of Standard Webhooks 1.0.0: who sent it, when, and that nobody changed it.
//!
//! What is signed is `ID.TIMESTAMP.BODY`; neither of the first two can hold a dot. While a secret
//! changes, old and new ones sign, and a receiver needs to know one of them.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};
use zeroize::Zeroizing;

/// With or without `=` at the end, as people copy it.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What messages to a receiver are signed with.
pub enum SigningKey {
    /// `whsec_…`: a secret that both know; signs as `v1`.
    Shared {
        /// As HMAC takes it.
        key: hmac::Key,
        /// Tells two secrets apart, and nothing of them.
        print: [u8; 32],
    },
    /// `whsk_…`: a private key of Ed25519; signs as `v1a`.
    Private(Box<Ed25519KeyPair>),
}

/// The text is no such key. Does not show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not Base64.
    #[error("it is not Base64 behind its prefix")]
    Encoding,
    /// A public key.
    #[error(
        "it is a public key (`whpk_`), which receivers verify with; the private one begins with `whsk_`"
    )]
    Public,
    /// Neither prefix.
    #[error("it begins with neither `whsec_` (a shared secret) nor `whsk_` (a private key)")]
    Prefix,
    /// Too short or too long.
    #[error("a shared secret has 24 to 64 bytes")]
    SharedLength,
    /// No seed.
    #[error("a private key of Ed25519 has 32 bytes, or 64 with its public half")]
    PrivateLength,
    /// The halves differ.
    #[error("its private and its public half do not belong together")]
    Halves,
}

impl FromStr for SigningKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let decoded =
            |encoded: &str| LENIENT.decode(encoded).map(Zeroizing::new).or(Err(KeyError::Encoding));
        if let Some(encoded) = text.strip_prefix("whsec_") {
            let secret = decoded(encoded)?;
            if !(24..=64).contains(&secret.len()) {
                return Err(KeyError::SharedLength);
            }
            let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            let mut print = [0; 32];
            print.copy_from_slice(hmac::sign(&key, b"which key this is").as_ref());
            return Ok(Self::Shared { key, print });
        }
        if let Some(encoded) = text.strip_prefix("whsk_") {
            let key = decoded(encoded)?;
            let pair = match key.split_at_checked(32) {
                Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
                Some((seed, public)) if public.len() == 32 => {
                    Ed25519KeyPair::from_seed_and_public_key(seed, public)
                }
                Some(_) | None => return Err(KeyError::PrivateLength),
            };
            return pair.map(|pair| Self::Private(Box::new(pair))).or(Err(KeyError::Halves));
        }
        Err(if text.starts_with("whpk_") { KeyError::Public } else { KeyError::Prefix })
    }
}

impl SigningKey {
    /// What a receiver verifies with, where that is no secret.
    pub fn public(&self) -> Option<String> {
        match self {
            Self::Shared { .. } => None,
            Self::Private(pair) => {
                Some(format!("whpk_{}", STANDARD.encode(pair.public_key().as_ref())))
            }
        }
    }

    fn sign(&self, content: &[u8]) -> String {
        match self {
            Self::Shared { key, .. } => {
                format!("v1,{}", STANDARD.encode(hmac::sign(key, content).as_ref()))
            }
            Self::Private(pair) => format!("v1a,{}", STANDARD.encode(pair.sign(content).as_ref())),
        }
    }
}

/// The value of `webhook-signature`: a signature by each of `keys`.
pub fn signatures(keys: &[SigningKey], id: &str, unix_seconds: u64, body: &[u8]) -> String {
    let mut content = format!("{id}.{unix_seconds}.").into_bytes();
    content.extend_from_slice(body);
    let signed: Vec<_> = keys.iter().map(|key| key.sign(&content)).collect();
    signed.join(" ")
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared { .. } => f.write_str("Shared(…)"),
            Self::Private(_) => write!(f, "Private({})", self.public().unwrap_or_default()),
        }
    }
}

impl Eq for SigningKey {}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Shared { print, .. }, Self::Shared { print: theirs, .. }) => print == theirs,
            (Self::Private(ours), Self::Private(theirs)) => {
                ours.public_key().as_ref() == theirs.public_key().as_ref()
            }
            (Self::Shared { .. }, Self::Private(_)) | (Self::Private(_), Self::Shared { .. }) => {
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Those of the reference libraries' own tests.
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: u64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SIGNED: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const PRIVATE: &str = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=";
    const SIGNED_A: &str = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==";

    fn keys(texts: &[&str]) -> Vec<SigningKey> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn both_schemes_sign_as_the_reference_libraries_do() {
        assert_eq!(signatures(&keys(&[SECRET]), ID, AT, BODY), SIGNED);
        assert_eq!(signatures(&keys(&[PRIVATE]), ID, AT, BODY), SIGNED_A);
    }

    #[test]
    fn while_a_secret_changes_every_key_signs() {
        let old = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let both = signatures(&keys(&[PRIVATE, SECRET, old]), ID, AT, BODY);

        let signed: Vec<_> = both.split(' ').collect();
        assert_eq!(signed[..2], [SIGNED_A, SIGNED]);
        assert_eq!(signed.len(), 3);
        assert!(signed[2].starts_with("v1,") && signed[2] != SIGNED);
    }

    #[test]
    fn what_is_no_key_is_refused_and_never_shown() {
        for (text, error) in [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", KeyError::Prefix),
            ("whsec_AAAA", KeyError::SharedLength),
            ("whsec_????", KeyError::Encoding),
            ("whsk_AAAA", KeyError::PrivateLength),
            ("whpk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=", KeyError::Public),
        ] {
            let refused = text.parse::<SigningKey>().unwrap_err();
            assert_eq!(refused, error, "{text}");
            assert!(!refused.to_string().contains("AAAA"));
        }
        let too_long = format!("whsec_{}", STANDARD.encode([7; 65]));
        assert_eq!(too_long.parse::<SigningKey>().unwrap_err(), KeyError::SharedLength);
        let halves = format!("whsk_{}", STANDARD.encode([7; 64]));
        assert_eq!(halves.parse::<SigningKey>().unwrap_err(), KeyError::Halves);
        let whole: SigningKey = PRIVATE.parse().unwrap();
        let public = whole.public().unwrap();
        assert!(public.starts_with("whpk_"));
        let seed = LENIENT.decode(PRIVATE.strip_prefix("whsk_").unwrap()).unwrap();
        let half = LENIENT.decode(public.strip_prefix("whpk_").unwrap()).unwrap();
        let both = format!("whsk_{}", STANDARD.encode([seed, half].concat()));
        assert_eq!(both.parse::<SigningKey>().unwrap(), whole);
        assert!(!format!("{:?}", keys(&[SECRET])).contains("MfKQ"));
    }
}
