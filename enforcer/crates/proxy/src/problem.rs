//! How a refusal looks from outside: RFC 9457, a title that the status implies, and an id to ask
//! about. Nothing tells one refusal from another of the same status.

use std::time::Duration;

use bytes::Bytes;
use enforcer_limits::Exceeded;
use enforcer_model::{HttpVersion, Rejection, RequestId};
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Response, StatusCode};

use crate::endpoints::Barred;
use crate::told::tell_levels;

/// Names the request in every answer.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The type of a problem document (RFC 9457).
pub(crate) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// After a refusal for want of room: soon, but not at once.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// The answer that tells of `rejection` to whoever sent the request `id`.
pub fn problem(rejection: &Rejection, id: RequestId, version: HttpVersion) -> Response<Bytes> {
    let status = status(rejection);
    let mut response = document(status, id);
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        // RFC 9110, 15.5.6 wants the field; which methods a route has is nobody's business.
        headers.insert(ALLOW, HeaderValue::from_static(""));
    }
    if let Some(exceeded) = rejection.cause.downcast_ref::<Exceeded>() {
        let level = exceeded.level.as_deref().map(std::slice::from_ref);
        tell_levels(level.unwrap_or_default(), headers);
    }
    if let Some(wait) = retry_after(rejection) {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    if version == HttpVersion::H1 && ends_connection(status) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The document that says nothing but `status` and whom to ask.
pub(crate) fn document(status: StatusCode, id: RequestId) -> Response<Bytes> {
    let title = status.canonical_reason().unwrap_or("Error");
    let number = status.as_u16();
    let body = format!(
        r#"{{"type":"about:blank","title":"{title}","status":{number},"request_id":"{id}"}}"#
    );

    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, PROBLEM_JSON);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(id) = request_id(id) {
        headers.insert(X_REQUEST_ID, id);
    }
    response
}

/// The status that the reason implies, or that an operator chose for an endpoint.
pub(crate) fn status(rejection: &Rejection) -> StatusCode {
    let chosen = rejection.cause.downcast_ref::<Barred>().map(|barred| barred.status);
    chosen.unwrap_or_else(|| {
        StatusCode::from_u16(rejection.reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    })
}

/// `answer` as HTTP/1.1 writes it, for a client to whom hyper does not speak.
pub(crate) fn on_the_wire(answer: &Response<Bytes>) -> Vec<u8> {
    let status = answer.status();
    let phrase = status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {phrase}\r\n", status.as_str()).into_bytes();
    for (name, value) in answer.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", answer.body().len()).as_bytes());
    bytes.extend_from_slice(answer.body());
    bytes
}

/// The value of [`X_REQUEST_ID`].
pub(crate) fn request_id(id: RequestId) -> Option<HeaderValue> {
    HeaderValue::try_from(id.to_string()).ok()
}

fn retry_after(rejection: &Rejection) -> Option<Duration> {
    if let Some(exceeded) = rejection.cause.downcast_ref::<Exceeded>() {
        return Some(exceeded.retry_after);
    }
    if let Some(barred) = rejection.cause.downcast_ref::<Barred>() {
        return barred.retry_after;
    }
    let status = rejection.reason.status();
    (status == 429 || status == 503).then_some(RETRY_SOON)
}

/// Whether the client sent what nobody should send: where such a request ends is not worth a guess,
/// so it is the last of its connection.
fn ends_connection(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 405 | 408 | 413 | 414 | 417 | 431)
}

#[cfg(test)]
mod tests {
    use enforcer_model::Reason;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the secret of the database")]
    struct Secret;

    #[test]
    fn refusals_of_one_status_are_told_alike() {
        let id = RequestId::from_bits(7);
        for status in [400, 401, 403, 502] {
            let alike = Reason::ALL.iter().filter(|reason| reason.status() == status);
            let mut answers = alike.map(|reason| {
                let answer = problem(&reason.because(Secret), id, HttpVersion::H1);
                (answer.headers().clone(), answer.into_body())
            });
            let first = answers.next().unwrap();

            assert!(answers.all(|answer| answer == first), "{status}");
        }
    }

    #[test]
    fn no_cause_leaks() {
        for reason in Reason::ALL {
            let answer = problem(&reason.because(Secret), RequestId::from_bits(7), HttpVersion::H2);
            let text = format!("{answer:?}");

            assert!(!text.contains("secret"), "{text}");
            assert!(!text.contains("connection"), "HTTP/2 has no such field: {text}");
        }
    }

    #[test]
    fn the_wait_is_rounded_up_to_seconds() {
        let exceeded = Exceeded {
            limit: "per_ip".into(),
            by: Some(enforcer_limits::By::Ip),
            why: enforcer_limits::Why::Rate,
            retry_after: Duration::from_millis(2_001),
            level: None,
        };

        let answer = problem(&exceeded.into(), RequestId::from_bits(7), HttpVersion::H1);

        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()[RETRY_AFTER], "3");
    }

    #[test]
    fn the_body_is_a_problem_document() {
        let answer =
            problem(&Reason::KeyUnknown.because(Secret), RequestId::from_bits(7), HttpVersion::H1);

        assert_eq!(answer.headers()[WWW_AUTHENTICATE], "Bearer");
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(answer.headers()[X_REQUEST_ID], "00000000000000000000000000000007");
        assert_eq!(
            answer.body(),
            r#"{"type":"about:blank","title":"Unauthorized","status":401,"request_id":"00000000000000000000000000000007"}"#
        );
    }
}
