//! What a policy answers to one request, and why.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use enforcer_authn::{Binding, RoleValues};
use enforcer_authz::{Caller, Denied, Facts, Outcome, Test, Time, Trace, Tri, trace};
use enforcer_inspect::{Head, normalise_or};
use enforcer_model::{Claims, CredentialKind, Reason, Rejection, Role, Timestamp};
use http::{HeaderName, HeaderValue, Uri, Version};

use super::caller::{self, Assumed};
use super::request::Request;
use crate::Policy;
use crate::analysis;
use crate::parse::{Charged, Matched, Route, Shown};

/// What a policy answers to a request, with everything that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The canonical host; none when the head was refused.
    pub host: Option<String>,
    /// The path as it would be forwarded; none when the head was refused.
    pub path: Option<String>,
    /// The route.
    pub route: Option<Arc<str>>,
    /// Whom the caller is taken for; none when nobody was identified.
    pub principal: Option<String>,
    /// What kind of credential it is taken for.
    pub kind: Option<CredentialKind>,
    /// The caller's roles, with all that they include.
    pub roles: Vec<Role>,
    /// Where the request comes from.
    pub address: IpAddr,
    /// The region that was believed or looked up.
    pub region: Option<String>,
    /// The incident level.
    pub incident: u8,
    /// When it arrives.
    pub at: Timestamp,
    /// What was assumed because the sentence does not say it, for people.
    pub assumed: Vec<String>,
    /// Each rule of each route that decided: a rewritten path is authorised again.
    pub traces: Vec<Trace>,
    /// The answer.
    pub verdict: Verdict,
    /// The limits that would be charged.
    pub charges: Vec<Charge>,
}

/// The answer to a request, as far as a policy alone decides it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It would be forwarded, if limits and upstream have room.
    Allowed {
        /// The rule that allowed it, or `public`.
        rule: Arc<str>,
    },
    /// It would be refused.
    Refused {
        /// For the caller.
        reason: Reason,
        /// What happened.
        cause: String,
        /// The rule that decided it, if one did.
        rule: Option<Arc<str>>,
    },
}

/// A limit that a request pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The `[limit]` entry.
    pub limit: Arc<str>,
    /// Its condition: true, or unknown, which charges as well.
    pub when: Tri,
}

/// Taken when a sentence names no address: documentation addresses (RFC 5737) are in nobody's network.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

/// No route of the policy matches.
#[derive(Debug, thiserror::Error)]
#[error("no route matches host and path")]
struct NoRoute;

/// The route wants a caller.
#[derive(Debug, thiserror::Error)]
#[error("no credential in the request")]
struct NoCredential;

