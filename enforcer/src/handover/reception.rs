//! The admin socket, served and not served in turn: while the agent hands over, callers wait.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Result, bail};
use enforcer_admin::{Incoming, Server};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Who serves the socket, if anybody does.
pub(crate) struct Reception {
    calls: mpsc::Sender<Incoming>,
    stop: CancellationToken,
    /// The same socket again.
    socket: OwnedFd,
    state: State,
}

enum State {
    Open { closing: CancellationToken, serving: JoinHandle<Server> },
    Closed(Server),
    Left,
}

impl Reception {
    /// Serves `server` until `stop`, or until it is closed for a while.
    pub(crate) fn open(
        server: Server,
        calls: mpsc::Sender<Incoming>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let socket = server.share()?;
        let state = State::serving(server, calls.clone(), &stop);
        Ok(Self { calls, stop, socket, state })
    }

    /// The socket.
    pub(crate) const fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Takes no more calls; those that were taken have their answer, or are on their way to it.
    pub(super) async fn close(&mut self, patience: Duration) -> Result<()> {
        let State::Open { closing, mut serving } = std::mem::replace(&mut self.state, State::Left)
        else {
            bail!("the admin socket is not served");
        };
        closing.cancel();
        match tokio::time::timeout(patience, &mut serving).await {
            Ok(Ok(server)) => {
                self.state = State::Closed(server);
                Ok(())
            }
            Ok(Err(error)) => bail!("the admin socket is not served any more: {error}"),
            Err(_elapsed) => {
                // Those calls are slow; the socket is served again once they have been answered.
                let (calls, stop) = (self.calls.clone(), self.stop.clone());
                let closing = stop.child_token();
                let until = closing.clone();
                let serving = tokio::task::spawn_local(async move {
                    let server = match serving.await {
                        Ok(server) => server,
                        Err(error) => std::panic::resume_unwind(error.into_panic()),
                    };
                    server.serve_until(calls, until).await;
                    server
                });
                self.state = State::Open { closing, serving };
                bail!("a call takes longer than {patience:?}; try again when it is done")
            }
        }
    }

    /// Takes calls again.
    pub(super) fn reopen(&mut self) {
        if let State::Closed(server) = std::mem::replace(&mut self.state, State::Left) {
            self.state = State::serving(server, self.calls.clone(), &self.stop);
        }
    }

    /// The socket is somebody else's from here on.
    pub(super) fn leave(&mut self) {
        if let State::Closed(server) = std::mem::replace(&mut self.state, State::Left) {
            server.leave();
        }
    }

    /// Ends with the agent, at the latest after `patience`.
    pub(crate) async fn end(self, patience: Duration) {
        let Self { state, socket, calls, .. } = self;
        drop((socket, calls));
        match state {
            State::Open { serving, .. } => match tokio::time::timeout(patience, serving).await {
                Ok(Ok(server)) => drop(server),
                Ok(Err(error)) => warn!(%error, "the admin socket ended badly"),
                Err(_) => warn!("the admin socket did not end in time"),
            },
            State::Closed(server) => drop(server),
            State::Left => debug!("the admin socket is the successor's"),
        }
    }
}

impl State {
    fn serving(server: Server, calls: mpsc::Sender<Incoming>, stop: &CancellationToken) -> Self {
        let closing = stop.child_token();
        let until = closing.clone();
        let serving = tokio::task::spawn_local(async move {
            server.serve_until(calls, until).await;
            server
        });
        Self::Open { closing, serving }
    }
}
