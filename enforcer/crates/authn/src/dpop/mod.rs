//! Proofs of possession (RFC 9449): the caller shows, for this very request, that it has the key
//! that its token is bound to.
//!
//! A proof is good once. What was accepted is remembered until it could not be accepted any more,
//! in a table of fixed size; a proof comes into it only when its signature is good and its key is
//! that of a token that was verified. The table is cut into [`SHARDS`] by the key, so that whoever
//! floods it fills one part. In a full part every proof is refused: what cannot be told from a
//! replay is treated as one.

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use enforcer_model::{Reason, Rejection, Timestamp, Value};
use parking_lot::Mutex;
use ring::digest;

use crate::jwt::{Algorithms, Embedded, Jws, JwtError, Parsed, Payload, media_type};

/// How far the proof's time may lie from ours, to either side.
pub const PROOF_WINDOW: Duration = Duration::from_secs(60);

/// Parts of the table of accepted proofs.
const SHARDS: usize = 64;

/// Proofs in one part and [`GENERATION`]; 270 a second, and 2 MiB in the worst case.
const ADMITTED_MAX: usize = 32_768;

/// From the first moment at which a proof can be accepted to the last.
const GENERATION: Duration = Duration::from_secs(2 * PROOF_WINDOW.as_secs());

/// Bytes in a `jti`.
const ID_LENGTH_MAX: usize = 256;

/// Bits of an RSA key that a caller chose: verifying with longer ones costs us too much.
const RSA_BITS_MAX: usize = 4096;

/// Checks proofs, and remembers those that it accepted. One for all threads.
#[derive(Debug)]
pub struct DpopProofs {
    shards: Box<[Mutex<Shard>]>,
    admitted_max: usize,
}

/// The request that a proof has to be for.
#[derive(Clone, Copy, Debug)]
pub struct ProofTarget<'a> {
    /// The method.
    pub method: &'a str,
    /// `https`, or `http` on a plain-text listener.
    pub scheme: &'a str,
    /// Host and port, as the caller named them.
    pub authority: &'a str,
    /// The path without its query.
    pub path: &'a str,
}

/// A proof was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// `ath` is not the hash of the token.
    #[error("the proof is for another token")]
    AnotherToken,
    /// A claim is missing or has the wrong form.
    #[error("the proof's `{0}` is missing or has the wrong form")]
    Claim(&'static str),
    /// The table of accepted proofs has no room.
    #[error("too many proofs in {} s; none can be told from a replay", GENERATION.as_secs())]
    Full,
    /// Signed with another key than the token is bound to.
    #[error("the proof was made with another key than the token's")]
    Key,
    /// The proof is no signed token, or its signature is wrong.
    #[error("the proof is not a token of its own key")]
    Malformed(#[source] JwtError),
    /// `htm` is another method.
    #[error("the proof is for another method")]
    Method,
    /// It was accepted before.
    #[error("the proof was used before")]
    Replayed,
    /// `htu` is another resource.
    #[error("the proof is for another address")]
    Target,
    /// `iat` is too far from now.
    #[error("the proof was made at {made}, more than {} s from now", PROOF_WINDOW.as_secs())]
    Time {
        /// Its `iat`.
        made: Timestamp,
    },
    /// `typ` is not `dpop+jwt`.
    #[error("the proof's `typ` is not `dpop+jwt`")]
    Type,
    /// An algorithm that is symmetric, or a key that is too long to be worth our time.
    #[error("the proof's algorithm is symmetric, or its RSA key has more than {RSA_BITS_MAX} bits")]
    Unacceptable,
}

/// What one part of the keys' holders have shown. A proof stays for one to two generations.
#[derive(Debug)]
struct Shard {
    current: HashSet<[u8; 16]>,
    previous: HashSet<[u8; 16]>,
    turned: Timestamp,
}

impl Default for DpopProofs {
    fn default() -> Self {
        Self::new()
    }
}

impl DpopProofs {
    /// With nothing accepted yet.
    pub fn new() -> Self {
        Self::with_room_for(ADMITTED_MAX)
    }

    fn with_room_for(admitted_max: usize) -> Self {
        let shard = || Shard {
            current: HashSet::new(),
            previous: HashSet::new(),
            turned: Timestamp::from_unix_ns(0),
        };
        Self { shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(), admitted_max }
    }

    /// Accepts `proof`, once, if whoever sends `token` with it has the key with the thumbprint
    /// `bound_to` and made the proof for this very request.
    pub fn prove(
        &self,
        proof: &[u8],
        token: &[u8],
        target: &ProofTarget<'_>,
        bound_to: &[u8; 32],
        now: Timestamp,
    ) -> Result<(), ProofError> {
        let id = check(proof, token, target, bound_to, now)?;
        self.admit(bound_to, &id, now)
    }

    /// Last of all, so that only what is good takes room.
    fn admit(&self, key: &[u8; 32], id: &str, now: Timestamp) -> Result<(), ProofError> {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(key);
        hash.update(id.as_bytes());
        let mut entry = [0; 16];
        entry.iter_mut().zip(hash.finish().as_ref()).for_each(|(to, from)| *to = *from);

        let [first, ..] = key;
        let shard = self.shards.get(usize::from(*first) % SHARDS).ok_or(ProofError::Full)?;
        let mut shard = shard.lock();
        shard.turn(now);
        if shard.current.contains(&entry) || shard.previous.contains(&entry) {
            return Err(ProofError::Replayed);
        }
        if shard.current.len() >= self.admitted_max {
            return Err(ProofError::Full);
        }
        shard.current.insert(entry);
        Ok(())
    }
}

impl Shard {
    fn turn(&mut self, now: Timestamp) {
        let age = now.since(self.turned);
        if age < GENERATION {
            return;
        }
        self.previous = std::mem::take(&mut self.current);
        if age >= GENERATION * 2 {
            self.previous = HashSet::new();
        }
        self.turned = now;
    }
}

/// Everything but whether it is new. The proof's `jti`.
fn check(
    proof: &[u8],
    token: &[u8],
    target: &ProofTarget<'_>,
    bound_to: &[u8; 32],
    now: Timestamp,
) -> Result<Box<str>, ProofError> {
    if proof.len() > Parsed::LENGTH_MAX {
        return Err(ProofError::Malformed(JwtError::TooLong { found: proof.len() }));
    }
    let jws = Jws::parse(proof, Embedded::Required).map_err(ProofError::Malformed)?;
    let header = jws.header();
    if !header.typ().is_some_and(|typ| media_type(typ).eq_ignore_ascii_case("dpop+jwt")) {
        return Err(ProofError::Type);
    }
    let key = header.embedded().ok_or(ProofError::Malformed(JwtError::Header("jwk")))?;
    let too_long = key.rsa_bits().is_some_and(|bits| bits > RSA_BITS_MAX);
    if too_long || !Algorithms::ASYMMETRIC.contains(header.algorithm()) {
        return Err(ProofError::Unacceptable);
    }
    if key.thumbprint() != *bound_to {
        return Err(ProofError::Key);
    }
    let payload = Payload::parse(jws.payload()).map_err(ProofError::Malformed)?;
    let text = |name: &'static str| {
        payload.claims().get(name).and_then(Value::text).ok_or(ProofError::Claim(name))
    };
    let id = text("jti")?;
    if id.is_empty() || id.len() > ID_LENGTH_MAX {
        return Err(ProofError::Claim("jti"));
    }
    if text("htm")? != target.method {
        return Err(ProofError::Method);
    }
    if !target.is(text("htu")?) {
        return Err(ProofError::Target);
    }
    let made = payload.issued().ok_or(ProofError::Claim("iat"))?;
    if made.since(now).max(now.since(made)) > PROOF_WINDOW {
        return Err(ProofError::Time { made });
    }
    if text("ath")? != URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token)) {
        return Err(ProofError::AnotherToken);
    }
    jws.verify(key).map_err(ProofError::Malformed)?;
    Ok(id.into())
}

