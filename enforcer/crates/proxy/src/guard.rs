//! What is put around the work on a request: an end in time, and a wall around its bugs.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use enforcer_model::{Reason, Rejection};
use tokio::time::{Instant, timeout_at};

/// When a request has to be over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) end: Instant,
    pub(crate) total: Duration,
}

/// A bug; the agent's own log has where.
#[derive(Debug, thiserror::Error)]
#[error("serving the request ended in a panic")]
pub(crate) struct Panicked;

#[derive(Debug, thiserror::Error)]
#[error("the request was not done after {0:?}")]
struct TooLong(Duration);

impl Deadline {
    /// So long from now.
    pub(crate) fn after(total: Duration) -> Self {
        Self { end: Instant::now() + total, total }
    }
}

/// Does `work`, if it is done in time.
pub(crate) async fn within<F: Future>(
    by: Option<Deadline>,
    work: Pin<&mut F>,
) -> Result<F::Output, Rejection> {
    let Some(by) = by else { return Ok(work.await) };
    match timeout_at(by.end, work).await {
        Ok(done) => Ok(done),
        Err(_elapsed) => Err(Reason::RequestTimeout.because(TooLong(by.total))),
    }
}

/// Does `work`; a panic ends it and nothing else. What it held was dropped on the way.
pub(crate) async fn unless_panic<F: Future>(mut work: Pin<&mut F>) -> Result<F::Output, Panicked> {
    poll_fn(|cx| {
        // A future that panicked is not polled again, so nobody sees what it left half done.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(_told_by_the_hook) => Poll::Ready(Err(Panicked)),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn what_takes_too_long_ends_with_a_reason() {
        let by = Deadline::after(Duration::from_millis(50));

        assert_eq!(within(Some(by), pin!(async { 7 })).await.unwrap(), 7);
        assert_eq!(within(None, pin!(async { 7 })).await.unwrap(), 7);
        let late = within(Some(by), pin!(std::future::pending::<()>())).await.unwrap_err();

        assert_eq!(late.reason, Reason::RequestTimeout);
        assert!(Instant::now() >= by.end);
    }

    #[tokio::test]
    async fn a_panic_ends_its_work_alone() {
        assert_eq!(unless_panic(pin!(async { 7 })).await.unwrap(), 7);
        let bug = async {
            let is_bug = true;
            assert!(!is_bug, "on purpose");
        };
        assert!(unless_panic(pin!(bug)).await.is_err());
    }
}
