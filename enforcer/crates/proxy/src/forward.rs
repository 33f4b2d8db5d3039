//! From the request that was understood to the one that the upstream sees, and back.

use bytes::Bytes;
use enforcer_authz::Permit;
use enforcer_inspect::{self as inspect, Head};
use enforcer_model::{Reason, Rejection, RequestId};
use enforcer_upstream::{Answer, Failure, Plan, Pools};
use http::header::{HeaderName, LOCATION, TE, TRAILER};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};

use crate::admission::Admitted;
use crate::body::{ClientBody, Notes};
use crate::entry::Origin;
use crate::problem::{X_REQUEST_ID, request_id};

/// The names that a message announced for its trailers, and whether it takes any.
struct Trailers {
    names: Vec<HeaderName>,
    wanted: bool,
}

/// The request as the upstream sees it: one meaning, and no claim of the client about itself.
pub(crate) fn outgoing(
    head: &Head,
    mut headers: HeaderMap,
    body: ClientBody,
    origin: &Origin,
    id: RequestId,
) -> Result<Request<ClientBody>, Rejection> {
    let trailers = Trailers::of(&headers);
    inspect::strip(&mut headers);
    inspect::forwarding_headers(&mut headers, origin.source, &head.host, origin.tls.is_some(), id);
    trailers.keep(&mut headers);

    let target = Uri::try_from(head.target()).map_err(|error| Reason::Internal.because(error))?;
    let mut request = Request::new(body);
    request.method_mut().clone_from(&head.method);
    *request.uri_mut() = target;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Sends what was permitted and admitted; nothing else can be.
pub(crate) async fn forward(
    request: Request<ClientBody>,
    plan: &Plan,
    _permit: &Permit,
    _admitted: Admitted,
    pools: &Pools<ClientBody>,
) -> Result<Answer<ClientBody>, Failure> {
    pools.forward(request, plan).await
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

fn name(headers: &mut HeaderMap, id: RequestId) {
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
