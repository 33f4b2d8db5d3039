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
use crate::exchange::Lease;
use crate::fleet::Went;
use crate::plan::Plan;

/// The body of an answer.
///
/// Its connection serves the next request once the body was read to its end, and is closed when
/// the body is dropped before that.
pub struct Body<B> {
    incoming: Incoming,
    /// None once the connection has been given back or closed.
    lease: Option<Lease<B>>,
    between_bytes: Duration,
    pace: Pace,
    /// Since when the reader has been waiting for the next part.
    waiting_since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

/// How slowly the body may come: every second of waiting costs one of credit, every second's worth
/// of bytes earns one. Waiting for the reader costs nothing.
struct Pace {
    /// Bytes per second; zero for any.
    rate_min: u64,
    credit: Duration,
}

/// What a body may wait at its beginning, and at most ahead.
const GRACE: Duration = Duration::from_secs(10);

impl Pace {
    fn earn(&mut self, bytes: usize, waited: Duration) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let earned = Duration::from_millis(bytes.saturating_mul(1_000) / self.rate_min.max(1));
        self.credit = self.credit.saturating_sub(waited).saturating_add(earned).min(GRACE);
    }

    /// How long the next part may take.
    fn patience(&self, between_bytes: Duration) -> Duration {
        if self.rate_min == 0 { between_bytes } else { between_bytes.min(self.credit) }
    }
}

/// The body of an answer is not complete.
#[derive(Debug, thiserror::Error)]
pub enum BodyFailure {
    /// The upstream broke it off.
    #[error("the upstream broke off its answer")]
    Broken(#[source] hyper::Error),
    /// An operator took the host out.
    #[error("an operator isolated the host")]
    Isolated,
    /// The upstream sends less in a second than the policy admits.
    #[error("the upstream sent its answer slower than {0} bytes per second")]
    Slow(u64),
    /// The upstream stopped sending.
    #[error("the upstream sent nothing more for {0:?}")]
    Stalled(Duration),
}

impl BodyFailure {
    /// What the audit log says.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Broken(_) | Self::Isolated => Reason::UpstreamBroken,
            Self::Slow(_) | Self::Stalled(_) => Reason::UpstreamTimeout,
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
    pub(crate) fn new(incoming: Incoming, lease: Lease<B>, plan: &Plan) -> Self {
        let mut body = Self {
            incoming,
            lease: Some(lease),
            between_bytes: plan.between_bytes,
            pace: Pace { rate_min: plan.body_rate_min, credit: GRACE },
            waiting_since: None,
            alarm: None,
        };
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

    /// The answer will never be complete; whether that is an operator's doing.
    fn fail(&mut self) -> bool {
        let Some(lease) = self.lease.take() else { return false };
        let is_isolated = lease.turn().is_isolated();
        if !is_isolated {
            lease.turn().went(Went::Badly);
        }
        is_isolated
    }

    /// Ready when the upstream has let the reader wait for too long.
    ///
    /// The alarm is set again only when it rings, not with every part that arrives.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let end = since + self.pace.patience(self.between_bytes);
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
                let since = this.waiting_since.take();
                if this.pace.rate_min > 0 {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    let waited = since.map_or(Duration::ZERO, |since| since.elapsed());
                    this.pace.earn(length, waited);
                }
                if let Some(lease) = &this.lease {
                    lease.progress();
                }
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
                let is_isolated = this.fail();
                Poll::Ready(Some(Err(match is_isolated {
                    true => BodyFailure::Isolated,
                    false => BodyFailure::Broken(error),
                })))
            }
            Poll::Pending => {
                ready!(this.poll_stalled(cx));
                this.fail();
                Poll::Ready(Some(Err(
                    if this.pace.patience(this.between_bytes) < this.between_bytes {
                        BodyFailure::Slow(this.pace.rate_min)
                    } else {
                        BodyFailure::Stalled(this.between_bytes)
                    },
                )))
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