impl ProofTarget<'_> {
    /// Whether `htu` names it, query and fragment aside (RFC 9449 section 4.3), after the
    /// normalisation of RFC 3986 section 6.2 that cannot change what is meant: case of scheme and
    /// host, the scheme's own port, an empty path, escapes of what needs none. Dot segments are not
    /// resolved, because no request with one gets this far.
    fn is(&self, htu: &str) -> bool {
        let address = htu.split(['?', '#']).next().unwrap_or_default();
        let Some((scheme, rest)) = address.split_once("://") else { return false };
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(slash).unwrap_or((rest, ""));
        scheme.eq_ignore_ascii_case(self.scheme)
            && !authority.is_empty()
            && without_port(authority, self.scheme)
                .eq_ignore_ascii_case(without_port(self.authority, self.scheme))
            && normal(path) == normal(self.path)
    }
}

/// `authority` without the port that its scheme has anyway.
fn without_port<'a>(authority: &'a str, scheme: &str) -> &'a str {
    let own = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    authority.strip_suffix(own).or_else(|| authority.strip_suffix(':')).unwrap_or(authority)
}

/// `path` with escapes in upper case, and none where the byte may stand for itself.
fn normal(path: &str) -> Vec<u8> {
    let mut bytes = if path.is_empty() { b"/" } else { path.as_bytes() };
    let mut normal = Vec::with_capacity(bytes.len());
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        let escaped = match (first, rest) {
            (b'%', [high, low, behind @ ..]) => digit(*high)
                .zip(digit(*low))
                .map(|(high_value, low_value)| (high_value << 4 | low_value, [high, low], behind)),
            _ => None,
        };
        match escaped {
            Some((byte, _, behind)) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                normal.push(byte);
                bytes = behind;
            }
            Some((_, digits, behind)) => {
                normal.push(b'%');
                normal.extend(digits.map(u8::to_ascii_uppercase));
                bytes = behind;
            }
            None => normal.push(*first),
        }
    }
    normal
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

impl ProofError {
    /// What the audit record says. A full table is our affair and no evidence against the caller.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Full => Reason::LimitUnavailable,
            Self::Replayed => Reason::ProofReplayed,
            Self::AnotherToken
            | Self::Claim(_)
            | Self::Key
            | Self::Malformed(_)
            | Self::Method
            | Self::Target
            | Self::Time { .. }
            | Self::Type
            | Self::Unacceptable => Reason::TokenBinding,
        }
    }
}

impl From<ProofError> for Rejection {
    fn from(error: ProofError) -> Self {
        error.reason().because(error)
    }
}

#[cfg(test)]
mod tests;
