//! Answers that are kept: what a request looks for, and what becomes of the upstream's answer.
//!
//! A request comes here after it was allowed and has paid, so nothing that is kept is ever seen by
//! somebody who may not ask for it; and under a scope that says all that the upstream is told about
//! the caller, so nothing that is kept for one caller is ever seen by another.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use enforcer_authn::{Binding, Identity, Proof};
use enforcer_authz::RoleSet;
use enforcer_cache::{
    Answer, Asked, Errand, Fields, Fill, Found, Heard, Length, Plan, Scope, Target,
};
use enforcer_inspect::{Head, is_forwarded_as_sent};
use enforcer_model::{CacheUse, Clock, Moment, Rejection, RequestId, Role};
use enforcer_policy::Policy;
use enforcer_upstream::{self as upstream, Pools};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use tokio::task::spawn_local;
use tracing::debug;

use crate::answer::{Content, keep};
use crate::body::ClientBody;
use crate::entry::{Entry, Origin};
use crate::forward::{Allowed, Onward, forward_again, name, tidy};
use crate::scene::Scene;
use crate::shared::Shared;
use crate::under_way::InFlight;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The most requests of ours that ask for a newer answer at the same time, per thread; while there
/// are as many, what is not fresh is used without one.
const REFRESHES_MAX: usize = 64;

/// A request on a route that keeps answers.
pub(crate) struct Wanted<'a> {
    pub(crate) plan: &'a Arc<Plan>,
    pub(crate) onward: &'a Onward<'a>,
    /// As the client sent it.
    pub(crate) parts: &'a Parts,
    pub(crate) caller: Option<(&'a Identity, RoleSet)>,
    pub(crate) scene: &'a Scene<'a, 'a>,
    pub(crate) policy: &'a Policy,
    pub(crate) has_body: bool,
    pub(crate) shared: &'a Shared,
}

/// Requests of ours that are under way on this thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refreshes(Rc<Cell<usize>>);

/// One of them.
#[derive(Debug)]
struct Refreshing(Refreshes);

/// What was asked for, as the cache names it.
pub(crate) fn target<'a>(head: &'a Head, origin: &Origin) -> Target<'a> {
    Target {
        secure: origin.tls.is_some(),
        host: head.host.as_str(),
        path: head.path.as_str(),
        query: head.query.as_deref(),
    }
}

impl Wanted<'_> {
    /// The answer that is kept, or what it takes to get one. May wait for another request that asks
    /// for the same, for a bounded time.
    pub(crate) async fn find(&self) -> Found {
        let Onward { head, origin, .. } = self.onward;
        let sent = &self.parts.headers;
        let onward = || self.onward.headers(sent.clone(), self.caller.is_some());
        let (scope, scope_has_credential) = self.scope();
        let asked = Asked {
            plan: self.plan,
            method: &head.method,
            target: target(head, origin),
            scope,
            scope_has_credential,
            has_body: self.has_body,
            fields: Fields { sent, is_as_sent: is_forwarded_as_sent, onward: &onward },
        };
        self.shared.cache.find(&asked, &*self.shared.clock).await
    }

    /// The same request as one of ours, with a name and a record of its own.
    pub(crate) fn again(
        &self,
        errand: Errand,
        allowed: Allowed,
        entry: Entry,
        id: RequestId,
        now: Moment,
    ) -> Result<Refresh, Rejection> {
        let Self { parts, caller, scene, policy, shared, .. } = *self;
        let onward = Onward { id, ..*self.onward };
        let word = onward.vouch(&shared.assertions, caller, scene, policy, now.wall);
        let body = ClientBody::none(policy.timeouts().body_rate);
        let (sent, headers) = (parts.uri.clone(), parts.headers.clone());
        let request = onward.request(sent, headers, body, caller.is_some(), word)?;
        let plan = Arc::clone(&onward.route.upstream);
        let clock = Arc::clone(&shared.clock);
        Ok(Refresh { errand, request, plan, allowed, entry, clock, id })
    }

    /// Everything that the upstream is told about the caller, and whether that has the credential.
    fn scope(&self) -> (Scope, bool) {
        let route = self.onward.route;
        let region = self.scene.region.unwrap_or_default().as_bytes();
        let Some((identity, roles)) = self.caller else {
            // Of nobody the upstream is told the region, if anything.
            let is_told = route.identity && !region.is_empty();
            let scope = if is_told { Scope::only([b"nobody", region]) } else { Scope::Everyone };
            return (scope, false);
        };
        let mut parts: Vec<&[u8]> = Vec::with_capacity(16);
        parts.extend([identity.principal().as_str().as_bytes(), region]);
        let (proof, issuer) = match identity.proof() {
            Proof::Certificate => ("certificate", ""),
            Proof::Key(_) => ("key", ""),
            Proof::Token(token) => ("token", &*token.issuer),
        };
        let bound = match identity.bound() {
            None => "",
            Some(Binding::Certificate) => "mtls",
            Some(Binding::Dpop) => "dpop",
        };
        let application = identity.application().unwrap_or_default();
        parts.extend([proof, issuer, bound, application].map(str::as_bytes));
        parts.push(b"scopes");
        parts.extend(identity.scopes().iter().map(|scope| scope.as_bytes()));
        parts.push(b"roles");
        parts.extend(self.policy.roles().named(roles).map(Role::as_str).map(str::as_bytes));
        if route.forward_credential {
            parts.push(b"credential");
            for name in [AUTHORIZATION, X_API_KEY] {
                parts.extend(self.parts.headers.get_all(name).iter().map(HeaderValue::as_bytes));
            }
        }
        (Scope::only(parts), route.forward_credential)
    }
}

