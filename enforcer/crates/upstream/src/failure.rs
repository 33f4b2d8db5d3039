//! Every way in which an upstream fails a request: whose fault, and what may be done about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Reason, Rejection};

/// The request got no answer from the upstream.
#[derive(Debug)]
pub struct Failure {
    /// Who is to blame.
    pub whose: Fault,
    /// Whether the request may be sent again without being carried out twice.
    pub retry: Retry,
    /// The host that was asked last; none when none could be.
    pub upstream: Option<Arc<str>>,
    /// What happened.
    pub cause: Cause,
}

/// Who is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The body of the request failed while it was being sent.
    Client,
    /// The upstream.
    Upstream,
    /// A bound of our own.
    Us,
}

/// Whether the request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No byte of it reached an upstream.
    Safe,
    /// The upstream may have acted on it.
    Unsafe,
}

/// What happened.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Every connection that the plan admits is in use.
    #[error("all {limit} connections of this thread are in use")]
    Busy {
        /// The plan's bound.
        limit: usize,
    },
    /// The request's own body ended in an error.
    #[error("the body of the request broke off")]
    ClientBody(#[source] hyper::Error),
    /// The connection ended before the head of the answer was complete.
    #[error("the upstream closed the connection before it answered")]
    Closed(#[source] hyper::Error),
    /// The host did not accept the connection.
    #[error("no connection to the upstream")]
    Connect(#[source] io::Error),
    /// The host did not accept the connection in time.
    #[error("no connection to the upstream within {0:?}")]
    ConnectTimeout(Duration),
    /// The answer cannot be understood.
    #[error("the answer of the upstream is not HTTP")]
    Garbage(#[source] hyper::Error),
    /// The answer is HTTP, yet must not be passed on.
    #[error("the upstream answered with {0}")]
    Misplaced(Misplaced),
    /// The plan names no host.
    #[error("the upstream has no hosts")]
    NoHost,
    /// The head of the answer did not come.
    #[error("no answer from the upstream within {0:?}")]
    Timeout(Duration),
}

/// Answers that are well-formed and still refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// Another framing than one length or one `chunked`: the client could read the end of the
    /// answer elsewhere than we did.
    #[error("a framing that can be read two ways")]
    AmbiguousFraming,
    /// Outside of 100–599.
    #[error("the impossible status {0}")]
    Status(u16),
    /// 101, though no upgrade was asked for.
    #[error("a change of protocol that nobody asked for")]
    Upgrade,
}

impl Failure {
    pub(crate) fn new(upstream: Option<Arc<str>>, cause: Cause) -> Self {
        let (whose, retry) = cause.verdict();
        Self { whose, retry, upstream, cause }
    }

    /// What the client may know.
    pub const fn reason(&self) -> Reason {
        match self.cause {
            Cause::Busy { .. } => Reason::UpstreamBusy,
            Cause::ClientBody(_) => Reason::BodyBroken,
            Cause::Closed(_) => Reason::UpstreamBroken,
            Cause::Connect(_) | Cause::ConnectTimeout(_) | Cause::NoHost => {
                Reason::UpstreamUnreachable
            }
            Cause::Garbage(_) | Cause::Misplaced(_) => Reason::UpstreamInvalid,
            Cause::Timeout(_) => Reason::UpstreamTimeout,
        }
    }
}

impl From<hyper::Error> for Cause {
    fn from(error: hyper::Error) -> Self {
        if error.is_user() {
            Self::ClientBody(error)
        } else if error.is_parse() {
            Self::Garbage(error)
        } else {
            Self::Closed(error)
        }
    }
}

impl Cause {
    const fn verdict(&self) -> (Fault, Retry) {
        match self {
            Self::Busy { .. } | Self::NoHost => (Fault::Us, Retry::Safe),
            Self::ClientBody(_) => (Fault::Client, Retry::Unsafe),
            Self::Connect(_) | Self::ConnectTimeout(_) => (Fault::Upstream, Retry::Safe),
            Self::Closed(_) | Self::Garbage(_) | Self::Misplaced(_) | Self::Timeout(_) => {
                (Fault::Upstream, Retry::Unsafe)
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.upstream {
            Some(upstream) => write!(f, "{upstream}: {}", self.cause),
            None => self.cause.fmt(f),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}

impl From<Failure> for Rejection {
    fn from(failure: Failure) -> Self {
        failure.reason().because(failure)
    }
}
