//! From the bytes of a token to facts about its subject, in steps that cannot be left out.
//!
//! [`Parsed`] has a form and proves nothing. [`Parsed::check`] refuses early whatever its own words
//! refuse, and makes a [`Checked`]; only [`Checked::verify`], with a key, makes
//! [`TokenFacts`](crate::TokenFacts).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Claims, Timestamp, Value};

use super::error::JwtError;
use super::jws::{Embedded, Jws, media_type};
use super::payload::Payload;
use super::{Algorithms, Header, Key};
use crate::TokenFacts;

/// A token that has the right form. What it says is not to be believed.
pub struct Parsed<'a> {
    jws: Jws<'a>,
    payload: Payload,
}

/// A token that says what is expected of it. Whether that is true, only its signature tells.
pub struct Checked<'a> {
    jws: Jws<'a>,
    payload: Payload,
    name: Arc<str>,
    expires: Timestamp,
}

/// What the policy expects of an issuer's tokens.
#[derive(Clone, Copy, Debug)]
pub struct Expect<'a> {
    /// The `[issuer.NAME]`.
    pub name: &'a Arc<str>,
    /// `iss`, compared byte for byte.
    pub issuer: &'a str,
    /// What `aud` has to have one of.
    pub audience: &'a [Arc<str>],
    /// What it may be signed with.
    pub algorithms: Algorithms,
    /// What `typ` has to be.
    pub kind: Kind,
    /// How far the issuer's clock may be off.
    pub leeway: Duration,
}

/// What kinds of tokens an issuer's access tokens are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RFC 9068: `typ` is `at+jwt`.
    AccessToken,
    /// For issuers without RFC 9068: `typ` may also be `JWT` or absent. Tokens that show that they
    /// are for something else are refused all the same.
    Jwt,
}

impl<'a> Parsed<'a> {
    /// Bytes in a token.
    pub const LENGTH_MAX: usize = 8 * 1024;

    /// Takes `token` apart. Needs no key and knows no time.
    pub fn parse(token: &'a [u8]) -> Result<Self, JwtError> {
        if token.len() > Self::LENGTH_MAX {
            return Err(JwtError::TooLong { found: token.len() });
        }
        let jws = Jws::parse(token, Embedded::Never)?;
        let payload = Payload::parse(jws.payload())?;
        Ok(Self { jws, payload })
    }

    /// How it claims to be signed.
    pub const fn header(&self) -> &Header {
        self.jws.header()
    }

    /// Who it claims to be from: chooses the issuer whose keys are asked.
    pub fn issuer(&self) -> Option<&str> {
        self.payload.issuer()
    }

    /// What it claims; for people who inspect a token, never for a decision.
    pub const fn claims(&self) -> &Claims {
        self.payload.claims()
    }

    /// Refuses a token that its own words refuse, before the signature costs anything.
    pub fn check(self, expect: &Expect<'_>, now: Timestamp) -> Result<Checked<'a>, JwtError> {
        let algorithm = self.header().algorithm();
        if !expect.algorithms.contains(algorithm) {
            return Err(JwtError::AlgorithmNotAllowed(algorithm));
        }
        self.check_type(expect.kind)?;
        match self.payload.issuer() {
            None => return Err(JwtError::Missing("iss")),
            Some(issuer) if issuer == expect.issuer => {}
            Some(_) => return Err(JwtError::Issuer),
        }
        if self.payload.audience().is_empty() {
            return Err(JwtError::Missing("aud"));
        }
        let expires = self.payload.expires().ok_or(JwtError::Missing("exp"))?;
        expect.admits(self.payload.audience(), expires, now)?;
        let ahead = now.saturating_add(expect.leeway);
        for begins in [self.payload.not_before(), self.payload.issued()].into_iter().flatten() {
            if begins > ahead {
                return Err(JwtError::NotYetValid(begins));
            }
        }
        if self.payload.claims().get("sub").and_then(Value::text).is_none_or(str::is_empty) {
            return Err(JwtError::Missing("sub"));
        }
        let name = Arc::clone(expect.name);
        Ok(Checked { jws: self.jws, payload: self.payload, name, expires })
    }

    fn check_type(&self, kind: Kind) -> Result<(), JwtError> {
        let typ = self.header().typ().map(media_type);
        let is = |name: &str| typ.is_some_and(|typ| typ.eq_ignore_ascii_case(name));
        let fits = match kind {
            Kind::AccessToken => is("at+jwt"),
            Kind::Jwt => {
                is("at+jwt")
                    || ((typ.is_none() || is("jwt")) && !is_for_something_else(self.claims()))
            }
        };
        if fits { Ok(()) } else { Err(JwtError::Type) }
    }
}

/// Whether claims show an ID token (`OpenID` Connect Core), a logout token (Back-Channel Logout), a
/// proof of possession (RFC 9449) or what Keycloak marks as something else than an access token.
fn is_for_something_else(claims: &Claims) -> bool {
    const TELLING: [&str; 7] = ["ath", "at_hash", "c_hash", "events", "htm", "htu", "s_hash"];
    let marked_access = match claims.get("typ") {
        None => false,
        Some(Value::Text(typ)) if matches!(&**typ, "Bearer" | "DPoP") => true,
        Some(_) => return true,
    };
    TELLING.into_iter().any(|name| claims.get(name).is_some())
        || (!marked_access && claims.get("nonce").is_some())
}

impl Checked<'_> {
    /// What is true of the token's subject, if `key` signed it.
    pub fn verify(self, key: &Key) -> Result<TokenFacts, JwtError> {
        self.jws.verify(key)?;
        self.payload.into_facts(&self.name, Some(Arc::clone(key.name())), self.expires)
    }
}

impl Expect<'_> {
    /// Whether a token that was verified before is still within its time and for our audience.
    pub fn still_admits(&self, facts: &TokenFacts, now: Timestamp) -> Result<(), JwtError> {
        self.admits(&facts.audience, facts.expires, now)
    }

    fn admits(
        &self,
        audience: &[Arc<str>],
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<(), JwtError> {
        if now >= expires.saturating_add(self.leeway) {
            return Err(JwtError::Expired(expires));
        }
        if audience.iter().any(|one| self.audience.contains(one)) {
            Ok(())
        } else {
            Err(JwtError::Audience)
        }
    }
}

impl fmt::Debug for Parsed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parsed(…)")
    }
}

impl fmt::Debug for Checked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checked(…)")
    }
}
