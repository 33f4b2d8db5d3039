//! What an expression says of a request.
//!
//! Recursion is as deep as the parser admits. The three values are those of Kleene's strong logic:
//! one false part makes `&&` false whatever the unknown parts would be, one true part makes `||`
//! true. [`Expr::unknown`] finds what to blame, for refusals only.

use std::cmp::Ordering;
use std::sync::Arc;

use enforcer_model::{Claims, CredentialKind, Value};
use http::HeaderMap;

use super::expr::{
    Attribute, ClaimPath, Comparison, Expr, Flag, Number, Numbers, Numeric, Test, Text, Texts,
};
use crate::{Facts, Tri};

impl Expr {
    /// What it says of `facts`.
    pub fn evaluate(&self, facts: &Facts<'_>) -> Tri {
        match self {
            Self::Constant(value) => Tri::from(*value),
            Self::Not(inner) => inner.evaluate(facts).not(),
            Self::All(parts) => {
                let mut all = Tri::True;
                for part in parts {
                    match part.evaluate(facts) {
                        Tri::False => return Tri::False,
                        Tri::Unknown => all = Tri::Unknown,
                        Tri::True => {}
                    }
                }
                all
            }
            Self::Any(parts) => {
                let mut any = Tri::False;
                for part in parts {
                    match part.evaluate(facts) {
                        Tri::True => return Tri::True,
                        Tri::Unknown => any = Tri::Unknown,
                        Tri::False => {}
                    }
                }
                any
            }
            Self::Same(sides) => {
                let [left, right] = &**sides;
                match (left.evaluate(facts), right.evaluate(facts)) {
                    (Tri::Unknown, _) | (_, Tri::Unknown) => Tri::Unknown,
                    (left, right) => Tri::from(left == right),
                }
            }
            Self::Test(test) => test.evaluate(facts),
        }
    }

    /// The first attribute that keeps it from being told; none when it is true or false.
    pub fn unknown(&self, facts: &Facts<'_>) -> Option<Attribute> {
        if self.evaluate(facts) != Tri::Unknown {
            return None;
        }
        match self {
            Self::Constant(_) => None,
            Self::Not(inner) => inner.unknown(facts),
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().find_map(|part| part.unknown(facts))
            }
            Self::Same(sides) => sides.iter().find_map(|side| side.unknown(facts)),
            Self::Test(test) => test.unknown(facts),
        }
    }
}

impl Test {
    /// What it says of `facts`.
    #[inline]
    pub fn evaluate(&self, facts: &Facts<'_>) -> Tri {
        match self {
            Self::Flag(flag) => flag.evaluate(facts),
            Self::Has(attribute) => Tri::from(attribute.is_there(facts)),
            Self::Equal(left, right) => {
                Tri::of(left.read(facts).zip(right.read(facts)).map(|(left, right)| left == right))
            }
            Self::Compare(left, comparison, right) => {
                let sides = left.read(facts).zip(right.read(facts));
                Tri::of(sides.map(|(left, right)| comparison.holds(left.cmp(&right))))
            }
            Self::OneOf(text, texts) => {
                Tri::of(text.read(facts).and_then(|text| texts.contain(text, facts)))
            }
            Self::NumberOneOf(number, numbers) => {
                Tri::of(number.read(facts).and_then(|number| numbers.contain(number, facts)))
            }
            Self::Inside(network) => Tri::from(network.networks.covering(facts.ip).is_some()),
            Self::Role(held) => Tri::from(
                facts.caller.as_ref().is_some_and(|caller| caller.roles.contains(held.index)),
            ),
            Self::StartsWith(attribute, start) => {
                Tri::of(attribute.read(facts).map(|text| text.starts_with(&**start)))
            }
            Self::EndsWith(attribute, end) => {
                Tri::of(attribute.read(facts).map(|text| text.ends_with(&**end)))
            }
        }
    }

    fn unknown(&self, facts: &Facts<'_>) -> Option<Attribute> {
        let claim = |path: &ClaimPath| Some(Attribute::Claim(path.clone()));
        let absent =
            |attribute: &Attribute| attribute.read(facts).is_none().then(|| attribute.clone());
        let absent_text = |text: &Text| match text {
            Text::Literal(_) => None,
            Text::Attribute(attribute) => absent(attribute),
        };
        let absent_number = |number: &Number| match number {
            Number::Numeric(Numeric::Claim(path)) if number.read(facts).is_none() => claim(path),
            Number::Literal(_) | Number::Numeric(_) => None,
        };
        match self {
            Self::Flag(Flag::Claim(path)) => claim(path),
            Self::Equal(left, right) => absent(left).or_else(|| absent_text(right)),
            Self::Compare(left, _, right) => {
                absent_number(&Number::Numeric(left.clone())).or_else(|| absent_number(right))
            }
            // The element is there, so it is the set that is not.
            Self::OneOf(text, texts) => absent_text(text).or_else(|| match texts {
                Texts::Claim(path) => claim(path),
                Texts::Literals(_) | Texts::Scopes => None,
            }),
            Self::NumberOneOf(number, numbers) => absent_number(number).or_else(|| match numbers {
                Numbers::Claim(path) => claim(path),
                Numbers::Literals(_) => None,
            }),
            Self::StartsWith(attribute, _) | Self::EndsWith(attribute, _) => absent(attribute),
            Self::Flag(Flag::Mtls | Flag::Dpop | Flag::Anonymous | Flag::Time(_))
            | Self::Has(_)
            | Self::Inside(_)
            | Self::Role(_) => None,
        }
    }
}

