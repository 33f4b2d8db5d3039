//! The promises of the verdict core, kept on the host by the lines that the kernel runs.

#![allow(
    clippy::as_conversions,
    clippy::cast_lossless,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]

mod frames;
mod memory;
mod reference;

mod budget;
mod contract;
mod verdict;
