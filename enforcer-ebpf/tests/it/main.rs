//! The promises of the verdict core, kept on the host by the lines that the kernel runs.

#![allow(
    clippy::as_conversions,
    clippy::cast_lossless,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]

mod any;
mod frames;
mod memory;
mod reference;
mod writer;

mod budget;
mod contract;
mod escalation;
mod flood;
mod outgoing;
mod places;
mod prefilter;
mod quarantine;
mod rates;
mod syns;
mod threads;
mod transport;
mod units;
mod verdict;
