//! Promises, shown through the real binary.
//!
//! [`lab`] is a network of three hosts on one machine, made of the kernel's namespaces: a client,
//! an attacker, and the host that the agent protects. The end-to-end tests under `it/`, the demo
//! and the benches all use it. [`story`] is how the demo tells what it does, [`mod@bench`] how a
//! measurement becomes a row with a peer and a target. Nothing here is a fake: the agent is the
//! shipped program, the servers and clients speak over real sockets.

#![expect(
    clippy::disallowed_methods,
    reason = "a lab measures real time and finds the program by its environment"
)]

pub mod behaviour;
pub mod bench;
pub mod demo;
pub mod fuzz;
pub mod lab;
pub mod oracle;
pub mod story;
pub mod traffic;
