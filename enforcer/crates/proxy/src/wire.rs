//! The bytes of one connection, and the clocks that run on them.
//!
//! hyper's own header time-out also runs while a connection is unused; here the two are apart. A
//! client gets `head` for a whole request head, `idle` between requests, and `idle` to take any
//! byte of an answer: on the socket, and on HTTP/2 also within its window, where the socket would
//! look healthy. Who takes some, but next to nothing, lives on credit: every second that we wait
//! costs one, every second's worth of bytes at `answer_rate` earns one. The rate of a request's body
//! is judged where it is read ([`crate::body`]).
//!
//! hyper never reads what [`Framing`] or [`Floods`] find unsound: what stands before it is served,
//! and then the connection ends with an answer of our own.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use enforcer_inspect::Head;
use enforcer_model::{Bytes, Reason, Rejection};
use enforcer_policy::{ConnectionsPlan, Timeouts};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::floods::Floods;
use crate::framing::Framing;
use crate::turn::{Taking, Turn, keep};

/// A stream whose bytes are watched.
pub(crate) struct Wire<S> {
    stream: S,
    pulse: Rc<Pulse>,
    /// Waits with the end of the reading until what was answered has been written.
    reader: Option<Waker>,
}

/// What is known about the progress of one connection.
#[derive(Debug)]
pub(crate) struct Pulse {
    reading: Reading,
    waiting: Cell<Waiting>,
    made: Instant,
    requests: Cell<u64>,
    active: RefCell<Vec<Rc<Turn>>>,
    taking: Taking,
    ended: Cell<Option<Ended>>,
    /// Of the task that serves a connection of HTTP/1.
    waker: RefCell<Option<Waker>>,
}

/// Who reads along.
#[derive(Debug)]
enum Reading {
    Http1(RefCell<Framing>),
    Http2(Box<RefCell<Floods>>),
}

/// Why we ended a connection on which a request was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ended {
    /// Its caller was shut out while the client took nothing of the answer.
    #[error("the caller was shut out while the client took nothing of the answer")]
    Cut(Reason),
    /// The client's certificate was revoked or has expired.
    #[error("the client certificate is not good any more")]
    Distrusted,
    /// The client sent more frames of a kind than it may.
    #[error("the connection ended because of a flood of frames")]
    Flooded,
    /// The agent stops and could not wait any longer.
    #[error("the agent stopped before the answer was complete")]
    ShutDown,
    /// The client took next to nothing of an answer.
    #[error("the client took less of the answer than {0} per second")]
    Slow(Bytes),
    /// The client took nothing of an answer for too long.
    #[error("the client took nothing of the answer for {0:?}")]
    Stalled(Duration),
    /// The whole took longer than the policy allows.
    #[error("the answer was not complete after {0:?}")]
    TooLong(Duration),
    /// An operator disabled its endpoint, and what was under way there as well.
    #[error("an operator disabled the endpoint while the request was under way")]
    Withdrawn,
}

/// A request under way, from its head to the last byte of its answer.
#[derive(Debug)]
pub(crate) struct Active {
    pulse: Rc<Pulse>,
    turn: Rc<Turn>,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// The head of a request took too long.
    Head,
    /// Nothing was asked for too long.
    Idle,
    /// The client took next to nothing of an answer for too long.
    Slow,
    /// The client took nothing of an answer for too long.
    Stalled,
    /// A request as a whole took too long.
    Total(Duration),
}

/// What a connection should do, whatever its clocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// End: its request has been cut, and its client takes nothing of the answer.
    End,
    /// Take no more requests: it had as many as it may have.
    Finish,
    /// Look at the clocks no later than this: an answer has to be complete by then.
    Look(Instant),
}

#[derive(Clone, Copy, Debug)]
enum Waiting {
    /// For the rest of a head, or for the very first byte.
    Head(Instant),
    /// For the first byte of another head.
    Next(Instant),
}

impl Pulse {
    /// Of a fresh HTTP/1 connection.
    pub(crate) fn http1(timeouts: &Timeouts) -> Rc<Self> {
        let now = Instant::now();
        Self::new(Reading::Http1(RefCell::default()), Waiting::Head(now), now, timeouts)
    }

    /// Of a fresh HTTP/2 connection, which may be made well before it is used.
    pub(crate) fn http2(timeouts: &Timeouts) -> Rc<Self> {
        let now = Instant::now();
        let floods = Box::new(RefCell::new(Floods::new()));
        Self::new(Reading::Http2(floods), Waiting::Next(now), now, timeouts)
    }

    fn new(reading: Reading, waiting: Waiting, made: Instant, timeouts: &Timeouts) -> Rc<Self> {
        Rc::new(Self {
            reading,
            waiting: Cell::new(waiting),
            made,
            requests: Cell::new(0),
            active: RefCell::default(),
            taking: Taking::new(timeouts.answer_rate),
            ended: Cell::new(None),
            waker: RefCell::default(),
        })
    }

    /// Requests under way.
    pub(crate) fn under_way(&self) -> usize {
        self.active.borrow().len()
    }

