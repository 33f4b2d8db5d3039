//! The promises of the audit log, each shown through the public interface on real files.
#![expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "helpers of tests may fail as tests do"
)]

mod append;
mod bundle;
mod crash;
mod evidence;
mod flips;
mod full;
mod index;
mod lab;
mod lend;
mod publish;
mod recover;
mod trail;
