//! Signed tokens (RFC 7515, RFC 7519, RFC 9068), verified strictly on `ring`.
//!
//! The steps, in their order: size and three parts ([`Parsed::parse`]), the key that the token names
//! and whether it is for the token's algorithm ([`KeySet::find`]), type, issuer, audience and time
//! ([`Parsed::check`]), the signature ([`Checked::verify`]). Refusing is cheap and early; accepting
//! happens once, at the end. RFC 8725 names the attacks; `tests/attacks.rs` has one test for each.
//!
//! Nothing here fetches a key, keeps a token or reads a clock.

mod algorithm;
mod error;
mod json;
mod jws;
mod key;
mod keyset;
mod numeric;
mod payload;
#[cfg(test)]
mod tests;
mod token;
mod weak;

pub use algorithm::{Algorithm, AlgorithmError, Algorithms};
pub use error::{JwtError, Part};
pub use json::{JsonError, JsonProblem};
pub use jws::Header;
pub(crate) use jws::{Embedded, Jws, media_type};
pub use key::{Key, SecretTooShort, Skipped};
pub use keyset::{KeySet, KeySetError};
pub(crate) use payload::{Payload, document};
pub use token::{Checked, Expect, Kind, Parsed};
