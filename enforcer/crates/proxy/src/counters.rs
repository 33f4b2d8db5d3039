//! What happened how often, since the start: plain numbers that any thread may read at any time.
//!
//! Labels are closed: a [`Reason`] or a field below, never anything that a client sent.

use std::sync::atomic::{AtomicU64, Ordering};

use enforcer_model::Reason;

/// Counts since the start.
#[derive(Debug)]
pub struct Counters {
    /// Requests answered by their upstream, or with a redirect.
    pub allowed: Count,
    /// Requests refused, one for each [`Reason`] in the order of [`Reason::ALL`].
    refused: [Count; Reason::ALL.len()],
    /// Requests whose client left before the answer was complete.
    pub clients_left: Count,
    /// Connections accepted and served.
    pub connections: Count,
    /// Connections closed at once because their source is under quarantine.
    pub connections_quarantined: Count,
    /// Connections closed at once because their source has as many as it may have.
    pub connections_over_source: Count,
    /// Connections closed at once because the agent has as many as it may have.
    pub connections_over_total: Count,
    /// Connections cut because the client took next to nothing of an answer for too long.
    pub connections_slow: Count,
    /// Connections cut because the client took no byte of an answer for too long.
    pub connections_stalled: Count,
    /// Connections that could not be accepted, for want of descriptors or memory.
    pub accepts_failed: Count,
    /// Client certificates that were shown or wanted, and were not good; such a connection is closed.
    pub certificates_refused: Count,
    /// TLS handshakes that failed or took too long, for another reason.
    pub handshakes_failed: Count,
    /// Connections closed at once because their source has too many handshakes under way.
    pub handshakes_over_source: Count,
    /// Connections closed because a peer that speaks the PROXY protocol did not, or not in time.
    pub proxy_headers_refused: Count,
    /// Connections closed because a request's head took too long.
    pub heads_too_slow: Count,
    /// Connections that became tunnels.
    pub tunnels: Count,
    /// Panics, each of which ended one connection; every one is a bug.
    pub panics: Count,
    /// Finished requests that detection had no room for.
    pub observations_dropped: Count,
}

/// One number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            allowed: Count::default(),
            refused: std::array::from_fn(|_| Count::default()),
            clients_left: Count::default(),
            connections: Count::default(),
            connections_quarantined: Count::default(),
            connections_over_source: Count::default(),
            connections_over_total: Count::default(),
            connections_slow: Count::default(),
            connections_stalled: Count::default(),
            accepts_failed: Count::default(),
            certificates_refused: Count::default(),
            handshakes_failed: Count::default(),
            handshakes_over_source: Count::default(),
            proxy_headers_refused: Count::default(),
            heads_too_slow: Count::default(),
            tunnels: Count::default(),
            panics: Count::default(),
            observations_dropped: Count::default(),
        }
    }
}

impl Counters {
    /// Requests refused for `reason`.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refusals(reason).map_or(0, Count::get)
    }

    pub(crate) fn refuse(&self, reason: Reason) {
        self.refusals(reason).into_iter().for_each(Count::add_one);
    }

    /// Every number with its name, for status pages; refusals that never happened are left out.
    pub fn read(&self) -> Vec<(String, u64)> {
        let refused = Reason::ALL.iter().zip(&self.refused).filter(|(_, count)| count.get() > 0);
        self.named()
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count.get()))
            .chain(refused.map(|(reason, count)| (format!("refused {reason}"), count.get())))
            .collect()
    }

    fn refusals(&self, reason: Reason) -> Option<&Count> {
        let place = Reason::ALL.iter().position(|known| *known == reason)?;
        self.refused.get(place)
    }

    const fn named(&self) -> [(&'static str, &Count); 17] {
        [
            ("allowed", &self.allowed),
            ("clients left", &self.clients_left),
            ("connections", &self.connections),
            ("connections quarantined", &self.connections_quarantined),
            ("connections over source", &self.connections_over_source),
            ("connections over total", &self.connections_over_total),
            ("connections slow", &self.connections_slow),
            ("connections stalled", &self.connections_stalled),
            ("accepts failed", &self.accepts_failed),
            ("certificates refused", &self.certificates_refused),
            ("handshakes failed", &self.handshakes_failed),
            ("handshakes over source", &self.handshakes_over_source),
            ("proxy headers refused", &self.proxy_headers_refused),
            ("heads too slow", &self.heads_too_slow),
            ("panics", &self.panics),
            ("tunnels", &self.tunnels),
            ("observations dropped", &self.observations_dropped),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_number_of_its_own() {
        let counters = Counters::default();

        for &reason in Reason::ALL {
            counters.refuse(reason);
        }
        counters.refuse(Reason::NoRoute);

        for &reason in Reason::ALL {
            assert_eq!(counters.refused(reason), if reason == Reason::NoRoute { 2 } else { 1 });
        }
        assert!(counters.read().contains(&("refused no-route".to_owned(), 2)));
    }
}
