//! What a token, or an introspection answer, claims: the registered names in their one form, the
//! rest as it is.
//!
//! A registered claim in another form than its RFC gives it makes the whole token malformed, rather
//! than being passed over: what a verifier does not understand it must not accept.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use enforcer_model::{Claims, Thumbprint, Timestamp, Value};

use super::error::{JwtError, Part};
use super::json::{self, Json, JsonError, Table};
use super::numeric::{Round, date};
use crate::{Confirmation, TokenFacts};

/// Claims in the form that their RFCs give them. Nothing is proven by that.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    claims: Claims,
    audience: Box<[Arc<str>]>,
    confirmation: Option<Confirmation>,
    expires: Option<Timestamp>,
    issued: Option<Timestamp>,
    not_before: Option<Timestamp>,
    scopes: Box<[Arc<str>]>,
}

/// Values in a payload or an answer.
const VALUES_MAX: usize = 8192;

/// Registered claims that are texts (RFC 7519, RFC 9068, RFC 7662, RFC 8414).
const TEXTS: [&str; 6] = ["azp", "client_id", "iss", "jti", "sub", "username"];

/// A strict JSON object, such as a discovery document.
pub(crate) fn document(bytes: &[u8]) -> Result<Claims, JsonError> {
    json::object(bytes, VALUES_MAX).map(|table| table.to_claims())
}

impl Payload {
    /// The claims in `bytes`, which the caller has bounded.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, JwtError> {
        let table = json::object(bytes, VALUES_MAX)
            .map_err(|source| JwtError::Json { part: Part::Payload, source })?;
        let claims = table.to_claims();
        if let Some(wrong) =
            TEXTS.into_iter().find(|name| claims.get(name).is_some_and(|v| v.text().is_none()))
        {
            return Err(JwtError::Claim(wrong));
        }
        Ok(Self {
            audience: audience(&claims)?,
            confirmation: claims.get("cnf").map(confirmation).transpose()?,
            expires: time(&table, "exp", Round::Down)?,
            issued: time(&table, "iat", Round::Down)?,
            not_before: time(&table, "nbf", Round::Up)?,
            scopes: scopes(&claims)?,
            claims,
        })
    }

    pub(crate) const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// `iss`.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::text)
    }

    /// `aud`, one or many; none when it has none.
    pub(crate) const fn audience(&self) -> &[Arc<str>] {
        &self.audience
    }

    /// `exp`.
    pub(crate) const fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// `iat`.
    pub(crate) const fn issued(&self) -> Option<Timestamp> {
        self.issued
    }

    /// `nbf`.
    pub(crate) const fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// Whom it is about: `sub`, else the client itself, else the user's name, as introspection
    /// answers may leave `sub` out.
    pub(crate) fn subject(&self) -> Option<&Arc<str>> {
        ["sub", "client_id", "username"].into_iter().find_map(|name| self.text(name))
    }

    /// The facts of a token of the issuer that the policy calls `issuer`.
    ///
    /// Whoever calls this has proven the token by its signature, or by asking its issuer.
    /// `otherwise` is its end when it does not say.
    pub(crate) fn into_facts(
        self,
        issuer: &Arc<str>,
        key: Option<Arc<str>>,
        otherwise: Timestamp,
    ) -> Result<TokenFacts, JwtError> {
        Ok(TokenFacts {
            issuer: Arc::clone(issuer),
            subject: self.subject().cloned().ok_or(JwtError::Missing("sub"))?,
            id: self.text("jti").cloned(),
            key,
            client: self.text("client_id").or_else(|| self.text("azp")).cloned(),
            audience: self.audience,
            scopes: self.scopes,
            issued: self.issued,
            expires: self.expires.unwrap_or(otherwise),
            confirmation: self.confirmation,
            claims: self.claims,
        })
    }

    /// A text that is not empty.
    fn text(&self, name: &str) -> Option<&Arc<str>> {
        self.claims.get(name).and_then(shared).filter(|text| !text.is_empty())
    }
}

fn time(
    table: &Table<'_>,
    name: &'static str,
    round: Round,
) -> Result<Option<Timestamp>, JwtError> {
    match table.get(name) {
        None => Ok(None),
        Some(Json::Number(number)) => date(number, round).map(Some).ok_or(JwtError::Claim(name)),
        Some(Json::Null | Json::Flag(_) | Json::Text(_) | Json::List(_) | Json::Table(_)) => {
            Err(JwtError::Claim(name))
        }
    }
}

/// A text, or a list of at least one text and of nothing else.
fn audience(claims: &Claims) -> Result<Box<[Arc<str>]>, JwtError> {
    let wrong = JwtError::Claim("aud");
    match claims.get("aud") {
        None => Ok(Box::default()),
        Some(Value::Text(one)) => Ok(Box::new([Arc::clone(one)])),
        Some(Value::List(many)) if !many.is_empty() => {
            many.iter().map(|value| shared(value).cloned().ok_or(wrong)).collect()
        }
        Some(
            Value::List(_) | Value::Flag(_) | Value::Number(_) | Value::Table(_) | Value::Other,
        ) => Err(wrong),
    }
}

/// `scope`, words with blanks between them (RFC 8693); or `scp`, which some issuers write, usually
/// as a list. Each is taken in both forms, `scope` before `scp`.
fn scopes(claims: &Claims) -> Result<Box<[Arc<str>]>, JwtError> {
    for name in ["scope", "scp"] {
        let wrong = JwtError::Claim(name);
        match claims.get(name) {
            None => {}
            Some(Value::Text(words)) => {
                return Ok(words.split(' ').filter(|w| !w.is_empty()).map(Arc::from).collect());
            }
            Some(Value::List(words)) => {
                return words.iter().map(|word| shared(word).cloned().ok_or(wrong)).collect();
            }
            Some(Value::Flag(_) | Value::Number(_) | Value::Table(_) | Value::Other) => {
                return Err(wrong);
            }
        }
    }
    Ok(Box::default())
}

/// `cnf` (RFC 7800). Several methods at once, or one that is not understood, cannot be checked.
fn confirmation(value: &Value) -> Result<Confirmation, JwtError> {
    let wrong = JwtError::Claim("cnf");
    let Value::Table(methods) = value else { return Err(wrong) };
    let mut methods = methods.iter();
    let (Some((method, value)), None) = (methods.next(), methods.next()) else {
        return Ok(Confirmation::Unknown);
    };
    let hash = || -> Result<[u8; 32], JwtError> {
        let text = value.text().ok_or(wrong)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_undecodable| wrong)?;
        bytes.try_into().map_err(|_length| wrong)
    };
    match method {
        "jkt" => hash().map(Confirmation::Key),
        "x5t#S256" => hash().map(|hash| Confirmation::Certificate(Thumbprint(hash))),
        _ => Ok(Confirmation::Unknown),
    }
}

const fn shared(value: &Value) -> Option<&Arc<str>> {
    match value {
        Value::Text(text) => Some(text),
        Value::Flag(_) | Value::Number(_) | Value::List(_) | Value::Table(_) | Value::Other => None,
    }
}
