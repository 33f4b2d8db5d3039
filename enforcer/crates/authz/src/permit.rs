//! The decision, and the proof that it was made.

use std::sync::Arc;

use enforcer_model::{Reason, Rejection, Role};
use http::Method;

use crate::plan::Kind;
use crate::{Plan, Rule};

/// Proof that a rule allowed a request; only [`permit`] makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    rule: Arc<str>,
    role: Option<Role>,
}

/// Why nothing allowed the request, for the audit record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// The route has no rule for the method.
    #[error("no allow rule for this method")]
    Method,
    /// Rules for the method exist; the caller has none of their roles.
    #[error("no role of the caller satisfies `{role}` of {rule}")]
    Role {
        /// The first rule for the method.
        rule: Arc<str>,
        /// The role it wants.
        role: Role,
    },
}

/// Whether a caller with `roles` may use `method` under `plan`; what no rule allows is refused.
pub fn permit(roles: &[Role], method: &Method, plan: &Plan) -> Result<Permit, Rejection> {
    let rules = match &plan.0 {
        Kind::Public => return Ok(Permit { rule: "public".into(), role: None }),
        Kind::Rules(rules) => rules,
    };

    let mut refused = NotAllowed::Method;
    for rule in rules.iter().filter(|rule| rule.methods().contains(method)) {
        if let Some(role) = satisfying(roles, rule) {
            return Ok(Permit { rule: Arc::clone(rule.name()), role: Some(role.clone()) });
        }
        if refused == NotAllowed::Method {
            let (rule, role) = (Arc::clone(rule.name()), rule.role().clone());
            refused = NotAllowed::Role { rule, role };
        }
    }
    Err(Reason::NotAllowed.because(refused))
}

fn satisfying<'a>(roles: &'a [Role], rule: &Rule) -> Option<&'a Role> {
    roles.iter().find(|role| rule.satisfied_by().contains(role))
}

impl Permit {
    /// The rule that allowed it: `orders.allow[0]`, or `public`.
    pub const fn rule(&self) -> &Arc<str> {
        &self.rule
    }

    /// The caller's role that satisfied the rule; none on a public route.
    pub const fn role(&self) -> Option<&Role> {
        self.role.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::*;
    use crate::{Methods, Roles};

    #[test]
    fn a_plan_without_rules_admits_nobody() {
        let everything = [Role::new("admin"), Role::new("reader")];

        let refused = permit(&everything, &Method::GET, &Plan::rules(Vec::new())).unwrap_err();

        assert_eq!(refused.reason, Reason::NotAllowed);
        assert_eq!(refused.chain(), "no allow rule for this method");
    }

    #[test]
    fn a_public_plan_admits_a_caller_without_roles() {
        let permit = permit(&[], &Method::DELETE, &Plan::public()).unwrap();

        assert_eq!((&**permit.rule(), permit.role()), ("public", None));
    }

    #[test]
    fn the_permit_names_the_rule_and_the_role_that_satisfied_it() {
        let plan = orders();

        let read = permit(&[Role::new("writer")], &Method::GET, &plan).unwrap();
        let write = permit(&[Role::new("writer")], &Method::POST, &plan).unwrap();

        assert_eq!((&**read.rule(), read.role().unwrap().as_str()), ("orders.allow[0]", "writer"));
        assert_eq!(
            (&**write.rule(), write.role().unwrap().as_str()),
            ("orders.allow[1]", "writer")
        );
    }

    #[test]
    fn a_refusal_names_the_role_that_is_missing() {
        let refused = permit(&[Role::new("reader")], &Method::POST, &orders()).unwrap_err();

        assert_eq!(refused.chain(), "no role of the caller satisfies `writer` of orders.allow[1]");
    }

    #[test]
    fn head_is_not_implied_and_lower_case_is_another_method() {
        let get: Methods = [Method::GET].into_iter().collect();

        assert!(get.contains(&Method::GET));
        assert!(!get.contains(&Method::HEAD));
        assert!(!get.contains(&Method::from_bytes(b"get").unwrap()));
    }

    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    const METHODS: [Method; 4] = [Method::GET, Method::HEAD, Method::POST, Method::DELETE];

    proptest! {
        /// The model walks the inclusion graph at every question and looks at rules one by one.
        #[test]
        fn a_decision_equals_that_of_a_plain_model(
            // A role includes only roles with a later name, so no circle can arise.
            edges in vec((0..6usize, 0..6usize), 0..12),
            rules in vec((subsequence(METHODS.to_vec(), 0..=4), 0..6usize), 0..5),
            held in subsequence(NAMES.to_vec(), 0..=6),
            method in select(METHODS.to_vec()),
        ) {
            let edges: Vec<_> = edges.into_iter().filter(|(from, to)| from < to).collect();
            let roles = Roles::new(NAMES.iter().enumerate().map(|(n, name)| {
                let includes = edges.iter().filter(|edge| edge.0 == n);
                (Role::new(name), includes.map(|edge| Role::new(NAMES[edge.1])).collect())
            })).unwrap();
            let plan = Plan::rules(rules.iter().enumerate().map(|(n, (methods, role))| {
                let methods = methods.iter().cloned().collect();
                Rule::new(&format!("r.allow[{n}]"), methods, Role::new(NAMES[*role]), &roles).unwrap()
            }).collect());
            let caller: Vec<Role> = held.iter().map(|name| Role::new(name)).collect();

            let decided = permit(&caller, &method, &plan);

            let expected = rules.iter().position(|(methods, role)| {
                methods.contains(&method) && held.iter().any(|have| {
                    includes(NAMES.iter().position(|name| name == have).unwrap(), *role, &edges)
                })
            });
            match (decided, expected) {
                (Ok(permit), Some(n)) => {
                    prop_assert_eq!(&**permit.rule(), format!("r.allow[{n}]"));
                    prop_assert!(caller.contains(permit.role().unwrap()));
                }
                (Err(refused), None) => prop_assert_eq!(refused.reason, Reason::NotAllowed),
                (decided, expected) => prop_assert!(false, "{decided:?} but expected {expected:?}"),
            }
        }
    }

    fn includes(have: usize, wanted: usize, edges: &[(usize, usize)]) -> bool {
        have == wanted || edges.iter().any(|edge| edge.0 == have && includes(edge.1, wanted, edges))
    }

    fn orders() -> Plan {
        let (reader, writer) = (Role::new("reader"), Role::new("writer"));
        let roles =
            Roles::new([(reader.clone(), vec![]), (writer.clone(), vec![reader.clone()])]).unwrap();
        let read = [Method::GET, Method::HEAD].into_iter().collect();
        let write = [Method::POST].into_iter().collect();
        Plan::rules(vec![
            Rule::new("orders.allow[0]", read, reader, &roles).unwrap(),
            Rule::new("orders.allow[1]", write, writer, &roles).unwrap(),
        ])
    }
}
