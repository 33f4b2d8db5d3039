//! Why a token was not accepted.

use std::sync::Arc;

use enforcer_model::{Reason, Rejection};

use crate::dpop::ProofError;
use crate::issuers::Unintrospected;
use crate::jwt::JwtError;
use crate::revocations::TakenBack;

/// A token was refused. No variant carries any of its text but the name of an issuer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenRefused {
    /// `X-Api-Key` is for keys.
    #[error("a token belongs into `Authorization`, not into `X-Api-Key`")]
    AsApiKey,
    /// It was sent as `DPoP` and has no key to prove.
    #[error("it was sent as `DPoP` and is not bound to a key")]
    BoundToNoKey,
    /// As many tokens are being asked about as may be.
    #[error("{} tokens are being asked about already", super::QUESTIONS_MAX)]
    Busy,
    /// The connection has no client certificate, or another.
    #[error("it is bound to another client certificate than the connection's")]
    Certificate,
    /// `cnf` names a method that nobody here can check.
    #[error("it is bound in a way that cannot be checked")]
    ConfirmationUnknown,
    /// The issuer was asked.
    #[error(transparent)]
    Introspection(#[from] Unintrospected),
    /// Its form, its claims or its signature.
    #[error(transparent)]
    Jwt(#[from] JwtError),
    /// The issuer's keys were never there.
    #[error("the keys of the issuer `{0}` could not be fetched yet")]
    KeysMissing(Arc<str>),
    /// The policy does not take this kind of binding from this issuer.
    #[error("the policy does not accept this kind of proof from the issuer `{0}`")]
    MethodRefused(Arc<str>),
    /// It is bound to a key, and no proof, or no `DPoP` scheme, came with it.
    #[error("it is bound to a key, and was sent without a proof of having it")]
    NoProof,
    /// Nobody can be asked about tokens that say nothing by themselves.
    #[error("it is no signed token, and the policy has no issuer to ask about it")]
    Opaque,
    /// The proof is not good.
    #[error("the proof of having its key is not accepted")]
    Proof(#[source] ProofError),
    /// It was taken back here.
    #[error(transparent)]
    TakenBack(#[from] TakenBack),
    /// No issuer of the policy.
    #[error("its issuer is none of the policy's")]
    UnknownIssuer,
    /// Whoever found it could use it.
    #[error("the policy accepts only tokens of the issuer `{0}` that are bound to their holder")]
    Unbound(Arc<str>),
}

impl TokenRefused {
    /// What the audit record says.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::AsApiKey => Reason::TokenMalformed,
            Self::BoundToNoKey
            | Self::Certificate
            | Self::ConfirmationUnknown
            | Self::MethodRefused(_)
            | Self::NoProof => Reason::TokenBinding,
            Self::Busy | Self::KeysMissing(_) => Reason::IssuerUnavailable,
            Self::Introspection(refused) => refused.reason(),
            Self::Jwt(refused) => refused.reason(),
            Self::Opaque => Reason::TokenMalformed,
            Self::Proof(refused) => refused.reason(),
            Self::TakenBack(taken) => taken.reason(),
            Self::UnknownIssuer => Reason::TokenIssuerUnknown,
            Self::Unbound(_) => Reason::TokenUnbound,
        }
    }
}

impl From<TokenRefused> for Rejection {
    fn from(refused: TokenRefused) -> Self {
        refused.reason().because(refused)
    }
}
