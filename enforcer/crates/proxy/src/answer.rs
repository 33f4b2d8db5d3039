//! The body of an answer, and the moment at which a request is over.
//!
//! The record of a request is written when the last part of the answer is handed over, so that it
//! can say how long that took and how much it was. Where the policy wants the record of an allowed
//! request to be durable, that last part is held back until the record is on disk: no client ever
//! has a complete answer of which there is no record.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use enforcer_cache::Fill;
use enforcer_inspect::Exposure;
use enforcer_model::Rejection;
use enforcer_policy::Durability;
use enforcer_upstream as upstream;
use http_body::{Body, Frame, SizeHint};

use crate::body::{ClientBody, Notes};
use crate::entry::{Entry, committed, witnessed};
use crate::tunnel::{Agreed, Tunnel};
use crate::under_way::InFlight;

/// What a stage answers with.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every answer is the large one, and a box would cost it an allocation"
)]
pub(crate) enum Content {
    /// From the upstream, as it comes.
    Streamed {
        body: upstream::Body<ClientBody>,
        request: Notes,
        in_flight: Option<InFlight>,
        /// Where it comes to be kept, if it does.
        fill: Option<Box<Fill>>,
    },
    /// Of an answer that was kept.
    Kept { body: Bytes, in_flight: Option<InFlight> },
    /// The upstream speaks another protocol from here on; so will the client.
    Tunnel(Tunnel),
    /// Ours.
    Whole(Bytes),
}

/// What hyper sends.
pub(crate) struct AnswerBody {
    content: Content,
    /// Open until the last part is handed over.
    entry: Option<Entry>,
    durability: Durability,
    held: Option<Held>,
    /// What watches for what an answer should not give away, where somebody does.
    exposure: Option<Box<Exposure>>,
}

/// The last part, which waits for the record.
struct Held {
    last: Option<Frame<Bytes>>,
    record: Pin<Box<dyn Future<Output = Result<(), Rejection>>>>,
}

impl AnswerBody {
    /// A body whose record is already written.
    pub(crate) const fn recorded(content: Bytes) -> Self {
        Self {
            content: Content::Whole(content),
            entry: None,
            durability: Durability::Queued,
            held: None,
            exposure: None,
        }
    }

    /// A body whose end closes `entry`.
    pub(crate) fn closing(
        content: Content,
        entry: Entry,
        durability: Durability,
        exposure: Option<Exposure>,
    ) -> Self {
        if let (Some(turn), Some(in_flight)) = (entry.turn(), content.in_flight()) {
            turn.watch(in_flight.watch());
        }
        Self {
            content,
            entry: Some(entry),
            durability,
            held: None,
            exposure: exposure.map(Box::new),
        }
    }

    /// The tunnel, if this is the answer that agrees to one; its record stays open.
    pub(crate) fn take_tunnel(&mut self) -> Option<Agreed> {
        match std::mem::replace(&mut self.content, Content::Whole(Bytes::new())) {
            Content::Tunnel(tunnel) => self.entry.take().map(|entry| Agreed { tunnel, entry }),
            content @ (Content::Streamed { .. } | Content::Kept { .. } | Content::Whole(_)) => {
                self.content = content;
                None
            }
        }
    }

    /// The last part is `last`: the record is written.
    fn finish(&mut self, last: Option<Frame<Bytes>>) -> Option<Frame<Bytes>> {
        let exposed = self.exposure.take().and_then(|exposure| exposure.end());
        let ticket = self.entry.take().and_then(|mut entry| {
            entry.exposed(exposed);
            entry.close()
        });
        match (self.durability, ticket) {
            (Durability::Durable, Some(ticket)) => {
                self.held = Some(Held { last, record: Box::pin(committed(Some(ticket))) });
                None
            }
            (Durability::Witnessed { within }, Some(ticket)) => {
                self.held = Some(Held { last, record: Box::pin(witnessed(Some(ticket), within)) });
                None
            }
            (Durability::Durable | Durability::Queued | Durability::Witnessed { .. }, _) => last,
        }
    }

