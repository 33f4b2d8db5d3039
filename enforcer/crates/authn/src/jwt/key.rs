//! Public keys of issuers (RFC 7517), and the one kind of secret that may stand in for them.
//!
//! A key is for one family of algorithms, whatever a token claims. What is published as private,
//! symmetric, for encryption, too weak, or of a kind that is not understood is not a key here, and
//! [`Skipped`] says why. That a point lies on its curve is checked with every signature, by `ring`.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{digest, hmac, signature};

use super::json::{Json, Table};
use super::{Algorithm, Algorithms, weak};

/// A key that can tell whether a token was signed.
#[derive(Clone)]
pub struct Key {
    kid: Option<Arc<str>>,
    name: Arc<str>,
    thumbprint: [u8; 32],
    algorithms: Algorithms,
    material: Material,
}

/// Why an entry of a key set is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skipped {
    /// `alg` is not understood, or not for signatures.
    #[error("its `alg` is not one that is accepted")]
    Algorithm,
    /// `alg` does not belong to `kty` and `crv`.
    #[error("its `alg` does not fit its type or curve")]
    AlgorithmOfOtherKey,
    /// A curve that is not understood.
    #[error("its `crv` is not one that is accepted")]
    Curve,
    /// Two entries have the same `kid`, and none of them is used.
    #[error("another entry has the same `kid` (or, without one, is the same key)")]
    Duplicate,
    /// An even exponent, one, or one too large to be checked in a bounded time.
    #[error("its exponent is not an odd number from 3 to 2^33")]
    Exponent,
    /// `kid` is not a text of 1 to 256 bytes.
    #[error("its `kid` is not a text of 1 to {} bytes", Key::KID_LENGTH_MAX)]
    KeyId,
    /// A member is missing or has the wrong form or length.
    #[error("its `{0}` is missing or has the wrong form or length")]
    Member(&'static str),
    /// Not an object.
    #[error("it is not an object")]
    NotAnObject,
    /// `key_ops` does not allow to verify.
    #[error("its `key_ops` are not for signatures")]
    Operations,
    /// The private half was published with it: whoever read the document can sign.
    #[error("it has the private `{0}`, so everybody can sign with it; replace it at the issuer")]
    Private(&'static str),
    /// Fewer than 2048 bits, or more than are checked in a bounded time.
    #[error("its modulus does not have {} to {} bits", Key::RSA_BITS.0, Key::RSA_BITS.1)]
    Size,
    /// A secret has no place in a document that everybody can read.
    #[error("it is symmetric, and a secret is never taken from a key set")]
    Symmetric,
    /// `kty` is not understood.
    #[error("its `kty` is not one that is accepted")]
    Type,
    /// `use` is not `sig`.
    #[error("its `use` is not for signatures")]
    Use,
    /// Made by a generator whose keys can be factored (CVE-2017-15361), or a point of small order.
    #[error("it is known to be weak (CVE-2017-15361, or a point of small order)")]
    Weak,
}

/// The secret is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a secret of {found} bytes; HS256 needs at least {} random ones (`openssl rand -out FILE 32`)",
    Key::SECRET_LENGTH_MIN
)]
pub struct SecretTooShort {
    /// Its length.
    pub found: usize,
}

#[derive(Clone)]
enum Material {
    Ed25519([u8; 32]),
    /// The uncompressed point.
    P256(Box<[u8]>),
    P384(Box<[u8]>),
    Rsa {
        modulus: Box<[u8]>,
        exponent: Box<[u8]>,
    },
    Secret(Box<hmac::Key>),
}

/// Members that only a private key has (RFC 7518 section 6, RFC 8037).
const PRIVATE: [&str; 9] = ["d", "dp", "dq", "k", "oth", "p", "priv", "q", "qi"];

impl Key {
    /// Bytes in a `kid`.
    pub const KID_LENGTH_MAX: usize = 256;
    /// Bits in an RSA modulus, from and to.
    pub const RSA_BITS: (usize, usize) = (2048, 8192);
    /// Bytes in a secret for HS256 (RFC 7518 section 3.2).
    pub const SECRET_LENGTH_MIN: usize = 32;

