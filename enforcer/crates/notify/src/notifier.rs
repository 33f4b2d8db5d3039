//! The way in for notices, from any thread, without waiting.
//!
//! At most [`NOTICES_MAX`] wait to be taken up; more are not taken, counted, and the count is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::Notice;

/// Notices that may wait until they are taken up and written to disk.
pub const NOTICES_MAX: usize = 4_096;

/// Takes notices.
#[derive(Clone, Debug)]
pub struct Notifier {
    notices: mpsc::Sender<Notice>,
    lost: Arc<AtomicU64>,
}

/// Where they come out.
#[derive(Debug)]
pub struct Told {
    notices: mpsc::Receiver<Notice>,
    lost: Arc<AtomicU64>,
}

impl Notifier {
    /// A way in and where it leads.
    pub fn new() -> (Self, Told) {
        let (sender, receiver) = mpsc::channel(NOTICES_MAX);
        let lost = Arc::<AtomicU64>::default();
        (Self { notices: sender, lost: Arc::clone(&lost) }, Told { notices: receiver, lost })
    }

    /// Tells whoever wants to know. Never waits.
    pub fn tell(&self, notice: Notice) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.notices.try_send(notice) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Told {
    /// The next notice; none when there will be no more.
    pub async fn next(&mut self) -> Option<Notice> {
        self.notices.recv().await
    }

    /// The next one that is there already.
    pub fn waiting(&mut self) -> Option<Notice> {
        self.notices.try_recv().ok()
    }

    /// Notices that found no room since this was last asked.
    pub fn lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use enforcer_model::Timestamp;

    use super::*;
    use crate::{Kind, Severity};

    #[test]
    fn telling_never_waits_and_what_finds_no_room_is_counted() {
        let (notifier, mut told) = Notifier::new();
        let notice = Notice::new(Kind::Finding, Severity::Info, Timestamp::from_unix_ns(1), "t");

        for _ in 0..NOTICES_MAX + 3 {
            notifier.tell(notice.clone());
        }

        assert_eq!((told.lost(), told.lost()), (3, 0));
        let taken = std::iter::from_fn(|| told.waiting()).count();
        assert_eq!(taken, NOTICES_MAX);
        drop(told);
        notifier.tell(notice);
    }
}
