//! Personal data that can be erased although no stored byte of the log changes.
//!
//! Records name persons by handles; a `subject` record of the same segment holds what a handle
//! stands for, sealed under a key of its own. The keys lie beside the segment, in the [`Vault`], and
//! not in it: to erase a value is to destroy its keys, in every segment. Every hash, proof and
//! signature covers handles and sealed bytes only, so none of them notices. Values are told apart
//! from what is not personal by the names of the fields ([`fields`]); that list is the promise.
//!
//! Writing: `Concealer::new(first, vault.begin(first)?)` with each segment; `conceal` on the text of
//! every record before it has its index, what it returns staged first; `vault.close(&table)` when a
//! segment ends, with the table of `begin_segment` or `end`; `forget_from(size)` when staged records
//! are given up; `vault.prepare()`, then `recover` for each of `unfinished()`, at a start.
//! Reading: `Revealer::begin_segment(vault.open(first)?)`, then `reveal` on every text.

mod conceal;
mod fields;
mod names;
mod reveal;
mod seal;
mod table;
#[cfg(test)]
mod tests;
mod vault;

#[cfg(test)]
use conceal::Concealer;
pub(crate) use conceal::{GROWTH_MAX, read};
pub use conceal::{Subject, Subjects};
pub(crate) use names::{Names, beside};
#[cfg(test)]
use reveal::Keys;
pub(crate) use reveal::Revealer;
pub use seal::Handle;
#[cfg(test)]
use seal::Seed;
pub use table::TableError;
pub use vault::{Erased, Erasing, Vault, VaultError};
