//! What a route demands of its callers: nothing, or one of its rules.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use enforcer_model::Role;
use http::Method;

use crate::{Roles, UnknownRole};

/// Who may use a route. Without any rule that is nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan(pub(crate) Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Public,
    Rules(Box<[Rule]>),
}

/// One `[[route.allow]]`: these methods, for who has this role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    name: Arc<str>,
    methods: Methods,
    role: Role,
    satisfied_by: BTreeSet<Role>,
}

/// A set of methods, compared byte for byte (RFC 9110 section 9.1): `get` is not `GET`, and `HEAD`
/// is not implied by `GET`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Methods(Listed);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Listed {
    Any,
    These(Box<[Method]>),
}

impl Plan {
    /// Anybody may, without a credential.
    pub const fn public() -> Self {
        Self(Kind::Public)
    }

    /// A caller may whom at least one of `rules` allows; with no rules nobody may.
    pub fn rules(rules: Vec<Rule>) -> Self {
        Self(Kind::Rules(rules.into()))
    }

    /// Whether no caller is needed.
    pub const fn is_public(&self) -> bool {
        matches!(self.0, Kind::Public)
    }

    /// The rules in the order of the policy; none for a public plan.
    pub fn allow(&self) -> &[Rule] {
        match &self.0 {
            Kind::Public => &[],
            Kind::Rules(rules) => rules,
        }
    }
}

impl Rule {
    /// The rule `name` (such as `orders.allow[0]`): `methods` for `role` and all that include it.
    pub fn new(
        name: &str,
        methods: Methods,
        role: Role,
        roles: &Roles,
    ) -> Result<Self, UnknownRole> {
        let satisfied_by = roles.satisfying(&role)?.clone();
        Ok(Self { name: name.into(), methods, role, satisfied_by })
    }

    /// As named in decisions, records and `explain`.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The methods it allows.
    pub const fn methods(&self) -> &Methods {
        &self.methods
    }

    /// The role as the policy wrote it.
    pub const fn role(&self) -> &Role {
        &self.role
    }

    /// That role and every role that includes it.
    pub const fn satisfied_by(&self) -> &BTreeSet<Role> {
        &self.satisfied_by
    }
}

impl Methods {
    /// Every method.
    pub const fn any() -> Self {
        Self(Listed::Any)
    }

    /// Whether `method` is in the set.
    pub fn contains(&self, method: &Method) -> bool {
        match &self.0 {
            Listed::Any => true,
            Listed::These(methods) => methods.contains(method),
        }
    }
}

/// Exactly these; none of them means no method at all.
impl FromIterator<Method> for Methods {
    fn from_iter<I: IntoIterator<Item = Method>>(methods: I) -> Self {
        Self(Listed::These(methods.into_iter().collect()))
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Listed::Any => f.write_str("any method"),
            Listed::These(methods) => methods.iter().enumerate().try_for_each(|(n, method)| {
                let comma = if n == 0 { "" } else { ", " };
                write!(f, "{comma}{method}")
            }),
        }
    }
}
