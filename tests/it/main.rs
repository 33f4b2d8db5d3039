//! The promises, end to end: one module each, one binary.
//!
//! Tests that make namespaces are ignored unless they are asked for, and fail without root:
//! `cargo xtask test` runs them.

#![expect(clippy::disallowed_methods, reason = "real packets take real time")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails, in its helpers too"
)]

mod anchor;
mod attacks;
mod block;
mod budget;
mod bypass;
mod cache;
mod command;
mod corpus;
mod detect;
mod drift;
mod egress;
mod erase;
mod essential;
mod evidence;
mod faults;
mod floods;
mod full;
mod handover;
mod hostile;
mod interop;
mod keys;
mod lab;
mod ladder;
mod lease;
mod limits;
mod listeners;
mod lists;
mod looks;
mod mtls;
mod notify;
mod operator;
mod oracle;
mod packet;
mod policies;
mod privileges;
mod reload;
mod request;
mod responses;
mod retention;
mod stage;
mod tokens;
mod trail;
mod trouble;
mod upgrade;
mod upstreams;
mod verifiers;