    fn break_off(&mut self, rejection: Rejection) -> Rejection {
        if let Some(mut entry) = self.entry.take() {
            entry.exposed(self.exposure.take().and_then(|exposure| exposure.end()));
            entry.refused(&rejection);
            drop(entry.close());
        }
        rejection
    }
}

impl Content {
    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Streamed { body, .. } => body.is_end_stream(),
            Self::Tunnel(_) => false,
            Self::Whole(bytes) | Self::Kept { body: bytes, .. } => bytes.is_empty(),
        }
    }

    fn in_flight(&self) -> Option<&InFlight> {
        match self {
            Self::Streamed { in_flight, .. } | Self::Kept { in_flight, .. } => in_flight.as_ref(),
            Self::Tunnel(tunnel) => tunnel.in_flight(),
            Self::Whole(_) => None,
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Rejection>>> {
        match self {
            // Whoever speaks for the client takes it before hyper asks.
            Self::Tunnel(_) => Poll::Ready(None),
            Self::Whole(bytes) | Self::Kept { body: bytes, .. } => {
                let all = std::mem::take(bytes);
                Poll::Ready((!all.is_empty()).then(|| Ok(Frame::data(all))))
            }
            Self::Streamed { body, request, fill, .. } => {
                let polled = ready!(Pin::new(&mut *body).poll_frame(cx));
                if let Some(fill) = fill {
                    keep(fill, polled.as_ref(), body.is_end_stream());
                }
                // A request's body that breaks off takes the upstream's connection with it.
                Poll::Ready(polled.map(|frame| {
                    frame.map_err(|failure| match request.fault() {
                        Some(fault) => fault.into(),
                        None => failure.into(),
                    })
                }))
            }
        }
    }
}

/// Lets `fill` have what goes to the client.
pub(crate) fn keep<E>(fill: &mut Fill, part: Option<&Result<Frame<Bytes>, E>>, is_end: bool) {
    match part {
        Some(Ok(frame)) => match frame.data_ref() {
            Some(data) => fill.push(data),
            // Trailers belong to this one exchange.
            None => fill.give_up(),
        },
        Some(Err(_)) => fill.give_up(),
        None => return fill.complete(),
    }
    if is_end {
        fill.complete();
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Rejection;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Rejection>>> {
        let this = self.get_mut();
        if let Some(held) = &mut this.held {
            let recorded = ready!(held.record.as_mut().poll(cx));
            let last = this.held.take().and_then(|held| held.last);
            return Poll::Ready(match recorded {
                Ok(()) => last.map(Ok),
                Err(rejection) => Some(Err(rejection)),
            });
        }
        if let Some(turn) = this.entry.as_ref().and_then(Entry::turn) {
            turn.ours();
        }
        if let Some(Poll::Ready(rejection)) =
            this.content.in_flight().map(|in_flight| in_flight.poll_cut(cx))
        {
            return Poll::Ready(Some(Err(this.break_off(rejection))));
        }
        let frame = match this.content.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(rejection))) => {
                return Poll::Ready(Some(Err(this.break_off(rejection))));
            }
            Poll::Ready(None) => {
                this.finish(None);
                return match this.held {
                    Some(_) => Pin::new(this).poll_frame(cx),
                    None => Poll::Ready(None),
                };
            }
            Poll::Pending => return Poll::Pending,
        };
        let length = frame.data_ref().map_or(0, Bytes::len);
        if let Some(entry) = &mut this.entry {
            entry.sent(length);
        }
        if let (Some(exposure), Some(data)) = (&mut this.exposure, frame.data_ref()) {
            exposure.see(data);
        }
        if !this.content.is_empty() {
            if let Some(turn) = this.entry.as_ref().and_then(Entry::turn) {
                turn.client(length);
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        match this.finish(Some(frame)) {
            Some(last) => Poll::Ready(Some(Ok(last))),
            None => Pin::new(this).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.entry.is_none() && self.content.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Streamed { body, .. } => body.size_hint(),
            Content::Tunnel(_) => SizeHint::with_exact(0),
            Content::Whole(bytes) | Content::Kept { body: bytes, .. } => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
        }
    }
}