    /// Ends the requests under way that `meant` names; how many.
    pub(crate) fn withdraw(&self, meant: &dyn Fn(&Head) -> bool) -> usize {
        let active = self.active.borrow();
        let meant = active.iter().filter(|turn| turn.is_meant(meant));
        let cut = meant.filter(|turn| turn.withdraw()).count();
        if cut > 0
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
        cut
    }

    /// Ready once one of its requests is to end; the task that asks is woken.
    pub(crate) fn poll_withdrawn(&self, cx: &Context<'_>) -> Poll<()> {
        keep(&self.waker, cx);
        match self.active.borrow().iter().any(|turn| turn.is_withdrawn()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Says why the requests that are still under way will not be completed.
    pub(crate) fn end(&self, why: Ended) {
        self.ended.set(Some(why));
    }

    /// Why the client's bytes were not read any further, unless the request that they belong to has
    /// been told.
    pub(crate) fn refuse_unsound(&self) -> Result<(), Rejection> {
        match &self.reading {
            Reading::Http1(framing) => {
                framing.borrow().fault_in_head().map_or(Ok(()), |why| Err(why.into()))
            }
            Reading::Http2(floods) => floods.borrow().found().map_or(Ok(()), |why| Err(why.into())),
        }
    }

    /// The request that arrived last, unless it is over.
    pub(crate) fn newest(&self) -> Option<Rc<Turn>> {
        self.active.borrow().last().map(Rc::clone)
    }

    /// A request has arrived.
    pub(crate) fn begin(self: &Rc<Self>) -> Active {
        self.requests.set(self.requests.get().saturating_add(1));
        let turn = Rc::new(Turn::new(self.taking.rate()));
        self.active.borrow_mut().push(Rc::clone(&turn));
        Active { pulse: Rc::clone(self), turn }
    }

    /// Whether no further request should be taken on the connection.
    pub(crate) fn is_spent(&self, plan: &ConnectionsPlan) -> bool {
        self.requests.get() >= plan.requests
    }

    /// When the connection is as old as one should become.
    pub(crate) fn old_at(&self, plan: &ConnectionsPlan) -> Instant {
        self.made + plan.age
    }

    /// When the connection has to end if nothing happens before, and why.
    pub(crate) fn deadline(&self, timeouts: &Timeouts) -> Option<(Instant, Overdue)> {
        let active = self.active.borrow();
        let slow = active.iter().filter_map(|turn| turn.overdue(timeouts.idle));
        // A stream of HTTP/2 that takes too long ends alone.
        let total = active.iter().filter(|_| !self.is_http2()).filter_map(|turn| turn.until_when());
        let total = total.map(|by| (by.end, Overdue::Total(by.total)));
        let overdue = slow.chain(self.taking.overdue(0, timeouts.idle)).chain(total);
        let waiting = match self.waiting.get() {
            // A head of HTTP/2 may come in parts while others are under way.
            Waiting::Head(since) if active.is_empty() || self.is_http2() => {
                Some((since + timeouts.head, Overdue::Head))
            }
            Waiting::Next(since) if active.is_empty() => {
                Some((since + timeouts.idle, Overdue::Idle))
            }
            Waiting::Head(_) | Waiting::Next(_) => None,
        };
        overdue.chain(waiting).min_by_key(|(end, _)| *end)
    }

    /// Ready when the connection should do something though no clock has run out; the next look at the
    /// clocks is `due`.
    ///
    /// Ready in a poll that something else has caused: a cut wakes the task of its request, and a
    /// request that of its connection.
    pub(crate) fn poll_wish(
        &self,
        plan: &ConnectionsPlan,
        due: Instant,
        finishing: bool,
    ) -> Poll<Wish> {
        if self.is_http2() {
            return match !finishing && self.is_spent(plan) {
                true => Poll::Ready(Wish::Finish),
                false => Poll::Pending,
            };
        }
        let active = self.active.borrow();
        if active.iter().any(|turn| turn.cut_off().is_some()) {
            return Poll::Ready(Wish::End);
        }
        let ends = active.iter().filter_map(|turn| turn.deadline()).min();
        ends.filter(|end| *end < due).map_or(Poll::Pending, |end| Poll::Ready(Wish::Look(end)))
    }

    /// The longest time after which [`Self::deadline`] is worth another look.
    pub(crate) fn look_again(timeouts: &Timeouts) -> Duration {
        timeouts.head.min(timeouts.idle)
    }

    const fn is_http2(&self) -> bool {
        matches!(self.reading, Reading::Http2(_))
    }

    /// Reads along; how many of the bytes are sound.
    fn read(&self, bytes: &[u8]) -> usize {
        let (before, after, sound) = match &self.reading {
            Reading::Http1(framing) => {
                let mut framing = framing.borrow_mut();
                let before = framing.in_head();
                let sound = framing.read(bytes);
                (before, framing.in_head(), sound)
            }
            Reading::Http2(floods) => {
                let mut floods = floods.borrow_mut();
                let before = floods.in_head();
                let sound = floods.received(bytes).map_or(0, |()| bytes.len());
                (before, floods.in_head(), sound)
            }
        };
        match (before, after) {
            // The very first head of HTTP/1 has been waited for since the connection was made.
            (false, true) if self.requests.get() > 0 || self.is_http2() => {
                self.waiting.set(Waiting::Head(Instant::now()));
            }
            (true, false) => self.waiting.set(Waiting::Next(Instant::now())),
            (false, true | false) | (true, true) => {}
        }
        sound
    }

    fn wrote(&self, polled: &Poll<io::Result<usize>>) {
        match polled {
            Poll::Ready(Ok(count)) => self.taking.took(*count),
            Poll::Ready(Err(_)) => self.taking.took(0),
            Poll::Pending => self.taking.wait(),
        }
    }

    fn flushed(&self, polled: &Poll<io::Result<()>>) {
        match polled {
            Poll::Ready(_) => self.taking.took(0),
            Poll::Pending => self.taking.wait(),
        }
    }

    /// Counts frames of ours in the first `count` bytes.
    fn sent<'a>(&self, slices: impl Iterator<Item = &'a [u8]>, polled: &Poll<io::Result<usize>>) {
        if let (Reading::Http2(floods), Poll::Ready(Ok(count))) = (&self.reading, polled) {
            let mut floods = floods.borrow_mut();
            let mut left = *count;
            for slice in slices {
                let written = slice.get(..left).unwrap_or(slice);
                floods.sent(written);
                left -= written.len();
                if left == 0 {
                    break;
                }
            }
        }
    }

    fn goodbye(&self) -> Option<[u8; 17]> {
        match &self.reading {
            Reading::Http1(_) => None,
            Reading::Http2(floods) => floods.borrow().goodbye(),
        }
    }

    /// Whether nothing more of the client's bytes may be read.
    fn is_unsound(&self) -> bool {
        match &self.reading {
            Reading::Http1(framing) => framing.borrow().fault().is_some(),
            Reading::Http2(floods) => floods.borrow().found().is_some(),
        }
    }
}

impl Active {
    /// Whose turn it is with the answer.
    pub(crate) fn turn(&self) -> &Rc<Turn> {
        &self.turn
    }

