//! What a decision may look at, gathered once for each request.

use std::borrow::Cow;
use std::sync::Arc;

use enforcer_authn::{Binding, Identity, Proof};
use enforcer_authz::{Caller, Facts, Permit, RoleSet, decide};
use enforcer_inspect::Head;
use enforcer_limits::Payer;
use enforcer_model::{Reason, Rejection, Timestamp};
use enforcer_policy::{Matched, Policy, Require, Requires, Route, Shown};
use http::HeaderMap;

use crate::endpoints::{Endpoints, Stricter};
use crate::entry::Origin;
use crate::under_way::InFlight;

/// A request as its route sees it, before anybody is asked who they are.
///
/// The route is the policy's (`'p`) and outlives what is borrowed from the request (`'a`).
pub(crate) struct Scene<'p, 'a> {
    pub(crate) route: &'p Arc<Route>,
    pub(crate) origin: &'a Origin,
    /// Where the route or a limit reads it.
    pub(crate) region: Option<&'a str>,
    /// The same where a rule of detection does.
    pub(crate) observed_region: Option<&'a str>,
    pub(crate) incident: u8,
    /// What operators and rules ask beyond the policy.
    pub(crate) stricter: Stricter,
    head: &'a Head,
    headers: &'a HeaderMap,
    path: &'a str,
    params: Vec<(&'a str, Cow<'a, str>)>,
    query: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    now: Timestamp,
}

/// Who is calling, with what the policy makes of it, while the request is under way.
pub(crate) struct Known {
    pub(crate) in_flight: InFlight,
    pub(crate) roles: RoleSet,
}

/// The route, or the incident, asks for more than was shown.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is required here, and was not shown", .0.as_str())]
struct TooWeak(Require);

/// A route of its own wants a caller.
#[derive(Debug, thiserror::Error)]
#[error("no credential in the request")]
pub(crate) struct NoCredential;

impl<'p, 'a> Scene<'p, 'a> {
    /// Refuses a query that the route's conditions could read two ways.
    pub(crate) fn new(
        matched: &'a Matched<'p>,
        head: &'a Head,
        headers: &'a HeaderMap,
        origin: &'a Origin,
        policy: &'a Policy,
        incident: u8,
        now: Timestamp,
    ) -> Result<Self, Rejection> {
        let route = matched.route;
        let query = route.query(head.query.as_deref())?;
        let region_where = |read: bool| {
            let known = read.then(|| policy.region_of(origin.source.address()));
            known.flatten()
        };
        let region = region_where(route.reads_region);
        let observed_region = region.or_else(|| region_where(policy.detection().reads_region));
        let (params, path) = (matched.params(), &*matched.path);
        let stricter = Stricter::default();
        Ok(Self {
            route,
            origin,
            region,
            observed_region,
            incident,
            stricter,
            head,
            headers,
            path,
            params,
            query,
            now,
        })
    }

    /// Taken as strictly as `endpoints` say beyond the policy.
    pub(crate) fn under(mut self, endpoints: &Endpoints) -> Self {
        self.stricter = endpoints.stricter(&self.route.name, self.now);
        self
    }

    /// What callers must show.
    fn required(&self, policy: &Policy) -> Requires {
        policy.incident(self.incident).require(self.route).and(self.stricter.require)
    }

