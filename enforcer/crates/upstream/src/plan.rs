//! What the policy says about one upstream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One upstream: its hosts and how long to wait for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its name in the policy; connections are pooled by it.
    pub name: Arc<str>,
    /// Asked in turn; a host that cannot be connected to is passed over for the next.
    pub hosts: Vec<SocketAddr>,
    /// For the TCP handshake with one host.
    pub connect_timeout: Duration,
    /// From the last byte of the request that the upstream took to the head of its answer.
    pub first_byte: Duration,
    /// Between two parts of the answer's body, while the client is waiting for one.
    pub between_bytes: Duration,
    /// An unused connection is closed after this long.
    pub idle: Duration,
    /// Open connections per thread; when all are in use, the next request is refused.
    pub connections: usize,
}
