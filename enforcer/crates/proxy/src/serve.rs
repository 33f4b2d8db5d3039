//! One thread of the proxy: it accepts on its own sockets and serves what it accepted.
//!
//! Nothing moves between threads, so nothing on the way of a request waits for another thread but
//! for the short locks of the shared parts.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::Peer;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::connection::{self, Door, Ends};
use crate::listeners::ThreadListeners;
use crate::pipeline::Engine;
use crate::shared::Shared;
use crate::socket::{Entrance, Socket};

/// After an accept that failed; more would only fail as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// For those who have begun to connect when nobody else is let in any more: 200 ms, which is a long
/// round trip.
const LAST_LOOKS: u32 = 20;
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// For tunnels to say goodbye, of the time that the agent has to end.
const FAREWELL: Duration = Duration::from_secs(2);
/// For connections to fall, once they have been told that there is no more time.
const FALL: Duration = Duration::from_secs(1);

/// Serves until `stop`, then finishes what is under way for at most the policy's `shutdown`.
///
/// Runs on the calling thread and returns when the last connection has ended.
pub fn serve_thread(
    listeners: ThreadListeners,
    stop: &CancellationToken,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(listeners, stop, shared))
}

/// Like [`serve_thread`], inside a `LocalSet` of the caller's.
pub async fn serve(
    listeners: ThreadListeners,
    stop: &CancellationToken,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let thread = Rc::new(Thread {
        engine: Rc::new(Engine::new(Arc::clone(&shared))),
        stop: stop.clone(),
        farewell: CancellationToken::new(),
        hurry: CancellationToken::new(),
        connections: TaskTracker::new(),
    });
    let roll = Rc::clone(&thread.engine.roll);
    let (endpoints, policy) = (Arc::clone(&shared.endpoints), Arc::clone(&shared.policy));
    let errands = roll.attend(shared.rolls.join(), endpoints, policy);
    tokio::task::spawn_local(errands);
    for bound in listeners.0 {
        let entrance = Entrance::open(bound.opening)?;
        let door = Rc::new(Door { name: bound.name, serves: bound.serves });
        thread.connections.spawn_local(accept(entrance, door, Rc::clone(&thread)));
    }
    stop.cancelled().await;

    thread.connections.close();
    let mut patience = shared.policy.load().timeouts().shutdown;
    if shared.connections.is_handed_over() {
        // Tunnels may stay as long as anybody.
        let longest = patience.saturating_sub(FAREWELL);
        if timeout(longest, thread.connections.wait()).await.is_err() {
            patience = patience.min(FAREWELL);
        }
    }
    thread.farewell.cancel();
    if timeout(patience, thread.connections.wait()).await.is_err() {
        warn!(connections = thread.connections.len(), "cut: not finished within the shutdown time");
        thread.hurry.cancel();
        if timeout(FALL, thread.connections.wait()).await.is_err() {
            debug!("connections are dropped with their thread");
        }
    }
    info!("thread has finished");
    Ok(())
}

/// What one thread's connections have in common.
struct Thread {
    engine: Rc<Engine>,
    stop: CancellationToken,
    farewell: CancellationToken,
    hurry: CancellationToken,
    connections: TaskTracker,
}

async fn accept(entrance: Entrance, door: Rc<Door>, thread: Rc<Thread>) {
    let next = || poll_fn(|cx| entrance.poll_accept(cx));
    while let Some(accepted) = thread.stop.run_until_cancelled(next()).await {
        match accepted {
            Ok((socket, peer)) => thread.meet(socket, peer, &door),
            Err(error) => {
                thread.engine.shared.counters.accepts_failed.add_one();
                debug!(%error, "accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    if thread.engine.shared.connections.is_handed_over() {
        // The socket is somebody else's as well, who serves whoever is in its queue.
        return;
    }
    if let Err(error) = entrance.shut() {
        warn!(%error, listener = %door.name, "whoever connects just now may be reset");
    }
    for _look in 0..LAST_LOOKS {
        while let Ok((socket, peer)) = entrance.waiting() {
            thread.meet(socket, peer, &door);
        }
        sleep(LOOK_EVERY).await;
    }
}

impl Thread {
    fn meet(&self, socket: Socket, peer: Peer, door: &Rc<Door>) {
        let ends = Ends {
            stop: self.stop.clone(),
            farewell: self.farewell.clone(),
            hurry: self.hurry.clone(),
            cut: CancellationToken::new(),
        };
        let (door, engine) = (Rc::clone(door), Rc::clone(&self.engine));
        self.connections.spawn_local(connection::serve(socket, peer, door, ends, engine));
    }
}
