//! What an answer tells its caller beside the upstream's words: how much is left of a limit, and
//! that a key is about to end.

use enforcer_authn::{Identity, KeyFacts, Proof, notice_headers};
use enforcer_limits::Level;
use enforcer_model::Timestamp;
use enforcer_policy::Policy;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Response};

use crate::admission::Admitted;

const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Header fields for the head of an answer.
pub(crate) struct Told(HeaderMap);

impl Told {
    pub(crate) fn new(
        caller: Option<&Identity>,
        admitted: &Admitted,
        policy: &Policy,
        now: Timestamp,
    ) -> Self {
        let mut headers = HeaderMap::new();
        if let Some(Proof::Key(key)) = caller.map(Identity::proof) {
            tell_end(key, policy, now, &mut headers);
        }
        let levels: Vec<Level> = admitted.levels().cloned().collect();
        tell_levels(&levels, &mut headers);
        Self(headers)
    }

    /// Ours stand in the place of what the upstream says under the same names.
    pub(crate) fn add_to<B>(self, mut response: Response<B>) -> Response<B> {
        for (name, value) in &self.0 {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }
}

/// `Deprecation` (RFC 9745) and `Sunset` (RFC 8594).
fn tell_end(key: &KeyFacts, policy: &Policy, now: Timestamp, headers: &mut HeaderMap) {
    let Some(notice) = notice_headers(key, policy.keys(), now) else { return };
    headers.insert(DEPRECATION, notice.deprecation);
    headers.insert(SUNSET, notice.sunset);
}

/// `RateLimit` and `RateLimit-Policy`, where the policy shows them.
pub(crate) fn tell_levels(levels: &[Level], headers: &mut HeaderMap) {
    let Some(told) = enforcer_limits::headers(levels) else { return };
    for (name, value) in [(RATE_LIMIT, told.limit), (RATE_LIMIT_POLICY, told.policy)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}
