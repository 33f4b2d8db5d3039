//! One connection of a client: its place, whom it is from, the handshake, and then HTTP
//! ([`crate::conversation`]).
//!
//! It ends when its source is shut out, and when the agent stops finishes what is under way. A panic
//! ends what it happened on, is counted, and harms nobody else.

use std::rc::Rc;
use std::sync::Arc;

use enforcer_authz::Networks;
use enforcer_model::{Clock, HttpVersion, Peer};
use enforcer_policy::{Policy, Serves};
use tokio_util::sync::CancellationToken;

use crate::connections::{Registered, Share};
use crate::conversation::{http1, http2};
use crate::counters::Counters;
use crate::entry::Origin;
use crate::handshake::{Over, announce, count_crowded, shake};
use crate::pipeline::Engine;
use crate::socket::Socket;
use crate::tls::Trust;

/// Where a connection came in.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) name: Arc<str>,
    pub(crate) serves: Serves,
}

/// The tokens that end a connection.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    /// The agent stops: finish what is under way.
    pub(crate) stop: CancellationToken,
    /// Tunnels, which never finish by themselves, are to end.
    pub(crate) farewell: CancellationToken,
    /// The agent has waited long enough.
    pub(crate) hurry: CancellationToken,
    /// This connection is not wanted any more.
    pub(crate) cut: CancellationToken,
}

/// Sees a panic pass, counts it, and ends the connection, if the panic was the connection's own. One
/// for each task.
pub(crate) struct Witness {
    counters: Arc<Counters>,
    cut: Option<CancellationToken>,
}

/// Serves one connection to its end, unless there is no place for it or its source is shut out.
///
/// Such a connection is closed before a byte of it is read, and counted; it is not recorded,
/// because nothing was asked.
pub(crate) async fn serve(
    socket: Socket,
    peer: Peer,
    door: Rc<Door>,
    ends: Ends,
    engine: Rc<Engine>,
) {
    let shared = &engine.shared;
    let counters = Arc::clone(&shared.counters);
    let _witness = Witness { counters: Arc::clone(&counters), cut: Some(ends.cut.clone()) };
    let source = peer.source();
    let policy = shared.policy.load_full();
    let is_proxy = policy.listener(&door.name).is_some_and(|listener| {
        let of = |proxies: &Networks| proxies.covering(source.address()).is_some();
        of(&listener.trusted) || of(&listener.proxy_protocol)
    });
    // Registered before the look-up: whoever blocks the source finds the connection there, or it
    // finds the block here.
    let (share, cut) = (Share::of(source, is_proxy), ends.cut.clone());
    let registered = shared.connections.register(source, share, cut, policy.connections());
    let registered = match registered {
        Ok(registered) => registered,
        Err(crowded) => return count_crowded(crowded, &counters),
    };
    if shared.quarantine.refuse_source(source, shared.clock.now().wall).is_err() {
        return counters.connections_quarantined.add_one();
    }
    counters.connections.add_one();
    // Whatever way the connection ends, its streams end with it.
    let cut = ends.cut.clone();
    let _streams = cut.clone().drop_guard();
    let origin = Origin::of(peer, &door.name);
    // Boxed: what waits beside a future by value keeps room for it twice, for as long as the
    // connection lives.
    let met = Box::pin(meet(socket, origin, door, ends, registered, policy, engine));
    cut.run_until_cancelled(met).await;
}

/// Learns whom the connection is from, shakes hands, where that is due, and serves. Each kind of
/// connection has a box of its own size.
async fn meet(
    mut socket: Socket,
    mut origin: Origin,
    door: Rc<Door>,
    ends: Ends,
    mut registered: Registered,
    policy: Arc<Policy>,
    engine: Rc<Engine>,
) {
    // A connection keeps the time-outs under which it was made; its requests follow the policy.
    let timeouts = *policy.timeouts();
    let shared = &engine.shared;
    let announced = announce(&mut socket, &mut origin, &mut registered, &policy, shared);
    if let Err(Over) = Box::pin(announced).await {
        return;
    }
    if !matches!(door.serves, Serves::Tls(_)) {
        drop(policy);
        return Box::pin(http1(socket, origin, None, door, ends, timeouts, engine)).await;
    }
    let shaken = Box::pin(shake(socket, &mut origin, &registered, policy, shared)).await;
    let Ok((stream, trust)) = shaken else { return };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        origin.http = HttpVersion::H2;
        Box::pin(http2(stream, origin, trust, door, ends, timeouts, engine)).await;
    } else {
        Box::pin(http1(stream, origin, trust, door, ends, timeouts, engine)).await;
    }
}

/// Ends when the client's certificate is not good any more; never without one.
pub(crate) async fn distrusted(trust: Option<Trust>, clock: &dyn Clock) {
    let Some(mut trust) = trust else { return std::future::pending().await };
    while trust.next_look(clock).await.is_ok() {}
}

impl Witness {
    /// Of one stream among others, which is reset when its task ends.
    pub(crate) const fn of_stream(counters: Arc<Counters>) -> Self {
        Self { counters, cut: None }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.counters.panics.add_one();
            if let Some(cut) = &self.cut {
                cut.cancel();
            }
        }
    }
}
