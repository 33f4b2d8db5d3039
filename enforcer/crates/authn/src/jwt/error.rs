//! Why a token was not accepted.

use enforcer_model::{Reason, Rejection, Timestamp};

use super::json::JsonError;
use super::{Algorithm, Parsed};

/// A token was refused. No variant carries any of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// The policy does not admit the algorithm for this issuer.
    #[error("the algorithm {0} is not one that the policy allows this issuer")]
    AlgorithmNotAllowed(Algorithm),
    /// The key is not for this algorithm.
    #[error("the key that the token names is not for {0}")]
    AlgorithmOfKey(Algorithm),
    /// `none`, or a name that is not understood.
    #[error("the header's `alg` is `none` or unknown")]
    AlgorithmUnknown,
    /// None of its audiences is one of ours.
    #[error("the token is meant for another audience")]
    Audience,
    /// A registered claim has the wrong form.
    #[error("`{0}` has the wrong form")]
    Claim(&'static str),
    /// A part is not canonical base64url.
    #[error("the {0} is not base64url without padding (RFC 7515)")]
    Encoding(Part),
    /// Its time is over.
    #[error("its time ended at {0}")]
    Expired(Timestamp),
    /// A header parameter has the wrong form.
    #[error("the header's `{0}` is missing or has the wrong form")]
    Header(&'static str),
    /// A header parameter that would say how, or with which key, the token is to be checked.
    #[error("the header has `{0}`, which is never accepted")]
    HeaderForbidden(&'static str),
    /// Another issuer.
    #[error("`iss` is not the issuer's URL, byte for byte")]
    Issuer,
    /// A part is not JSON with one meaning.
    #[error("the {part} is no strict JSON object")]
    Json {
        /// Which part.
        part: Part,
        /// What is wrong.
        source: JsonError,
    },
    /// The token names no key, and the issuer has several.
    #[error("the token names no key, and its issuer does not have exactly one")]
    KeyNotNamed,
    /// The issuer has no key of this name.
    #[error("the issuer has no key of the name that the token gives")]
    KeyUnknown,
    /// A claim that is needed.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A token inside a token.
    #[error("a token inside a token")]
    Nested,
    /// `nbf` or `iat` lie ahead.
    #[error("its time begins at {0}")]
    NotYetValid(Timestamp),
    /// Not three parts.
    #[error("not three parts with a dot between them")]
    Parts,
    /// The signature does not fit.
    #[error("the signature is wrong")]
    Signature,
    /// Over the bound.
    #[error("{found} bytes; a token has at most {}", Parsed::LENGTH_MAX)]
    TooLong {
        /// The length of what was given.
        found: usize,
    },
    /// A token for another purpose: an ID token, a proof, a refresh token, …
    #[error("its type says that it is not an access token")]
    Type,
}

/// A part of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Before the first dot.
    Header,
    /// Between the dots, or a document.
    Payload,
    /// Behind the second dot.
    Signature,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Signature => "signature",
        })
    }
}

impl JwtError {
    /// What the audit record says.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::AlgorithmNotAllowed(_) | Self::AlgorithmOfKey(_) | Self::AlgorithmUnknown => {
                Reason::TokenAlgorithm
            }
            Self::Audience => Reason::TokenWrongAudience,
            Self::Expired(_) => Reason::TokenExpired,
            Self::Issuer => Reason::TokenIssuerUnknown,
            Self::KeyNotNamed | Self::KeyUnknown => Reason::TokenKeyUnknown,
            Self::NotYetValid(_) => Reason::TokenNotYetValid,
            Self::Signature => Reason::TokenSignature,
            Self::Claim(_)
            | Self::Encoding(_)
            | Self::Header(_)
            | Self::HeaderForbidden(_)
            | Self::Json { .. }
            | Self::Missing(_)
            | Self::Nested
            | Self::Parts
            | Self::TooLong { .. }
            | Self::Type => Reason::TokenMalformed,
        }
    }
}

impl From<JwtError> for Rejection {
    fn from(error: JwtError) -> Self {
        error.reason().because(error)
    }
}
