//! The body of a request on its way out, and whose turn it is.
//!
//! The clock for the first byte of an answer may only run while the upstream has what it needs. A
//! client that sends slowly is the client's matter and has a clock of its own.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

/// The body of a request, watched while hyper takes it.
#[derive(Debug)]
pub struct Sending<B> {
    /// None once it has ended, so that nothing holds on to the client's side.
    body: Option<B>,
    progress: Progress,
}

/// A body that may be there to be sent once more.
pub trait Replay: Sized {
    /// The same from its beginning, if all of it is here and none of it was taken.
    fn replay(&self) -> Option<Self>;
}

/// Shared between the body and the one who waits for the answer.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Rc<Cell<Turn>>);

#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The next part of the body has not come from the client.
    Client,
    /// The upstream has a part and has not asked for the next since then.
    Upstream(Instant),
    /// The whole body has been handed over.
    Sent(Instant),
}

impl Progress {
    fn set(&self, turn: Turn) {
        self.0.set(turn);
    }

    /// The request is handed over at `now`: nothing before that counts against the upstream.
    pub(crate) fn begin(&self, now: Instant) {
        self.0.set(match self.0.get() {
            Turn::Client => Turn::Client,
            Turn::Upstream(_) => Turn::Upstream(now),
            Turn::Sent(_) => Turn::Sent(now),
        });
    }

    /// Whether hyper has taken the whole body.
    pub(crate) fn is_sent(&self) -> bool {
        matches!(self.0.get(), Turn::Sent(_))
    }

    /// When an upstream that may take `first_byte` for its answer is overdue.
    pub(crate) fn overdue(&self, first_byte: Duration) -> Instant {
        match self.0.get() {
            Turn::Client => Instant::now() + first_byte,
            Turn::Upstream(since) | Turn::Sent(since) => since + first_byte,
        }
    }
}

impl<B: http_body::Body> Sending<B> {
    /// `body`, with nothing taken from it.
    pub(crate) fn new(body: B) -> (Self, Progress) {
        let now = Instant::now();
        let empty = body.is_end_stream();
        let turn = if empty { Turn::Sent(now) } else { Turn::Upstream(now) };
        let progress = Progress(Rc::new(Cell::new(turn)));
        let body = if empty { None } else { Some(body) };
        (Self { body, progress: progress.clone() }, progress)
    }

    /// It is handed over once more: nothing of it has been sent.
    pub(crate) fn restart(&self) {
        let now = Instant::now();
        let turn = if self.body.is_none() { Turn::Sent(now) } else { Turn::Upstream(now) };
        self.progress.set(turn);
    }
}

impl<B: Replay> Sending<B> {
    /// The same once more, for a request that may be sent twice.
    pub(crate) fn repeat(&self) -> Option<Self> {
        let body = match &self.body {
            None => None,
            Some(body) => Some(body.replay()?),
        };
        Some(Self { body, progress: self.progress.clone() })
    }
}

impl<B> http_body::Body for Sending<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let Some(body) = this.body.as_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        let ended = match &polled {
            Poll::Pending => {
                this.progress.set(Turn::Client);
                false
            }
            Poll::Ready(Some(Ok(_))) => body.is_end_stream(),
            Poll::Ready(Some(Err(_))) => false,
            Poll::Ready(None) => true,
        };
        if ended {
            this.body = None;
            this.progress.set(Turn::Sent(Instant::now()));
        } else if polled.is_ready() {
            this.progress.set(Turn::Upstream(Instant::now()));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), B::size_hint)
    }
}
