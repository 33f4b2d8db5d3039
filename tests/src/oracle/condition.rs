//! A condition of parts that every language has.

use super::Random;
use super::ask::{GROUPS, REGIONS, SCOPES, TENANTS};

/// A condition.
#[derive(Clone, Debug)]
pub enum Condition {
    /// One question.
    Is(Atom),
    /// Not so.
    Not(Box<Self>),
    /// Both.
    And(Box<Self>, Box<Self>),
    /// At least one.
    Or(Box<Self>, Box<Self>),
}

/// One question.
#[derive(Clone, Debug)]
pub enum Atom {
    /// Whether the caller has a role.
    Role(String),
    /// Whether the credential has a scope.
    Scope(&'static str),
    /// Whether the address is in a network.
    Network(usize),
    /// Whether there is a client certificate.
    Mtls,
    /// Whether the incident level is at least that.
    IncidentAtLeast(u8),
    /// Whether the tenant is this one; unknown without a tenant.
    Tenant(&'static str),
    /// Whether the tenant is one of these.
    TenantAmong([&'static str; 2]),
    /// Whether the tenant begins so.
    TenantStarts(&'static str),
    /// Whether the tenant is the one that the path names.
    TenantIsParam,
    /// Whether the token has a tenant at all; never unknown.
    HasTenant,
    /// Whether the clearance is below that; unknown without one.
    ClearanceBelow(i64),
    /// Whether the token says `admin`; unknown when it does not say.
    Admin,
    /// Whether the token names a group; unknown without groups.
    Group(&'static str),
    /// Whether the address is of a country; unknown for some addresses.
    Region(&'static str),
}

impl Condition {
    /// One that is at most `depth` deep.
    pub fn random(random: &mut Random, roles: &[String], depth: usize) -> Self {
        let inner = |random: &mut Random| Box::new(Self::random(random, roles, depth - 1));
        if depth == 0 || random.one_in(3) {
            return Self::Is(Atom::random(random, roles));
        }
        match random.below(5) {
            0 => Self::Not(inner(random)),
            1 | 2 => Self::And(inner(random), inner(random)),
            _ => Self::Or(inner(random), inner(random)),
        }
    }
}

impl Atom {
    fn random(random: &mut Random, roles: &[String]) -> Self {
        match random.below(14) {
            0 => Self::Role(random.pick(roles).clone()),
            1 => Self::Scope(random.word(&SCOPES)),
            2 => Self::Network(random.below(super::NETWORKS.len())),
            3 => Self::Mtls,
            4 => Self::IncidentAtLeast(u8::try_from(1 + random.below(5)).unwrap_or(1)),
            5 => Self::Tenant(random.word(&TENANTS)),
            6 => Self::TenantAmong([random.word(&TENANTS), random.word(&TENANTS)]),
            7 => Self::TenantStarts(random.word(&["a", "acme", "b", "c"])),
            8 => Self::TenantIsParam,
            9 => Self::HasTenant,
            10 => Self::ClearanceBelow(i64::try_from(random.below(5)).unwrap_or_default()),
            11 => Self::Admin,
            12 => Self::Group(random.word(&GROUPS)),
            _ => Self::Region(random.word(&REGIONS)),
        }
    }
}
