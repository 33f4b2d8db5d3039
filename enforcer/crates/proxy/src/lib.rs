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
mod aside;
mod believed;
mod body;
mod cached;
mod canonical;
mod chunk;
mod concealed;
mod connection;
mod connections;
mod conversation;
mod counters;
mod endpoints;
mod entry;
mod floods;
mod flow;
mod forward;
mod frames;
mod framing;
mod guard;
mod handshake;
mod hello;
mod holder;
mod ids;
pub mod ja4;
mod listeners;
mod metadata;
mod pipeline;
mod problem;
pub mod proxy_protocol;
mod reply;
mod roll;
mod said;
mod scene;
mod scope;
mod serve;
mod shadow;
mod shared;
mod socket;
mod tls;
mod told;
mod tunnel;
mod turn;
mod under_way;
mod unix;
mod unread;
mod watch;
mod wire;

pub use canonical::first_request;
pub use connections::{Connections, Cut, Elsewhere};
pub use counters::{Count, Counters};
pub use endpoints::{CALLERS_MAX, ENDPOINTS_MAX, EndpointRule, Endpoints, Measure};
pub use holder::Holder;
pub use listeners::{BindError, Inherited, Listeners, ThreadListeners};
pub use problem::problem;
pub use roll::{ConnectionCount, Rolls, Spoken};
pub use scope::{Scope, ScopeError};
pub use serve::{serve, serve_thread};
pub use shadow::{Flip, Shadow, Verdict};
pub use shared::{IncidentLevel, Observed, Observer, Shared};
pub use tls::{Certificates, Held, HeldStaple, TlsError};

#[cfg(test)]
mod tests;