    /// Why we ended the request or its connection, if we did.
    pub(crate) fn ended(&self) -> Option<Ended> {
        let turn = &self.turn;
        let withdrawn = turn.is_withdrawn().then_some(Ended::Withdrawn);
        let cut = turn.cut_off().map(Ended::Cut).or(withdrawn);
        cut.or(self.pulse.ended.get()).or_else(|| turn.too_long())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let pulse = &self.pulse;
        let mut active = pulse.active.borrow_mut();
        active.retain(|turn| !Rc::ptr_eq(turn, &self.turn));
        if active.is_empty() {
            let in_head = match &pulse.reading {
                Reading::Http1(framing) => framing.borrow().in_head(),
                // Its clock has run since it began.
                Reading::Http2(floods) if floods.borrow().in_head() => return,
                Reading::Http2(_) => false,
            };
            let now = Instant::now();
            pulse.waiting.set(if in_head { Waiting::Head(now) } else { Waiting::Next(now) });
        }
    }
}

impl<S> Wire<S> {
    pub(crate) const fn new(stream: S, pulse: Rc<Pulse>) -> Self {
        Self { stream, pulse, reader: None }
    }

    /// The stream, which nobody watches any more.
    pub(crate) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    fn wake_reader(&mut self, written: bool) {
        if written && let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Ends the reading, once what was answered before has been written.
    fn poll_unsound(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pulse.taking.is_waiting() {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(goodbye) = self.pulse.goodbye()
            && Pin::new(&mut self.stream).poll_write(cx, &goodbye).is_ready()
        {
            // It arrives, or it does not: the connection ends.
            let _flushed = Pin::new(&mut self.stream).poll_flush(cx);
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, Unsound)))
    }
}

/// What a client sent is not read any further.
#[derive(Debug, thiserror::Error)]
#[error("the client sent what is not read any further")]
struct Unsound;

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.pulse.is_unsound() {
            return self.poll_unsound(cx);
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_pending() {
            return polled;
        }
        let sound = self.pulse.read(buffer.filled().get(before..).unwrap_or_default());
        buffer.set_filled(before + sound);
        // Nothing at all would be the end of the stream.
        if sound == 0 && self.pulse.is_unsound() { self.poll_unsound(cx) } else { polled }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.pulse.wrote(&polled);
        self.wake_reader(polled.is_ready());
        self.pulse.sent(std::iter::once(bytes), &polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.pulse.wrote(&polled);
        self.wake_reader(polled.is_ready());
        self.pulse.sent(slices.iter().map(|slice| &**slice), &polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.pulse.flushed(&polled);
        self.wake_reader(polled.is_ready());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Somebody still has to tell the client why.
        let polled = match self.pulse.refuse_unsound() {
            Ok(()) => Pin::new(&mut self.stream).poll_shutdown(cx),
            Err(_told_later) => Pin::new(&mut self.stream).poll_flush(cx),
        };
        self.pulse.flushed(&polled);
        self.wake_reader(polled.is_ready());
        polled
    }
}
