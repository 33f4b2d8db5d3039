//! What was taken back before its time: tokens, subjects, clients, an issuer's keys, certificates.

mod index;
mod record;
mod schema;
mod store;
#[cfg(test)]
mod tests;

pub use index::{Revocations, TakenBack};
pub use record::{RevocationId, RevocationIdError, TokenRevocation, TokenTarget, TokenTargetError};
pub use store::{NewRevocation, RevocationError, RevocationStore};

use crate::SecretFileError;
