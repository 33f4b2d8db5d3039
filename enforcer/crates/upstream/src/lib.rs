//! Where a request goes: connections to the upstreams, and what can go wrong on them.
//!
//! [`Pools`] belongs to one thread and keeps that thread's connections; nothing in it is shared, so
//! nothing in it locks. [`Pools::forward`] sends one request to one host of a [`Plan`] and hands
//! back the answer as soon as its head is there; the body streams. Every way to fail is a
//! [`Failure`] that says whose fault it was, which host it was and whether a retry is safe.
//!
//! It does not choose *whether* to forward: whoever calls has the proof of that.

mod body;
mod check;
mod connection;
mod exchange;
mod failure;
mod fleet;
mod plan;
mod pool;
mod progress;
mod stream;
mod target;
mod tls;
mod tunnel;

pub use body::{Body, BodyFailure};
pub use exchange::Answer;
pub use failure::{Cause, Failure, Fault, Misplaced, Retry};
pub use fleet::{
    BreakerState, Event, Few, Fleet, Happening, HostView, Link, Meant, NotFound, State,
    UpstreamView, Why, Wish,
};
pub use plan::{
    Balance, BreakerPlan, EjectPlan, HashKey, HealthPlan, HostPlan, Plan, Protocol, RetryPlan,
};
pub use pool::{Affinity, Pools};
pub use progress::{Replay, Sending};
pub use stream::Stream;
pub use target::{Target, TargetError};
pub use tls::{Own, Roots, Tls, TlsError};
pub use tunnel::{Opened, Place, Tunnel};

#[cfg(test)]
mod tests;
