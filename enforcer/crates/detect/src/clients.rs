//! Who was served lately: what a block must not hit by accident.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use enforcer_model::{Exchange, Prefix, Principal, Role};

/// Clients remembered, each by its neighbourhood. When full, new ones are not added until old ones lapse; the share that a
/// block would hit is then judged on those that are known.
pub const CLIENTS_MAX: usize = 65_536;

/// How long a client counts as recent.
const RECENT: Duration = Duration::from_secs(600);

/// Where authenticated callers were served in the last ten minutes, and what they were.
///
/// By neighbourhood: one host with many addresses of its IPv6 /64 is one client. By name: one caller
/// on many hosts is one caller.
#[derive(Debug, Default)]
pub struct Clients {
    seen: HashMap<Prefix, Instant>,
    callers: HashMap<Principal, Caller>,
}

/// A caller when it was last served; [`CLIENTS_MAX`] of them are known, as with clients.
#[derive(Debug)]
struct Caller {
    at: Instant,
    role: Option<Role>,
    ja4: Option<Arc<str>>,
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
        let Some(who) = &exchange.who else { return };
        if let Some(known) = self.callers.get_mut(&who.principal) {
            known.at = at;
            if known.role != who.role {
                known.role.clone_from(&who.role);
            }
            if known.ja4 != exchange.ja4 {
                known.ja4.clone_from(&exchange.ja4);
            }
        } else if self.callers.len() < CLIENTS_MAX {
            let (role, ja4) = (who.role.clone(), exchange.ja4.clone());
            self.callers.insert(who.principal.clone(), Caller { at, role, ja4 });
        }
    }

    /// How many recent callers were last served for a role that `is_hit` names, and how many there
    /// are.
    pub fn share_of_role(&self, is_hit: impl Fn(&Role) -> bool, now: Instant) -> (usize, usize) {
        self.share_of(now, |caller| caller.role.as_ref().is_some_and(&is_hit))
    }

    /// How many recent callers last came with the TLS client `ja4`, and how many there are.
    pub fn share_of_ja4(&self, ja4: &str, now: Instant) -> (usize, usize) {
        self.share_of(now, |caller| caller.ja4.as_deref() == Some(ja4))
    }

    fn share_of(&self, now: Instant, hit: impl Fn(&Caller) -> bool) -> (usize, usize) {
        let recent = |caller: &&Caller| now.saturating_duration_since(caller.at) <= RECENT;
        self.callers
            .values()
            .filter(recent)
            .fold((0, 0), |(hits, all), caller| (hits + usize::from(hit(caller)), all + 1))
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
        self.callers.retain(|_, caller| now.saturating_duration_since(caller.at) <= RECENT);
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
        assert!(clients.seen.is_empty() && clients.callers.is_empty());
    }

    #[test]
    fn a_caller_counts_once_for_its_role_and_its_tls_client() {
        let mut clients = Clients::default();
        let now = SystemClock.now().monotonic;
        let served = |subject: &str, role: &str, ja4: &str| {
            let mut exchange = exchange("192.0.2.1", true, None);
            let principal = Principal::from_token("corp", subject);
            let who = Who::new(principal, CredentialKind::Token);
            exchange.who = Some(Who { role: Some(Role::new(role)), ..who });
            exchange.ja4 = Some(ja4.into());
            exchange
        };
        for (subject, role, ja4) in
            [("a", "reader", "x"), ("a", "reader", "x"), ("b", "reader", "y"), ("c", "admin", "y")]
        {
            clients.observe(&served(subject, role, ja4), now);
        }

        assert_eq!(clients.share_of_role(|role| role.as_str() == "reader", now), (2, 3));
        assert_eq!(clients.share_of_ja4("y", now), (2, 3));
        let later = now + Duration::from_secs(601);
        assert_eq!(clients.share_of_ja4("y", later), (0, 0));
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
            exposed: None,
            duration: Duration::ZERO,
            upstream_wait: Duration::ZERO,
            policy: "".into(),
        }
    }
}