impl Flag {
    #[inline]
    fn evaluate(&self, facts: &Facts<'_>) -> Tri {
        match self {
            Self::Mtls => Tri::from(facts.mtls),
            Self::Dpop => Tri::from(facts.caller.as_ref().is_some_and(|caller| caller.dpop)),
            Self::Anonymous => Tri::from(facts.caller.is_none()),
            Self::Time(time) => Tri::from(time.window.is_open(facts.now)),
            Self::Claim(path) => match path.read(facts) {
                Some(Value::Flag(value)) => Tri::from(*value),
                Some(
                    Value::Number(_)
                    | Value::Text(_)
                    | Value::List(_)
                    | Value::Table(_)
                    | Value::Other,
                )
                | None => Tri::Unknown,
            },
        }
    }
}

impl Attribute {
    /// Its value, if it is there exactly once and is a text.
    #[inline]
    pub fn read<'a>(&self, facts: &Facts<'a>) -> Option<&'a str> {
        let caller = facts.caller.as_ref();
        match self {
            Self::Principal => Some(caller?.principal),
            Self::Kind => Some(kind(caller?.kind)),
            Self::Issuer => caller?.issuer,
            Self::Application => caller?.application,
            Self::Owner => caller?.owner,
            Self::Spiffe => facts.spiffe,
            Self::Region => facts.region,
            Self::Method => Some(facts.method.as_str()),
            Self::Host => Some(facts.host),
            Self::Path => Some(facts.path),
            Self::Param(name) => only(facts.params.iter().map(|(n, v)| (*n, &**v)), name),
            Self::Query(name) => only(facts.query.iter().map(|(n, v)| (&**n, &**v)), name),
            Self::Header(name) => {
                let mut values = HeaderMap::get_all(facts.headers, name).iter();
                let first = values.next()?;
                // A second one could be the one that the upstream reads.
                if values.next().is_some() { None } else { first.to_str().ok() }
            }
            Self::Claim(path) => path.read(facts)?.text(),
        }
    }

    /// Whether it is there at all, readable or not.
    pub(crate) fn is_there(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Query(name) => facts.query.iter().any(|(known, _)| **known == **name),
            Self::Header(name) => facts.headers.contains_key(name),
            Self::Claim(path) => path.read(facts).is_some(),
            Self::Principal
            | Self::Kind
            | Self::Issuer
            | Self::Application
            | Self::Owner
            | Self::Spiffe
            | Self::Region
            | Self::Method
            | Self::Host
            | Self::Path
            | Self::Param(_) => self.read(facts).is_some(),
        }
    }
}

/// The value called `name`, unless there are two.
fn only<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>, name: &str) -> Option<&'a str> {
    let mut values = pairs.filter(|(known, _)| *known == name).map(|(_, value)| value);
    let first = values.next();
    if values.next().is_some() { None } else { first }
}

/// As audit records write it.
pub(crate) const fn kind(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::ApiKey => "api-key",
        CredentialKind::Certificate => "certificate",
        CredentialKind::Token => "token",
    }
}

impl ClaimPath {
    /// The names, outermost first.
    pub fn names(&self) -> &[Arc<str>] {
        &self.0
    }

    #[inline]
    pub(crate) fn read<'a>(&self, facts: &Facts<'a>) -> Option<&'a Value> {
        let claims: &'a Claims = facts.caller.as_ref()?.claims?;
        claims.at(&self.0)
    }
}

impl Text {
    #[inline]
    fn read<'a>(&'a self, facts: &Facts<'a>) -> Option<&'a str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Attribute(attribute) => attribute.read(facts),
        }
    }
}

impl Texts {
    fn contain(&self, text: &str, facts: &Facts<'_>) -> Option<bool> {
        match self {
            Self::Literals(texts) => Some(texts.iter().any(|one| **one == *text)),
            Self::Scopes => {
                let scopes = facts.caller.as_ref().map_or(&[][..], |caller| caller.scopes);
                Some(scopes.iter().any(|one| **one == *text))
            }
            Self::Claim(path) => {
                let Value::List(values) = path.read(facts)? else { return None };
                let mut found = false;
                for value in values.iter() {
                    found |= value.text()? == text;
                }
                Some(found)
            }
        }
    }
}

impl Numeric {
    #[inline]
    fn read(&self, facts: &Facts<'_>) -> Option<i64> {
        match self {
            Self::Incident => Some(i64::from(facts.incident)),
            Self::Claim(path) => number(path.read(facts)?),
        }
    }
}

impl Number {
    #[inline]
    fn read(&self, facts: &Facts<'_>) -> Option<i64> {
        match self {
            Self::Literal(number) => Some(*number),
            Self::Numeric(numeric) => numeric.read(facts),
        }
    }
}

impl Numbers {
    fn contain(&self, wanted: i64, facts: &Facts<'_>) -> Option<bool> {
        match self {
            Self::Literals(numbers) => Some(numbers.contains(&wanted)),
            Self::Claim(path) => {
                let Value::List(values) = path.read(facts)? else { return None };
                let mut found = false;
                for value in values.iter() {
                    found |= number(value)? == wanted;
                }
                Some(found)
            }
        }
    }
}

const fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => Some(*number),
        Value::Flag(_) | Value::Text(_) | Value::List(_) | Value::Table(_) | Value::Other => None,
    }
}

impl Comparison {
    /// Whether two numbers in this order compare so.
    pub const fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}
