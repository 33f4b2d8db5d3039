//! What rules and plans say, as formulas.
//!
//! These are the sentences of `enforcer_authz::decide`: a rule that denies holds unless its condition
//! is false, a rule that allows holds when its condition is true, and without a caller only a public
//! route answers. That they agree with it is held by tests, and every sample is decided by it again
//! before it is shown.

use enforcer_authz::{Attribute, Comparison, Flag, Number, Numeric, Plan, Rule, Test};

use super::formula::Formula;
use crate::Policy;
use crate::parse::{Require, Requires, Route};

/// That `rule` holds, as far as that can be told.
pub(crate) fn rule(rule: &Rule) -> Formula<'_> {
    Formula::All(vec![reach(rule), when(rule)])
}

/// That method and role are those of `rule`.
pub(crate) fn reach(rule: &Rule) -> Formula<'_> {
    let role = match rule.held() {
        Some(held) => Formula::Test(Test::Role(held.clone())),
        None => Formula::YES,
    };
    Formula::All(vec![methods(rule), role])
}

/// That the condition of `rule` holds.
pub(crate) fn when(rule: &Rule) -> Formula<'_> {
    rule.when().map_or(Formula::YES, |when| Formula::Condition(when.expr()))
}

fn methods(rule: &Rule) -> Formula<'_> {
    if rule.methods().is_any() {
        return Formula::YES;
    }
    let methods = rule.methods().iter();
    Formula::Any(methods.map(|method| Formula::is(Attribute::Method, method.as_str())).collect())
}

/// That a rule of `plan` denies, or cannot be ruled out.
pub(crate) fn denied(plan: &Plan) -> Formula<'_> {
    Formula::Any(plan.deny().iter().map(|denying| rule(denying).maybe()).collect())
}

/// That `plan` allows.
pub(crate) fn allowed(plan: &Plan) -> Formula<'_> {
    let allow = if plan.is_public() {
        Formula::YES
    } else {
        Formula::Any(plan.allow().iter().map(|allowing| rule(allowing).surely()).collect())
    };
    Formula::All(vec![denied(plan).negated(), allow])
}

/// That a request can come as far as the rules of `route`: somebody is there who has proven enough.
pub(crate) fn admitted<'a>(policy: &Policy, route: &Route) -> Formula<'a> {
    let mut parts = Vec::new();
    if !route.authz.is_public() {
        parts.push(Formula::flag(Flag::Anonymous).negated());
    }
    let always = policy.incident(0).require(route);
    parts.push(met(always));
    for level in 1..=5 {
        let wanted = policy.incident(level).require(route);
        if wanted != always {
            let here = Formula::Test(Test::Compare(
                Numeric::Incident,
                Comparison::Equal,
                Number::Literal(level.into()),
            ));
            parts.push(Formula::Any(vec![here.negated(), met(wanted)]));
        }
    }
    Formula::All(parts)
}

/// That the caller has proven all of `requires`.
fn met<'a>(requires: Requires) -> Formula<'a> {
    let token = || Formula::is(Attribute::Kind, "token").surely();
    let parts = requires.iter().map(|require| match require {
        Require::Bound => Formula::All(vec![
            token(),
            Formula::Any(vec![Formula::flag(Flag::Dpop), Formula::flag(Flag::Mtls)]),
        ]),
        Require::Dpop => Formula::flag(Flag::Dpop),
        Require::Key => Formula::is(Attribute::Kind, "api-key").surely(),
        Require::Mtls => Formula::flag(Flag::Mtls),
        Require::Token => token(),
    });
    Formula::All(parts.collect())
}

/// That `route` answers a request that leads to it.
pub(crate) fn answered<'a>(policy: &Policy, route: &'a Route) -> Formula<'a> {
    Formula::All(vec![admitted(policy, route), allowed(&route.authz)])
}
