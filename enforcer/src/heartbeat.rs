//! A record in good time that the log lives, and what the kernel says of the clock.
//!
//! Whoever reads the log later knows from it that nothing happened while nothing is told, and how
//! far the times of other records are to be trusted. A heartbeat that the log refuses is counted
//! like any other record.

use std::sync::Arc;

use enforcer_audit::{Audit, ClockState, Heartbeat, Record};
use enforcer_policy::Policy;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Writes one for every period of the policy in force, until `stop`.
pub(crate) async fn beat(
    audit: Audit,
    mut policy: watch::Receiver<Arc<Policy>>,
    stop: CancellationToken,
) {
    let mut last = Instant::now();
    loop {
        let due = last + policy.borrow_and_update().audit().heartbeat;
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = policy.changed() => continue,
            () = sleep_until(due) => {}
        }
        last = Instant::now();
        if let Ok(slot) = audit.reserve() {
            // Nobody waits for it.
            drop(slot.write(Record::Heartbeat(now(&audit))));
        }
    }
}

fn now(audit: &Audit) -> Heartbeat {
    let state = audit.state();
    let clock = enforcer_kernel::clock_sync().map(|sync| ClockState {
        synchronised: sync.synchronised,
        offset_ns: sync.offset_ns,
        error_max_us: sync.error_max_us,
    });
    Heartbeat {
        clock,
        records: state.size,
        refused: state.refused,
        waiting: u64::try_from(state.waiting).unwrap_or(u64::MAX),
    }
}
