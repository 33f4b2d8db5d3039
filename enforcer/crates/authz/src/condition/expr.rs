//! What a condition means, once every name and type in it is known.
//!
//! An [`Expr`] joins [`Test`]s with Kleene's *and*, *or* and *not*; a test asks one thing of a request
//! and is true, false, or unknown because an attribute is absent. No test can fail, and nothing here
//! needs the text it came from: [`std::fmt::Display`] writes a text that reads as the same expression.
//!
//! Spellings with one meaning have one form: `a != b` is `!(a == b)`, `x == true` is `x`, and of a
//! comparison with a literal the literal stands on the right.

use std::sync::Arc;

use enforcer_model::Role;
use http::HeaderName;

use crate::{Networks, RoleIndex, Window};

/// A condition or a part of one; true, false or unknown of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// `true` or `false`.
    Constant(bool),
    /// `!x`: unknown stays unknown.
    Not(Box<Self>),
    /// `a && b && …`, at least two: false if one is false, else unknown if one is unknown.
    All(Box<[Self]>),
    /// `a || b || …`, at least two: true if one is true, else unknown if one is unknown.
    Any(Box<[Self]>),
    /// `a == b` of two truth values: unknown if one of them is.
    Same(Box<[Self; 2]>),
    /// One question about the request.
    Test(Test),
}

/// One question about the request. It is unknown exactly when something that it reads is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// `mtls`, `time.work`, `claims.admin`: a truth value by itself.
    Flag(Flag),
    /// `has(claims.tenant)`: whether it is there at all, in whatever type or number. Never unknown.
    Has(Attribute),
    /// `region == "DE"`, byte for byte.
    Equal(Attribute, Text),
    /// `incident >= 2`.
    Compare(Numeric, Comparison, Number),
    /// `region in ["DE", "FR"]`, `"orders" in scopes`, `param.team in claims.teams`.
    OneOf(Text, Texts),
    /// `incident in [2, 3]`, `7 in claims.levels`.
    NumberOneOf(Number, Numbers),
    /// `ip in net.office`. Never unknown.
    Inside(Network),
    /// `"reader" in roles`: the caller has the role, or one that includes it. Never unknown.
    Role(Held),
    /// `path.startsWith("/v1/")`.
    StartsWith(Attribute, Arc<str>),
    /// `host.endsWith(".example.com")`.
    EndsWith(Attribute, Arc<str>),
}

/// Something that is true or false by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flag {
    /// The connection has a verified client certificate.
    Mtls,
    /// The token was proven to be in its holder's hands by RFC 9449.
    Dpop,
    /// Nobody was identified.
    Anonymous,
    /// `time.NAME`: the moment lies in the window.
    Time(Time),
    /// A claim that is a truth value; unknown when it is absent or anything else.
    Claim(ClaimPath),
}

/// A text of the request that may be absent; then what reads it is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// `principal`: whom the credential stands for, such as `key:k7Qx2mP9aB3c`.
    Principal,
    /// `kind` of credential: `api-key`, `certificate` or `token`.
    Kind,
    /// `issuer` of the token, as the policy names it.
    Issuer,
    /// `application` that calls.
    Application,
    /// `owner` of the API key.
    Owner,
    /// `spiffe`: the SPIFFE id of the connection's client certificate.
    Spiffe,
    /// `region` of the address: two capital letters.
    Region,
    /// `method`; always there.
    Method,
    /// `host`; always there, lower-case.
    Host,
    /// `path` in its canonical form; always there, begins with `/`.
    Path,
    /// `param.NAME`: what `{NAME}` in the route's pattern stands for.
    Param(Arc<str>),
    /// `query.NAME`; unknown when it stands there more than once.
    Query(Arc<str>),
    /// `header.NAME`; unknown when it stands there more than once, or is not visible ASCII.
    Header(HeaderName),
    /// `claims.PATH`, read as a text; unknown when it is of another type.
    Claim(ClaimPath),
}

/// A text: of the policy or of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// Written in the policy.
    Literal(Arc<str>),
    /// Read from the request.
    Attribute(Attribute),
}

/// A set of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Texts {
    /// Written in the policy: at least one, in the order written.
    Literals(Box<[Arc<str>]>),
    /// The scopes of the key or the token; none for any other caller, never unknown.
    Scopes,
    /// A claim that is a list of texts; unknown when it is absent or anything else.
    Claim(ClaimPath),
}

/// A whole number of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Numeric {
    /// `incident`: 0 to 5, never unknown.
    Incident,
    /// A claim that is a whole number; unknown when it is absent or anything else.
    Claim(ClaimPath),
}

/// A whole number: of the policy or of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Number {
    /// Written in the policy.
    Literal(i64),
    /// Read from the request.
    Numeric(Numeric),
}

/// A set of whole numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Written in the policy: at least one, in the order written.
    Literals(Box<[i64]>),
    /// A claim that is a list of whole numbers; unknown when it is absent or anything else.
    Claim(ClaimPath),
}

/// How two whole numbers relate; `!=` is [`Expr::Not`] of [`Self::Equal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

/// `net.NAME` of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// As the policy names it.
    pub name: Arc<str>,
    /// The addresses.
    pub networks: Arc<Networks>,
}

/// `time.NAME` of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Time {
    /// As the policy names it.
    pub name: Arc<str>,
    /// When it holds.
    pub window: Arc<Window>,
}

/// A role of the policy, and its place in every [`crate::RoleSet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The role that a caller needs, or one that includes it.
    pub role: Role,
    /// Its place.
    pub index: RoleIndex,
}

/// The names that lead to a claim through nested objects; at least one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimPath(pub(crate) Arc<[Arc<str>]>);
