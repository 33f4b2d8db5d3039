//! A signed piece of bytes in compact form (RFC 7515): header, payload, signature.
//!
//! A header says with which algorithm and key it wants to be checked, and nothing more is believed:
//! whatever would bring a key along, fetch one, or change what the signature covers is refused.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::{JwtError, Part};
use super::json::{self, Json};
use super::{Algorithm, Key};

/// Values in a header.
const VALUES_MAX: usize = 256;

/// Parameters that would choose or bring a key, or change what is signed (RFC 7515 section 4.1,
/// RFC 7797, RFC 7516). `jwk` is among them everywhere but in a proof of possession.
const FORBIDDEN: [&str; 7] = ["b64", "crit", "enc", "jku", "x5c", "x5u", "zip"];

/// What is signed, and by whom allegedly. Nothing is proven before [`Self::verify`].
pub(crate) struct Jws<'a> {
    header: Header,
    /// Header and payload as sent: what the signature covers.
    signed: &'a [u8],
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// What a header says.
#[derive(Clone, Debug)]
pub struct Header {
    algorithm: Algorithm,
    kid: Option<Arc<str>>,
    typ: Option<Arc<str>>,
    embedded: Option<Key>,
}

/// Whether a header may bring its key along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Embedded {
    /// In anything but a proof of possession.
    Never,
    /// In a proof of possession, which shows that its sender has that very key.
    Required,
}

impl<'a> Jws<'a> {
    /// Takes `token` apart.
    pub(crate) fn parse(token: &'a [u8], embedded: Embedded) -> Result<Self, JwtError> {
        let mut parts = token.split(|&byte| byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwtError::Parts);
        };
        let signed = token.get(..header.len() + 1 + payload.len()).ok_or(JwtError::Parts)?;
        Ok(Self {
            header: Header::parse(&decode(header, Part::Header)?, embedded)?,
            signed,
            payload: decode(payload, Part::Payload)?,
            signature: decode(signature, Part::Signature)?,
        })
    }

    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    /// What is signed, if it is.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Whether `key` signed it, with the algorithm that the header names.
    pub(crate) fn verify(&self, key: &Key) -> Result<(), JwtError> {
        if !key.algorithms().contains(self.header.algorithm) {
            return Err(JwtError::AlgorithmOfKey(self.header.algorithm));
        }
        if key.verify(self.header.algorithm, self.signed, &self.signature) {
            Ok(())
        } else {
            Err(JwtError::Signature)
        }
    }
}

impl fmt::Debug for Jws<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jws(…)")
    }
}

impl Header {
    /// The algorithm that it claims.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `kid`: only ever compared with the names of keys that are already there.
    pub fn key_id(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// `typ`.
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// `jwk`, which only a proof of possession has.
    pub(crate) const fn embedded(&self) -> Option<&Key> {
        self.embedded.as_ref()
    }

    fn parse(bytes: &[u8], embedded: Embedded) -> Result<Self, JwtError> {
        let table = json::object(bytes, VALUES_MAX)
            .map_err(|source| JwtError::Json { part: Part::Header, source })?;
        if let Some(forbidden) = FORBIDDEN.into_iter().find(|name| table.get(name).is_some()) {
            return Err(JwtError::HeaderForbidden(forbidden));
        }
        let text = |name: &'static str| match table.get(name) {
            None => Ok(None),
            Some(Json::Text(text)) if !text.is_empty() => Ok(Some(&**text)),
            Some(_) => Err(JwtError::Header(name)),
        };
        let algorithm = text("alg")?.ok_or(JwtError::Header("alg"))?;
        let algorithm = Algorithm::named(algorithm).ok_or(JwtError::AlgorithmUnknown)?;
        if text("cty")?.is_some_and(|cty| media_type(cty).eq_ignore_ascii_case("jwt")) {
            return Err(JwtError::Nested);
        }
        let embedded = match (embedded, table.get("jwk")) {
            (Embedded::Never, None) => None,
            (Embedded::Never, Some(_)) => return Err(JwtError::HeaderForbidden("jwk")),
            (Embedded::Required, Some(Json::Table(jwk))) => {
                Some(Key::from_jwk(jwk).map_err(|_skipped| JwtError::Header("jwk"))?)
            }
            (Embedded::Required, _) => return Err(JwtError::Header("jwk")),
        };
        Ok(Self {
            algorithm,
            kid: text("kid")?.map(Arc::from),
            typ: text("typ")?.map(Arc::from),
            embedded,
        })
    }
}

/// A media type without the `application/` that RFC 7515 lets senders leave out.
pub(crate) fn media_type(text: &str) -> &str {
    const PREFIX: &str = "application/";
    match text.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
        Some(_) | None => text,
    }
}

/// Canonical base64url: no padding, no blanks, no spare bits.
fn decode(part: &[u8], which: Part) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_undecodable| JwtError::Encoding(which))
}
