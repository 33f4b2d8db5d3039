//! Tokens, as an operator takes them back and asks about them.

use std::fmt;

use enforcer_model::{Author, Expiry, Timestamp};
use serde::{Deserialize, Serialize};

/// Tokens, or a certificate, to be taken back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRevoke {
    /// `jti:ID`, `sub:SUBJECT`, `kid:ID`, `client:ID`, `before:TIME` or `cert:SHA256`.
    pub target: String,
    /// Of this issuer only, as the policy names it.
    #[serde(default)]
    pub issuer: Option<String>,
    /// For how long; none is for ever, but for a token whose end is known.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// Why.
    pub reason: String,
}

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationRow {
    /// Its name, such as `R-17`.
    pub id: String,
    /// What is taken back, such as `sub:alice`.
    pub target: String,
    /// Of this issuer only.
    pub issuer: Option<String>,
    /// When it was decided.
    pub since: Timestamp,
    /// When it ends.
    pub until: Expiry,
    /// Who decided.
    pub by: Author,
    /// Why.
    pub reason: String,
}

/// A revocation that came, or went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokensRevoked {
    /// The revocation.
    pub revocation: RevocationRow,
    /// Requests under way that were cut.
    pub cut: u64,
    /// Why it is not on disk, and would be forgotten by a restart.
    #[serde(default)]
    pub not_stored: Option<String>,
    /// Number of the audit record.
    pub audit: Option<u64>,
}

/// What is taken back, and how the issuers are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokensListed {
    /// Those in force, oldest first, by the page.
    pub revocations: Vec<RevocationRow>,
    /// The last of this page, where there are more behind it.
    #[serde(default)]
    pub next: Option<String>,
    /// In the order of the policy.
    pub issuers: Vec<IssuerRow>,
}

/// How an issuer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerRow {
    /// As the policy names it.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// Whether its tokens can be checked.
    pub usable: bool,
    /// Keys that can be used.
    pub keys: u64,
    /// Entries of its key set that cannot.
    pub skipped: u64,
    /// When it last answered well.
    pub last_good: Option<Timestamp>,
    /// When it failed since then.
    pub failed_at: Option<Timestamp>,
    /// Why.
    pub failure: Option<String>,
}

/// A token that somebody asks about; `Debug` hides it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AskedToken(pub String);

/// What would become of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenInspected {
    /// `accepted`, `depends` on the request, or the reason of the refusal.
    pub verdict: String,
    /// Whom it stands for, where that is proven.
    pub principal: Option<String>,
    /// The issuer that it names, or that vouches for it.
    pub issuer: Option<String>,
    /// In the order in which they are made.
    pub checks: Vec<TokenCheck>,
}

/// One check of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCheck {
    /// What is looked at.
    pub what: String,
    /// `pass`, `depends` on the request, or the reason of the refusal.
    pub outcome: String,
    /// In words.
    pub detail: String,
}

impl fmt::Debug for AskedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AskedToken(…)")
    }
}
