//! Personal data that can be erased although no stored byte of the log changes.
//!
//! Records name persons by handles; a `subject` record of the same segment holds what a handle
//! stands for, sealed under a key of its own. The keys lie beside the segment, in the [`Vault`], and
//! not in it: to erase a value is to destroy its keys, in every segment. Every hash, proof and
//! signature covers handles and sealed bytes only, so none of them notices. Values are told apart
//! from what is not personal by the names of the fields ([`fields`]); that list is the promise.

mod conceal;
mod fields;
mod reveal;
mod seal;
mod table;
#[cfg(test)]
mod tests;
mod vault;

pub(crate) use conceal::{Concealer, GROWTH_MAX};
pub use conceal::{Subject, Subjects};
pub(crate) use reveal::{Keys, Revealer};
pub(crate) use seal::Seed;
pub use seal::{Handle, Kind, KindError};
pub use table::TableError;
pub use vault::{Erased, Erasing, Vault, VaultError};
