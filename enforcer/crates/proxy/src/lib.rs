//! The request path: from a connection to an answer, and a record of it.
//!
//! [`Listeners::bind`] takes the addresses, [`serve_thread`] serves on one thread what arrives
//! there, and [`Shared`] is all that the threads have in common. `pipeline.rs` is the file to read
//! first: the life of one request from top to bottom.
//!
//! This crate decides nothing by itself. It puts the organs in order, and it fails closed: what
//! cannot be recorded, understood, identified, permitted or limited is not forwarded.

mod admission;
mod answer;
mod body;
mod connection;
mod connections;
mod counters;
mod endpoints;
mod entry;
mod flow;
mod forward;
mod framing;
mod holder;
mod ids;
mod listeners;
mod metadata;
mod pipeline;
mod problem;
mod reply;
mod scene;
mod serve;
mod shadow;
mod shared;
mod tls;
mod told;
mod tunnel;
mod under_way;
mod unread;
mod watch;
mod wire;

pub use connections::Connections;
pub use counters::{Count, Counters};
pub use endpoints::{ENDPOINTS_MAX, EndpointRule, Endpoints, Measure};
pub use holder::Holder;
pub use listeners::{BindError, Listeners, ThreadListeners};
pub use serve::{serve, serve_thread};
pub use shadow::{Flip, Shadow, Verdict};
pub use shared::{IncidentLevel, Observed, Observer, Shared};
pub use tls::{Certificates, TlsError};

#[cfg(test)]
mod tests;
