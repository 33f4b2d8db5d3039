//! One agent takes another's place, and no request notices.
//!
//! The successor prepares everything, then asks the agent that serves ([`Predecessor`]) over its
//! admin socket. That one ([`mod@give`]) hands over what only one may have, in this order:
//!
//! ```text
//! successor                                  predecessor
//!   call: hand-over ────────────────────────▶  serves everything
//!                   ◀── welcome, the sockets ─
//!   binds, reads, checks
//!   begin ──────────────────────────────────▶  desk, responder, quotas and log hold still;
//!                                              requests go on, their records wait
//!                   ◀────────────────── yours ─
//!   opens the log: records go there again
//!   opens the stores, adopts the kernel part
//!   ready ──────────────────────────────────▶
//!                   ◀─────────────────── done ─  point of no return
//!   accepts on the same sockets                accepts no more, finishes what runs
//!   cuts whoever is shut out ───────────────▶  cuts them too
//!                   ◀─── spent, findings, bye ─  ends
//! ```
//!
//! Until `done` the predecessor takes everything back when the successor breaks off or is late; the
//! successor goes on alone when the predecessor is gone. Either way the sockets stay open, so nobody
//! is refused. Every message is bounded; every wait has an end.

mod elsewhere;
mod findings;
mod give;
mod outlet;
mod reception;
mod take;
mod words;

use std::path::{Path, PathBuf};
use std::time::Duration;

use enforcer_audit::{Audit, SpillError, Spilled};
use tokio::sync::oneshot;
use tracing::{info, warn};

pub(crate) use elsewhere::Cutter;
pub(crate) use findings::forward;
pub(crate) use give::{Away, Estate, Given, decline, give, words};
pub(crate) use reception::Reception;
pub(crate) use take::{Attended, Predecessor};

use crate::cli::chain;

/// Version of the conversation. Agents that speak different ones do not hand over.
const PROTOCOL: u32 = 1;

/// How often records that were kept aside are looked for.
const SPILLS_EVERY: Duration = Duration::from_secs(5);

/// What has an owner of its own is lent to a successor: the owner says when it has let go, or why
/// it cannot, and then waits.
#[derive(Debug)]
pub(crate) struct Loan {
    /// It has let go.
    pub(crate) lent: oneshot::Sender<Result<(), String>>,
    /// What came of it; dropped, it never comes back.
    pub(crate) back: oneshot::Receiver<Returned>,
}

/// What becomes of what was lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returned {
    /// It is ours again, as it was.
    Back,
    /// The successor has it.
    Never,
}

/// Where records are kept aside that no log takes.
pub(crate) fn spills(state: &Path) -> PathBuf {
    state.join("audit-spill")
}

/// Appends the records that a former agent kept aside. What cannot be read stays where it is, and is
/// told.
pub(crate) async fn append_spills(
    state: &Path,
    audit: &Audit,
    log: &Path,
) -> Result<(), SpillError> {
    let appended = async {
        for spilled in Spilled::find(&spills(state))? {
            let records = spilled.append(audit, log).await?;
            info!(records, "records of a former agent are in the log now");
        }
        Ok(())
    };
    appended.await.inspect_err(|error| {
        warn!(error = chain(error), "records that were kept aside stay there until the next start");
    })
}

/// Does so again and again: a predecessor may outlive its successor.
pub(crate) async fn keep_appending_spills(state: PathBuf, audit: Audit, log: PathBuf) {
    let mut ticks = tokio::time::interval(SPILLS_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    ticks.tick().await;
    while append_spills(&state, &audit, &log).await.is_ok() {
        ticks.tick().await;
    }
}
