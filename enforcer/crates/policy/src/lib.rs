//! From the file an operator wrote to a [`Policy`] that cannot be wrong.
//!
//! The only way in is [`Policy::parse`] (pure) or [`Policy::load`] (reads the file and those that it
//! names: certificates, keys, secrets, regions), so whoever holds a [`Policy`] holds one that passed
//! every check. What is wrong is
//! told all at once, each problem with its place, the correct form and a stable code that
//! [`explain`] knows. A policy never changes; a reload builds another and swaps the pointer.
//!
//! [`Policy::route`] is the router: an exact host before `*`, and from the left a literal segment
//! before `{x}` before `{**}`; a path without a canonical form leads only to a route with just this
//! path.

mod analysis;
mod codes;
pub mod diff;
mod files;
mod grammar;
mod parse;
mod policy;
mod problem;
mod regions;
mod routing;
mod schema;
mod text;
mod tls;
pub mod trial;

pub use codes::{Explained, explain};
pub use parse::{
    Address, Agent, Anchoring, AuditPlan, Case, CertificateFiles, Charged, Clients,
    ConnectionsPlan, Detection, Durability, Errors, Guard, HostRules, Hsts, IdentityPlan, Listener,
    Matched, NeverBlock, Percent, Require, Requires, Route, Serves, Shown, Tightening, Timeouts,
    TimestampPlan, Tls, TrailingSlash, WhenFull, WitnessPlan,
};
pub use policy::{LoadError, Policy};
pub use problem::{Problem, Problems, Severity};
pub use routing::{Endpoint, EndpointError};
pub use schema::schema;

#[cfg(test)]
mod tests;
