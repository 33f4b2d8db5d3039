//! The body of a request: bounded in length, and in how slowly it may come.
//!
//! The rate is judged only while we wait for the client, so a slow upstream is not held against
//! it. Every second of waiting costs one of credit, every second's worth of bytes earns one; who
//! has none left is cut. Credit starts at [`GRACE`] and never exceeds [`CREDIT_MAX`], so that no
//! amount sent early buys an endless pause later.
//!
//! A short body is gathered before anything at the upstream is taken for it ([`ClientBody::gather`]),
//! so that a slow client keeps nothing from others; a long one streams.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes as Data;
use enforcer_inspect as inspect;
use enforcer_model::{Bytes, Reason, Rejection};
use enforcer_upstream::Replay;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::unread::Unread;

/// How long a client may be silent before its rate is judged.
const GRACE: Duration = Duration::from_secs(5);
/// The longest pause that bytes sent earlier can pay for.
const CREDIT_MAX: Duration = Duration::from_secs(30);

/// A client that does not say how long its body is may wait for an answer in the middle of it: after
/// so long a pause, nothing more is gathered.
const PAUSE: Duration = Duration::from_secs(1);
/// What all bodies that are gathered on one thread may hold together; where there is no room, they
/// stream.
const GATHERED_MAX: usize = 64 * 1024 * 1024;

/// The body of a request on its way to the upstream.
pub(crate) struct ClientBody {
    /// What was gathered, and has been judged.
    early: VecDeque<Frame<Data>>,
    room: Room,
    incoming: Unread,
    length_max: Bytes,
    rate_min: Bytes,
    credit: Duration,
    waiting_since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
    notes: Notes,
}

/// Bytes that are gathered on one thread.
pub(crate) type Gathered = Rc<Cell<usize>>;

/// A part of [`GATHERED_MAX`]; dropping it gives it back.
#[derive(Default)]
struct Room {
    gathered: Option<Gathered>,
    bytes: usize,
}

/// What became of a body, for whoever handed it on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    received: Rc<Cell<u64>>,
    fault: Rc<Cell<Option<BodyFault>>>,
}

/// Why a body was not taken to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFault {
    #[error("the client broke off the body, or framed it wrongly")]
    Broken,
    #[error("a field stands behind the body that belongs in front of it")]
    Trailer,
    #[error("the body has more than {0}")]
    TooLarge(Bytes),
    #[error("the body came slower than {0} per second")]
    TooSlow(Bytes),
}

impl From<BodyFault> for Rejection {
    fn from(fault: BodyFault) -> Self {
        let reason = match fault {
            BodyFault::Broken | BodyFault::Trailer => Reason::BodyBroken,
            BodyFault::TooLarge(_) => Reason::BodyTooLarge,
            BodyFault::TooSlow(_) => Reason::BodyTooSlow,
        };
        reason.because(fault)
    }
}

impl Notes {
    /// Notes that count into `received`.
    pub(crate) fn new(received: Rc<Cell<u64>>) -> Self {
        Self { received, fault: Rc::default() }
    }

    /// What was wrong with the body, if anything was.
    pub(crate) fn fault(&self) -> Option<BodyFault> {
        self.fault.get()
    }
}

impl ClientBody {
    /// Refuses a body that says itself that it is longer than `length_max`; nothing was read then.
    pub(crate) fn new(
        incoming: Unread,
        length_max: Bytes,
        rate_min: Bytes,
        notes: Notes,
    ) -> Result<Self, BodyFault> {
        if incoming.size_hint().lower() > length_max.0 {
            return Err(BodyFault::TooLarge(length_max));
        }
        Ok(Self {
            early: VecDeque::new(),
            room: Room::default(),
            incoming,
            length_max,
            rate_min,
            credit: GRACE,
            waiting_since: None,
            alarm: None,
            notes,
        })
    }

    /// No body at all.
    pub(crate) fn none(rate_min: Bytes) -> Self {
        Self {
            early: VecDeque::new(),
            room: Room::default(),
            incoming: Unread::none(),
            length_max: Bytes(0),
            rate_min,
            credit: GRACE,
            waiting_since: None,
            alarm: None,
            notes: Notes::default(),
        }
    }

    /// Whether there is nothing to [gather](Self::gather): no body, none wanted, or one that is a
    /// conversation.
    pub(crate) fn is_whole(&self, most: Bytes) -> bool {
        self.incoming.is_end_stream() || most.0 == 0 || self.incoming.talks()
    }

