//! How far the witnesses know the log, and who waits for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

/// Between those who wait and whoever asks the witnesses.
pub(crate) struct Witnessed {
    /// Records under a checkpoint that the quorum has cosigned.
    covered: watch::Sender<u64>,
    wanted: Notify,
    /// So many records must be under a checkpoint for everybody who ever waited.
    needed: AtomicU64,
    /// Somebody waited, and enough of them did not answer.
    lost: AtomicBool,
}

impl Witnessed {
    pub(crate) fn new() -> Self {
        Self {
            covered: watch::Sender::new(0),
            wanted: Notify::new(),
            needed: AtomicU64::new(0),
            lost: AtomicBool::new(false),
        }
    }

    /// Waits until the quorum knows the record at `index`. Only a time limit of the caller's ends it
    /// otherwise.
    pub(crate) async fn covers(&self, index: u64) {
        let mut covered = self.covered.subscribe();
        let is_covered = |size: &u64| *size > index;
        if !is_covered(&covered.borrow_and_update()) {
            self.needed.fetch_max(index.saturating_add(1), Ordering::Relaxed);
            self.wanted.notify_one();
            // The sender lives as long as this.
            drop(covered.wait_for(is_covered).await);
        }
    }

    /// Waits until somebody waits.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// How many records a checkpoint must cover for everybody who ever waited.
    pub(crate) fn needed(&self) -> u64 {
        self.needed.load(Ordering::Relaxed)
    }

    /// Whether the last who waited got what he waited for.
    pub(crate) fn is_reachable(&self) -> bool {
        !self.lost.load(Ordering::Relaxed)
    }

    /// Enough of the witnesses did not answer.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// The quorum knows the first `size` records.
    pub(crate) fn raise(&self, size: u64) {
        self.lost.store(false, Ordering::Relaxed);
        self.covered.send_if_modified(|covered| {
            let more = size > *covered;
            *covered = size.max(*covered);
            more
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_is_heard_and_goes_on_once_the_quorum_knows_the_record() {
        let witnessed = Witnessed::new();
        witnessed.raise(7);

        let early = timeout(Duration::ZERO, witnessed.covers(7)).await;
        assert!(early.is_err(), "record 7 is the eighth");
        timeout(Duration::ZERO, witnessed.wanted()).await.unwrap();

        assert_eq!(witnessed.needed(), 8);
        witnessed.lose();
        assert!(!witnessed.is_reachable());

        witnessed.raise(8);
        witnessed.raise(3);
        assert!(witnessed.is_reachable());
        timeout(Duration::ZERO, witnessed.covers(7)).await.unwrap();
        assert!(timeout(Duration::ZERO, witnessed.wanted()).await.is_err());
    }
}
