//! Who stops when: accept no more, finish what runs, flush the audit log, leave the blocks in force.
//! An agent that has handed over does the same, but for what its successor has.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use enforcer_admin::Visitor;
use enforcer_limits::Limits;
use enforcer_proxy::Shared;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::handover::{self, Away, Estate, Given, Reception};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// `SIGTERM` or `SIGINT`: finish and end.
    Stop,
    /// `SIGHUP`: read the policy file again.
    Reload,
}

/// Why the agent ends.
#[expect(
    clippy::enum_variant_names,
    reason = "a successor takes over, and the agent's work is over"
)]
pub(crate) enum Over {
    /// Somebody asked for it.
    Asked,
    /// A part of it has ended.
    Unasked,
    /// A successor serves.
    HandedOver(Box<Away>),
}

/// The signals of this process.
#[derive(Debug)]
pub(crate) struct Wishes {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Wishes {
    /// Takes the signals over from here on.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next wish.
    pub(crate) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }

    /// Whether the agent was asked to stop before it serves.
    pub(crate) async fn is_over_already(&mut self) -> bool {
        let wish = tokio::time::timeout(Duration::from_millis(1), self.next()).await;
        wish == Ok(Wish::Stop)
    }

    /// A second wish to stop ends the process at once; what is committed stays committed.
    pub(crate) async fn impatient(&mut self) {
        while self.next().await != Wish::Stop {}
        warn!("asked twice: ending at once");
    }
}

/// Waits until the agent is to end. Meanwhile it reads its policy again when asked, and hands over.
///
/// Who asks for its place while another one does is declined; to stop waits for a hand-over that has
/// begun.
pub(crate) async fn until_over(
    wishes: &mut Wishes,
    stop: &CancellationToken,
    visitors: &mut mpsc::Receiver<Visitor>,
    estate: &mut Estate,
    reload: impl Fn(),
) -> Over {
    loop {
        let visitor = tokio::select! {
            wish = wishes.next() => match wish {
                Wish::Reload => {
                    reload();
                    continue;
                }
                Wish::Stop => return Over::Asked,
            },
            () = stop.cancelled() => return Over::Unasked,
            Some(visitor) = visitors.recv() => visitor,
        };
        let abandon = CancellationToken::new();
        let mut giving = std::pin::pin!(handover::give(visitor, estate, &abandon));
        let mut over = None;
        let given = loop {
            tokio::select! {
                given = &mut giving => break given,
                wish = wishes.next() => match wish {
                    Wish::Reload => reload(),
                    Wish::Stop => {
                        info!("asked to stop while handing over: what has begun is finished first");
                        abandon.cancel();
                        over.get_or_insert(Over::Asked);
                    }
                },
                () = stop.cancelled(), if over.is_none() => {
                    abandon.cancel();
                    over = Some(Over::Unasked);
                }
                Some(other) = visitors.recv() => {
                    let why = "another agent is just taking this one's place";
                    handover::decline(other, why, "see with `enforcer status` who serves then");
                }
            }
        };
        match (given, over) {
            (Given::Away(away), _) => return Over::HandedOver(away),
            (Given::Kept, Some(over)) => return over,
            (Given::Kept, None) => {}
        }
    }
}

/// Waits for `threads` at most `patience`, and says which did not end.
fn join_now(threads: Vec<JoinHandle<()>>, patience: Duration) {
    let step = Duration::from_millis(2);
    let mut waited = Duration::ZERO;
    while waited < patience && threads.iter().any(|thread| !thread.is_finished()) {
        std::thread::sleep(step);
        waited += step;
    }
    for thread in threads {
        let name = thread.thread().name().unwrap_or("?").to_owned();
        if !thread.is_finished() {
            warn!(name, "a thread did not end in time");
        } else if thread.join().is_err() {
            error!(name, "a thread ended by a panic");
        }
    }
}

/// What runs, in the order in which it ends: each part ends when those before it are gone.
pub(crate) struct Running {
    pub(crate) reception: Reception,
    pub(crate) attending: JoinHandle<()>,
    pub(crate) serving: Vec<JoinHandle<()>>,
    pub(crate) asking: JoinHandle<()>,
    pub(crate) indexing: JoinHandle<()>,
    pub(crate) tending: JoinHandle<()>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) keeping: JoinHandle<()>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) watching: tokio::task::JoinHandle<()>,
    pub(crate) answering: JoinHandle<()>,
    pub(crate) attended: Vec<JoinHandle<()>>,
}

impl Running {
    /// Waits for every part, and for none longer than `patience`; this thread goes on acknowledging
    /// audit records meanwhile.
    pub(crate) async fn wind_down(self, patience: Duration) {
        self.reception.end(patience).await;
        join(vec![self.attending], patience).await;
        join(self.serving, patience).await;
        join(vec![self.asking, self.indexing, self.tending], patience).await;
        // Nobody spends any more: what was spent is written as it is.
        self.limits.close();
        join(vec![self.keeping], patience).await;
        // With the last of the shared parts goes the sender of finished requests, then the watcher,
        // then the last one who could order a block.
        drop(self.shared);
        ended("watcher", self.watching, patience).await;
        join(vec![self.answering], patience).await;
        // What a predecessor still has on record belongs into this log.
        join(self.attended, patience).await;
    }
}

async fn ended(name: &str, task: tokio::task::JoinHandle<()>, patience: Duration) {
    match tokio::time::timeout(patience, task).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(name, %error, "a control task ended badly"),
        Err(_) => warn!(name, "a control task did not end in time"),
    }
}

/// Waits until `threads` have ended, at most for `patience`.
pub(crate) async fn join(threads: Vec<JoinHandle<()>>, patience: Duration) {
    let joined = tokio::task::spawn_blocking(move || join_now(threads, patience)).await;
    if let Err(error) = joined {
        warn!(%error, "the threads could not be joined");
    }
}
