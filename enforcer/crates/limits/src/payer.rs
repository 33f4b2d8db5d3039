//! Who pays for a request, and out of which bucket.

use std::fmt;

use enforcer_model::{Claims, KeyId, Prefix, Principal, Source, Value};

use crate::{By, Limit};

/// What is known of a request when a limit is taken.
#[derive(Clone, Copy, Debug)]
pub struct Payer<'a> {
    /// The TCP peer.
    pub source: Source,
    /// The authenticated caller.
    pub principal: Option<&'a Principal>,
    /// The API key that was used.
    pub key: Option<KeyId>,
    /// The application of the key's record or of the token.
    pub application: Option<&'a str>,
    /// The route that matched.
    pub route: &'a str,
    /// The role that the request was permitted by.
    pub role: Option<&'a str>,
    /// What the token says.
    pub claims: Option<&'a Claims>,
    /// The region of the source.
    pub region: Option<&'a str>,
    /// Bytes of the body, zero without one; none when the client does not say how many will come.
    pub body: Option<u64>,
}

/// Whose bucket pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// All callers without the attribute that the limit counts by.
    Absent,
    /// An application.
    Application(&'a str),
    /// Whoever has this value at the limit's place of the token.
    Claim(&'a Value),
    /// Everybody.
    Everybody,
    /// An API key.
    Key(KeyId),
    /// A network, or the address that stands for one host.
    Network(Prefix),
    /// An authenticated caller.
    Principal(&'a Principal),
    /// A region.
    Region(&'a str),
    /// A role.
    Role(&'a str),
    /// A route.
    Route(&'a str),
}

/// What an incident makes of a rate and its burst, in parts of a thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Factor(u32);

/// One cost of one limit, asked of one subject.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The limit.
    pub limit: &'a Limit,
    /// Whose bucket pays.
    pub subject: Subject<'a>,
    /// What the rate is multiplied by.
    pub factor: Factor,
    /// Bytes of the request's body, if known.
    pub(crate) body: Option<u64>,
}

impl Payer<'_> {
    /// A request of which only source and route are known: what the first stage sees.
    pub const fn from_source<'a>(source: Source, route: &'a str, body: Option<u64>) -> Payer<'a> {
        Payer {
            source,
            principal: None,
            key: None,
            application: None,
            route,
            role: None,
            claims: None,
            region: None,
            body,
        }
    }
}

impl<'a> Subject<'a> {
    pub(crate) fn of(by: &By, payer: &Payer<'a>) -> Self {
        let host = || Self::Network(payer.source.neighbourhood());
        let named = |text: Option<&'a str>, subject: fn(&'a str) -> Self| {
            text.map_or(Self::Absent, subject)
        };
        match by {
            By::Application => named(payer.application, Self::Application),
            By::Claim(path) => match payer.claims.and_then(|claims| claims.at(path)) {
                Some(value @ (Value::Flag(_) | Value::Number(_) | Value::Text(_))) => {
                    Self::Claim(value)
                }
                Some(Value::List(_) | Value::Table(_) | Value::Other) | None => Self::Absent,
            },
            By::Global => Self::Everybody,
            By::Ip => host(),
            By::Key => match (payer.key, payer.principal) {
                (Some(key), _) => Self::Key(key),
                (None, Some(principal)) => Self::Principal(principal),
                (None, None) => host(),
            },
            By::Prefix { v4, v6 } => {
                let address = payer.source.address();
                let length = if address.is_ipv4() { *v4 } else { *v6 };
                Self::Network(Prefix::around(address, length))
            }
            By::Principal => payer.principal.map_or_else(host, Self::Principal),
            By::Region => named(payer.region, Self::Region),
            By::Role => named(payer.role, Self::Role),
            By::Route => Self::Route(payer.route),
        }
    }
}

impl Factor {
    /// Nothing is changed.
    pub const WHOLE: Self = Self(1_000);

    /// The largest that counts: ten times as much.
    pub const MAX: Self = Self(10_000);

    /// `parts` of a thousand; more than [`Self::MAX`] is cut.
    pub const fn per_thousand(parts: u32) -> Self {
        if parts > Self::MAX.0 { Self::MAX } else { Self(parts) }
    }

    /// Parts of a thousand.
    pub const fn parts(self) -> u32 {
        self.0
    }

    /// This share of what `other` leaves. Two shares never make nothing: a caller is slowed down, and
    /// shut out by none of them alone.
    #[must_use]
    pub const fn of(self, other: Self) -> Self {
        if self.0 == 0 || other.0 == 0 {
            return Self(0);
        }
        // At most a hundred million.
        let parts = self.0 * other.0 / 1_000;
        if parts == 0 { Self(1) } else { Self::per_thousand(parts) }
    }
}

impl Default for Factor {
    fn default() -> Self {
        Self::WHOLE
    }
}

/// As operators read it, and as quotas are kept: `key:ID` whichever way a key is counted.
impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("(absent)"),
            Self::Application(name) => write!(f, "application:{name}"),
            Self::Claim(Value::Text(text)) => write!(f, "claim:\"{}\"", text.escape_default()),
            Self::Claim(Value::Number(number)) => write!(f, "claim:{number}"),
            Self::Claim(Value::Flag(flag)) => write!(f, "claim:{flag}"),
            Self::Claim(Value::List(_) | Value::Table(_) | Value::Other) => f.write_str("(absent)"),
            Self::Everybody => f.write_str("(everybody)"),
            Self::Key(key) => write!(f, "key:{key}"),
            Self::Network(network) => network.fmt(f),
            Self::Principal(principal) => f.write_str(principal.as_str()),
            Self::Region(region) => write!(f, "region:{region}"),
            Self::Role(role) => write!(f, "role:{role}"),
            Self::Route(route) => write!(f, "route:{route}"),
        }
    }
}
