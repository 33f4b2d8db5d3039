//! The other end of anchoring: remembers what other hosts' logs said, and signs that they stand by it.
//!
//! A [`Witness`] knows of each log the last tree head that it cosigned, and cosigns the next one only
//! when it continues that (C2SP tlog-witness). So it takes one honest machine elsewhere to make a log
//! that is cut, rolled back or forked visible, and this program on any other host is one. [`serve`]
//! is its plain HTTP front; checkpoints and cosignatures are public and prove themselves.

mod home;
mod judge;
mod memory;
mod server;

pub use home::{Home, HomeError};
pub use judge::{Refusal, Witness, WitnessError};
pub use memory::MemoryError;
pub use server::{CONNECTIONS_MAX, CONNECTIONS_PER_SOURCE, serve};
