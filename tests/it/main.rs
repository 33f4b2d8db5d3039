//! The promises, end to end: one module each, one binary.
//!
//! Tests that make namespaces are ignored unless they are asked for, and fail without root:
//! `cargo xtask test` runs them.

#![expect(clippy::disallowed_methods, reason = "real packets take real time")]

mod lab;
