//! Who stops when: accept no more, finish what runs, flush the audit log, leave the blocks in force.

use std::thread::JoinHandle;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, warn};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// `SIGTERM` or `SIGINT`: finish and end.
    Stop,
    /// `SIGHUP`: read the policy file again.
    Reload,
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

    /// A second wish to stop ends the process at once; what is committed stays committed.
    pub(crate) async fn impatient(&mut self) {
        while self.next().await != Wish::Stop {}
        warn!("asked twice: ending at once");
    }
}

/// Waits for `threads` at most `patience`, and says which did not end.
pub(crate) fn join(threads: Vec<JoinHandle<()>>, patience: Duration) {
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
