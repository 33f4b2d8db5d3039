//! API keys: their form, their records, the store on disk and the index in memory.
//!
//! A key's life: issued, rotated as often as it takes (id, quota and history stay), revoked or
//! expired. `index` and `entry` are what a request meets, `store` and `rotate` what an operator
//! does, `schema` and `rows` the file between two runs.

mod entry;
mod error;
mod facts;
mod import;
mod index;
mod new;
mod notices;
mod pepper;
mod plan;
mod record;
mod refused;
mod rotate;
mod rows;
mod scan;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod token;
mod uses;

pub use error::{Damage, StoreError};
pub use facts::{NoticeHeaders, notice_headers};
pub use import::{IMPORT_MAX, ImportFile, ImportFormat, ImportProblem, ImportedKey, read_import};
pub use index::ApiKeys;
pub use new::{NewKey, NewKeyError};
pub use notices::{Notice, NoticeKind, NoticeMark};
pub use pepper::Pepper;
pub use plan::{KeyPlan, KeyPrefix, KeyPrefixError};
pub use record::{
    Environment, EnvironmentError, KeyRecord, KeyState, Revocation, SecretForm, SecretRecord,
};
pub use refused::Refused;
pub use scan::{FoundKey, KeyScanner};
pub use store::KeyStore;
pub use token::{IssuedKey, Token, TokenError};
pub use uses::LastUse;
