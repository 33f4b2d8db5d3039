//! The proof that a caller is who it says.

use std::sync::Arc;

use enforcer_model::{Claims, CredentialKind, KeyId, Principal, Role, Thumbprint, Timestamp};

/// A caller whose credential was checked; only this crate makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub(crate) principal: Principal,
    pub(crate) proof: Proof,
    /// The client certificate of the connection, whatever the credential is.
    pub(crate) certificate: Option<Arc<Certificate>>,
    /// The token was proven to be in its holder's hands: RFC 8705 or RFC 9449.
    pub(crate) bound: Option<Binding>,
}

/// What was checked, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A client certificate alone.
    Certificate,
    /// An API key.
    Key(Arc<KeyFacts>),
    /// A token of an issuer.
    Token(Arc<TokenFacts>),
}

/// How a token was proven to be in its holder's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// RFC 8705: the connection's client certificate.
    Certificate,
    /// RFC 9449: a signed proof for this very request.
    Dpop,
}

/// What a request may know of the API key that it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// The public half.
    pub id: KeyId,
    /// What people call it.
    pub name: Arc<str>,
    /// Whose it is, if that was said.
    pub owner: Option<Arc<str>>,
    /// Which application uses it, if that was said.
    pub application: Option<Arc<str>>,
    /// The roles that the record names.
    pub roles: Box<[Role]>,
    /// The scopes that the record names.
    pub scopes: Box<[Arc<str>]>,
    /// The routes it may be used for; all when empty.
    pub routes: Box<[Arc<str>]>,
    /// Names of `[limit]` entries that hold for it in addition to the route's.
    pub limits: Box<[Arc<str>]>,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// The secret that was used is the older of two and ends then: the caller is to be told.
    pub retires: Option<Timestamp>,
    /// Since when there is a newer secret than the one that was used.
    pub renewed: Option<Timestamp>,
}

/// What a request may know of the token that it came with. Authentication only: audience, roles,
/// binding and revocation are looked at with every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// The `[issuer.NAME]` of the policy that vouches for it.
    pub issuer: Arc<str>,
    /// `sub`.
    pub subject: Arc<str>,
    /// `jti`, if it has one.
    pub id: Option<Arc<str>>,
    /// The issuer's key that signed it; none for an opaque token.
    pub key: Option<Arc<str>>,
    /// `client_id` (or `azp`).
    pub client: Option<Arc<str>>,
    /// `aud`, one or many.
    pub audience: Box<[Arc<str>]>,
    /// `scope`, split at blanks (or the elements of `scp`).
    pub scopes: Box<[Arc<str>]>,
    /// `iat`.
    pub issued: Option<Timestamp>,
    /// `exp`.
    pub expires: Timestamp,
    /// `cnf`, if it is bound.
    pub confirmation: Option<Confirmation>,
    /// The whole payload.
    pub claims: Claims,
}

/// Whose hands a token is bound to (RFC 7800).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// `x5t#S256` (RFC 8705).
    Certificate(Thumbprint),
    /// `jkt` (RFC 9449): SHA-256 of the key, RFC 7638.
    Key([u8; 32]),
    /// Any other method, which cannot be checked and is therefore refused.
    Unknown,
}

/// A client certificate that TLS has verified against the listener's authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of its DER.
    pub thumbprint: Thumbprint,
    /// The one URI in its subject alternative names that is a SPIFFE id.
    pub spiffe: Option<Arc<str>>,
    /// DNS names in its subject alternative names.
    pub names: Box<[Arc<str>]>,
}

impl Identity {
    /// Whom the credential stands for.
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What was checked, and what it says.
    pub const fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The API key used; none for other kinds of credentials.
    pub fn key_id(&self) -> Option<KeyId> {
        match &self.proof {
            Proof::Key(key) => Some(key.id),
            Proof::Certificate | Proof::Token(_) => None,
        }
    }

    /// What kind of proof it was.
    pub const fn kind(&self) -> CredentialKind {
        match &self.proof {
            Proof::Certificate => CredentialKind::Certificate,
            Proof::Key(_) => CredentialKind::ApiKey,
            Proof::Token(_) => CredentialKind::Token,
        }
    }

    /// The client certificate of the connection, whatever the credential is.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }

    /// How the token was proven to be in its holder's hands; none for other credentials.
    pub const fn bound(&self) -> Option<Binding> {
        self.bound
    }

    /// The application that calls: of the key's record, or the token's client.
    pub fn application(&self) -> Option<&str> {
        match &self.proof {
            Proof::Certificate => None,
            Proof::Key(key) => key.application.as_deref(),
            Proof::Token(token) => token.client.as_deref(),
        }
    }

    /// The scopes of the key's record or of the token.
    pub fn scopes(&self) -> &[Arc<str>] {
        match &self.proof {
            Proof::Certificate => &[],
            Proof::Key(key) => &key.scopes,
            Proof::Token(token) => &token.scopes,
        }
    }

    /// What the token says; none for other credentials.
    pub fn claims(&self) -> Option<&Claims> {
        match &self.proof {
            Proof::Certificate | Proof::Key(_) => None,
            Proof::Token(token) => Some(&token.claims),
        }
    }
}
