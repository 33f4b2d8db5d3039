//! The promises of the loader, kept by a real kernel in namespaces of their own.
//!
//! They need root and the BPF object: `cargo xtask test` brings both. Without them they fail and
//! say so.

#![allow(
    clippy::as_conversions,
    clippy::cast_lossless,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::wildcard_enum_match_arm,
    clippy::redundant_clone,
    missing_docs,
    dead_code,
    unreachable_pub,
    reason = "test code, some of it shared with another package's tests"
)]

#[path = "../../../../../enforcer-ebpf/tests/it/any.rs"]
mod any;
#[path = "../../../../../enforcer-ebpf/tests/it/frames.rs"]
mod frames;
mod lab;
#[path = "../../../../../enforcer-ebpf/tests/it/memory.rs"]
mod memory;
#[path = "../../../../../enforcer-ebpf/tests/it/reference.rs"]
mod reference;
mod trial;
#[path = "../../../../../enforcer-ebpf/tests/it/writer.rs"]
mod writer;

mod blocks;
mod budgets;
mod explain;
mod hooks;
mod life;
mod packets;
mod same_verdict;
mod sockets;
mod table;
mod upgrade;
