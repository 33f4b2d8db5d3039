//! Whose turn it is with an answer, and how long a client may leave us waiting.
//!
//! Who takes some of what it is given, but next to nothing, lives on credit: every second that we
//! wait costs one, every second's worth of bytes at `answer_rate` earns one. So no amount taken early
//! buys an endless pause later, and a client that reads a byte a second holds nothing for long.

use std::cell::{Cell, OnceCell, RefCell};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use enforcer_inspect::Head;
use enforcer_model::{Bytes, Reason};
use tokio::time::Instant;

use crate::guard::Deadline;
use crate::under_way::Watch;
use crate::wire::{Ended, Overdue};

/// How a client takes what it is given: by the credit that it has left.
#[derive(Debug)]
pub(crate) struct Taking {
    rate: Bytes,
    credit: Cell<Duration>,
    /// Since when we wait for it.
    since: Cell<Option<Instant>>,
}

/// Whose turn it is with an answer, and who must not get any more of it.
#[derive(Debug)]
pub(crate) struct Turn {
    taking: Taking,
    /// Bytes of the part that the client was given last.
    given: Cell<usize>,
    /// When the answer has to be complete, and how long that was.
    until: Cell<Option<Deadline>>,
    caller: OnceCell<Watch>,
    /// What is asked for, once that is understood.
    head: OnceCell<Head>,
    /// An operator wants it to end.
    withdrawn: Cell<bool>,
    /// Of the task that serves a stream of HTTP/2.
    waker: RefCell<Option<Waker>>,
}

/// The longest wait that bytes taken earlier can pay for, and what everybody begins with.
const CREDIT_MAX: Duration = Duration::from_secs(60);

impl Taking {
    pub(crate) const fn new(rate: Bytes) -> Self {
        Self { rate, credit: Cell::new(CREDIT_MAX), since: Cell::new(None) }
    }

    pub(crate) fn wait(&self) {
        if self.since.get().is_none() {
            self.since.set(Some(Instant::now()));
        }
    }

    /// The client has taken so many bytes, after what time we waited for it.
    pub(crate) fn took(&self, bytes: usize) {
        if let Some(since) = self.since.take() {
            self.credit.set(self.credit.get().saturating_sub(since.elapsed()));
        }
        if self.credit.get() < CREDIT_MAX {
            let credit = self.credit.get().saturating_add(self.worth(bytes));
            self.credit.set(credit.min(CREDIT_MAX));
        }
    }

    /// In bytes a second.
    pub(crate) const fn rate(&self) -> Bytes {
        self.rate
    }

    pub(crate) const fn is_waiting(&self) -> bool {
        self.since.get().is_some()
    }

    /// How long the client may take for so many bytes.
    fn worth(&self, bytes: usize) -> Duration {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        Duration::from_millis(bytes.saturating_mul(1_000) / self.rate.0.max(1))
    }

    /// When it has kept us waiting for too long with the next `bytes`.
    pub(crate) fn overdue(&self, bytes: usize, idle: Duration) -> Option<(Instant, Overdue)> {
        let since = self.since.get()?;
        let patience = self.credit.get().saturating_add(self.worth(bytes));
        Some(if patience < idle {
            (since + patience, Overdue::Slow)
        } else {
            (since + idle, Overdue::Stalled)
        })
    }
}

impl Turn {
    pub(crate) fn new(rate: Bytes) -> Self {
        Self {
            taking: Taking::new(rate),
            given: Cell::new(0),
            until: Cell::new(None),
            caller: OnceCell::new(),
            head: OnceCell::new(),
            withdrawn: Cell::new(false),
            waker: RefCell::default(),
        }
    }

    /// Keeps what is asked for, for whoever wants such requests to end.
    pub(crate) fn asks(&self, head: Head) -> &Head {
        // One request, one head.
        self.head.get_or_init(|| head)
    }

    /// Whether it is one that `meant` means.
    pub(crate) fn is_meant(&self, meant: &dyn Fn(&Head) -> bool) -> bool {
        self.head.get().is_some_and(meant)
    }

    pub(crate) const fn is_withdrawn(&self) -> bool {
        self.withdrawn.get()
    }

    /// Ready once the request is to end; the task that asks is woken.
    pub(crate) fn poll_withdrawn(&self, cx: &Context<'_>) -> Poll<()> {
        keep(&self.waker, cx);
        if self.withdrawn.get() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether this was what ended it.
    pub(crate) fn withdraw(&self) -> bool {
        let is_first = !self.withdrawn.replace(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
        is_first
    }

    /// The client was given a part of so many bytes and has not come back for the next.
    pub(crate) fn client(&self, bytes: usize) {
        self.given.set(bytes);
        self.taking.wait();
    }

    /// The client has taken everything so far.
    pub(crate) fn ours(&self) {
        self.taking.took(self.given.take());
    }

    /// The answer has to be complete by then.
    pub(crate) fn until(&self, by: Deadline) {
        self.until.set(Some(by));
    }

    /// The caller of the request, who may be shut out at any time.
    pub(crate) fn watch(&self, caller: Watch) {
        // One request, one caller.
        drop(self.caller.set(caller));
    }

    /// Why the request must end though the client takes nothing. Were it the client's turn no
    /// longer, whoever makes the answer would see the cut, and could still say so.
    pub(crate) fn cut_off(&self) -> Option<Reason> {
        self.taking.since.get().and_then(|_since| self.caller.get()?.why())
    }

    /// When its answer has to be complete, and how long that was.
    pub(crate) const fn until_when(&self) -> Option<Deadline> {
        self.until.get()
    }

    /// When its answer has to be complete.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.until.get().map(|by| by.end)
    }

    pub(crate) fn too_long(&self) -> Option<Ended> {
        let by = self.until.get()?;
        (by.end <= Instant::now()).then_some(Ended::TooLong(by.total))
    }

    pub(crate) fn overdue(&self, idle: Duration) -> Option<(Instant, Overdue)> {
        self.taking.overdue(self.given.get(), idle)
    }
}

/// Keeps the waker of whoever asks.
pub(crate) fn keep(waker: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut waker = waker.borrow_mut();
    if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *waker = Some(cx.waker().clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    #[test]
    fn who_takes_nothing_is_stalled_and_who_takes_next_to_nothing_is_slow() {
        let taking = Taking::new(Bytes(1_024));
        assert_eq!(taking.overdue(0, IDLE), None, "nobody waits");

        taking.wait();
        let since = taking.since.get().unwrap();
        assert_eq!(taking.overdue(0, IDLE), Some((since + IDLE, Overdue::Stalled)));
        taking.credit.set(Duration::from_secs(5));
        let patience = Duration::from_secs(5);
        assert_eq!(taking.overdue(0, IDLE), Some((since + patience, Overdue::Slow)));
        assert_eq!(
            taking.overdue(2_048, IDLE),
            Some((since + patience + Duration::from_secs(2), Overdue::Slow)),
            "the last part is worth its time"
        );
    }

    #[test]
    fn waiting_costs_credit_and_taking_earns_no_more_than_there_is_to_have() {
        let taking = Taking::new(Bytes(1_024));
        taking.credit.set(Duration::ZERO);

        taking.took(1_024);
        assert_eq!(taking.credit.get(), Duration::from_secs(1));
        taking.took(1 << 30);
        assert_eq!(taking.credit.get(), CREDIT_MAX);
        taking.since.set(Instant::now().checked_sub(Duration::from_secs(10)));
        taking.took(0);
        assert!(taking.credit.get() <= CREDIT_MAX.saturating_sub(Duration::from_secs(10)));
        assert_eq!(taking.since.get(), None);
    }
}
