//! The proof that a caller is who it says.

use std::sync::Arc;

use enforcer_model::{CredentialKind, KeyId, Principal, Role};

/// A caller whose credential was checked; only this crate makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub(crate) principal: Principal,
    pub(crate) key: KeyId,
    pub(crate) roles: Arc<[Role]>,
}

impl Identity {
    /// Whom the credential stands for.
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The API key used; none for other kinds of credentials.
    pub const fn key_id(&self) -> Option<KeyId> {
        Some(self.key)
    }

    /// What kind of proof it was.
    pub const fn kind(&self) -> CredentialKind {
        CredentialKind::ApiKey
    }

    /// The roles that the credential carries, in the order of their names.
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }
}
