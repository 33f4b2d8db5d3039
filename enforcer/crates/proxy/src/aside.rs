//! A future that is polled only when something happened to it.
//!
//! A task that moves bytes is woken thousands of times in a second, and what it waits for beside them
//! (a stop, a cut, an alarm) nearly never happens. Polled along, each of these takes locks to say
//! that nothing is new. Here they share a bell of their own: unless it rang, asking costs one load.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// A future beside the work of its task.
pub(crate) struct Aside<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    /// Rings the bell.
    ringer: Waker,
    /// The task that the bell wakes.
    task: Option<Waker>,
}

struct Bell {
    rang: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl<F: Future> Aside<F> {
    /// `future`, which has not been polled.
    pub(crate) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { rang: AtomicBool::new(true), task: Mutex::default() });
        let ringer = Waker::from(Arc::clone(&bell));
        Self { future: Box::pin(future), bell, ringer, task: None }
    }
}

impl<F: Future> Future for Aside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if !this.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            // Before the look at the bell: whoever rings it from here on wakes the right task.
            let task = cx.waker().clone();
            *this.bell.task.lock() = Some(task.clone());
            this.task = Some(task);
        }
        if !this.bell.rang.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        this.bell.rang.swap(false, Ordering::AcqRel);
        let polled = this.future.as_mut().poll(&mut Context::from_waker(&this.ringer));
        if polled.is_ready() {
            // One that has more to say is asked again.
            this.bell.rang.store(true, Ordering::Release);
        }
        polled
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        let task = self.task.lock().clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::rc::Rc;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn it_is_asked_once_and_then_only_when_it_was_woken() {
        let (asked, event) = (Rc::<Cell<u32>>::default(), Rc::new(Notify::new()));
        let mut aside = {
            let (asked, event) = (Rc::clone(&asked), Rc::clone(&event));
            Aside::new(async move {
                let mut waits = std::pin::pin!(event.notified());
                poll_fn(|cx| {
                    asked.set(asked.get() + 1);
                    waits.as_mut().poll(cx)
                })
                .await;
            })
        };
        let mut look = async || poll_fn(|cx| Poll::Ready(Pin::new(&mut aside).poll(cx))).await;

        for _ in 0..100 {
            assert!(look().await.is_pending());
        }
        assert_eq!(asked.get(), 1);

        event.notify_one();
        assert!(look().await.is_ready());
        assert_eq!(asked.get(), 2);
    }

    #[tokio::test]
    async fn it_wakes_the_task_that_asked_last() {
        let event = Arc::new(Notify::new());
        let mut aside = {
            let event = Arc::clone(&event);
            Aside::new(async move { event.notified().await })
        };
        poll_fn(|cx| Poll::Ready(Pin::new(&mut aside).poll(cx).is_pending())).await;

        let waits = tokio::spawn(aside);
        tokio::task::yield_now().await;
        event.notify_one();

        waits.await.unwrap();
    }
}
