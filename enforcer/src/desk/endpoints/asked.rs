//! What was asked for about endpoints, routes and callers, read and judged before anything changes.

use std::sync::Arc;

use enforcer_admin::call::TightenBy;
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_limits::{By, Kind, Limit};
use enforcer_model::Rate;
use enforcer_policy::{Policy, Require, Requires, Route, Serves};
use enforcer_proxy::{IncidentLevel, Measure, Scope};

use super::nearest;

pub(super) fn named(text: &str) -> Result<Scope, Refusal> {
    text.parse().map_err(|error: enforcer_proxy::ScopeError| {
        Refusal::new(RefusalKind::Usage, error.to_string()).hint(error.hint())
    })
}

/// A route must be one of the policy in force: a slip of the hand would stop nobody.
pub(super) fn known(text: &str, policy: &Policy) -> Result<Scope, Refusal> {
    let scope = named(text)?;
    if let Scope::Route(name) = &scope
        && route(name, policy).is_none()
    {
        let names = policy.routes().iter().map(|route| &*route.name);
        let hint = match nearest(name, names) {
            Some(near) => format!("did you mean `route:{near}`?"),
            None => "`enforcer policy explain` names the route of a request".to_owned(),
        };
        let message = format!("the policy has no route `{name}`");
        return Err(Refusal::new(RefusalKind::NotFound, message).hint(hint));
    }
    Ok(scope)
}

fn route<'p>(name: &str, policy: &'p Policy) -> Option<&'p Arc<Route>> {
    policy.routes().iter().find(|route| &*route.name == name)
}

pub(super) fn refuse_callers(scope: &Scope, what: &str) -> Result<(), Refusal> {
    match scope {
        Scope::Endpoint(_) | Scope::Route(_) => Ok(()),
        Scope::Caller(_) | Scope::Source(_) => {
            let message = format!("`{scope}` is nobody's endpoint and cannot be {what}");
            Err(Refusal::new(RefusalKind::Usage, message).hint(
                "`enforcer endpoint shrink` makes a caller's limits smaller, `enforcer quarantine` \
                 shuts it out",
            ))
        }
    }
}

/// To shrink what is not there would look like a measure and be none.
pub(super) fn refuse_unlimited(scope: &Scope, policy: &Policy) -> Result<(), Refusal> {
    let is_rate = |limit: &Limit| matches!(limit.kind(), Kind::Rate { .. });
    let some = match scope {
        Scope::Endpoint(_) => {
            let message = format!("`{scope}` is an endpoint, and limits are those of routes");
            return Err(Refusal::new(RefusalKind::Usage, message)
                .hint("name the route, as `route:NAME`, or tighten the endpoint to a rate"));
        }
        Scope::Route(name) => route(name, policy)
            .is_some_and(|route| route.limits.iter().any(|charged| is_rate(&charged.limit))),
        Scope::Caller(_) | Scope::Source(_) => {
            policy.limits().iter().any(|charged| is_rate(&charged.limit))
        }
    };
    if some {
        return Ok(());
    }
    let message = format!("`{scope}` is counted by no rate that could shrink");
    Err(Refusal::new(RefusalKind::Usage, message)
        .hint("give its routes a `[limit]` with a rate, or say `enforcer endpoint tighten`"))
}

/// What is stronger than what the route asks for now: what the policy says of the next higher level of
/// an incident that asks for more, else a client certificate where every listener takes them.
pub(super) fn stronger(scope: &Scope, policy: &Policy) -> Result<Vec<String>, Refusal> {
    let Scope::Route(name) = scope else { return Err(no_route(scope)) };
    let Some(route) = route(name, policy) else { return Err(no_route(scope)) };
    let levels = (1..=IncidentLevel::MAX).map(|level| policy.incident(level).require(route));
    let more = |asked: Requires| -> Vec<String> {
        let new = asked.iter().filter(|one| !route.require.iter().any(|known| known == *one));
        new.map(|one| one.as_str().to_owned()).collect()
    };
    if let Some(more) = levels.map(more).find(|more| !more.is_empty()) {
        return Ok(more);
    }
    let mtls = Require::Mtls.as_str().to_owned();
    let asks_already = route.require.iter().any(|one| one == Require::Mtls);
    if !asks_already && takes_certificates(policy) {
        return Ok(vec![mtls]);
    }
    let message = format!("the policy does not say what is stronger for route `{name}`");
    Err(Refusal::new(RefusalKind::NotFound, message)
        .hint("say it under `[incident.1.require]`, or let a listener take client certificates"))
}