/// The answer that was kept, as the client gets it.
pub(crate) fn given(
    answer: Answer,
    id: RequestId,
    entry: &mut Entry,
    in_flight: Option<InFlight>,
) -> Response<Content> {
    entry.cache(answer.used);
    let mut response = answer.response;
    name(response.headers_mut(), id);
    response.map(|body| Content::Kept { body, in_flight })
}

/// The client wants nothing but what is kept, and nothing is (RFC 9111, 5.2.1.7).
pub(crate) fn nothing_kept(id: RequestId, entry: &mut Entry) -> Response<Content> {
    entry.cache(CacheUse::Miss);
    let mut response = Response::new(Content::Whole(Bytes::new()));
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    name(headers, id);
    response
}

/// How the end of an answer's body is known, from its head as received.
pub(crate) fn length<B: http_body::Body>(answer: &Response<B>) -> Length {
    let headers = answer.headers();
    let is_told = answer.version() > Version::HTTP_11
        || headers.contains_key(CONTENT_LENGTH)
        || headers.contains_key(TRANSFER_ENCODING)
        || answer.body().is_end_stream();
    if is_told { Length::Told } else { Length::UntilClosed }
}

/// What becomes of an answer of the upstream's, the head of which is tidied.
pub(crate) enum Outcome<B> {
    /// It goes to the client, and comes to be kept if there is something to keep it.
    Goes(Response<B>, Option<Box<Fill>>),
    /// The client gets this.
    Reused(Answer),
}

/// Has `errand` hear the answer.
pub(crate) fn heard<B>(
    errand: Errand,
    answer: Response<B>,
    length: Length,
    ends: bool,
    now: Moment,
) -> Outcome<B> {
    let (mut parts, body) = answer.into_parts();
    match errand.heard(parts.status, &mut parts.headers, length, now) {
        Heard::Reuse(reused) => Outcome::Reused(reused),
        Heard::Pass => Outcome::Goes(Response::from_parts(parts, body), None),
        Heard::Fill(mut fill) => {
            // A body that has nothing is never asked for its end.
            if ends {
                fill.complete();
            }
            Outcome::Goes(Response::from_parts(parts, body), (!ends).then_some(fill))
        }
    }
}

/// A request of ours for a newer answer, while the client has an older one already.
pub(crate) struct Refresh {
    errand: Errand,
    request: Request<ClientBody>,
    plan: Arc<upstream::Plan>,
    allowed: Allowed,
    entry: Entry,
    clock: Arc<dyn Clock>,
    id: RequestId,
}

impl Refreshes {
    /// Sends it, in the background; needs a `LocalSet` around it. Dropped when too many are under
    /// way: whoever waits for it is told.
    pub(crate) fn send(&self, refresh: Refresh, pools: Rc<Pools<ClientBody>>) {
        let Some(refreshing) = self.begin() else { return };
        spawn_local(async move {
            refresh.run(&pools).await;
            drop(refreshing);
        });
    }

    fn begin(&self) -> Option<Refreshing> {
        let count = self.0.get();
        if count >= REFRESHES_MAX {
            return None;
        }
        self.0.set(count + 1);
        Some(Refreshing(self.clone()))
    }
}

impl Drop for Refreshing {
    fn drop(&mut self) {
        let count = &self.0.0;
        count.set(count.get().saturating_sub(1));
    }
}

impl Refresh {
    async fn run(self, pools: &Pools<ClientBody>) {
        let Self { mut errand, mut request, plan, allowed, mut entry, clock, id } = self;
        *request.method_mut() = Method::GET;
        errand.prepare(request.headers_mut(), clock.now());
        let answer = match forward_again(request, &plan, allowed, pools).await {
            Ok(answer) => answer,
            Err(failure) => {
                debug!(%id, %failure, "no newer answer");
                entry.upstream(failure.upstream.clone(), std::time::Duration::ZERO);
                return entry.refused(&failure.into());
            }
        };
        entry.upstream(Some(Arc::clone(&answer.upstream)), answer.waited);
        entry.status(answer.response.status());
        let length = length(&answer.response);
        let response = tidy(answer.response, id);
        let ends = http_body::Body::is_end_stream(response.body());
        let outcome = heard(errand, response, length, ends, clock.now());
        entry.cache(match &outcome {
            Outcome::Goes(..) => CacheUse::Miss,
            Outcome::Reused(answer) => answer.used,
        });
        if let Outcome::Goes(response, Some(mut fill)) = outcome {
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                let is_broken = frame.is_err();
                let is_end = http_body::Body::is_end_stream(&body);
                keep(&mut fill, Some(&frame), is_end);
                if is_broken || is_end {
                    break;
                }
            }
            fill.complete();
        }
        drop(entry.close());
    }
}