    /// The secret that the operator shares with an issuer.
    pub(crate) fn from_secret(secret: &[u8]) -> Result<Self, SecretTooShort> {
        if secret.len() < Self::SECRET_LENGTH_MIN {
            return Err(SecretTooShort { found: secret.len() });
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        // A name under the key itself, so that it tells nothing of the secret.
        let tag = hmac::sign(&key, b"enforcer: name of a secret");
        let mut thumbprint = [0; 32];
        thumbprint.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        Ok(Self {
            kid: None,
            name: "secret".into(),
            thumbprint,
            algorithms: Algorithms::only(Algorithm::Hs256),
            material: Material::Secret(Box::new(key)),
        })
    }

    /// The public key that `jwk` describes.
    pub(super) fn from_jwk(jwk: &Table<'_>) -> Result<Self, Skipped> {
        let kty = jwk.get("kty").and_then(Json::text).ok_or(Skipped::Member("kty"))?;
        if kty == "oct" {
            return Err(Skipped::Symmetric);
        }
        if let Some(private) = PRIVATE.into_iter().find(|name| jwk.get(name).is_some()) {
            return Err(Skipped::Private(private));
        }
        let kid = match jwk.get("kid") {
            None => None,
            Some(Json::Text(kid)) if (1..=Self::KID_LENGTH_MAX).contains(&kid.len()) => {
                Some(Arc::from(&**kid))
            }
            Some(_) => return Err(Skipped::KeyId),
        };
        is_for_signatures(jwk)?;
        let (material, possible, thumbprint) = match kty {
            "EC" => elliptic(jwk)?,
            "OKP" => edwards(jwk)?,
            "RSA" => rsa(jwk)?,
            _ => return Err(Skipped::Type),
        };
        let algorithms = match jwk.get("alg") {
            None => possible,
            Some(alg) => {
                let alg = alg.text().and_then(Algorithm::named).ok_or(Skipped::Algorithm)?;
                if !possible.contains(alg) {
                    return Err(Skipped::AlgorithmOfOtherKey);
                }
                Algorithms::only(alg)
            }
        };
        let name = kid.clone().unwrap_or_else(|| URL_SAFE_NO_PAD.encode(thumbprint).into());
        Ok(Self { kid, name, thumbprint, algorithms, material })
    }

    /// Its `kid`, if it has one.
    pub fn key_id(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// What the audit log and revocations call it: its `kid`, else its thumbprint in base64url.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// RFC 7638: the key itself, whatever it is called. Another key under a name that was used
    /// before has another thumbprint.
    pub const fn thumbprint(&self) -> [u8; 32] {
        self.thumbprint
    }

    /// What it may be used for.
    pub const fn algorithms(&self) -> Algorithms {
        self.algorithms
    }

    /// Bits of an RSA modulus; none for other kinds.
    pub(crate) fn rsa_bits(&self) -> Option<usize> {
        match &self.material {
            Material::Rsa { modulus, .. } => Some(bits(modulus)),
            Material::Ed25519(_) | Material::P256(_) | Material::P384(_) | Material::Secret(_) => {
                None
            }
        }
    }

    /// Whether `signature` over `signed` was made with this key and `algorithm`.
    pub(super) fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        if !self.algorithms.contains(algorithm) {
            return false;
        }
        let with = |algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(algorithm, key).verify(signed, signature).is_ok()
        };
        match (&self.material, algorithm) {
            (Material::Ed25519(point), Algorithm::EdDsa) => with(&signature::ED25519, point),
            (Material::P256(point), Algorithm::Es256) => {
                with(&signature::ECDSA_P256_SHA256_FIXED, point)
            }
            (Material::P384(point), Algorithm::Es384) => {
                with(&signature::ECDSA_P384_SHA384_FIXED, point)
            }
            (Material::Secret(key), Algorithm::Hs256) => {
                hmac::verify(key, signed, signature).is_ok()
            }
            (Material::Rsa { modulus, exponent }, algorithm) => rsa_parameters(algorithm)
                .is_some_and(|parameters| {
                    signature::RsaPublicKeyComponents { n: modulus, e: exponent }
                        .verify(parameters, signed, signature)
                        .is_ok()
                }),
            (
                Material::Ed25519(_) | Material::P256(_) | Material::P384(_) | Material::Secret(_),
                _,
            ) => false,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

const fn rsa_parameters(algorithm: Algorithm) -> Option<&'static signature::RsaParameters> {
    match algorithm {
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::EdDsa | Algorithm::Es256 | Algorithm::Es384 | Algorithm::Hs256 => None,
    }
}

/// `use` and `key_ops` may both be absent; where they stand, they must both be for signatures.
fn is_for_signatures(jwk: &Table<'_>) -> Result<(), Skipped> {
    match jwk.get("use") {
        None => {}
        Some(usage) if usage.text() == Some("sig") => {}
        Some(_) => return Err(Skipped::Use),
    }
    match jwk.get("key_ops") {
        None => Ok(()),
        Some(Json::List(operations)) => {
            let only = operations.iter().all(|name| matches!(name.text(), Some("sign" | "verify")));
            let verify = operations.iter().filter(|name| name.text() == Some("verify")).count();
            if only && verify == 1 { Ok(()) } else { Err(Skipped::Operations) }
        }
        Some(_) => Err(Skipped::Operations),
    }
}

type Parts = (Material, Algorithms, [u8; 32]);

fn elliptic(jwk: &Table<'_>) -> Result<Parts, Skipped> {
    let curve = jwk.get("crv").and_then(Json::text).ok_or(Skipped::Member("crv"))?;
    let (algorithm, length) = match curve {
        "P-256" => (Algorithm::Es256, 32),
        "P-384" => (Algorithm::Es384, 48),
        _ => return Err(Skipped::Curve),
    };
    let (x_text, x) = member(jwk, "x", length..=length)?;
    let (y_text, y) = member(jwk, "y", length..=length)?;
    let point = [&[4][..], &x, &y].concat().into_boxed_slice();
    let material =
        if algorithm == Algorithm::Es256 { Material::P256(point) } else { Material::P384(point) };
    let print = format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x_text}","y":"{y_text}"}}"#);
    Ok((material, Algorithms::only(algorithm), sha256(&print)))
}

fn edwards(jwk: &Table<'_>) -> Result<Parts, Skipped> {
    if jwk.get("crv").and_then(Json::text).ok_or(Skipped::Member("crv"))? != "Ed25519" {
        return Err(Skipped::Curve);
    }
    let (text, x) = member(jwk, "x", 32..=32)?;
    let point: [u8; 32] = x.try_into().map_err(|_length| Skipped::Member("x"))?;
    if weak::has_small_order(point) {
        return Err(Skipped::Weak);
    }
    let print = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{text}"}}"#);
    Ok((Material::Ed25519(point), Algorithms::only(Algorithm::EdDsa), sha256(&print)))
}

fn rsa(jwk: &Table<'_>) -> Result<Parts, Skipped> {
    let (n_text, modulus) = member(jwk, "n", 1..=Key::RSA_BITS.1 / 8)
        .map_err(|wrong| if wrong == Skipped::Member("n") { Skipped::Size } else { wrong })?;
    let (e_text, exponent) = member(jwk, "e", 1..=5)?;
    if modulus.first() == Some(&0) || modulus.last().is_none_or(|byte| byte % 2 == 0) {
        return Err(Skipped::Member("n"));
    }
    if !(Key::RSA_BITS.0..=Key::RSA_BITS.1).contains(&bits(&modulus)) {
        return Err(Skipped::Size);
    }
    let value = exponent.iter().fold(0, |value: u64, &byte| value << 8 | u64::from(byte));
    if exponent.first() == Some(&0) || value % 2 == 0 || !(3..1 << 33).contains(&value) {
        return Err(Skipped::Exponent);
    }
    if weak::is_roca(&modulus) {
        return Err(Skipped::Weak);
    }
    let print = format!(r#"{{"e":"{e_text}","kty":"RSA","n":"{n_text}"}}"#);
    let material = Material::Rsa { modulus: modulus.into(), exponent: exponent.into() };
    Ok((material, Algorithms::RSA, sha256(&print)))
}

/// The member called `name`, as written and as bytes, if there are as many as `length` says.
///
/// The decoder admits one text for each sequence of bytes, so a thumbprint over the text is one over
/// the key.
fn member<'a>(
    jwk: &'a Table<'_>,
    name: &'static str,
    length: std::ops::RangeInclusive<usize>,
) -> Result<(&'a str, Vec<u8>), Skipped> {
    let text = jwk.get(name).and_then(Json::text).ok_or(Skipped::Member(name))?;
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_undecodable| Skipped::Member(name))?;
    if length.contains(&bytes.len()) { Ok((text, bytes)) } else { Err(Skipped::Member(name)) }
}

fn bits(number: &[u8]) -> usize {
    let spare = number.first().map_or(0, |byte| byte.leading_zeros());
    number.len() * 8 - usize::try_from(spare).unwrap_or(0)
}

fn sha256(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    bytes
}
