//! API keys: their form, their records, the store on disk and the index in memory.

mod index;
mod plan;
mod record;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod token;

pub use index::{ApiKeys, Refused};
pub use plan::{KeyPlan, KeyPrefix, KeyPrefixError};
pub use record::{
    Environment, EnvironmentError, KeyRecord, KeyState, NewKey, NewKeyError, Revocation,
};
pub use store::{Damage, KeyStore, Pepper, StoreError};
pub use token::{IssuedKey, Token, TokenError};
