//! Why a key was not accepted: for the audit record, in more words than the caller gets.

use enforcer_model::{KeyId, Reason, Rejection, Source, Timestamp};

use super::token::TokenError;

/// Why a credential was not accepted, for the audit record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its time is over.
    #[error("key {id} expired at {at}")]
    Expired {
        /// Which key.
        id: KeyId,
        /// When.
        at: Timestamp,
    },
    /// Not an API key.
    #[error(transparent)]
    Malformed(TokenError),
    /// Its time has not come.
    #[error("key {id} is not valid before {from}")]
    NotYetValid {
        /// Which key.
        id: KeyId,
        /// From when on.
        from: Timestamp,
    },
    /// The secret was replaced by another, and its grace is over.
    #[error("the secret sent for key {id} was replaced and ended at {at}")]
    Replaced {
        /// Which key.
        id: KeyId,
        /// When it ended.
        at: Timestamp,
    },
    /// It was revoked.
    #[error("key {id} was revoked at {at}")]
    Revoked {
        /// Which key.
        id: KeyId,
        /// When.
        at: Timestamp,
    },
    /// No key has this id.
    #[error("no key has the id {id}")]
    Unknown {
        /// The id that was sent.
        id: KeyId,
    },
    /// Not in the form of a key, and no imported one either.
    #[error("no imported key has the hash of what was sent")]
    UnknownHash,
    /// It goes with a client certificate that the connection does not have.
    #[error("key {id} goes with a client certificate that the connection does not have")]
    WrongCertificate {
        /// Which key.
        id: KeyId,
    },
    /// It may not be used from there.
    #[error("key {id} may not be used from {from}")]
    WrongNetwork {
        /// Which key.
        id: KeyId,
        /// From where it was used.
        from: Source,
    },
    /// The route is none of those that it may be used for.
    #[error("key {id} may not be used for this route")]
    WrongRoute {
        /// Which key.
        id: KeyId,
    },
    /// The key exists; the caller does not have it.
    #[error("the secret sent for key {id} is wrong")]
    WrongSecret {
        /// Which key.
        id: KeyId,
    },
}

impl Refused {
    /// What it counts as.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Expired { .. } | Self::Replaced { .. } => Reason::KeyExpired,
            Self::Malformed(_) => Reason::KeyMalformed,
            Self::NotYetValid { .. } => Reason::KeyNotYetValid,
            Self::Revoked { .. } => Reason::KeyRevoked,
            Self::Unknown { .. } | Self::UnknownHash | Self::WrongSecret { .. } => {
                Reason::KeyUnknown
            }
            Self::WrongCertificate { .. } => Reason::KeyWrongCertificate,
            Self::WrongNetwork { .. } => Reason::KeyWrongNetwork,
            Self::WrongRoute { .. } => Reason::KeyWrongRoute,
        }
    }
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        refused.reason().because(refused)
    }
}
