//! Who is calling, in words that are safe to log.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An authenticated caller, such as `key:k7Qx2mP9aB3c`; stable over rotation of its secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Principal(Arc<str>);

/// A role as the policy names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Role(Arc<str>);

/// The public half of an API key: twelve base-62 characters, no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; Self::LENGTH]);

/// The text is not a key id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a key id; it has twelve letters and digits, such as `k7Qx2mP9aB3c`")]
pub struct KeyIdError(String);

/// How a caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// An `enf_…` API key.
    ApiKey,
    /// A client certificate (RFC 8446), on its own.
    Certificate,
    /// A token of an issuer, self-contained (RFC 9068) or opaque (RFC 7662).
    Token,
}

/// A keyed, one-way name of a credential: finds every use of a leaked token without storing it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 16]);

/// SHA-256 of a certificate's DER, as RFC 8705 binds tokens to it; 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thumbprint(pub [u8; 32]);

/// The text is not a thumbprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a thumbprint; write SHA-256 as 64 hexadecimal digits, as `openssl x509 -fingerprint -sha256` shows it"
)]
pub struct ThumbprintError(String);

impl Principal {
    /// The caller that API key `id` stands for.
    pub fn from_key(id: KeyId) -> Self {
        Self(format!("key:{id}").into())
    }

    /// The caller whom `issuer`, as the policy names it, calls `subject`: `token:corp/alice`.
    ///
    /// A subject is the issuer's text: what is not printable ASCII is escaped, so that two subjects
    /// never look or compare the same.
    pub fn from_token(issuer: &str, subject: &str) -> Self {
        Self(format!("token:{issuer}/{}", printable(subject)).into())
    }

    /// The workload with this SPIFFE id, such as `spiffe://example.com/ns/pay/api`.
    pub fn from_spiffe(id: &str) -> Self {
        Self(printable(id).into())
    }

    /// The holder of the client certificate with this thumbprint.
    pub fn from_certificate(thumbprint: Thumbprint) -> Self {
        Self(format!("cert:{thumbprint}").into())
    }

    /// The caller whom a record, or an operator, calls `text`.
    pub fn recorded(text: &str) -> Self {
        Self(text.into())
    }

    /// As logged and shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn printable(text: &str) -> String {
    let escape = |c: char| -> String {
        if c.is_ascii_graphic() && c != '%' {
            c.to_string()
        } else {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")).collect()
        }
    };
    text.chars().map(escape).collect()
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

impl FromStr for Thumbprint {
    type Err = ThumbprintError;

    fn from_str(text: &str) -> Result<Self, ThumbprintError> {
        let digits: String = text.chars().filter(|&c| c != ':').collect();
        let wrong = || ThumbprintError(text.to_owned());
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (n, byte) in bytes.iter_mut().enumerate() {
            let pair = digits.get(n * 2..n * 2 + 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(pair, 16)
                .ok()
                .filter(|_| !pair.contains('+'))
                .ok_or_else(wrong)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Thumbprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Thumbprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Role {
    /// The role called `name`.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl KeyId {
    /// Characters in an id.
    pub const LENGTH: usize = 12;

    /// An id from its bytes; `None` when one of them is not a letter or digit.
    pub fn from_bytes(bytes: [u8; Self::LENGTH]) -> Option<Self> {
        bytes.iter().all(u8::is_ascii_alphanumeric).then_some(Self(bytes))
    }

    /// As shown.
    pub fn as_str(&self) -> &str {
        // The constructor admits ASCII only, so this never falls back.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let bytes = text.as_bytes().try_into().ok().and_then(Self::from_bytes);
        bytes.ok_or_else(|| KeyIdError(text.to_owned()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl Serialize for KeyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The text is not the fingerprint of a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the fingerprint of a credential; it has 32 hexadecimal digits")]
pub struct FingerprintError(String);

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = u128::from_str_radix(text, 16).ok().filter(|_| digits);
        bits.map(|bits| Self(bits.to_be_bytes())).ok_or_else(|| FingerprintError(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
