//! Expressions in the words of the language, and what a test saw.
//!
//! What is written here reads as the same expression again. Text of a request is quoted and escaped,
//! so that it moves no cursor and reorders no line of an operator's terminal.

use std::fmt::{self, Write};

use enforcer_model::Value;

use super::expr::{
    Attribute, ClaimPath, Comparison, Expr, Flag, Number, Numbers, Numeric, Test, Text, Texts,
};
use crate::Facts;

/// A text as the language writes it: in quotes, with everything escaped that is not seen.
pub(super) struct Quoted<'a>(pub(super) &'a str);

/// How tightly the outermost operator of an expression binds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Any,
    All,
    Relation,
    Operand,
}

impl Expr {
    fn binding(&self) -> Binding {
        match self {
            Self::Any(_) => Binding::Any,
            Self::All(_) => Binding::All,
            Self::Same(_) => Binding::Relation,
            Self::Test(test) if test.is_relation() => Binding::Relation,
            Self::Not(inner) if inner.is_equality() => Binding::Relation,
            Self::Not(_) | Self::Constant(_) | Self::Test(_) => Binding::Operand,
        }
    }

    /// Whether it is written with `==`, so that its opposite is written with `!=`.
    const fn is_equality(&self) -> bool {
        matches!(
            self,
            Self::Same(_) | Self::Test(Test::Equal(..) | Test::Compare(_, Comparison::Equal, _))
        )
    }

    /// In parentheses unless it binds at least as tightly as `least`.
    fn write(&self, least: Binding, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.binding() < least { write!(f, "({self})") } else { write!(f, "{self}") }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |parts: &[Self], word: &str, least, f: &mut fmt::Formatter<'_>| {
            parts.iter().enumerate().try_for_each(|(n, part)| {
                f.write_str(if n == 0 { "" } else { word })?;
                part.write(least, f)
            })
        };
        let same = |[left, right]: &[Self; 2], word: &str, f: &mut fmt::Formatter<'_>| {
            left.write(Binding::Operand, f)?;
            f.write_str(word)?;
            right.write(Binding::Operand, f)
        };
        match self {
            Self::Constant(value) => write!(f, "{value}"),
            Self::All(parts) => joined(parts, " && ", Binding::Relation, f),
            Self::Any(parts) => joined(parts, " || ", Binding::All, f),
            Self::Same(sides) => same(sides, " == ", f),
            Self::Test(test) => write!(f, "{test}"),
            Self::Not(inner) => match &**inner {
                Self::Same(sides) => same(sides, " != ", f),
                Self::Test(Test::Equal(left, right)) => write!(f, "{left} != {right}"),
                Self::Test(Test::Compare(left, Comparison::Equal, right)) => {
                    write!(f, "{left} != {right}")
                }
                inner @ (Self::Constant(_)
                | Self::Not(_)
                | Self::All(_)
                | Self::Any(_)
                | Self::Test(_)) => {
                    f.write_char('!')?;
                    inner.write(Binding::Operand, f)
                }
            },
        }
    }
}

impl Test {
    const fn is_relation(&self) -> bool {
        match self {
            Self::Equal(..)
            | Self::Compare(..)
            | Self::OneOf(..)
            | Self::NumberOneOf(..)
            | Self::Inside(_)
            | Self::Role(_) => true,
            Self::Flag(_) | Self::Has(_) | Self::StartsWith(..) | Self::EndsWith(..) => false,
        }
    }