/// What nobody could show would be a way to disable the route that is not called so.
pub(super) fn refuse_impossible(
    scope: &Scope,
    what: &[String],
    measure: &Measure,
    policy: &Policy,
) -> Result<(), Refusal> {
    let Scope::Route(name) = scope else { return Err(no_route(scope)) };
    let Some(route) = route(name, policy) else { return Err(no_route(scope)) };
    let Measure::Require(asked) = measure else { return Ok(()) };
    let refused = |why: String| {
        Err(Refusal::new(RefusalKind::Guarded, why)
            .hint("`enforcer endpoint disable` says so where nobody is to get through"))
    };
    if route.require.and(*asked).is_impossible() {
        return refused(format!("no credential is {} as route `{name}` asks", what.join(" and ")));
    }
    if asked.iter().any(|one| one == Require::Mtls) && !takes_certificates(policy) {
        return refused(
            "a listener takes no client certificates: nobody could show one".to_owned(),
        );
    }
    let is_public = route.authz.is_public();
    if is_public && asked.iter().any(Require::needs_caller) {
        return refused(format!("route `{name}` is public, so nobody can show a credential"));
    }
    Ok(())
}

/// Whether some listener asks clients for certificates.
fn takes_certificates(policy: &Policy) -> bool {
    policy.listeners().iter().any(|listener| match &listener.serves {
        Serves::Tls(tls) => tls.clients.is_some(),
        Serves::Plain | Serves::Redirect { .. } => false,
    })
}

fn no_route(scope: &Scope) -> Refusal {
    Refusal::new(RefusalKind::Usage, format!("`{scope}` is no route"))
        .hint("what callers must show is asked by routes: name one, as `route:NAME`")
}

pub(super) fn requiring(what: &[String]) -> Result<Measure, Refusal> {
    Measure::require(what).ok_or_else(|| {
        let message = format!("`{}` is nothing that a caller can show", what.join(", "));
        Refusal::new(RefusalKind::Usage, message).hint("`mtls`, `dpop`, `bound`, `token` or `key`")
    })
}

pub(super) fn shrinking(percent: u8) -> Result<Measure, Refusal> {
    Measure::shrink(percent).ok_or_else(|| {
        Refusal::new(RefusalKind::Usage, format!("{percent} % is no smaller share"))
            .hint("1 to 99; `enforcer endpoint disable` leaves nothing")
    })
}

pub(super) fn refusing(status: u16) -> Result<Measure, Refusal> {
    Measure::disable(status).ok_or_else(|| {
        let message = format!("{status} is not a status that turns a client away");
        Refusal::new(RefusalKind::Usage, message)
            .hint("such as 503 (come back), 410 (gone), 403 or 404")
    })
}

pub(super) fn numbers(rate: &str, burst: Option<u32>) -> Result<(Kind, u32), Refusal> {
    let usage = |message: String| Refusal::new(RefusalKind::Usage, message);
    let rate: Rate =
        rate.parse().map_err(|error: enforcer_model::UnitError| usage(error.to_string()))?;
    let burst = burst.unwrap_or(rate.count());
    let most = std::num::NonZeroU32::new(burst);
    let most = most.ok_or_else(|| usage("a burst of nothing admits nobody".to_owned()))?;
    Ok((Kind::Rate { rate, burst: most }, burst))
}

/// Named as no limit of a policy can be, so that they never share a bucket.
pub(super) fn limit(id: &str, whose: TightenBy, kind: Kind) -> Measure {
    let by = match whose {
        TightenBy::Ip => By::Ip,
        TightenBy::Principal => By::Principal,
    };
    Measure::Tighten(Limit::new(format!("endpoint {id}"), by, kind))
}
