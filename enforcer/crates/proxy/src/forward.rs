//! From the request that was understood to the one that the upstream sees, and back.

use bytes::Bytes;
use enforcer_authn::{Assertions, Identity, Statement};
use enforcer_authz::{Permit, RoleSet};
use enforcer_inspect::{self as inspect, Chain, Head, Path};
use enforcer_model::{Reason, Rejection, RequestId, Role, Timestamp};
use enforcer_policy::{Policy, Route};
use enforcer_upstream::{Affinity, Answer, Balance, Failure, HashKey, Plan, Pools};
use http::header::{HeaderName, LOCATION, TE, TRAILER};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};

use crate::admission::Admitted;
use crate::body::{ClientBody, Notes};
use crate::endpoints::Endpoints;
use crate::entry::Origin;
use crate::problem::{X_REQUEST_ID, request_id};
use crate::scene::{Scene, authorise};

/// What we say to an upstream about who is calling; no client can say it.
const ENFORCER_IDENTITY: HeaderName = HeaderName::from_static("enforcer-identity");

/// The names that a message announced for its trailers, and whether it takes any.
struct Trailers {
    names: Vec<HeaderName>,
    wanted: bool,
}

/// A request that was permitted, on its way to its upstream.
pub(crate) struct Onward<'a> {
    pub(crate) head: &'a Head,
    /// What the upstream is asked for instead of the head's path.
    pub(crate) path: Option<&'a Path>,
    pub(crate) route: &'a Route,
    pub(crate) origin: &'a Origin,
    pub(crate) id: RequestId,
}

