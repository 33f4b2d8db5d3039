//! Who is connected, for `status`.

use enforcer_admin::call::{
    ConnectionProtocol, ConnectionRow, ConnectionsStatus, SourceRow, Sources,
};
use enforcer_policy::Policy;
use enforcer_proxy::Spoken;

use super::Desk;

/// Sources that one answer tells, at most.
const SOURCES_MAX: usize = 1_000;

impl Desk {
    /// The connections of all threads, as each tells.
    pub(super) async fn connections(&self, policy: &Policy) -> ConnectionsStatus {
        let (counts, silent) = self.rolls.count().await;
        let open = number(self.tokens.connections.open());
        let (idle, active) = (
            counts.iter().map(|one| one.idle).sum::<u64>(),
            counts.iter().map(|one| one.active).sum::<u64>(),
        );
        let by_listener = counts.iter().map(|one| ConnectionRow {
            listener: one.listener.to_string(),
            protocol: match one.protocol {
                Spoken::Http1 => ConnectionProtocol::Http1,
                Spoken::Http2 => ConnectionProtocol::Http2,
                Spoken::Tunnel => ConnectionProtocol::Tunnel,
            },
            idle: one.idle,
            active: one.active,
            requests: one.requests,
        });
        ConnectionsStatus {
            open,
            total: number(policy.connections().total),
            idle,
            active,
            handshakes: open.saturating_sub(idle.saturating_add(active)),
            requests: counts.iter().map(|one| one.requests).sum(),
            by_listener: by_listener.collect(),
            threads_silent: number(silent),
        }
    }

    /// Who has most of them.
    pub(super) fn sources(&self, most: u32) -> Sources {
        let most = usize::try_from(most).unwrap_or(SOURCES_MAX).min(SOURCES_MAX);
        let sources = self.tokens.connections.sources(most).into_iter();
        let rows = sources.map(|(source, open, handshakes)| SourceRow {
            source,
            connections: number(open),
            handshakes: number(handshakes),
        });
        Sources { sources: rows.collect() }
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
