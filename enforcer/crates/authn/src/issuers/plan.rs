//! An issuer as the policy describes it: whom to believe, in what, and on which terms.
//!
//! Plain and checked: whoever builds one has read the files and refused what makes no sense. What
//! changes while the agent runs (keys, endpoints that were found) is kept elsewhere.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::{Endpoint, Roots};
use crate::TokenFacts;
use crate::jwt::{Algorithm, Algorithms, Key, KeySet, Kind};

/// One `[issuer.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct IssuerPlan {
    /// NAME.
    pub name: Arc<str>,
    /// The `iss` of its tokens, compared byte for byte; no two issuers have the same.
    pub url: Arc<str>,
    /// A token must be meant for one of these; never empty.
    pub audience: Box<[Arc<str>]>,
    /// A signature must be of one of these.
    pub algorithms: Algorithms,
    /// Where its keys come from.
    pub keys: KeySource,
    /// What of a token names roles.
    pub roles: RoleValues,
    /// Which proofs count for tokens that are bound to their holder.
    pub bindings: Bindings,
    /// Whether a token must be bound.
    pub unbound: Unbound,
    /// Which `typ` its tokens have.
    pub kind: Kind,
    /// By how much its clock and ours may differ.
    pub leeway: Duration,
    /// How often its keys are fetched.
    pub refresh: Duration,
    /// For one question, from the look-up of its name to the last byte; also how long a request
    /// waits for keys that are being fetched.
    pub timeout: Duration,
    /// Whom its certificate must lead back to.
    pub roots: Roots,
    /// How it is asked about opaque tokens; none: it is not.
    pub introspection: Option<Introspection>,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// Its discovery document (`OpenID` Connect Discovery 1.0), found by its URL, names them.
    Discovery,
    /// They are here.
    Jwks(Endpoint),
    /// A file that was read with the policy; nothing is fetched.
    Pinned(Arc<KeySet>),
    /// It signs nothing that could be checked here: it is asked about every token.
    None,
}

/// What of a token names roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleValues {
    /// The claim at this path: a string or a list of them.
    Claim(Box<[Arc<str>]>),
    /// The words of its scope.
    Scopes,
}

/// Which proofs of possession count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bindings {
    /// RFC 9449 only.
    Dpop,
    /// RFC 8705 or RFC 9449, as the token says.
    Either,
    /// RFC 8705 only.
    Mtls,
}

/// What becomes of a token that whoever found it could use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbound {
    /// It is accepted.
    Accepted,
    /// It is refused.
    Refused,
}

/// How an issuer is asked about tokens (RFC 7662).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introspection {
    /// Where; none: the discovery document names it.
    pub endpoint: Option<Endpoint>,
    /// Whom the issuer knows us as.
    pub client: Arc<str>,
    /// What proves it.
    pub secret: ClientSecret,
    /// How long an answer holds, at most; never longer than [`Self::CACHE_MAX`] or the token.
    pub cache: Duration,
}

/// Proves to an issuer who asks; `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSecret(Zeroizing<String>);

impl IssuerPlan {
    /// The values of a token that the policy may tie roles to.
    pub fn role_values<'a>(&self, facts: &'a TokenFacts) -> impl Iterator<Item = &'a str> {
        let (claim, scopes) = match &self.roles {
            RoleValues::Claim(path) => (facts.claims.at(path), &[][..]),
            RoleValues::Scopes => (None, &*facts.scopes),
        };
        let scopes = scopes.iter().map(|scope| &**scope);
        claim.into_iter().flat_map(|value| value.texts()).chain(scopes)
    }
}

impl Introspection {
    /// A token that was ended at its issuer is good for no longer than this.
    pub const CACHE_MAX: Duration = Duration::from_secs(30);
}

impl ClientSecret {
    /// The secret that is `text`.
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for KeySource {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Discovery, Self::Discovery) | (Self::None, Self::None) => true,
            (Self::Jwks(ours), Self::Jwks(theirs)) => ours == theirs,
            (Self::Pinned(ours), Self::Pinned(theirs)) => {
                fingerprints(ours) == fingerprints(theirs)
            }
            (Self::Discovery | Self::Jwks(_) | Self::Pinned(_) | Self::None, _) => false,
        }
    }
}

/// What tells two sets of keys apart: names, keys, and what each is for.
pub(crate) fn fingerprints(set: &KeySet) -> BTreeSet<(Arc<str>, [u8; 32], Vec<&'static str>)> {
    let of = |key: &Key| {
        let algorithms = key.algorithms().iter().map(Algorithm::as_str).collect();
        (Arc::clone(key.name()), key.thumbprint(), algorithms)
    };
    set.keys().map(of).collect()
}

/// What a token is known by: SHA-256.
pub(crate) type Digest = [u8; 32];

pub(crate) fn digest_of(token: &[u8]) -> Digest {
    let mut found = Digest::default();
    found.iter_mut().zip(digest(&SHA256, token).as_ref()).for_each(|(to, from)| *to = *from);
    found
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(…)")
    }
}