impl Onward<'_> {
    /// The word of ours about who is calling, for the upstream of the route.
    pub(crate) fn vouch(
        &self,
        assertions: &Assertions,
        caller: Option<(&Identity, RoleSet)>,
        scene: &Scene<'_, '_>,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<HeaderValue> {
        if !self.route.identity {
            return None;
        }
        let roles: Vec<&str> = caller
            .iter()
            .flat_map(|(_, roles)| policy.roles().named(*roles))
            .map(Role::as_str)
            .collect();
        let statement = Statement {
            audience: &self.route.upstream.name,
            caller: caller.map(|(identity, _)| identity),
            roles: &roles,
            method: self.head.method.as_str(),
            host: self.head.host.as_str(),
            path: self.path.unwrap_or(&self.head.path).as_str(),
            request: self.id,
            region: scene.region,
        };
        HeaderValue::try_from(assertions.sign(&statement, now)).ok()
    }

    /// The request as the upstream sees it: one meaning, and no claim of the client about itself.
    pub(crate) fn request(
        &self,
        sent: Uri,
        headers: HeaderMap,
        body: ClientBody,
        accepted: bool,
        word: Option<HeaderValue>,
    ) -> Result<Request<ClientBody>, Rejection> {
        let Self { head, path, .. } = self;
        let mut headers = self.headers(headers, accepted);
        if let Some(word) = word {
            headers.insert(ENFORCER_IDENTITY, word);
        }

        let path = path.unwrap_or(&head.path).as_str();
        let query = head.query.as_deref();
        // Most clients ask in canonical form already.
        let as_sent = sent.authority().is_none() && sent.path() == path && sent.query() == query;
        let target = match query {
            _ if as_sent => sent,
            Some(query) => target(format!("{path}?{query}"))?,
            None => target(path.to_owned())?,
        };
        let mut request = Request::new(body);
        request.method_mut().clone_from(&head.method);
        *request.uri_mut() = target;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// The fields of the request as the upstream sees them, but for our word about the caller.
    pub(crate) fn headers(&self, mut headers: HeaderMap, accepted: bool) -> HeaderMap {
        let Self { head, route, origin, id, .. } = self;
        let trailers = Trailers::of(&headers);
        inspect::strip(&mut headers);
        if accepted && !route.forward_credential {
            inspect::strip_credential(&mut headers);
        }
        let Origin { source, hops, forwarded_by, .. } = origin;
        let chain = Chain { source: *source, hops, by: *forwarded_by };
        inspect::forwarding_headers(&mut headers, chain, &head.host, origin.tls.is_some(), *id);
        trailers.keep(&mut headers);
        headers
    }
}

fn target(text: String) -> Result<Uri, Rejection> {
    Uri::try_from(text).map_err(|error| Reason::Internal.because(error))
}

/// The path that the upstream is asked for instead, if the route says so. It is a request of its
/// own: the route that it belongs to, if there is one, must allow it to the same caller.
pub(crate) fn rewritten(
    head: &Head,
    scene: &Scene<'_, '_>,
    caller: Option<(&Identity, RoleSet)>,
    policy: &Policy,
    endpoints: &Endpoints,
) -> Result<Option<Path>, Rejection> {
    let Some(rewrite) = &scene.route.rewrite else { return Ok(None) };
    let path = head.path.rewritten(rewrite)?;
    if let Some(other) = policy.route_for(head.host.as_str(), path.as_str())
        && other.route.number != scene.route.number
    {
        authorise(&scene.on(&other, policy, endpoints)?, caller, policy)?;
    }
    Ok(Some(path))
}

/// What the request has in common with those that go to the same host, where the upstream is asked
/// by that. A caller that nobody knows and a header that is not there leave the address.
pub(crate) fn affinity(
    plan: &Plan,
    caller: Option<&Identity>,
    head: &Head,
    headers: &HeaderMap,
    origin: &Origin,
) -> Affinity {
    let Balance::Hash(key) = &plan.balance else { return Affinity::NONE };
    let address = || Affinity::of(origin.source.to_string().as_bytes());
    match key {
        HashKey::Header(name) => {
            headers.get(name).map_or_else(address, |value| Affinity::of(value.as_bytes()))
        }
        HashKey::Ip => address(),
        HashKey::Path => Affinity::of(head.path.as_str().as_bytes()),
        HashKey::Principal => caller
            .map_or_else(address, |caller| Affinity::of(caller.principal().to_string().as_bytes())),
    }
}

/// Sends what was permitted and admitted; nothing else can be.
pub(crate) async fn forward(
    request: Request<ClientBody>,
    affinity: Affinity,
    plan: &Plan,
    _permit: &Permit<'_>,
    _admitted: &Admitted,
    pools: &Pools<ClientBody>,
) -> Result<Answer<ClientBody>, Failure> {
    pools.forward(request, affinity, plan).await
}

/// Says of a request that it was permitted and admitted, for one of ours that asks the same.
#[derive(Debug)]
pub(crate) struct Allowed(());

impl Allowed {
    pub(crate) const fn by(_permit: &Permit<'_>, _admitted: &Admitted) -> Self {
        Self(())
    }
}

/// Sends what asks the same as a request that was permitted and admitted.
pub(crate) async fn forward_again(
    request: Request<ClientBody>,
    plan: &Plan,
    _allowed: Allowed,
    pools: &Pools<ClientBody>,
) -> Result<Answer<ClientBody>, Failure> {
    pools.forward(request, Affinity::NONE, plan).await
}

/// Why there is no answer: a client's body that broke off is the client's doing.
pub(crate) fn blame(failure: Failure, request: &Notes) -> Rejection {
    match request.fault() {
        Some(fault) => fault.into(),
        None => failure.into(),
    }
}

/// The head of an answer as the client sees it, without what tells of the upstream's software.
pub(crate) fn tidy<B>(response: Response<B>, id: RequestId) -> Response<B> {
    let (mut parts, body) = response.into_parts();
    let trailers = Trailers::of(&parts.headers);
    inspect::strip_response(&mut parts.headers);
    trailers.keep(&mut parts.headers);
    name(&mut parts.headers, id);
    // A reason phrase of the upstream's own would be among them.
    parts.extensions.clear();
    parts.version = Version::HTTP_11;
    Response::from_parts(parts, body)
}

/// What is said to whoever asks about the server as a whole, by `OPTIONS *`: that it is there. No
/// upstream hears of it.
pub(crate) fn about_the_server(id: RequestId) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    name(response.headers_mut(), id);
    response
}

/// The same place by `https`, on `port`.
pub(crate) fn redirect(
    head: &Head,
    port: u16,
    id: RequestId,
) -> Result<Response<Bytes>, Rejection> {
    let (host, target) = (&head.host, head.target());
    let location = match port {
        443 => format!("https://{host}{target}"),
        port => format!("https://{host}:{port}{target}"),
    };
    let location =
        HeaderValue::try_from(location).map_err(|error| Reason::Internal.because(error))?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    name(response.headers_mut(), id);
    Ok(response)
}

/// Has the answer name the request that it is for.
pub(crate) fn name(headers: &mut HeaderMap, id: RequestId) {
    if let Some(id) = request_id(id) {
        headers.insert(X_REQUEST_ID, id);
    }
}

impl Trailers {
    fn of(headers: &HeaderMap) -> Self {
        Self {
            names: list(headers, &TRAILER).filter_map(harmless).collect(),
            wanted: list(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers")),
        }
    }

    /// Puts back what was stripped with the fields of the connection.
    fn keep(&self, headers: &mut HeaderMap) {
        for name in &self.names {
            headers.append(TRAILER, name.clone().into());
        }
        if self.wanted {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
}

fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// A name that would also pass among the headers.
fn harmless(token: &str) -> Option<HeaderName> {
    let name = HeaderName::try_from(token).ok()?;
    let mut alone = HeaderMap::new();
    alone.insert(name.clone(), HeaderValue::from_static(""));
    inspect::strip(&mut alone);
    (!alone.is_empty()).then_some(name)
}
