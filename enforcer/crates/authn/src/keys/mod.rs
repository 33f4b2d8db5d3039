//! API keys: their form, their records, the store on disk and the index in memory.
//!
//! A key's life: issued, rotated as often as it takes (id, quota and history stay), revoked or
//! expired. `index` and `entry` are what a request meets, `store` and `rotate` what an operator
//! does, `schema` and `rows` the file between two runs.

mod entry;
mod error;
mod index;
mod new;
mod pepper;
mod plan;
mod record;
mod refused;
mod rotate;
mod rows;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod token;
mod uses;

pub use error::{Damage, StoreError};
pub use index::ApiKeys;
pub use new::{NewKey, NewKeyError};
pub use pepper::Pepper;
pub use plan::{KeyPlan, KeyPrefix, KeyPrefixError};
pub use record::{
    Environment, EnvironmentError, KeyRecord, KeyState, Revocation, SecretForm, SecretRecord,
};
pub use refused::Refused;
pub use store::KeyStore;
pub use token::{IssuedKey, Token, TokenError};
pub use uses::LastUse;
