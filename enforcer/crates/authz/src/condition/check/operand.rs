//! What an operand is, and what two of them are compared as.

use enforcer_condition::Node;

use crate::condition::expr::{Attribute, Comparison, Expr, Flag, Number, Numeric, Test, Text};
use crate::condition::names::Thing;

/// What an operand is, before it is known what it is compared with.
pub(super) enum Operand<'n> {
    /// Something that has been told.
    Broken,
    Thing(Thing),
    Flag(bool),
    Int(i64),
    Text(&'n str),
    List(&'n [Node]),
    /// A condition of its own.
    Expr(Expr),
}

/// What can be put on one side of `==`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Address,
    Claim,
    Flag,
    List,
    Networks,
    Number,
    Text,
    Texts,
}

impl Operand<'_> {
    pub(super) const fn kind(&self) -> Option<Type> {
        Some(match self {
            Self::Broken => return None,
            Self::Thing(thing) => match thing {
                Thing::Address => Type::Address,
                Thing::Networks(_) => Type::Networks,
                Thing::Flag(_) => Type::Flag,
                Thing::Roles | Thing::Scopes => Type::Texts,
                Thing::Text(_) => Type::Text,
                Thing::Incident => Type::Number,
                Thing::Claim(_) => Type::Claim,
            },
            Self::Flag(_) | Self::Expr(_) => Type::Flag,
            Self::Int(_) => Type::Number,
            Self::Text(_) => Type::Text,
            Self::List(_) => Type::List,
        })
    }

    pub(super) fn text(self) -> Option<Text> {
        Some(match self {
            Self::Text(text) => Text::Literal(text.into()),
            Self::Thing(Thing::Text(attribute)) => Text::Attribute(attribute),
            Self::Thing(Thing::Claim(path)) => Text::Attribute(Attribute::Claim(path)),
            _ => return None,
        })
    }

    pub(super) fn number(self) -> Option<Number> {
        Some(match self {
            Self::Int(number) => Number::Literal(number),
            Self::Thing(Thing::Incident) => Number::Numeric(Numeric::Incident),
            Self::Thing(Thing::Claim(path)) => Number::Numeric(Numeric::Claim(path)),
            _ => return None,
        })
    }

    pub(super) fn flag(self) -> Option<Expr> {
        Some(match self {
            Self::Flag(value) => Expr::Constant(value),
            Self::Expr(expr) => expr,
            Self::Thing(Thing::Flag(flag)) => Expr::Test(Test::Flag(flag)),
            Self::Thing(Thing::Claim(path)) => Expr::Test(Test::Flag(Flag::Claim(path))),
            _ => return None,
        })
    }
}

impl Type {
    pub(super) const fn described(self) -> &'static str {
        match self {
            Self::Address => "an address",
            Self::Claim => "a claim",
            Self::Flag => "true or false",
            Self::List => "a list",
            Self::Networks => "a set of addresses",
            Self::Number => "a whole number",
            Self::Text => "text",
            Self::Texts => "a set of texts",
        }
    }
}

/// The type that two sides are compared as. A claim is of the other side's type; two claims are texts.
pub(super) fn join(left: Type, right: Type) -> Option<Type> {
    match (left, right) {
        (Type::Claim, Type::Claim) => Some(Type::Text),
        (Type::Claim, known) | (known, Type::Claim) => Some(known),
        (left, right) if left == right => Some(left),
        _ => None,
    }
}

impl Comparison {
    /// The same with its sides exchanged.
    pub(super) const fn turned(self) -> Self {
        match self {
            Self::Equal => Self::Equal,
            Self::Less => Self::Greater,
            Self::AtMost => Self::AtLeast,
            Self::Greater => Self::Less,
            Self::AtLeast => Self::AtMost,
        }
    }
}
