//! Who was served lately: what a block must not hit by accident.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use enforcer_model::{Exchange, Prefix};

/// Clients remembered, each by its neighbourhood. When full, new ones are not added until old ones lapse; the share that a
/// block would hit is then judged on those that are known.
pub const CLIENTS_MAX: usize = 65_536;

/// How long a client counts as recent.
const RECENT: Duration = Duration::from_secs(600);

/// Where authenticated callers were served in the last ten minutes.
///
/// By neighbourhood: one host with many addresses of its IPv6 /64 is one client.
#[derive(Debug, Default)]
pub struct Clients {
    seen: HashMap<Prefix, Instant>,
}

impl Clients {
    /// Takes note of who was served; a refused or anonymous request makes nobody a client, so an
    /// attacker cannot inflate the count.
    pub fn observe(&mut self, exchange: &Exchange, at: Instant) {
        if exchange.who.is_none() || exchange.reason.is_some() {
            return;
        }
        let client = exchange.source().neighbourhood();
        if self.seen.len() < CLIENTS_MAX || self.seen.contains_key(&client) {
            self.seen.insert(client, at);
        }
    }

    /// How many recent clients share an address with `prefix`, and how many there are.
    pub fn share(&self, prefix: Prefix, now: Instant) -> (usize, usize) {
        self.recent(now).fold((0, 0), |(hit, all), client| {
            (hit + usize::from(prefix.overlaps(client)), all + 1)
        })
    }

    /// The neighbourhood of every recent client.
    pub fn recent(&self, now: Instant) -> impl Iterator<Item = Prefix> {
        let recent = move |seen: &Instant| now.saturating_duration_since(*seen) <= RECENT;
        self.seen.iter().filter(move |(_, seen)| recent(seen)).map(|(client, _)| *client)
    }

    /// Forgets who was not served lately; call it now and then.
    pub fn forget_old(&mut self, now: Instant) {
        self.seen.retain(|_, seen| now.saturating_duration_since(*seen) <= RECENT);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::SocketAddr;

    use enforcer_model::{
        Clock, CredentialKind, HttpVersion, Principal, Reason, RequestId, SystemClock, Timestamp,
        Who,
    };

    use super::*;

    #[test]
    fn only_those_who_were_served_as_somebody_are_clients() {
        let mut clients = Clients::default();
        let now = SystemClock.now().monotonic;

        clients.observe(&exchange("192.0.2.1", true, None), now);
        clients.observe(&exchange("192.0.2.2", false, None), now);
        clients.observe(&exchange("192.0.2.3", true, Some(Reason::LimitKey)), now);

        assert_eq!(clients.share("192.0.2.0/24".parse().unwrap(), now), (1, 1));
        assert_eq!(clients.share("198.51.100.0/24".parse().unwrap(), now), (0, 1));
    }

    #[test]
    fn a_client_is_recent_for_ten_minutes() {
        let mut clients = Clients::default();
        let now = SystemClock.now().monotonic;

        clients.observe(&exchange("192.0.2.1", true, None), now);
        let later = now + Duration::from_secs(601);

        assert_eq!(clients.share("192.0.2.0/24".parse().unwrap(), later), (0, 0));
        clients.forget_old(later);
        assert!(clients.seen.is_empty());
    }

    #[test]
    fn many_addresses_of_one_64_are_one_client() {
        let mut clients = Clients::default();
        let now = SystemClock.now().monotonic;

        for host in 1..=100 {
            clients.observe(&exchange(&format!("2001:db8::{host}"), true, None), now);
        }
        clients.observe(&exchange("2001:db8:0:1::1", true, None), now);

        assert_eq!(clients.share("2001:db8::/64".parse().unwrap(), now), (1, 2));
        assert_eq!(clients.share("2001:db8::7".parse().unwrap(), now), (1, 2));
        assert_eq!(clients.share("2001:db8::/32".parse().unwrap(), now), (2, 2));
    }

    pub(crate) fn exchange(source: &str, known: bool, reason: Option<Reason>) -> Exchange {
        let key = "k7Qx2mP9aB3c".parse().unwrap();
        Exchange {
            id: RequestId::from_bits(1),
            at: Timestamp::from_unix_seconds(1),
            peer: SocketAddr::new(source.parse().unwrap(), 40_000).into(),
            source: None,
            source_by: None,
            source_doubt: None,
            listener: "public".into(),
            tls: None,
            ja4: None,
            user_agent: None,
            trace: None,
            http: HttpVersion::H1,
            method: "GET".into(),
            host: None,
            path: None,
            route: None,
            who: known.then(|| Who {
                key: Some(key),
                ..Who::new(Principal::from_key(key), CredentialKind::ApiKey)
            }),
            incident: 0,
            region: None,
            credential: None,
            status: 200,
            reason,
            cause: None,
            rule: None,
            upstream: None,
            cache: None,
            bytes_in: 0,
            bytes_out: 0,
            duration: Duration::ZERO,
            upstream_wait: Duration::ZERO,
            policy: "".into(),
        }
    }
}
