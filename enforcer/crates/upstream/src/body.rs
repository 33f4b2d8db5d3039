//! The body of an answer: streamed, timed, and the moment that frees its connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use enforcer_model::{Reason, Rejection};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::connection::BoxError;
use crate::pool::Lease;

/// The body of an answer.
///
/// Its connection serves the next request once the body was read to its end, and is closed when
/// the body is dropped before that.
pub struct Body<B> {
    incoming: Incoming,
    /// None once the connection has been given back or closed.
    lease: Option<Lease<B>>,
    between_bytes: Duration,
    /// Since when the reader has been waiting for the next part.
    waiting_since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

/// The body of an answer is not complete.
#[derive(Debug, thiserror::Error)]
pub enum BodyFailure {
    /// The upstream broke it off.
    #[error("the upstream broke off its answer")]
    Broken(#[source] hyper::Error),
    /// The upstream stopped sending.
    #[error("the upstream sent nothing more for {0:?}")]
    Stalled(Duration),
}

impl BodyFailure {
    /// What the audit log says.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Broken(_) => Reason::UpstreamBroken,
            Self::Stalled(_) => Reason::UpstreamTimeout,
        }
    }
}

impl From<BodyFailure> for Rejection {
    fn from(failure: BodyFailure) -> Self {
        failure.reason().because(failure)
    }
}

impl<B> Body<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    pub(crate) fn new(incoming: Incoming, lease: Lease<B>, between_bytes: Duration) -> Self {
        let mut body =
            Self { incoming, lease: Some(lease), between_bytes, waiting_since: None, alarm: None };
        if http_body::Body::is_end_stream(&body.incoming) {
            body.finish();
        }
        body
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    /// Ready when the upstream has let the reader wait for too long.
    ///
    /// The alarm is set again only when it rings, not with every part that arrives.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let end = since + self.between_bytes;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(end)));
        loop {
            ready!(alarm.as_mut().poll(cx));
            if end <= Instant::now() {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(end);
        }
    }
}

impl<B> http_body::Body for Body<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BodyFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.waiting_since = None;
                if this.incoming.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                this.lease = None;
                Poll::Ready(Some(Err(BodyFailure::Broken(error))))
            }
            Poll::Pending => {
                ready!(this.poll_stalled(cx));
                this.lease = None;
                Poll::Ready(Some(Err(BodyFailure::Stalled(this.between_bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
