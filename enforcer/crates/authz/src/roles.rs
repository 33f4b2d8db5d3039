//! Which roles a policy knows and which of them include which.
//!
//! `writer = { includes = ["reader"] }` means: whoever has `writer` may do what `reader` may. The
//! relation is transitive. A role that is not defined and a circle are refused here, so that
//! [`Roles::satisfying`] always ends and never guesses.

use std::collections::{BTreeMap, BTreeSet};

use enforcer_model::Role;

/// Every role of a policy with all the roles that satisfy it, closed over inclusion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    satisfying: BTreeMap<Role, BTreeSet<Role>>,
}

/// Nobody defined this role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("role `{0}` is not defined")]
pub struct UnknownRole(pub Role);

/// The definitions contradict themselves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RolesError {
    /// Two definitions of one name.
    #[error("role `{0}` is defined twice")]
    Twice(Role),
    /// `includes` names a role that is not defined.
    #[error("role `{role}` includes `{included}`, which is not defined")]
    Unknown {
        /// Whose `includes` it is.
        role: Role,
        /// The name without a definition.
        included: Role,
    },
    /// A role includes itself, directly or through others.
    #[error("role `{0}` includes itself")]
    Circle(Role),
}

impl Roles {
    /// The roles and what each of them includes; every problem at once.
    pub fn new(
        definitions: impl IntoIterator<Item = (Role, Vec<Role>)>,
    ) -> Result<Self, Vec<RolesError>> {
        let mut problems = Vec::new();
        let mut includes: BTreeMap<Role, Vec<Role>> = BTreeMap::new();
        for (role, included) in definitions {
            if includes.insert(role.clone(), included).is_some() {
                problems.push(RolesError::Twice(role));
            }
        }

        let mut satisfying: BTreeMap<Role, BTreeSet<Role>> =
            includes.keys().map(|role| (role.clone(), BTreeSet::from([role.clone()]))).collect();
        for (role, direct) in &includes {
            for included in direct.iter().filter(|included| !includes.contains_key(included)) {
                let (role, included) = (role.clone(), included.clone());
                problems.push(RolesError::Unknown { role, included });
            }
            for reached in reachable(role, &includes) {
                if reached == role {
                    problems.push(RolesError::Circle(role.clone()));
                }
                if let Some(set) = satisfying.get_mut(reached) {
                    set.insert(role.clone());
                }
            }
        }
        if problems.is_empty() { Ok(Self { satisfying }) } else { Err(problems) }
    }

    /// The roles that satisfy `role`: itself and all that include it.
    pub fn satisfying(&self, role: &Role) -> Result<&BTreeSet<Role>, UnknownRole> {
        self.satisfying.get(role).ok_or_else(|| UnknownRole(role.clone()))
    }

    /// All defined roles, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Role> {
        self.satisfying.keys()
    }
}

/// What `role` includes over any number of steps; `role` itself only through a circle.
fn reachable<'a>(role: &'a Role, includes: &'a BTreeMap<Role, Vec<Role>>) -> BTreeSet<&'a Role> {
    let direct = |role| includes.get(role).into_iter().flatten();
    let mut reached = BTreeSet::new();
    let mut ahead: Vec<&Role> = direct(role).collect();
    while let Some(next) = ahead.pop() {
        if reached.insert(next) {
            ahead.extend(direct(next));
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inclusion_reaches_over_any_number_of_steps() {
        let roles = roles(&[("admin", &["writer"]), ("writer", &["reader"]), ("reader", &[])]);

        let satisfying = |name| {
            let set = roles.as_ref().unwrap().satisfying(&Role::new(name)).unwrap();
            set.iter().map(Role::as_str).collect::<Vec<_>>()
        };
        assert_eq!(satisfying("reader"), ["admin", "reader", "writer"]);
        assert_eq!(satisfying("admin"), ["admin"]);
    }

    #[test]
    fn every_contradiction_is_reported_at_once() {
        let problems =
            roles(&[("a", &["b"]), ("b", &["a"]), ("c", &["c", "ghost"]), ("d", &[]), ("d", &[])])
                .unwrap_err();

        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "role `d` is defined twice",
                "role `a` includes itself",
                "role `b` includes itself",
                "role `c` includes `ghost`, which is not defined",
                "role `c` includes itself",
            ]
        );
    }

    #[test]
    fn an_undefined_role_satisfies_nothing() {
        let roles = roles(&[("reader", &[])]).unwrap();

        let refused = roles.satisfying(&Role::new("ghost")).unwrap_err();

        assert_eq!(refused.to_string(), "role `ghost` is not defined");
    }

    fn roles(definitions: &[(&str, &[&str])]) -> Result<Roles, Vec<RolesError>> {
        let list = |names: &[&str]| names.iter().map(|name| Role::new(name)).collect();
        Roles::new(definitions.iter().map(|(role, names)| (Role::new(role), list(names))))
    }
}
