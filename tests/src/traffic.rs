//! Requests as an API sees them, the same ones again for the same seed.
//!
//! Ids are random, callers, addresses and paths are many, some of them come far more often than
//! others, and times have a long tail: what of a record can be made shorter here, can be so in
//! earnest. The number of a request is the low half of its id, so that it is found again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{
    CredentialKind, Exchange, Fingerprint, HttpVersion, KeyId, Principal, Reason, RequestId, Role,
    Timestamp, TlsVersion, TraceId, Who,
};

/// API keys in use.
pub const KEYS: u64 = 10_000;
/// Addresses that requests come from.
const CLIENTS: u64 = 50_000;
/// Kinds of client software.
const SOFTWARE: u64 = 300;
/// The first request is of this second.
const BEGUN: u64 = 1_800_000_000;
/// Nanoseconds between two requests: 100,000 a second.
const PACE_NS: u64 = 10_000;

const ROUTES: [(&str, &str); 8] = [
    ("orders", "/v1/orders"),
    ("invoices", "/v1/invoices"),
    ("customers", "/v1/customers"),
    ("basket", "/v2/basket/items"),
    ("search", "/v2/search"),
    ("sessions", "/v1/sessions"),
    ("prices", "/v1/catalogue/prices"),
    ("reports", "/internal/reports/daily"),
];
const METHODS: [&str; 4] = ["GET", "GET", "GET", "POST"];
const ROLES: [&str; 4] = ["reader", "writer", "operator", "partner"];

/// A source of requests. Texts that many of them share are made once.
#[derive(Debug)]
pub struct Traffic {
    seed: u64,
    keys: Vec<KeyId>,
    software: Vec<Arc<str>>,
    agents: Vec<Arc<str>>,
    routes: Vec<Arc<str>>,
    roles: Vec<Role>,
    upstreams: Vec<Arc<str>>,
    listener: Arc<str>,
    policy: Arc<str>,
}

impl Traffic {
    /// The traffic of `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            keys: (0..KEYS).filter_map(|number| key(mix(number)).parse().ok()).collect(),
            software: (0..SOFTWARE).map(ja4).collect(),
            agents: (0..SOFTWARE).map(user_agent).collect(),
            routes: ROUTES.iter().map(|(name, _)| (*name).into()).collect(),
            roles: ROLES.iter().map(|name| Role::new(name)).collect(),
            upstreams: (0..8).map(|host| format!("10.20.0.{}:9000", 11 + host).into()).collect(),
            listener: "public".into(),
            policy: format!("{:016x}", mix(seed)).repeat(4).into(),
        }
    }

    /// The request with this number.
    pub fn request(&self, number: u64) -> Exchange {
        let mut dice = Dice(mix(self.seed ^ mix(number)));
        let at = BEGUN * 1_000_000_000 + number * PACE_NS + dice.below(PACE_NS);
        let route = dice.favouring(8);
        let refused = dice.below(50) == 0;
        let key = dice.favouring(KEYS);
        let reason = refused.then_some(Reason::LimitKey);
        let upstream_wait = Duration::from_micros(if refused { 0 } else { dice.latency() });
        let (_, path) = pick(&ROUTES, route);
        let route = pick(&self.routes, route);
        Exchange {
            id: RequestId::from_bits(u128::from(dice.next()) << 64 | u128::from(number)),
            at: Timestamp::from_unix_ns(at),
            peer: self.peer(&mut dice).into(),
            source: None,
            source_by: None,
            source_doubt: None,
            listener: Arc::clone(&self.listener),
            tls: Some(TlsVersion::V1_3),
            ja4: Some(Arc::clone(pick(&self.software, dice.favouring(SOFTWARE)))),
            user_agent: Some(Arc::clone(pick(&self.agents, dice.favouring(SOFTWARE)))),
            trace: TraceId::from_traceparent(
                format!("00-{:016x}{:016x}-00f067aa0ba902b7-01", dice.next(), dice.next())
                    .as_bytes(),
            ),
            http: if dice.below(3) == 0 { HttpVersion::H1 } else { HttpVersion::H2 },
            method: (*pick(&METHODS, dice.below(4))).to_owned(),
            host: Some("api.example.com".to_owned()),
            path: Some(format!("{path}/{:08x}", dice.next() >> 32)),
            route: Some(Arc::clone(route)),
            who: Some(self.who(key)),
            incident: 0,
            region: None,
            credential: Some(fingerprint(key)),
            status: reason.map_or(200, Reason::status),
            reason,
            cause: None,
            rule: Some(format!("{route}.allow[1]")),
            upstream: (!refused).then(|| Arc::clone(pick(&self.upstreams, dice.below(8)))),
            cache: None,
            bytes_in: if dice.below(4) == 0 { dice.below(4_096) } else { 0 },
            bytes_out: 200 + dice.below(16_384),
            exposed: None,
            duration: upstream_wait + Duration::from_micros(80 + dice.below(200)),
            upstream_wait,
            policy: Arc::clone(&self.policy),
        }
    }

    /// Where request `number` comes from, as its record tells it.
    pub fn peer_of(&self, number: u64) -> String {
        self.request(number).peer.to_string()
    }

    fn peer(&self, dice: &mut Dice) -> SocketAddr {
        let client = mix(self.seed.rotate_left(7) ^ dice.favouring(CLIENTS));
        let [a, b, c, d, ..] = client.to_be_bytes();
        // Addresses of unicast.
        let address = Ipv4Addr::new(1 + a % 222, b, c, d);
        SocketAddr::new(address.into(), 1_024 + dice.port())
    }

    fn who(&self, key: u64) -> Who {
        let id = *pick(&self.keys, key);
        let role = pick(&self.roles, key % 4).clone();
        Who {
            key: Some(id),
            roles: vec![role.clone()],
            role: Some(role),
            ..Who::new(Principal::from_key(id), CredentialKind::ApiKey)
        }
    }
}

