//! The bytes of one connection, and the clocks that run on them.
//!
//! hyper's own header time-out also runs while a connection is unused; here the two are apart. A
//! client gets `head` for a whole request head, `idle` between requests, and `idle` to take any
//! byte of an answer: on the socket, and on HTTP/2 also within its window, where the socket would
//! look healthy. The rate of a request's body is judged where it is read ([`crate::body`]).

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use enforcer_model::{Reason, Rejection};
use enforcer_policy::Timeouts;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::framing::Framing;
use crate::under_way::Watch;

/// A stream whose bytes are watched.
pub(crate) struct Wire<S> {
    stream: S,
    pulse: Rc<Pulse>,
}

/// What is known about the progress of one connection.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// Follows the heads; none on HTTP/2.
    framing: Option<RefCell<Framing>>,
    waiting: Cell<Waiting>,
    requests: Cell<u64>,
    active: RefCell<Vec<Rc<Turn>>>,
    write_blocked: Cell<Option<Instant>>,
    ended: Cell<Option<Ended>>,
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
    /// The agent stops and could not wait any longer.
    #[error("the agent stopped before the answer was complete")]
    ShutDown,
    /// The client took nothing of an answer for too long.
    #[error("the client took nothing of the answer for {0:?}")]
    Stalled(Duration),
}

/// A request under way, from its head to the last byte of its answer.
#[derive(Debug)]
pub(crate) struct Active {
    pulse: Rc<Pulse>,
    turn: Rc<Turn>,
}

