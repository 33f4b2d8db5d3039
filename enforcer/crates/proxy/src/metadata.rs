//! Who is believed here: RFC 9728's document, and the challenge that points to it.

use bytes::Bytes;
use enforcer_authn::{Bindings, Binds, Unbound, metadata as document};
use enforcer_inspect::Head;
use enforcer_model::RequestId;
use enforcer_policy::Policy;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response};

use crate::entry::Origin;
use crate::problem::{X_REQUEST_ID, request_id};

/// RFC 9728, section 3.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The document, where it is asked for, no route has the path, and the policy believes an issuer.
pub(crate) fn metadata(
    head: &Head,
    policy: &Policy,
    origin: &Origin,
    id: RequestId,
) -> Option<Response<Bytes>> {
    let asks =
        matches!(head.method, Method::GET | Method::HEAD) && head.path.as_str() == WELL_KNOWN;
    if !asks || policy.issuers().is_empty() {
        return None;
    }
    let issuers: Vec<&str> = policy.issuers().iter().map(|plan| &*plan.url).collect();
    let takes = |wanted| {
        policy.issuers().iter().any(|plan| [wanted, Bindings::Either].contains(&plan.bindings))
    };
    let binds = Binds {
        certificates: takes(Bindings::Mtls),
        dpop: takes(Bindings::Dpop),
        dpop_required: policy
            .issuers()
            .iter()
            .all(|plan| plan.bindings == Bindings::Dpop && plan.unbound == Unbound::Refused),
    };
    let body = document(&resource(head.host.as_str(), origin), &issuers, &[], binds);
    let mut response = Response::new(Bytes::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    headers.extend(request_id(id).map(|id| (X_REQUEST_ID, id)));
    Some(response)
}

/// What a 401 says: the same for every reason, and where to learn whose tokens are accepted.
pub(crate) fn challenge(host: Option<&str>, policy: &Policy, origin: &Origin) -> HeaderValue {
    let plain = HeaderValue::from_static("Bearer");
    match host {
        Some(host) if !policy.issuers().is_empty() => {
            let place = format!("{}{WELL_KNOWN}", resource(host, origin));
            HeaderValue::try_from(format!("Bearer resource_metadata=\"{place}\"")).unwrap_or(plain)
        }
        Some(_) | None => plain,
    }
}

fn resource(host: &str, origin: &Origin) -> String {
    let scheme = if origin.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{host}")
}
