//! What a route demands of its callers.
//!
//! A caller may who is allowed by one rule and denied by none. A public route allows everybody, and may
//! still deny.

use std::sync::Arc;

use enforcer_model::Role;

use crate::methods::Asked;
use crate::{Attribute, Condition, Facts, Held, Methods, Roles, Tri, UnknownRole};

/// Who may use a route. Without any rule that is nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    is_public: bool,
    allow: Box<[Rule]>,
    deny: Box<[Rule]>,
}

/// One `[[route.allow]]` or `[[route.deny]]`: these methods, for who has this role, when this holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    methods: Methods,
    role: Option<Held>,
    when: Option<Condition>,
    name: Arc<str>,
}

/// A part of a rule, in the order in which they are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// `method`.
    Method,
    /// `role`.
    Role,
    /// `when`.
    When,
}

/// How a rule takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// Every part holds.
    Whole,
    /// This part does not, and those before it do.
    Fails(Part),
    /// Whether `when` holds cannot be told; everything else does.
    Unknown,
}

impl Plan {
    /// Anybody may, without a credential.
    pub fn public() -> Self {
        Self { is_public: true, ..Self::default() }
    }

    /// A caller may whom at least one of `allow` allows; with no rules nobody may.
    pub fn rules(allow: Vec<Rule>) -> Self {
        Self { allow: allow.into(), ..Self::default() }
    }

    /// The same, but not for whom one of `deny` denies, or may deny.
    #[must_use]
    pub fn denying(self, deny: Vec<Rule>) -> Self {
        Self { deny: deny.into(), ..self }
    }

    /// Whether no caller is needed.
    pub const fn is_public(&self) -> bool {
        self.is_public
    }

    /// What allows, in the order of the policy; none for a public plan.
    pub const fn allow(&self) -> &[Rule] {
        &self.allow
    }

    /// What denies, in the order of the policy.
    pub const fn deny(&self) -> &[Rule] {
        &self.deny
    }
}

impl Rule {
    /// The rule `name` (such as `orders.allow[1]`): `methods`, for `role` and all that include it, as
    /// long as `when` holds. What is not given is not asked for.
    pub fn new(
        name: &str,
        methods: Methods,
        role: Option<&Role>,
        when: Option<Condition>,
        roles: &Roles,
    ) -> Result<Self, UnknownRole> {
        let held = |role: &Role| {
            let index = roles.index(role.as_str()).ok_or_else(|| UnknownRole(role.clone()))?;
            Ok(Held { role: role.clone(), index })
        };
        Ok(Self { methods, role: role.map(held).transpose()?, when, name: name.into() })
    }

    /// As named in decisions, records and `explain`.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The methods it is about.
    pub const fn methods(&self) -> &Methods {
        &self.methods
    }

    /// The role as the policy wrote it.
    pub fn role(&self) -> Option<&Role> {
        self.role.as_ref().map(|held| &held.role)
    }

    /// That role with its place in every set of roles.
    pub const fn held(&self) -> Option<&Held> {
        self.role.as_ref()
    }

    /// The condition.
    pub const fn when(&self) -> Option<&Condition> {
        self.when.as_ref()
    }

    #[inline]
    pub(crate) fn take(&self, asked: Asked<'_>, facts: &Facts<'_>) -> Match {
        if !self.methods.has(asked) {
            return Match::Fails(Part::Method);
        }
        if !self.is_held(facts) {
            return Match::Fails(Part::Role);
        }
        match self.when.as_ref().map_or(Tri::True, |when| when.holds(facts)) {
            Tri::True => Match::Whole,
            Tri::False => Match::Fails(Part::When),
            Tri::Unknown => Match::Unknown,
        }
    }

    /// What keeps the condition from being told.
    #[cold]
    pub(crate) fn unknown(&self, facts: &Facts<'_>) -> Option<Attribute> {
        self.when.as_ref()?.expr().unknown(facts)
    }

    #[inline]
    pub(crate) fn is_held(&self, facts: &Facts<'_>) -> bool {
        match (&self.role, &facts.caller) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(held), Some(caller)) => caller.roles.contains(held.index),
        }
    }
}

impl Part {
    /// As appended to the name of a rule.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Role => "role",
            Self::When => "when",
        }
    }
}
