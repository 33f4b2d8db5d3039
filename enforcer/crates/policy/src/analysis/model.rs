//! The parts of a request that have values of their own, and what they can be.

use std::net::IpAddr;
use std::sync::Arc;

use enforcer_authz::{Attribute, ClaimPath};
use enforcer_model::{Role, Timestamp};

/// What makes a formula true; what is not named makes no difference.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) values: Vec<(Variable, Value)>,
    /// A condition reads scopes, so that they are not only what gives roles.
    pub(crate) reads_scopes: bool,
}

/// A part of a request that has a value of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Variable {
    Address,
    /// What kind of caller, if any.
    Caller,
    Claim(ClaimPath),
    Dpop,
    /// Whether a claim that is a list has this element.
    Element(ClaimPath, Arc<str>),
    /// Whether an API key was issued with the role.
    Granted(Role),
    Host,
    Incident,
    Method,
    Moment,
    Mtls,
    /// Whether a claim that is a list has this number.
    NumberElement(ClaimPath, i64),
    /// Whether this is among the role values of a token.
    RoleValue(Arc<str>),
    Scope(Arc<str>),
    /// By its number in the pattern.
    Segment(usize),
    /// An attribute that depends on nothing else.
    Text(Attribute),
}

/// What a part can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Absent,
    Address(IpAddr),
    Anonymous,
    Certificate,
    Flag(bool),
    /// There, and of no type that can be read.
    Foreign,
    Key,
    /// A list of texts; its elements are variables of their own.
    List,
    Moment(Timestamp),
    Number(i64),
    /// A list of numbers; likewise.
    Numbers,
    Text(Arc<str>),
    /// Of this issuer.
    Token(Arc<str>),
}

impl Model {
    /// What `variable` is.
    pub(crate) fn get(&self, variable: &Variable) -> Option<&Value> {
        self.values.iter().find(|(known, _)| known == variable).map(|(_, value)| value)
    }
}

impl Value {
    pub(crate) const fn is_token(&self) -> bool {
        matches!(self, Self::Token(_))
    }
}