    /// Reads up to `most` bytes before anybody asks for them: all of a body that is no longer, if its
    /// client says how long it is or does not pause.
    pub(crate) async fn gather(
        &mut self,
        most: Bytes,
        gathered: &Gathered,
    ) -> Result<(), BodyFault> {
        let most = usize::try_from(most.0).unwrap_or(usize::MAX);
        self.room.gathered = Some(Rc::clone(gathered));
        let has_length = self.incoming.size_hint().exact().is_some();
        while self.room.bytes < most
            && gathered.get() < GATHERED_MAX
            && !self.incoming.is_end_stream()
        {
            let next = poll_fn(|cx| self.poll_incoming(cx));
            let next = if has_length { Ok(next.await) } else { timeout(PAUSE, next).await };
            let frame = match next {
                Ok(Some(frame)) => frame?,
                Ok(None) => break,
                Err(_pause) => {
                    // Until it is asked again, it is not the client that is waited for.
                    self.stop_waiting();
                    break;
                }
            };
            self.room.grow(frame.data_ref().map_or(0, Data::len));
            self.early.push_back(frame);
        }
        Ok(())
    }

    fn stop_waiting(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            self.credit = self.credit.saturating_sub(since.elapsed());
        }
    }

    fn take(&mut self, mut frame: Frame<Data>) -> Result<Frame<Data>, BodyFault> {
        self.stop_waiting();
        if let Some(trailers) = frame.trailers_mut() {
            if !inspect::may_trail(trailers) {
                return Err(BodyFault::Trailer);
            }
            inspect::strip(trailers);
        }
        let length = frame.data_ref().map_or(0, Data::len);
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let received = self.notes.received.get().saturating_add(length);
        if received > self.length_max.0 {
            return Err(BodyFault::TooLarge(self.length_max));
        }
        self.notes.received.set(received);
        let earned_ms = length.saturating_mul(1_000) / self.rate_min.0.max(1);
        let earned = Duration::from_millis(earned_ms);
        self.credit = self.credit.saturating_add(earned).min(CREDIT_MAX);
        Ok(frame)
    }

    /// Ready when the client has no credit left to keep us waiting.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<BodyFault> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let end = since + self.credit;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(end)));
        loop {
            ready!(alarm.as_mut().poll(cx));
            if end <= Instant::now() {
                return Poll::Ready(BodyFault::TooSlow(self.rate_min));
            }
            alarm.as_mut().reset(end);
        }
    }
}

impl ClientBody {
    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, BodyFault>>> {
        let taken = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => self.take(frame),
            Poll::Ready(Some(Err(_))) => Err(BodyFault::Broken),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {
                let fault = ready!(self.poll_too_slow(cx));
                self.incoming.give_up();
                Err(fault)
            }
        };
        if let Err(fault) = taken {
            self.notes.fault.set(Some(fault));
        }
        Poll::Ready(Some(taken))
    }
}

impl Replay for ClientBody {
    fn replay(&self) -> Option<Self> {
        if !self.incoming.is_end_stream() {
            return None;
        }
        let copied = |frame: &Frame<Data>| match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Some(Frame::data(data.clone())),
            (None, Some(trailers)) => Some(Frame::trailers(trailers.clone())),
            (None, None) => None,
        };
        let early = self.early.iter().map(copied).collect::<Option<_>>()?;
        let mut room = Room { gathered: self.room.gathered.clone(), bytes: 0 };
        room.grow(self.room.bytes);
        let notes = self.notes.clone();
        Some(Self { early, room, notes, ..Self::none(self.rate_min) })
    }
}

impl Body for ClientBody {
    type Data = Data;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, BodyFault>>> {
        let this = self.get_mut();
        if let Some(frame) = this.early.pop_front() {
            if this.early.is_empty() {
                this.room = Room::default();
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        this.poll_incoming(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.early.is_empty() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.incoming.size_hint();
        if self.early.is_empty() {
            return rest;
        }
        let early: usize = self.early.iter().filter_map(Frame::data_ref).map(Data::len).sum();
        let early = u64::try_from(early).unwrap_or(u64::MAX);
        let mut hint = SizeHint::new();
        hint.set_lower(early.saturating_add(rest.lower()));
        // Behind a body of a known length there is no place for trailers.
        let trails = self.early.iter().any(Frame::is_trailers);
        if let Some(upper) = rest.upper().filter(|_| !trails) {
            hint.set_upper(early.saturating_add(upper));
        }
        hint
    }
}

impl Room {
    fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        if let Some(gathered) = &self.gathered {
            gathered.set(gathered.get().saturating_add(bytes));
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(gathered) = &self.gathered {
            gathered.set(gathered.get().saturating_sub(self.bytes));
        }
    }
}