/// Somebody is there and has not proven enough.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is required")]
struct TooWeak(&'static str);

/// The answer depends on what the sentence leaves out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer depends on {what}, which the request does not say")]
pub struct Ambiguous {
    /// What it depends on.
    pub what: String,
    /// What to add to the sentence.
    pub hint: String,
}

/// What `policy` answers to `request` at `now`, unless the request names its own time.
///
/// Without either, the answer must be the same at all times, or it is [`Ambiguous`].
pub fn judge(
    policy: &Policy,
    request: &Request,
    now: Option<Timestamp>,
) -> Result<Judgement, Ambiguous> {
    if let Some(at) = request.at.or(now) {
        return Ok(judge_at(policy, request, at));
    }
    let quiet = Timestamp::from_unix_seconds(QUIET_SECONDS);
    let first = judge_at(policy, request, quiet);
    let Some(route) = first
        .route
        .as_ref()
        .and_then(|name| policy.routes().iter().find(|route| route.name == *name))
    else {
        return Ok(first);
    };
    let windows = windows(policy, route);
    let windows: Vec<&Time> = windows.iter().collect();
    if windows.is_empty() {
        return Ok(first);
    }
    for (moment, _) in analysis::moments(&windows) {
        let other = judge_at(policy, request, moment);
        if other.verdict != first.verdict {
            let names: Vec<String> =
                windows.iter().map(|time| format!("time.{}", time.name)).collect();
            let hint = format!("add a time, such as `at {moment:.0}`").replace(".000000", "");
            return Err(Ambiguous { what: names.join(" and "), hint });
        }
    }
    Ok(first)
}

/// 2026-01-07T12:00Z, a Wednesday.
const QUIET_SECONDS: u64 = 1_767_787_200;

/// The windows that something read which decides on requests to `route`.
fn windows(policy: &Policy, route: &Route) -> Vec<Time> {
    let mut windows: Vec<Time> = Vec::new();
    let mut note = |route: &Route| {
        analysis::allowed(&route.authz).each_test(&mut |test| {
            if let Test::Flag(enforcer_authz::Flag::Time(time)) = test
                && !windows.iter().any(|known| known.name == time.name)
            {
                windows.push(time.clone());
            }
        });
    };
    note(route);
    if route.rewrite.is_some() {
        policy.routes().iter().for_each(|other| note(other));
    }
    windows
}

fn judge_at(policy: &Policy, request: &Request, at: Timestamp) -> Judgement {
    let address = request.address.unwrap_or(NOWHERE);
    let Assumed { caller, mut notes } = caller::of(policy, request);
    if request.address.is_none() {
        notes.push(format!("from {NOWHERE}: no address is named"));
    }
    let region = match &request.region {
        Some(region) => Some(region.clone()),
        None => policy.region_of(address).map(str::to_owned),
    };
    let mut judgement = Judgement {
        host: None,
        path: None,
        route: None,
        principal: caller.as_ref().map(|caller| caller.principal.clone()),
        kind: caller.as_ref().map(|caller| caller.kind),
        roles: Vec::new(),
        address,
        region,
        incident: request.incident,
        at,
        assumed: notes,
        traces: Vec::new(),
        verdict: Verdict::Allowed { rule: "public".into() },
        charges: Vec::new(),
    };
    if let Some(caller) = &caller {
        judgement.roles = policy.roles().named(caller.roles).cloned().collect();
    }
    if let Err(refused) = decide(policy, request, caller.as_ref(), &mut judgement) {
        judgement.verdict = Verdict::of(&refused, &judgement.traces);
    }
    judgement
}

/// Takes the request through everything that decides on it; notes on the way what becomes known.
fn decide(
    policy: &Policy,
    request: &Request,
    who: Option<&caller::Believed>,
    judgement: &mut Judgement,
) -> Result<(), Rejection> {
    let parts =
        parts(request).ok_or_else(|| Reason::PathMalformed.because("not a request target"))?;
    let head = normalise_or(&parts, |host, raw| policy.exact_route(host.as_str(), raw).is_some())?;
    judgement.host = Some(head.host.as_str().to_owned());
    judgement.path = Some(head.path.as_str().to_owned());

    let found = policy.route(&head).ok_or_else(|| Reason::NoRoute.because(NoRoute))?;
    let route = found.route;
    judgement.route = Some(Arc::clone(&route.name));
    if who.is_none() && !route.authz.is_public() {
        return Err(Reason::CredentialMissing.because(NoCredential));
    }
    let shown = Shown {
        // Whoever is known by a certificate has one on the connection.
        mtls: request.proofs.mtls
            || request.spiffe.is_some()
            || who.is_some_and(|who| who.kind == CredentialKind::Certificate),
        kind: who.map(|who| who.kind),
        bound: who.and_then(|who| who.bound),
    };
    if let Some(require) = policy.incident(request.incident).require(route).unmet(shown) {
        return Err(Reason::AuthenticationTooWeak.because(TooWeak(require.as_str())));
    }
    let claims = request.claims();
    let stage = Stage { request, head: &head, parts: &parts, who, claims: &claims, shown };
    let rule = stage.permit(&found, judgement)?;
    if let Some(rewrite) = &route.rewrite {
        let path = head.path.rewritten(rewrite)?;
        let next = policy.route_for(head.host.as_str(), path.as_str());
        if let Some(next) = next.filter(|next| next.route.number != route.number) {
            stage.permit(&next, judgement)?;
        }
    }
    judgement.verdict = Verdict::Allowed { rule };
    judgement.charges = stage.charges(&found, judgement)?;
    Ok(())
}

/// What decisions read, at hand.
struct Stage<'a> {
    request: &'a Request,
    head: &'a Head,
    parts: &'a http::request::Parts,
    who: Option<&'a caller::Believed>,
    claims: &'a Claims,
    shown: Shown,
}

