//! What a policy limits: whom, how much, and what one request costs.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use enforcer_model::Rate;

use crate::gcra::Gcra;
use crate::hash::name_of;
use crate::{Cost, Demand, Factor, Payer, Period, Subject};

/// So much for each subject on its own.
///
/// Two limits with one name are one: routes that share a name share the buckets behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    name: Arc<str>,
    by: By,
    kind: Kind,
    cost: Cost,
    headers: bool,
    /// Stands for the name in hashes.
    pub(crate) id: u64,
    /// Of a rate, with nothing added or taken away; of the others, meaningless.
    pub(crate) gcra: Gcra,
}

/// Whom a limit counts.
///
/// Where the attribute is absent, what is stricter or equal holds: without a key the principal is
/// counted, without a principal the source; callers without an application, claim, region or role
/// share one bucket of the limit, all of them together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The application that the key's record or the token names.
    Application,
    /// What stands at this path of the token: a text, a number or a flag.
    Claim(Arc<[Box<str>]>),
    /// Everybody together.
    Global,
    /// The source address; IPv6 by its /64, which one host can fill at will.
    Ip,
    /// The API key.
    Key,
    /// The network around the source address.
    Prefix {
        /// Its length for IPv4, 8 to 32.
        v4: u8,
        /// Its length for IPv6, up to 64.
        v6: u8,
    },
    /// The authenticated caller, whatever the credential is.
    Principal,
    /// The region of the source address.
    Region,
    /// The role that the request was permitted by.
    Role,
    /// The route.
    Route,
}

/// How much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// At most so many under way at once.
    Concurrent(NonZeroU32),
    /// At most `amount` in each period of the calendar, in UTC.
    Quota {
        /// Units in one period.
        amount: NonZeroU64,
        /// When it begins anew.
        period: Period,
        /// What a crash may forget.
        durability: Durability,
    },
    /// At most `burst` at once and `rate` in the long run.
    Rate {
        /// How fast a used-up bucket fills again.
        rate: Rate,
        /// How much a full bucket holds.
        burst: NonZeroU32,
    },
}

/// What a crash may forget of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// What was spent in the last second.
    Background,
    /// Nothing: a block of it is on disk as spent before the first unit of the block is.
    Strict,
}

/// When a limit is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// After the caller is known and permitted.
    Caller,
    /// Before anybody is asked who they are, so that guessing costs as much as using.
    Source,
}

/// Whether the policy lets the limit hold only sometimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It always holds.
    Always,
    /// A condition decides, which may ask who is calling.
    Conditional,
}

impl Limit {
    /// A limit in which each request costs one.
    pub fn new(name: impl Into<Arc<str>>, by: By, kind: Kind) -> Self {
        let name = name.into();
        let gcra = match kind {
            Kind::Rate { rate, burst } => Gcra::of(rate, burst),
            Kind::Concurrent(_) | Kind::Quota { .. } => Gcra::NOTHING,
        };
        let id = name_of(&name);
        Self { name, by, kind, cost: Cost::ONE, headers: false, id, gcra }
    }

    /// The same with another cost of a request.
    #[must_use]
    pub const fn costing(mut self, cost: Cost) -> Self {
        self.cost = cost;
        self
    }

    /// The same, and callers are told what is left (`RateLimit`, `RateLimit-Policy`).
    #[must_use]
    pub const fn with_headers(mut self) -> Self {
        self.headers = true;
        self
    }

    /// As the policy names it.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whom it counts.
    pub const fn by(&self) -> &By {
        &self.by
    }

    /// How much.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// What one request costs.
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether callers are told what is left.
    pub const fn shows_headers(&self) -> bool {
        self.headers
    }

    /// When it is taken.
    pub const fn stage(&self, when: When) -> Stage {
        match (&self.by, when) {
            (By::Global | By::Ip | By::Prefix { .. } | By::Region, When::Always) => Stage::Source,
            (
                By::Application | By::Claim(_) | By::Key | By::Principal | By::Role | By::Route,
                When::Always,
            )
            | (_, When::Conditional) => Stage::Caller,
        }
    }

    /// Whose bucket `payer` draws on.
    pub fn subject<'a>(&self, payer: &Payer<'a>) -> Subject<'a> {
        Subject::of(&self.by, payer)
    }

    /// The demand of `payer`'s request; `factor` is what an incident makes of the rate.
    pub fn demand<'a>(&'a self, payer: &Payer<'a>, factor: Factor) -> Demand<'a> {
        Demand { limit: self, subject: self.subject(payer), factor, body: payer.body }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Application => f.write_str("application"),
            Self::Claim(path) => {
                f.write_str("claims")?;
                path.iter().try_for_each(|name| write!(f, ".{name}"))
            }
            Self::Global => f.write_str("global"),
            Self::Ip => f.write_str("ip"),
            Self::Key => f.write_str("key"),
            Self::Prefix { v4, v6 } => write!(f, "prefix /{v4} /{v6}"),
            Self::Principal => f.write_str("principal"),
            Self::Region => f.write_str("region"),
            Self::Role => f.write_str("role"),
            Self::Route => f.write_str("route"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Concurrent(most) => write!(f, "{most} at once"),
            Self::Quota { amount, period, durability } => {
                write!(f, "{amount}/{period}")?;
                match durability {
                    Durability::Background => Ok(()),
                    Durability::Strict => f.write_str(" strict"),
                }
            }
            Self::Rate { rate, burst } => write!(f, "{rate} burst {burst}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_no_caller_is_taken_before_one_is_asked_for() {
        let stage = |by, when| Limit::new("l", by, Kind::Concurrent(NonZeroU32::MIN)).stage(when);
        for by in [By::Ip, By::Prefix { v4: 24, v6: 48 }, By::Region, By::Global] {
            assert_eq!(stage(by.clone(), When::Always), Stage::Source, "{by}");
            assert_eq!(stage(by, When::Conditional), Stage::Caller);
        }
        let tenant = By::Claim(["tenant".into()].into());
        for by in [By::Application, tenant, By::Key, By::Principal, By::Role, By::Route] {
            assert_eq!(stage(by.clone(), When::Always), Stage::Caller, "{by}");
        }
    }

    #[test]
    fn a_limit_reads_as_it_is_written() {
        let rate =
            Kind::Rate { rate: "20/s".parse().unwrap(), burst: NonZeroU32::new(40).unwrap() };
        assert_eq!(rate.to_string(), "20/s burst 40");
        let quota = Kind::Quota {
            amount: NonZeroU64::new(50).unwrap(),
            period: Period::Day,
            durability: Durability::Strict,
        };
        assert_eq!(quota.to_string(), "50/day strict");
        assert_eq!(
            By::Claim(["org".into(), "tenant".into()].into()).to_string(),
            "claims.org.tenant"
        );
    }
}
