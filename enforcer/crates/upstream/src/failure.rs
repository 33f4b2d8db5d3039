//! Every way in which an upstream fails a request: whose fault, and what may be done about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Reason, Rejection};

use crate::stream::Flood;

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
    /// Too many requests failed, and it is left alone for a while.
    #[error("the breaker is open: too many requests failed; asked again in {0:?}")]
    BreakerOpen(Duration),
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
    /// More was sent than an answer has room for, and no answer.
    #[error("the upstream sent {0}")]
    Flood(&'static str),
    /// The answer cannot be understood.
    #[error("the answer of the upstream is not HTTP")]
    Garbage(#[source] hyper::Error),
    /// An operator took the host out.
    #[error("an operator isolated the host")]
    Isolated,
    /// The answer is HTTP, yet must not be passed on.
    #[error("the upstream answered with {0}")]
    Misplaced(Misplaced),
    /// Nobody can be asked: names that lead nowhere, or operators who took all hosts out.
    #[error("the upstream has no host that can be asked")]
    NoHost,
    /// The upstream says itself that it has not looked at the request.
    #[error("the upstream refused the stream unseen")]
    Refused(#[source] hyper::Error),
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
            Cause::BreakerOpen(_) => Reason::UpstreamPaused,
            Cause::Busy { .. } => Reason::UpstreamBusy,
            Cause::ClientBody(_) => Reason::BodyBroken,
            Cause::Closed(_) | Cause::Isolated | Cause::Refused(_) => Reason::UpstreamBroken,
            Cause::Connect(_) | Cause::ConnectTimeout(_) | Cause::NoHost => {
                Reason::UpstreamUnreachable
            }
            Cause::Flood(_) | Cause::Garbage(_) | Cause::Misplaced(_) => Reason::UpstreamInvalid,
            Cause::Timeout(_) => Reason::UpstreamTimeout,
        }
    }
}

impl From<hyper::Error> for Cause {
    fn from(error: hyper::Error) -> Self {
        if error.is_user() {
            Self::ClientBody(error)
        } else if found::<Flood>(&error) {
            Self::Flood("too much before its answer")
        } else if refused_unseen(&error) {
            Self::Refused(error)
        } else if error.is_parse() || is_malformed(&error) {
            Self::Garbage(error)
        } else {
            Self::Closed(error)
        }
    }
}

/// Whether a chain of causes holds an error of ours.
fn found<E: Error + 'static>(error: &hyper::Error) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        let io = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if cause.is::<E>() || io.is_some_and(<dyn Error + Send + Sync>::is::<E>) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// RFC 9113, 8.7: a stream that was refused, or that a GOAWAY left out, was not looked at.
fn refused_unseen(error: &hyper::Error) -> bool {
    let h2 = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    h2.is_some_and(|error| {
        error.is_remote()
            && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// What the other side sent breaks the rules of HTTP/2.
fn is_malformed(error: &hyper::Error) -> bool {
    let h2 = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    h2.is_some_and(|error| error.is_library() && !error.is_io())
}

impl Cause {
    const fn verdict(&self) -> (Fault, Retry) {
        match self {
            Self::BreakerOpen(_) | Self::Busy { .. } | Self::NoHost => (Fault::Us, Retry::Safe),
            Self::Isolated => (Fault::Us, Retry::Unsafe),
            Self::ClientBody(_) => (Fault::Client, Retry::Unsafe),
            Self::Connect(_) | Self::ConnectTimeout(_) | Self::Refused(_) => {
                (Fault::Upstream, Retry::Safe)
            }
            Self::Closed(_)
            | Self::Flood(_)
            | Self::Garbage(_)
            | Self::Misplaced(_)
            | Self::Timeout(_) => (Fault::Upstream, Retry::Unsafe),
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