impl Stage<'_> {
    /// The rule that allows it; the trace is kept either way.
    fn permit(
        &self,
        found: &Matched<'_>,
        judgement: &mut Judgement,
    ) -> Result<Arc<str>, Rejection> {
        let traced = self.with_facts(found, judgement, |facts| trace(&found.route.authz, facts))?;
        let outcome = traced.outcome.clone();
        judgement.traces.push(traced);
        match outcome {
            Outcome::Allowed { rule, .. } => Ok(rule),
            Outcome::Denied(denied) => Err(denied.into()),
        }
    }

    fn charges(
        &self,
        found: &Matched<'_>,
        judgement: &Judgement,
    ) -> Result<Vec<Charge>, Rejection> {
        self.with_facts(found, judgement, |facts| {
            let holds = |charged: &Charged| {
                charged.when.as_ref().map_or(Tri::True, |when| when.holds(facts))
            };
            let limits = found.route.limits.iter();
            limits
                .map(|charged| Charge {
                    limit: Arc::clone(charged.limit.name()),
                    when: holds(charged),
                })
                .filter(|charge| charge.when != Tri::False)
                .collect()
        })
    }

    fn with_facts<T>(
        &self,
        found: &Matched<'_>,
        judgement: &Judgement,
        then: impl FnOnce(&Facts<'_>) -> T,
    ) -> Result<T, Rejection> {
        let params = found.params();
        let query = found.route.query(self.head.query.as_deref())?;
        let spiffe = self.request.spiffe.as_deref().or_else(|| self.who?.spiffe.as_deref());
        let caller = self.who.map(|who| Caller {
            principal: &who.principal,
            kind: who.kind,
            roles: who.roles,
            scopes: &who.scopes,
            issuer: who.issuer.as_deref(),
            application: self.request.application.as_deref(),
            owner: self.request.owner.as_deref(),
            claims: (who.kind == CredentialKind::Token).then_some(self.claims),
            dpop: who.bound == Some(Binding::Dpop),
        });
        Ok(then(&Facts {
            ip: judgement.address,
            method: &self.head.method,
            host: self.head.host.as_str(),
            path: &found.path,
            params: &params,
            query: &query,
            headers: &self.parts.headers,
            region: judgement.region.as_deref(),
            incident: judgement.incident,
            now: judgement.at,
            mtls: self.shown.mtls,
            spiffe,
            caller,
        }))
    }
}

/// The head of the request, as a client would send it.
fn parts(request: &Request) -> Option<http::request::Parts> {
    let query = request.query.as_ref().map_or_else(String::new, |query| format!("?{query}"));
    let uri: Uri = format!("https://{}{}{query}", request.host, request.path).parse().ok()?;
    // What `http` would repair or cut off is not what was asked for.
    if uri.path() != request.path || uri.query() != request.query.as_deref() {
        return None;
    }
    let mut head =
        http::Request::builder().method(request.method.as_str()).uri(uri).version(Version::HTTP_2);
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        head = head.header(name, HeaderValue::from_str(value).ok()?);
    }
    Some(head.body(()).ok()?.into_parts().0)
}

impl Verdict {
    fn of(refused: &Rejection, traces: &[Trace]) -> Self {
        let denied = traces.last().and_then(|trace| match &trace.outcome {
            Outcome::Denied(denied) => Some(denied),
            Outcome::Allowed { .. } => None,
        });
        let rule = match denied {
            Some(
                Denied::NotAllowed { rule, .. }
                | Denied::Matched { rule }
                | Denied::Undecided { rule, .. },
            ) => Some(Arc::clone(rule)),
            Some(Denied::NoRule) | None => None,
        };
        Self::Refused { reason: refused.reason, cause: refused.chain(), rule }
    }

    /// Whether the request would be forwarded.
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }

    /// The status that the caller would get from us; none when the upstream answers.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Allowed { .. } => None,
            Self::Refused { reason, .. } => Some(reason.status()),
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Allowed { rule } => write!(f, "allow: {rule}"),
            Self::Refused { reason, cause, .. } => match reason.status() {
                401 | 403 => write!(f, "deny: {cause}"),
                status => write!(f, "{status}: {reason} ({cause})"),
            },
        }
    }
}

/// The role values of a token with these scopes and claims.
pub(super) fn role_values<'a>(
    values: &RoleValues,
    scopes: &'a [Arc<str>],
    claims: &'a Claims,
) -> Vec<&'a str> {
    match values {
        RoleValues::Scopes => scopes.iter().map(AsRef::as_ref).collect(),
        RoleValues::Claim(path) => {
            claims.at(path).into_iter().flat_map(enforcer_model::Value::texts).collect()
        }
    }
}
