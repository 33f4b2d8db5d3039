//! A request that every engine can be asked about.

use std::net::IpAddr;

use super::{METHODS, Random, World};

pub(super) const SCOPES: [&str; 3] = ["api.read", "api.write", "offline"];
pub(super) const TENANTS: [&str; 4] = ["acme", "acme-eu", "bolt", "core"];
pub(super) const GROUPS: [&str; 3] = ["blue", "green", "red"];
pub(super) const REGIONS: [&str; 3] = ["DE", "FR", "US"];

const ADDRESSES: [&str; 9] = [
    "198.51.100.7",
    "198.51.101.7",
    "10.0.0.1",
    "10.1.2.3",
    "192.0.2.127",
    "192.0.2.128",
    "2001:db8:10::1",
    "2001:db8:10:1::1",
    "2001:db8:11::1",
];

/// A claim of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim<T> {
    /// There is none.
    Absent,
    /// There is one, of another type than the conditions ask about.
    Odd,
    /// There is one.
    Is(T),
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The place of its route.
    pub route: usize,
    /// Its method.
    pub method: &'static str,
    /// From where.
    pub ip: IpAddr,
    /// Roles of the caller, as granted.
    pub roles: Vec<String>,
    /// Scopes of the credential.
    pub scopes: Vec<&'static str>,
    /// A client certificate was shown.
    pub mtls: bool,
    /// The incident level.
    pub incident: u8,
    /// `tenant` of the token.
    pub tenant: Claim<&'static str>,
    /// `clearance` of the token.
    pub clearance: Claim<i64>,
    /// `admin` of the token.
    pub admin: Claim<bool>,
    /// `groups` of the token.
    pub groups: Claim<Vec<&'static str>>,
    /// What the path names.
    pub param: &'static str,
    /// Where the address is, if that is known.
    pub region: Option<&'static str>,
}

impl Request {
    /// Any request to one of the routes of `world`.
    pub fn random(random: &mut Random, world: &World) -> Self {
        let some = |random: &mut Random, from: &[&'static str]| -> Vec<&'static str> {
            from.iter().copied().filter(|_| random.one_in(2)).collect()
        };
        Self {
            route: random.below(world.routes.len()),
            method: random.word(&METHODS),
            ip: random.word(&ADDRESSES).parse().unwrap_or(IpAddr::from([10, 0, 0, 1])),
            roles: world
                .roles
                .iter()
                .filter(|_| random.one_in(4))
                .take(8)
                .map(|(name, _)| name.clone())
                .collect(),
            scopes: some(random, &SCOPES),
            mtls: random.one_in(2),
            incident: u8::try_from(random.below(6)).unwrap_or_default(),
            tenant: Claim::random(random, |random| random.word(&TENANTS)),
            clearance: Claim::random(random, |random| {
                i64::try_from(random.below(5)).unwrap_or_default()
            }),
            admin: Claim::random(random, |random| random.one_in(2)),
            groups: Claim::random(random, |random| some(random, &GROUPS)),
            param: random.word(&TENANTS),
            region: (!random.one_in(4)).then(|| random.word(&REGIONS)),
        }
    }
}

impl<T> Claim<T> {
    fn random(random: &mut Random, value: impl FnOnce(&mut Random) -> T) -> Self {
        match random.below(6) {
            0 => Self::Absent,
            1 => Self::Odd,
            _ => Self::Is(value(random)),
        }
    }

    /// Its value, of the type that conditions ask about.
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Odd => None,
        }
    }

    /// Whether there is one, of whatever type.
    pub const fn is_there(&self) -> bool {
        !matches!(self, Self::Absent)
    }
}
