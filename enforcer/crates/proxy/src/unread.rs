//! The body of a request as it comes in, and what is left of it when the answer comes first.
//!
//! A refusal, or an upstream that has heard enough, answers a client that is still sending. Were
//! the rest left unread, the system would reset the connection (and HTTP/2 the stream), and many
//! clients lose the answer with it. So the rest is read and thrown away: as long as it keeps coming,
//! and within bounds. A client that waits to be told `100 Continue` has nothing to throw away.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, EXPECT};
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::spawn_local;
use tokio::time::timeout;

/// The most that is thrown away of one body, and for how long.
const REST_BYTES_MAX: usize = 16 * 1024 * 1024;
const REST_TIME_MAX: Duration = Duration::from_secs(5);
/// A client that is silent for so long is not sending but waiting for the end.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// A body that is never left unread; needs a `LocalSet` around it.
pub(crate) struct Unread {
    incoming: Option<Incoming>,
    /// The client sends nothing before it is told to.
    waits: bool,
    talks: bool,
}

impl Unread {
    pub(crate) fn new(incoming: Incoming, headers: &HeaderMap) -> Self {
        Self {
            incoming: Some(incoming),
            waits: headers.contains_key(EXPECT),
            talks: is_rpc(headers),
        }
    }

    /// Whether it is a conversation, in which the client may wait for an answer at any time.
    pub(crate) const fn talks(&self) -> bool {
        self.talks
    }

    /// No body.
    pub(crate) const fn none() -> Self {
        Self { incoming: None, waits: false, talks: false }
    }

    /// Nothing more of it is wanted, not even to throw it away.
    pub(crate) fn give_up(&mut self) {
        self.incoming = None;
    }
}

impl Body for Unread {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        self.waits = false;
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.give_up();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        if self.waits || self.is_end_stream() {
            return;
        }
        if let Some(rest) = self.incoming.take() {
            spawn_local(throw_away(rest));
        }
    }
}

fn is_rpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

async fn throw_away(mut rest: Incoming) {
    let reading = async {
        let mut left = REST_BYTES_MAX;
        while let Ok(Some(Ok(frame))) = timeout(SILENCE_MAX, rest.frame()).await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(less) = left.checked_sub(length) else { return };
            left = less;
        }
    };
    // Whichever comes first; nobody waits for it.
    let _ended_or_not = timeout(REST_TIME_MAX, reading).await;
}
