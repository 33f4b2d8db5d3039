//! What is open already when a block comes: sockets of this host, connections of the proxy.
//!
//! A block drops packets; what was open before would stay until it times out. The proxy closes what
//! it has, the kernel resets that and every other socket: the count of either tells what was there.

use std::net::IpAddr;
use std::sync::Arc;

use enforcer_model::{KeyId, Prefix, Reason, Target};
use tracing::{info, warn};

use super::{Responder, count};

/// What was open and is closed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Closed {
    pub(super) connections: u64,
    pub(super) sockets: u64,
}

impl Responder {
    /// The last answer to a source that a rule has blocked is out: nothing more is sent there.
    pub(super) fn contain(&mut self, prefix: Prefix) -> u64 {
        let now = self.parts.clock.now().wall;
        if self.parts.decisions.answered(prefix)
            && let Err(why) = self.settle(prefix, now)
        {
            warn!(%prefix, why, "packets still go to a blocked source");
        }
        let block = self.parts.decisions.by_target(&Target::Network(prefix));
        if block.is_some_and(|block| block.through.is_some()) {
            // Its sockets are its proxy's; what it has asked for is cut, and nobody else's.
            let quarantine = Arc::clone(&self.parts.quarantine);
            let spared = |address| quarantine.is_spared(address);
            return count(self.parts.connections.close_from(prefix, spared));
        }
        let Closed { connections, sockets } = self.close(&Target::Network(prefix));
        connections.saturating_add(sockets)
    }

    pub(super) fn close_key(&self, key: KeyId) -> usize {
        self.parts.connections.close_key(key, Reason::Quarantined)
    }

    /// Ends what whoever is blocked has open: connections of a network or a TLS client, of anybody
    /// else the requests, streams and tunnels, and nobody else's on the same connection.
    pub(super) fn close(&mut self, target: &Target) -> Closed {
        let quarantine = Arc::clone(&self.parts.quarantine);
        let spared = |address| quarantine.is_spared(address);
        match target {
            Target::Network(prefix) => self.close_from(*prefix, &spared),
            named @ (Target::Ja4(_)
            | Target::Key(_)
            | Target::Role(_)
            | Target::Token(_)
            | Target::User(_)) => {
                let policy = self.parts.policy.load();
                let closed = self.parts.connections.close_named(named, &policy, spared);
                Closed { connections: count(closed), sockets: 0 }
            }
        }
    }

    /// Ends connections of the proxy and other sockets of this host with `prefix`, `spared` ones
    /// aside.
    ///
    /// The kernel resets the proxy's own as well, which a block keeps from being closed in peace;
    /// they are counted once.
    pub(super) fn close_from(&mut self, prefix: Prefix, spared: &dyn Fn(IpAddr) -> bool) -> Closed {
        let connections = count(self.parts.connections.close_from(prefix, spared));
        let sockets = match enforcer_kernel::close_sockets(prefix, spared) {
            Ok(closed) => closed.tcp.saturating_add(closed.udp),
            Err(error) => {
                if !self.sockets_stay {
                    info!(%error, "open sockets outside of the proxy are not closed");
                    self.sockets_stay = true;
                }
                0
            }
        };
        Closed { connections, sockets: sockets.saturating_sub(connections) }
    }
}