    /// The same request, as the route of a path that is written anew sees it.
    pub(crate) fn on<'b>(
        &'b self,
        matched: &'b Matched<'b>,
        policy: &'b Policy,
        endpoints: &Endpoints,
    ) -> Result<Scene<'b, 'b>, Rejection> {
        let Self { head, headers, origin, incident, now, .. } = *self;
        let scene = Scene::new(matched, head, headers, origin, policy, incident, now)?;
        Ok(scene.under(endpoints))
    }

    /// As `caller` brings it; nobody was identified without one.
    pub(crate) fn facts<'b>(&'b self, caller: Option<Caller<'b>>) -> Facts<'b> {
        let certificate = self.origin.certificate.as_deref();
        Facts {
            ip: self.origin.source.address(),
            method: &self.head.method,
            host: self.head.host.as_str(),
            path: self.path,
            params: &self.params,
            query: &self.query,
            headers: self.headers,
            region: self.region,
            incident: self.incident,
            now: self.now,
            mtls: certificate.is_some(),
            spiffe: certificate.and_then(|certificate| certificate.spiffe.as_deref()),
            caller,
        }
    }

    /// Whose buckets the request draws on.
    pub(crate) fn payer<'b>(
        &'b self,
        caller: Option<&'b Identity>,
        permit: Option<&'b Permit<'_>>,
        body: Option<u64>,
    ) -> Payer<'b> {
        Payer {
            source: self.origin.source,
            principal: caller.map(Identity::principal),
            key: caller.and_then(Identity::key_id),
            application: caller.and_then(Identity::application),
            route: &self.route.name,
            role: permit.and_then(Permit::role).map(|role| role.as_str()),
            claims: caller.and_then(Identity::claims),
            region: self.region,
            body,
        }
    }

    /// Whether the route needs to know who is calling: it is not public, or asks for a proof.
    pub(crate) fn wants_caller(&self, policy: &Policy) -> bool {
        !self.route.authz.is_public() || !self.required(policy).is_empty()
    }
}

/// May they: enough was shown, the key is for this route, and the rules allow it.
pub(crate) fn authorise<'p>(
    scene: &Scene<'p, '_>,
    caller: Option<(&Identity, RoleSet)>,
    policy: &Policy,
) -> Result<Permit<'p>, Rejection> {
    let identity = caller.map(|(identity, _)| identity);
    if identity.is_none() && scene.wants_caller(policy) {
        return Err(Reason::CredentialMissing.because(NoCredential));
    }
    if let Some(unmet) =
        scene.required(policy).unmet(Shown::of(identity, scene.origin.certificate.is_some()))
    {
        return Err(Reason::AuthenticationTooWeak.because(TooWeak(unmet)));
    }
    if let Some(Proof::Key(key)) = identity.map(Identity::proof) {
        key.check_route(&scene.route.name)?;
    }
    let facts = scene.facts(caller.map(|(identity, roles)| seen(identity, roles)));
    decide(&scene.route.authz, &facts)
}

/// The roles that `identity` has under `policy`.
pub(crate) fn roles_of(identity: &Identity, policy: &Policy) -> RoleSet {
    let roles = policy.roles();
    match identity.proof() {
        Proof::Key(key) => roles.of_key(&key.roles),
        Proof::Token(token) => {
            let issuer = policy.issuers().iter().find(|plan| plan.name == token.issuer);
            issuer.map_or_else(RoleSet::default, |plan| {
                roles.of_token(&plan.name, plan.role_values(token))
            })
        }
        Proof::Certificate => {
            let spiffe = identity.certificate().and_then(|shown| shown.spiffe.as_deref());
            spiffe.map_or_else(RoleSet::default, |id| roles.of_spiffe(id))
        }
    }
}

/// `identity` as a condition sees it.
pub(crate) fn seen(identity: &Identity, roles: RoleSet) -> Caller<'_> {
    let (issuer, owner) = match identity.proof() {
        Proof::Certificate => (None, None),
        Proof::Key(key) => (None, key.owner.as_deref()),
        Proof::Token(token) => (Some(&*token.issuer), None),
    };
    Caller {
        principal: identity.principal().as_str(),
        kind: identity.kind(),
        roles,
        scopes: identity.scopes(),
        issuer,
        application: identity.application(),
        owner,
        claims: identity.claims(),
        dpop: identity.bound() == Some(Binding::Dpop),
    }
}

impl Known {
    pub(crate) fn identity(&self) -> &Identity {
        self.in_flight.caller()
    }
}
