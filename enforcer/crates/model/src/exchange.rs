//! One finished request, as the audit log records it and the detectors read it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    CredentialKind, Exposed, Fingerprint, KeyId, Peer, Principal, Reason, Role, Source, SourceBy,
    Thumbprint, Timestamp, TraceId,
};

/// 128 random bits that name one request in the response, the log and the audit record.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(u128);

/// The text is not a request id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a request id; it has 32 hexadecimal digits")]
pub struct RequestIdError(String);

/// The protocol version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    V1_2,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V1_3,
}

/// The version of HTTP a client spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpVersion {
    /// HTTP/1.0 or 1.1.
    #[serde(rename = "1.1")]
    H1,
    /// RFC 9113.
    #[serde(rename = "2")]
    H2,
}

/// Where an answer came from, on a route that keeps answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheUse {
    /// From the cache, and fresh.
    Hit,
    /// From the upstream.
    Miss,
    /// From the cache after the upstream had said that nothing has changed.
    Revalidated,
    /// From the cache, no longer fresh, where that is allowed.
    Stale,
}

/// What authentication learned about the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Who {
    /// Whom the credential stands for.
    pub principal: Principal,
    /// The API key used.
    pub key: Option<KeyId>,
    /// What kind of proof it was.
    pub kind: CredentialKind,
    /// The role that the matching rule accepted; none when no rule matched.
    pub role: Option<Role>,
    /// The roles that the credential gives under the policy, included ones too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Role>,
    /// The scopes of the credential.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Arc<str>>,
    /// The issuer of a token, as the policy names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Arc<str>>,
    /// `jti` of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Arc<str>>,
    /// The application: of a key's record, or a token's client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<Arc<str>>,
    /// The client certificate of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Thumbprint>,
    /// How a token was proven to be in its holder's hands: `mtls` or `dpop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<&'static str>,
}

impl Who {
    /// A caller of whom nothing more is known yet.
    pub const fn new(principal: Principal, kind: CredentialKind) -> Self {
        Self {
            principal,
            key: None,
            kind,
            role: None,
            roles: Vec::new(),
            scopes: Vec::new(),
            issuer: None,
            token: None,
            application: None,
            certificate: None,
            bound: None,
        }
    }
}

/// One request and its answer. No credential, no cookie, no body, no query string.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exchange {
    /// Named in the answer's `x-request-id`.
    pub id: RequestId,
    /// When its head had been read.
    pub at: Timestamp,
    /// The other end of the connection.
    pub peer: Peer,
    /// Where the request comes from, when trusted proxies named somebody else than the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// How that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_by: Option<SourceBy>,
    /// Why what proxies said was not followed to its end; the source is the last that was certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_doubt: Option<&'static str>,
    /// The listener of the policy that accepted it.
    pub listener: Arc<str>,
    /// None on a plain-text listener.
    pub tls: Option<TlsVersion>,
    /// JA4, the fingerprint of the client's TLS software.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ja4: Option<Arc<str>>,
    /// What the client calls itself, cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Arc<str>>,
    /// The trace that the request is part of, by the client's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
    /// The HTTP version.
    pub http: HttpVersion,
    /// As sent; at most 32 characters are kept.
    pub method: String,
    /// The canonical host; none when it was refused.
    pub host: Option<String>,
    /// The canonical path without its query; none when it was refused.
    pub path: Option<String>,
    /// The route of the policy that matched.
    pub route: Option<Arc<str>>,
    /// The caller; none when authentication did not succeed.
    pub who: Option<Who>,
    /// The incident level that held; at 0 it is left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub incident: u8,
    /// Where the operator's database places the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Arc<str>>,
    /// Keyed hash of the presented credential, whether it was accepted or not.
    pub credential: Option<Fingerprint>,
    /// The status that the client got.
    pub status: u16,
    /// Why it was refused by us; none when the answer is the upstream's.
    pub reason: Option<Reason>,
    /// What happened, with its causes; never shown to the client.
    pub cause: Option<String>,
    /// The rule that decided: `route.allow[1]`, a limit's name, …
    pub rule: Option<String>,
    /// The host of the upstream that was asked: its address, or `unix:` and the path of its socket.
    pub upstream: Option<Arc<str>>,
    /// Where the answer came from; none on a route that keeps no answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheUse>,
    /// Body bytes received from the client.
    pub bytes_in: u64,
    /// Body bytes sent to the client.
    pub bytes_out: u64,
    /// What the answer gave away; none where nothing was found, or nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed: Option<Exposed>,
    /// From the head read to the last byte of the answer.
    #[serde(rename = "duration_us", serialize_with = "as_micros")]
    pub duration: Duration,
    /// Of that, waiting for the upstream's response head.
    #[serde(rename = "upstream_us", serialize_with = "as_micros")]
    pub upstream_wait: Duration,
    /// SHA-256 of the policy in force, in hex.
    pub policy: Arc<str>,
}

impl Exchange {
    /// Where the request comes from: the peer, unless trusted proxies named somebody else.
    pub fn source(&self) -> Source {
        self.source.unwrap_or_else(|| self.peer.source())
    }

    /// The peer that the request came through, if its source is known only by that peer's word: no
    /// packet shows it, so nothing in the kernel may follow from it.
    pub fn through(&self) -> Option<Source> {
        self.source.map(|_named| self.peer.source())
    }
}

impl RequestId {
    /// The id made of `bits`.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Told twice for every request, where the formatter's own way is seen in a profile.
        let mut text = [0; 32];
        for (at, digit) in text.iter_mut().rev().enumerate() {
            let nibble = u8::try_from(self.0 >> (4 * at) & 0xF).unwrap_or_default();
            *digit = if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}

impl FromStr for RequestId {
    type Err = RequestIdError;

    fn from_str(text: &str) -> Result<Self, RequestIdError> {
        let is_whole = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = u128::from_str_radix(text, 16).ok().filter(|_| is_whole);
        bits.map(Self).ok_or_else(|| RequestIdError(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for RequestId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(level: &u8) -> bool {
    *level == 0
}

fn as_micros<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}