/// The fingerprint of a key's secret.
pub fn fingerprint(key: u64) -> Fingerprint {
    let (high, low) = (mix(key ^ 0xF1), mix(key ^ 0xF2));
    Fingerprint((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
}

/// Random numbers from a seed: `SplitMix64`.
#[derive(Clone, Copy, Debug)]
struct Dice(u64);

impl Dice {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Below `end`; the small ones far more often, as the few who ask for most of everything.
    fn favouring(&mut self, end: u64) -> u64 {
        let most = self.below(end) + 1;
        let share = self.below(most) + 1;
        self.below(share)
    }

    fn port(&mut self) -> u16 {
        u16::try_from(self.below(64_000)).unwrap_or_default()
    }

    /// Microseconds: mostly one to three milliseconds, one in a hundred far more.
    fn latency(&mut self) -> u64 {
        let usual = 700 + self.below(900) + self.below(900);
        if self.below(100) == 0 { usual * (2 + self.below(60)) } else { usual }
    }
}

const fn mix(seed: u64) -> u64 {
    let seed = (seed ^ seed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let seed = (seed ^ seed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    seed ^ seed >> 31
}

/// Twelve letters and digits.
fn key(mut bits: u64) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let digits = (0..12).map(|_| {
        let digit = *pick(DIGITS, bits % 62);
        bits = (bits / 62) ^ (bits << 60);
        char::from(digit)
    });
    digits.collect()
}

fn ja4(software: u64) -> Arc<str> {
    let (b, c) = (mix(software ^ 0xB0), mix(software ^ 0xC0));
    format!("t13d{:02}10h2_{:012x}_{:012x}", 12 + software % 8, b >> 16, c >> 16).into()
}

fn user_agent(software: u64) -> Arc<str> {
    let (major, build) = (90 + software % 60, mix(software) % 10_000);
    match software % 4 {
        0 => format!("okhttp/4.{}.{}", software % 13, build % 20).into(),
        1 => format!("python-requests/2.{}.{}", 20 + software % 13, build % 5).into(),
        _ => format!(
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
             Chrome/{major}.0.{build}.{} Safari/537.36",
            software % 200
        )
        .into(),
    }
}

/// The one at this place, or the first.
#[expect(clippy::indexing_slicing, reason = "none of the lists above is empty")]
fn pick<T>(list: &[T], place: u64) -> &T {
    usize::try_from(place).ok().and_then(|place| list.get(place)).unwrap_or(&list[0])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_requests_again_and_another_gives_others() {
        let (one, same, other) = (Traffic::new(1), Traffic::new(1), Traffic::new(2));

        assert_eq!(one.request(7), same.request(7));
        assert_ne!(one.request(7), other.request(7));
        assert!(one.request(7).id.to_string().ends_with("0000000000000007"));
        assert_eq!(one.peer_of(7), one.request(7).peer.to_string());
    }

    #[test]
    fn callers_addresses_and_paths_are_many() {
        let traffic = Traffic::new(1);
        let requests: Vec<_> = (0..10_000).map(|number| traffic.request(number)).collect();
        let distinct = |of: fn(&Exchange) -> String| {
            requests.iter().map(of).collect::<BTreeSet<String>>().len()
        };

        assert!(distinct(|request| request.path.clone().unwrap()) > 9_900);
        assert!(distinct(|request| request.peer.source().to_string()) > 1_000);
        assert!(distinct(|request| format!("{:?}", request.credential)) > 1_000);
        assert!(distinct(|request| request.route.clone().unwrap().to_string()) == 8);
    }
}
