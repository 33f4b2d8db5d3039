//! Documents about ourselves: whom we believe (RFC 9728), with the challenge that points there, and
//! by which key upstreams know us.

use bytes::Bytes;
use enforcer_authn::{Bindings, Binds, Unbound, metadata as document};
use enforcer_inspect::Head;
use enforcer_model::RequestId;
use enforcer_policy::Policy;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response};

use crate::entry::Origin;
use crate::problem::{X_REQUEST_ID, request_id};
use crate::shared::Shared;

/// RFC 9728, section 3.
const PROTECTED_RESOURCE: &str = "/.well-known/oauth-protected-resource";

/// The public half of the key that signs `Enforcer-Identity`, for upstreams (RFC 7517).
const IDENTITY_KEYS: &str = "/.well-known/enforcer/jwks.json";

/// A document about ourselves, where one is asked for and no public route has its path.
pub(crate) fn metadata(
    head: &Head,
    authority: &str,
    policy: &Policy,
    shared: &Shared,
    origin: &Origin,
    id: RequestId,
) -> Option<Response<Bytes>> {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return None;
    }
    let body = match head.path.as_str() {
        PROTECTED_RESOURCE if !policy.issuers().is_empty() => {
            protected_resource(&resource(authority, origin), policy)
        }
        IDENTITY_KEYS => shared.assertions.jwks(),
        _ => return None,
    };
    let mut response = Response::new(Bytes::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    headers.extend(request_id(id).map(|id| (X_REQUEST_ID, id)));
    Some(response)
}

/// Whose tokens are believed, and how they may be bound.
fn protected_resource(resource: &str, policy: &Policy) -> String {
    let plans = policy.issuers();
    let issuers: Vec<&str> = plans.iter().map(|plan| &*plan.url).collect();
    let takes =
        |wanted| plans.iter().any(|plan| [wanted, Bindings::Either].contains(&plan.bindings));
    let binds = Binds {
        certificates: takes(Bindings::Mtls),
        dpop: takes(Bindings::Dpop),
        dpop_required: plans
            .iter()
            .all(|plan| plan.bindings == Bindings::Dpop && plan.unbound == Unbound::Refused),
    };
    document(resource, &issuers, &[], binds)
}

/// What a 401 says: the same for every reason, and where to learn whose tokens are accepted.
pub(crate) fn challenge(authority: Option<&str>, policy: &Policy, origin: &Origin) -> HeaderValue {
    let plain = HeaderValue::from_static("Bearer");
    match authority {
        Some(authority) if !policy.issuers().is_empty() => {
            let place = format!("{}{PROTECTED_RESOURCE}", resource(authority, origin));
            HeaderValue::try_from(format!("Bearer resource_metadata=\"{place}\"")).unwrap_or(plain)
        }
        Some(_) | None => plain,
    }
}

fn resource(authority: &str, origin: &Origin) -> String {
    let scheme = if origin.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{authority}")
}