    /// What it read of `facts`: the attribute, and its value unless that is unknown.
    pub(crate) fn seen(&self, facts: &Facts<'_>) -> Vec<(String, Option<String>)> {
        let claim = |path: &ClaimPath| {
            (path.to_string(), path.read(facts).map(|value| Shown(value).to_string()))
        };
        let attribute = |attribute: &Attribute| {
            if let Attribute::Claim(path) = attribute {
                return claim(path);
            }
            let value = attribute.read(facts).map(|text| Quoted(text).to_string());
            (attribute.to_string(), value)
        };
        let text = |text: &Text| match text {
            Text::Literal(_) => None,
            Text::Attribute(read) => Some(attribute(read)),
        };
        let numeric = |number: &Numeric| match number {
            Numeric::Incident => ("incident".to_owned(), Some(facts.incident.to_string())),
            Numeric::Claim(path) => claim(path),
        };
        let number = |number: &Number| match number {
            Number::Literal(_) => None,
            Number::Numeric(read) => Some(numeric(read)),
        };
        match self {
            Self::Flag(Flag::Claim(path)) => vec![claim(path)],
            Self::Flag(Flag::Time(_)) => vec![("now".to_owned(), Some(facts.now.to_string()))],
            Self::Flag(Flag::Mtls | Flag::Dpop | Flag::Anonymous) | Self::Role(_) => Vec::new(),
            Self::Has(read) | Self::StartsWith(read, _) | Self::EndsWith(read, _) => {
                vec![attribute(read)]
            }
            Self::Equal(left, right) => {
                [Some(attribute(left)), text(right)].into_iter().flatten().collect()
            }
            Self::Compare(left, _, right) => {
                [Some(numeric(left)), number(right)].into_iter().flatten().collect()
            }
            Self::OneOf(left, texts) => {
                let set = match texts {
                    Texts::Literals(_) => None,
                    Texts::Claim(path) => Some(claim(path)),
                    Texts::Scopes => {
                        let scopes = facts.caller.as_ref().map_or(&[][..], |caller| caller.scopes);
                        let shown: Vec<String> =
                            scopes.iter().map(|scope| Quoted(scope).to_string()).collect();
                        Some(("scopes".to_owned(), Some(format!("[{}]", shown.join(", ")))))
                    }
                };
                [text(left), set].into_iter().flatten().collect()
            }
            Self::NumberOneOf(left, numbers) => {
                let set = match numbers {
                    Numbers::Literals(_) => None,
                    Numbers::Claim(path) => Some(claim(path)),
                };
                [number(left), set].into_iter().flatten().collect()
            }
            Self::Inside(_) => vec![("ip".to_owned(), Some(facts.ip.to_string()))],
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Has(attribute) => write!(f, "has({attribute})"),
            Self::Equal(left, right) => write!(f, "{left} == {right}"),
            Self::Compare(left, comparison, right) => write!(f, "{left} {comparison} {right}"),
            Self::OneOf(text, texts) => write!(f, "{text} in {texts}"),
            Self::NumberOneOf(number, numbers) => write!(f, "{number} in {numbers}"),
            Self::Inside(network) => write!(f, "ip in {}", Member("net", &network.name)),
            Self::Role(held) => write!(f, "{} in roles", Quoted(held.role.as_str())),
            Self::StartsWith(text, start) => write!(f, "{text}.startsWith({})", Quoted(start)),
            Self::EndsWith(text, end) => write!(f, "{text}.endsWith({})", Quoted(end)),
        }
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtls => f.write_str("mtls"),
            Self::Dpop => f.write_str("dpop"),
            Self::Anonymous => f.write_str("anonymous"),
            Self::Time(time) => Member("time", &time.name).fmt(f),
            Self::Claim(path) => path.fmt(f),
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Principal => "principal",
            Self::Kind => "kind",
            Self::Issuer => "issuer",
            Self::Application => "application",
            Self::Owner => "owner",
            Self::Spiffe => "spiffe",
            Self::Region => "region",
            Self::Method => "method",
            Self::Host => "host",
            Self::Path => "path",
            Self::Param(name) => return Member("param", name).fmt(f),
            Self::Query(name) => return Member("query", name).fmt(f),
            Self::Header(name) => return Member("header", name.as_str()).fmt(f),
            Self::Claim(path) => return path.fmt(f),
        })
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => Quoted(text).fmt(f),
            Self::Attribute(attribute) => attribute.fmt(f),
        }
    }
}

impl fmt::Display for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literals(texts) => list(texts.iter().map(|text| Quoted(text)), f),
            Self::Scopes => f.write_str("scopes"),
            Self::Claim(path) => path.fmt(f),
        }
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incident => f.write_str("incident"),
            Self::Claim(path) => path.fmt(f),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(number) => number.fmt(f),
            Self::Numeric(numeric) => numeric.fmt(f),
        }
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literals(numbers) => list(numbers.iter(), f),
            Self::Claim(path) => path.fmt(f),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "==",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        })
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("claims")?;
        self.names().iter().try_for_each(|name| member(name, f))
    }
}

/// `space.name`, or `space["any name"]`.
struct Member<'a>(&'static str, &'a str);

impl fmt::Display for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)?;
        member(self.1, f)
    }
}

fn member(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if enforcer_condition::is_name(name) {
        write!(f, ".{name}")
    } else {
        write!(f, "[{}]", Quoted(name))
    }
}

fn list(items: impl Iterator<Item = impl fmt::Display>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('[')?;
    items
        .enumerate()
        .try_for_each(|(n, item)| write!(f, "{}{item}", if n == 0 { "" } else { ", " }))?;
    f.write_char(']')
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if enforcer_condition::is_unseen(c) => write!(f, "\\u{:04x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// A value of a token.
struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Flag(value) => value.fmt(f),
            Value::Number(number) => number.fmt(f),
            Value::Text(text) => Quoted(text).fmt(f),
            // One level is enough to understand a decision; no token makes this recurse.
            Value::List(values) => list(
                values.iter().map(|value| match value {
                    Value::Flag(_) | Value::Number(_) | Value::Text(_) => Shown(value).to_string(),
                    Value::List(_) => "[…]".to_owned(),
                    Value::Table(_) => "{…}".to_owned(),
                    Value::Other => "(neither text nor whole number)".to_owned(),
                }),
                f,
            ),
            Value::Table(_) => f.write_str("{…}"),
            Value::Other => f.write_str("(neither text nor whole number)"),
        }
    }
}
