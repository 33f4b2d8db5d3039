//! What the policy says about one upstream.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use crate::fleet::Link;
use crate::target::Target;
use crate::tls::Tls;

/// One upstream: its hosts, how they are spoken to, and what happens when they fail.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Its name in the policy.
    pub name: Arc<str>,
    /// Its hosts, and behind them those that stand in for them, by priority. The first is not empty.
    pub tiers: Vec<Vec<HostPlan>>,
    /// What is spoken.
    pub protocol: Protocol,
    /// How the hosts are known; clear text without it.
    pub tls: Option<Arc<Tls>>,
    /// Who is asked.
    pub balance: Balance,
    /// How the hosts are asked whether they are well.
    pub health: Option<HealthPlan>,
    /// When a host that fails requests is left out for a while.
    pub eject: Option<EjectPlan>,
    /// When the whole upstream is left alone for a while.
    pub breaker: Option<BreakerPlan>,
    /// When a request is sent again.
    pub retry: RetryPlan,
    /// How long a host that has come back takes to get its full share; zero for at once.
    pub slow_start: Duration,
    /// How often names are looked up again.
    pub dns: Duration,
    /// For the connection to one host, TLS included.
    pub connect_timeout: Duration,
    /// From the last byte of the request that the upstream took to the head of its answer.
    pub first_byte: Duration,
    /// Between two parts of the answer's body, while the client is waiting for one.
    pub between_bytes: Duration,
    /// Bytes per second that the body of an answer must make, while the client is waiting for them;
    /// zero for none.
    pub body_rate_min: u64,
    /// An unused connection is closed after this long.
    pub idle: Duration,
    /// Open connections per thread; when all are in use, the next request is refused.
    pub connections: usize,
    /// What is known of the upstream, once [`crate::Fleet::apply`] has seen the plan.
    pub link: Link,
}

/// One host as the policy names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPlan {
    /// As the policy writes it.
    pub name: Arc<str>,
    /// Where it is.
    pub target: Target,
    /// Its share, beside the weights of the others.
    pub weight: NonZeroU16,
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: agreed on in the TLS handshake, where HTTP/1.1 is the way out; known beforehand in
    /// clear text.
    Http2,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Of two at random the one that has less to do.
    LeastLoaded,
    /// One after the other, by weight.
    RoundRobin,
    /// Always the same for the same key, as long as it can.
    Hash(HashKey),
}

/// What requests have in common that go to the same host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The value of a header.
    Header(http::HeaderName),
    /// The address of the client.
    Ip,
    /// The path.
    Path,
    /// Who is calling; the address where nobody is known.
    Principal,
}

/// How hosts are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthPlan {
    /// What is asked for, with its query.
    pub path: http::Uri,
    /// `Host` of the question; else the host's own name.
    pub host: Option<http::HeaderValue>,
    /// From one question to the next.
    pub every: Duration,
    /// For the whole of one question.
    pub timeout: Duration,
    /// Answers of a host that is well.
    pub status: Vec<u16>,
    /// So many good answers in a row bring a host back.
    pub healthy: u32,
    /// So many bad ones in a row take it out.
    pub unhealthy: u32,
}

/// When a host that fails requests is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectPlan {
    /// So many failures in a row.
    pub failures: u32,
    /// Or this part of its requests.
    pub rate_percent: u8,
    /// For how long, the first time; twice as long with every time that follows soon.
    pub period: Duration,
    /// Never more than this part of the hosts, unless others stand in for them.
    pub most_percent: u8,
}

/// When an upstream is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPlan {
    /// This part of the requests failed…
    pub errors_percent: u8,
    /// …of at least so many…
    pub requests: u32,
    /// …within this time.
    pub within: Duration,
    /// Until one request is let through to see.
    pub open: Duration,
}

/// When a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPlan {
    /// So many times beyond the first.
    pub attempts: u32,
    /// This part of the requests at the most.
    pub budget_percent: u8,
}

impl Plan {
    /// Every host, those that stand in for others last.
    pub fn hosts(&self) -> impl Iterator<Item = &HostPlan> {
        self.tiers.iter().flatten()
    }

    /// The addresses that are known without a look-up.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.hosts().filter_map(|host| host.target.address())
    }
}
