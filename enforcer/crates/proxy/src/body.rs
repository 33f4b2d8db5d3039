//! The body of a request: bounded in length, and in how slowly it may come.
//!
//! The rate is judged only while we wait for the client, so a slow upstream is not held against
//! it. Every second of waiting costs one of credit, every second's worth of bytes earns one; who
//! has none left is cut. Credit starts at [`GRACE`] and never exceeds [`CREDIT_MAX`], so that no
//! amount sent early buys an endless pause later.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes as Data;
use enforcer_inspect as inspect;
use enforcer_model::{Bytes, Reason, Rejection};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::unread::Unread;

/// How long a client may be silent before its rate is judged.
const GRACE: Duration = Duration::from_secs(5);
/// The longest pause that bytes sent earlier can pay for.
const CREDIT_MAX: Duration = Duration::from_secs(30);

/// The body of a request on its way to the upstream.
pub(crate) struct ClientBody {
    incoming: Unread,
    length_max: Bytes,
    rate_min: Bytes,
    credit: Duration,
    waiting_since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
    notes: Notes,
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
    #[error("the body has more than {0}")]
    TooLarge(Bytes),
    #[error("the body came slower than {0} per second")]
    TooSlow(Bytes),
}

impl From<BodyFault> for Rejection {
    fn from(fault: BodyFault) -> Self {
        let reason = match fault {
            BodyFault::Broken => Reason::BodyBroken,
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
            incoming: Unread::none(),
            length_max: Bytes(0),
            rate_min,
            credit: GRACE,
            waiting_since: None,
            alarm: None,
            notes: Notes::default(),
        }
    }

    fn take(&mut self, mut frame: Frame<Data>) -> Result<Frame<Data>, BodyFault> {
        if let Some(since) = self.waiting_since.take() {
            self.credit = self.credit.saturating_sub(since.elapsed());
        }
        if let Some(trailers) = frame.trailers_mut() {
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

impl Body for ClientBody {
    type Data = Data;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, BodyFault>>> {
        let this = self.get_mut();
        let taken = match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => this.take(frame),
            Poll::Ready(Some(Err(_))) => Err(BodyFault::Broken),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {
                let fault = ready!(this.poll_too_slow(cx));
                this.incoming.give_up();
                Err(fault)
            }
        };
        if let Err(fault) = taken {
            this.notes.fault.set(Some(fault));
        }
        Poll::Ready(Some(taken))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
