//! What an event must be for a condition to be true at all: bits, compared before anything is read.
//!
//! Most events fit few rules. A condition's necessary facts are taken from its outermost `&&`, once;
//! a rule whose bits are not all among those of the event is passed over for a nanosecond.

use super::{Attribute, Comparison, Expr, Flag, Numeric, Test};
use crate::Request;

/// What is so of one request, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts(u32);

/// What must be so of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs(u32);

const REFUSED: u32 = 1;
const SERVED: u32 = 1 << 1;
const CREDENTIAL_REFUSED: u32 = 1 << 2;
const KNOWN: u32 = 1 << 3;
const ANONYMOUS: u32 = 1 << 4;
const OBJECT: u32 = 1 << 5;
const REGION: u32 = 1 << 6;
const JA4: u32 = 1 << 7;
const CREDENTIAL: u32 = 1 << 8;
const UPSTREAM: u32 = 1 << 9;
const ROUTE: u32 = 1 << 10;
const BELOW_400: u32 = 1 << 11;
const FROM_400: u32 = 1 << 12;
const FROM_500: u32 = 1 << 13;
const CHANGES: u32 = 1 << 14;
const ROLE: u32 = 1 << 15;
const AGENT: u32 = 1 << 16;

impl Facts {
    pub(crate) fn of(request: &Request<'_>) -> Self {
        let bit = |is: bool, bit: u32| if is { bit } else { 0 };
        let refused = request.reason.is_some_and(enforcer_model::Reason::is_refused_credential);
        Self(
            if request.reason.is_some() { REFUSED } else { SERVED }
                | bit(refused, CREDENTIAL_REFUSED)
                | if request.identity.is_some() { KNOWN } else { ANONYMOUS }
                | bit(request.object.is_some(), OBJECT)
                | bit(request.region.is_some(), REGION)
                | bit(request.ja4.is_some(), JA4)
                | bit(request.credential.is_some(), CREDENTIAL)
                | bit(request.upstream.is_some(), UPSTREAM)
                | bit(request.route.is_some(), ROUTE)
                | if request.status < 400 { BELOW_400 } else { FROM_400 }
                | bit(request.status >= 500, FROM_500)
                | bit(!matches!(request.method, "GET" | "HEAD" | "OPTIONS"), CHANGES)
                | bit(request.role.is_some(), ROLE)
                | bit(request.user_agent.is_some(), AGENT),
        )
    }
}

impl Needs {
    /// Of an expression that must be true.
    pub(crate) fn of(expr: &Expr) -> Self {
        match expr {
            Expr::All(parts) => Self(parts.iter().fold(0, |bits, part| bits | Self::of(part).0)),
            Expr::Any(parts) => {
                let common = parts.iter().map(|part| Self::of(part).0).reduce(|a, b| a & b);
                Self(common.unwrap_or(0))
            }
            Expr::Not(inner) => match &**inner {
                Expr::Test(Test::Flag(Flag::Anonymous)) => Self(KNOWN),
                Expr::Test(Test::Flag(Flag::Refused))
                | Expr::Test(Test::Has(Attribute::Reason)) => Self(SERVED),
                Expr::Test(Test::Has(Attribute::Identity)) => Self(ANONYMOUS),
                Expr::Constant(_) | Expr::Not(_) | Expr::All(_) | Expr::Any(_) | Expr::Test(_) => {
                    Self(0)
                }
            },
            Expr::Constant(_) => Self(0),
            Expr::Test(test) => Self::of_test(test),
        }
    }

    fn of_test(test: &Test) -> Self {
        match test {
            Test::Flag(Flag::Refused) => Self(REFUSED),
            Test::Flag(Flag::CredentialRefused) => Self(REFUSED | CREDENTIAL_REFUSED),
            Test::Flag(Flag::Anonymous) => Self(ANONYMOUS),
            Test::Flag(Flag::HasObjectId) => Self(OBJECT),
            Test::Flag(Flag::Proxied | Flag::Opening) | Test::Inside(_) => Self(0),
            Test::Equal(Attribute::Method, method) => Self(changes(std::iter::once(method))),
            Test::OneOf(Attribute::Method, methods) => Self(changes(methods.iter())),
            Test::Has(attribute)
            | Test::Equal(attribute, _)
            | Test::OneOf(attribute, _)
            | Test::Starts(attribute, _)
            | Test::Ends(attribute, _)
            | Test::Contains(attribute, _) => Self::attribute(*attribute),
            Test::Compare(Numeric::Status, comparison, literal) => {
                let least = match comparison {
                    Comparison::Equal | Comparison::AtLeast => *literal,
                    Comparison::Greater => literal.saturating_add(1),
                    Comparison::Less | Comparison::AtMost => 0,
                };
                let most = match comparison {
                    Comparison::Equal | Comparison::AtMost => *literal,
                    Comparison::Less => literal.saturating_sub(1),
                    Comparison::Greater | Comparison::AtLeast => i64::MAX,
                };
                Self::status(least, most)
            }
            Test::NumberOneOf(Numeric::Status, literals) => {
                let least = literals.iter().min().copied().unwrap_or(0);
                let most = literals.iter().max().copied().unwrap_or(i64::MAX);
                Self::status(least, most)
            }
            Test::Compare(..) | Test::NumberOneOf(..) => Self(0),
        }
    }

    const fn status(least: i64, most: i64) -> Self {
        let low = if most < 400 { BELOW_400 } else { 0 };
        let high = if least >= 400 { FROM_400 } else { 0 };
        let highest = if least >= 500 { FROM_500 } else { 0 };
        Self(low | high | highest)
    }

    /// That `attribute` is there.
    pub(crate) const fn attribute(attribute: Attribute) -> Self {
        Self(match attribute {
            Attribute::Route => ROUTE,
            Attribute::ObjectId => OBJECT,
            Attribute::Identity => KNOWN,
            Attribute::Credential => CREDENTIAL,
            Attribute::Reason => REFUSED,
            Attribute::Region => REGION,
            Attribute::Ja4 => JA4,
            Attribute::Upstream => UPSTREAM,
            Attribute::Role => ROLE,
            Attribute::UserAgent => AGENT,
            Attribute::Method | Attribute::Host | Attribute::Path => 0,
        })
    }

    /// Both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `facts` has all of it.
    #[inline]
    pub(crate) const fn are_met(self, facts: Facts) -> bool {
        facts.0 & self.0 == self.0
    }
}

fn changes<'m>(mut methods: impl Iterator<Item = &'m Box<str>>) -> u32 {
    if methods.all(|method| !matches!(&**method, "GET" | "HEAD" | "OPTIONS")) { CHANGES } else { 0 }
}
