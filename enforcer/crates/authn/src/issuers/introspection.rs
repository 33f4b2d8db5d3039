//! Asks an issuer about one token (RFC 7662), and reads the answer as strictly as a token.
//!
//! Only `"active": true` is an answer that lets anybody in. What else the answer says must fit:
//! issuer, audience, time, kind. An audience is required, as in a signed token: a token for somebody
//! else's API is active too.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use enforcer_model::{Reason, Timestamp, Value};
use http::HeaderValue;
use zeroize::Zeroizing;

use super::{AskError, ClientSecret, Endpoint, Introspection, IssuerPlan, Source};
use crate::TokenFacts;
use crate::identity::Confirmation;
use crate::jwt::{Expect, JwtError, Payload};

/// Bytes of an answer.
const ANSWER_MAX: usize = 64 * 1024;

/// The issuer does not vouch for the token, or cannot be asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unintrospected {
    /// The issuer says that it is not active.
    #[error("the issuer `{issuer}` says that the token is not active")]
    Inactive {
        /// Who was asked.
        issuer: Arc<str>,
    },
    /// What it says of the token does not fit.
    #[error("what the issuer `{issuer}` says of the token does not fit")]
    Misfit {
        /// Who was asked.
        issuer: Arc<str>,
        /// What does not.
        source: JwtError,
    },
    /// It is a refresh token, or of a kind that nobody knows.
    #[error("the issuer `{issuer}` says that it is no access token")]
    OtherKind {
        /// Who was asked.
        issuer: Arc<str>,
    },
    /// No whole answer came.
    #[error("the issuer `{issuer}` did not answer")]
    Unanswered {
        /// Who was asked.
        issuer: Arc<str>,
        /// Why not.
        source: Arc<AskError>,
    },
    /// An answer came that is none.
    #[error("the issuer `{issuer}` answered something else")]
    Unreadable {
        /// Who was asked.
        issuer: Arc<str>,
        /// What is wrong.
        source: JwtError,
    },
    /// It is not known where to ask.
    #[error("it is not known where the issuer `{issuer}` is asked about tokens")]
    Unreachable {
        /// Whom to ask.
        issuer: Arc<str>,
    },
}

impl Unintrospected {
    /// What the audit record says.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Inactive { .. } => Reason::TokenInactive,
            Self::Misfit { source, .. } => source.reason(),
            Self::OtherKind { .. } => Reason::TokenMalformed,
            Self::Unanswered { .. } | Self::Unreadable { .. } | Self::Unreachable { .. } => {
                Reason::IssuerUnavailable
            }
        }
    }
}

/// What the issuer of `plan` says of `token`.
pub(crate) async fn introspect(
    token: &[u8],
    plan: &IssuerPlan,
    how: &Introspection,
    source: &Source,
    now: Timestamp,
) -> Result<TokenFacts, Unintrospected> {
    let issuer = || Arc::clone(&plan.name);
    let found = source.introspection();
    let endpoint: &Endpoint = match (&how.endpoint, &found) {
        (Some(endpoint), _) => endpoint,
        (None, Some(endpoint)) => endpoint,
        (None, None) => return Err(Unintrospected::Unreachable { issuer: issuer() }),
    };
    let mut form = b"token_type_hint=access_token&token=".to_vec();
    encode(token, &mut form);
    let credentials = credentials(&how.client, &how.secret);
    let asked =
        source.client.post_form(endpoint, Bytes::from(form), credentials, ANSWER_MAX, plan.timeout);
    let body = asked.await.map_err(|error| Unintrospected::Unanswered {
        issuer: issuer(),
        source: Arc::new(error),
    })?;
    read_introspection(&body, plan, now)
}

/// The facts in an issuer's answer `body`, if it vouches for the token at `now`.
pub fn read_introspection(
    body: &[u8],
    plan: &IssuerPlan,
    now: Timestamp,
) -> Result<TokenFacts, Unintrospected> {
    let issuer = || Arc::clone(&plan.name);
    let unreadable = |source| Unintrospected::Unreadable { issuer: issuer(), source };
    let misfit = |source| Unintrospected::Misfit { issuer: issuer(), source };
    let answer = Payload::parse(body).map_err(unreadable)?;
    match answer.claims().get("active") {
        Some(Value::Flag(true)) => {}
        Some(_) => return Err(Unintrospected::Inactive { issuer: issuer() }),
        None => return Err(unreadable(JwtError::Missing("active"))),
    }
    if answer.issuer().is_some_and(|other| other != &*plan.url) {
        return Err(misfit(JwtError::Issuer));
    }
    let ahead = now.saturating_add(plan.leeway);
    for begins in [answer.not_before(), answer.issued()].into_iter().flatten() {
        if begins > ahead {
            return Err(misfit(JwtError::NotYetValid(begins)));
        }
    }
    if answer.audience().is_empty() {
        return Err(misfit(JwtError::Missing("aud")));
    }
    // One that does not say how long it lives is asked about again when the answer is old.
    let otherwise = now.saturating_add(Introspection::CACHE_MAX);
    let facts = answer.into_facts(&plan.name, None, otherwise).map_err(misfit)?;
    if !is_access_token(&facts) {
        return Err(Unintrospected::OtherKind { issuer: issuer() });
    }
    plan.expect().still_admits(&facts, now).map_err(misfit)?;
    Ok(facts)
}

impl IssuerPlan {
    /// What a token of this issuer has to say.
    pub(crate) fn expect(&self) -> Expect<'_> {
        Expect {
            name: &self.name,
            issuer: &self.url,
            audience: &self.audience,
            algorithms: self.algorithms,
            kind: self.kind,
            leeway: self.leeway,
        }
    }
}

/// Whether `token_type` (RFC 7662), and `typ` as Keycloak writes it, speak of an access token whose
/// binding is the one that they name.
fn is_access_token(facts: &TokenFacts) -> bool {
    let is_key_bound = matches!(facts.confirmation, Some(Confirmation::Key(_)));
    let fits = |word: &str| {
        let is = |kind: &str| word.eq_ignore_ascii_case(kind);
        is("Bearer") || is("at+jwt") || (is("DPoP") && is_key_bound)
    };
    ["token_type", "typ"]
        .into_iter()
        .all(|name| facts.claims.get(name).is_none_or(|value| value.text().is_some_and(fits)))
}

/// HTTP Basic as RFC 6749, section 2.3.1, has it: both halves encoded like a form's first.
fn credentials(client: &str, secret: &ClientSecret) -> HeaderValue {
    let mut pair = Zeroizing::new(Vec::new());
    encode(client.as_bytes(), &mut pair);
    pair.push(b':');
    encode(secret.expose().as_bytes(), &mut pair);
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*pair)));
    // Base64 has no byte that a header cannot have.
    let mut value =
        HeaderValue::from_str(&text).unwrap_or_else(|_refused| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

/// `application/x-www-form-urlencoded`.
fn encode(text: &[u8], to: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or_default();
    for &byte in text {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => to.push(byte),
            b' ' => to.push(b'+'),
            _ => to.extend([b'%', digit(byte >> 4), digit(byte & 15)]),
        }
    }
}

/// How long an answer about a token that ends at `expires` may be remembered.
pub(crate) fn good_for(how: &Introspection, expires: Timestamp, now: Timestamp) -> Duration {
    how.cache.min(Introspection::CACHE_MAX).min(expires.since(now))
}