/// Whose turn it is with an answer, and who must not get any more of it.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Since when the client has been asked to take the next part.
    client: Cell<Option<Instant>>,
    caller: OnceCell<Watch>,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// The head of a request took too long.
    Head,
    /// Nothing was asked for too long.
    Idle,
    /// The client took nothing of an answer for too long.
    Stalled,
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
    pub(crate) fn http1() -> Rc<Self> {
        Self::new(Some(RefCell::default()), Waiting::Head(Instant::now()))
    }

    /// Of a fresh HTTP/2 connection, which may be made well before it is used.
    pub(crate) fn http2() -> Rc<Self> {
        Self::new(None, Waiting::Next(Instant::now()))
    }

    fn new(framing: Option<RefCell<Framing>>, waiting: Waiting) -> Rc<Self> {
        Rc::new(Self {
            framing,
            waiting: Cell::new(waiting),
            requests: Cell::new(0),
            active: RefCell::default(),
            write_blocked: Cell::new(None),
            ended: Cell::new(None),
        })
    }

    /// Says why the requests that are still under way will not be completed.
    pub(crate) fn end(&self, why: Ended) {
        self.ended.set(Some(why));
    }

    /// Why the head that hyper could not read was ambiguous, if it was.
    pub(crate) fn refuse_unread(&self) -> Result<(), Rejection> {
        let framing = self.framing.as_ref();
        framing.map_or(Ok(()), |framing| framing.borrow().refuse(self.requests.get() + 1))
    }

    /// The request that arrived last, unless it is over.
    pub(crate) fn newest(&self) -> Option<Rc<Turn>> {
        self.active.borrow().last().map(Rc::clone)
    }

    /// A request has arrived; whether its head, as sent, could be read in two ways.
    pub(crate) fn begin(self: &Rc<Self>) -> (Active, Result<(), Rejection>) {
        let nth = self.requests.get() + 1;
        self.requests.set(nth);
        let turn = Rc::<Turn>::default();
        self.active.borrow_mut().push(Rc::clone(&turn));
        let framing = self.framing.as_ref().map_or(Ok(()), |framing| framing.borrow().refuse(nth));
        (Active { pulse: Rc::clone(self), turn }, framing)
    }

    /// When the connection has to end if nothing happens before, and why.
    pub(crate) fn deadline(&self, timeouts: &Timeouts) -> Option<(Instant, Overdue)> {
        let active = self.active.borrow();
        let stalls =
            active.iter().filter_map(|turn| turn.client.get()).chain(self.write_blocked.get());
        let stalled = stalls.min().map(|since| (since + timeouts.idle, Overdue::Stalled));
        if !active.is_empty() {
            return stalled;
        }
        let waiting = match self.waiting.get() {
            Waiting::Head(since) => (since + timeouts.head, Overdue::Head),
            Waiting::Next(since) => (since + timeouts.idle, Overdue::Idle),
        };
        Some(
            stalled
                .map_or(waiting, |stalled| if stalled.0 < waiting.0 { stalled } else { waiting }),
        )
    }

    /// Ready when the request of an HTTP/1 connection has been cut and its client takes nothing of
    /// the answer.
    ///
    /// Ready in a poll that something else has caused: a cut wakes the task of its request.
    pub(crate) fn poll_cut_off(&self) -> Poll<()> {
        match self.framing.is_some() && self.active.borrow().iter().any(|t| t.cut_off().is_some()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// The longest time after which [`Self::deadline`] is worth another look.
    pub(crate) fn look_again(timeouts: &Timeouts) -> Duration {
        timeouts.head.min(timeouts.idle)
    }

    fn read(&self, bytes: &[u8]) {
        let Some(framing) = &self.framing else { return };
        let mut framing = framing.borrow_mut();
        let before = framing.in_head();
        framing.read(bytes);
        match (before, framing.in_head()) {
            // The very first head has been waited for since the connection was made.
            (false, true) if self.requests.get() > 0 => {
                self.waiting.set(Waiting::Head(Instant::now()));
            }
            (true, false) => self.waiting.set(Waiting::Next(Instant::now())),
            (false, true | false) | (true, true) => {}
        }
    }

    fn wrote<T>(&self, polled: &Poll<T>) {
        match (polled, self.write_blocked.get()) {
            (Poll::Ready(_), Some(_)) => self.write_blocked.set(None),
            (Poll::Pending, None) => self.write_blocked.set(Some(Instant::now())),
            (Poll::Ready(_), None) | (Poll::Pending, Some(_)) => {}
        }
    }
}

impl Active {
    /// Whose turn it is with the answer.
    pub(crate) fn turn(&self) -> &Turn {
        &self.turn
    }

    /// Why we ended the request or its connection, if we did.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.turn.cut_off().map(Ended::Cut).or(self.pulse.ended.get())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let pulse = &self.pulse;
        let mut active = pulse.active.borrow_mut();
        active.retain(|turn| !Rc::ptr_eq(turn, &self.turn));
        if active.is_empty() {
            let in_head = pulse.framing.as_ref().is_some_and(|framing| framing.borrow().in_head());
            let now = Instant::now();
            pulse.waiting.set(if in_head { Waiting::Head(now) } else { Waiting::Next(now) });
        }
    }
}

impl Turn {
    /// The client was given a part and has not come back for the next.
    pub(crate) fn client(&self) {
        self.client.set(Some(Instant::now()));
    }

    /// The client has taken everything so far.
    pub(crate) fn ours(&self) {
        self.client.set(None);
    }

    /// The caller of the request, who may be shut out at any time.
    pub(crate) fn watch(&self, caller: Watch) {
        // One request, one caller.
        drop(self.caller.set(caller));
    }

    /// Why the request must end though the client takes nothing. Were it the client's turn no
    /// longer, whoever makes the answer would see the cut, and could still say so.
    pub(crate) fn cut_off(&self) -> Option<Reason> {
        self.client.get().and_then(|_since| self.caller.get()?.why())
    }
}

impl<S> Wire<S> {
    pub(crate) const fn new(stream: S, pulse: Rc<Pulse>) -> Self {
        Self { stream, pulse }
    }

    /// The stream, which nobody watches any more.
    pub(crate) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_ready() {
            self.pulse.read(buffer.filled().get(before..).unwrap_or_default());
        }
        polled
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
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.pulse.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.pulse.wrote(&polled);
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.pulse.wrote(&polled);
        polled
    }
}
