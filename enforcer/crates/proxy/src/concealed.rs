//! What an upstream says of its own failures, which is for its operators and not for whoever asks.
//!
//! The body of a 5xx may show a stack trace, a query or a path, and so may its headers. The client
//! gets the status in a problem document with the id of the request, under which the record stands.
//! An upstream that writes problem documents itself has said what it wants to say, and gRPC tells its
//! errors in trailers of its own; both pass.

use std::time::Duration;

use bytes::Bytes;
use enforcer_model::RequestId;
use enforcer_upstream as upstream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body_util::BodyExt;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::body::ClientBody;
use crate::problem::{PROBLEM_JSON, document};

/// What is read of a body that nobody gets, so that its connection serves again; a longer one, or one
/// that comes slower, ends its connection.
const REST_BYTES_MAX: usize = 64 * 1024;
const REST_PATIENCE: Duration = Duration::from_secs(1);

/// The body of an answer.
#[expect(clippy::large_enum_variant, reason = "nearly every answer is the large one")]
pub(crate) enum Said {
    /// Ours, in the place of the upstream's.
    Ours(Bytes),
    /// The upstream's.
    Theirs(upstream::Body<ClientBody>),
}

/// The answer as the client may see it; needs a `LocalSet` around it.
pub(crate) fn conceal(
    response: Response<upstream::Body<ClientBody>>,
    method: &Method,
    id: RequestId,
) -> Response<Said> {
    if !response.status().is_server_error() || speaks_for_itself(response.headers()) {
        return response.map(Said::Theirs);
    }
    let (parts, body) = response.into_parts();
    spawn_local(timeout(REST_PATIENCE, read_out(body)));
    let mut ours = document(parts.status, id);
    for (name, value) in &parts.headers {
        // When to come again, and who may read the answer, are no secrets of the upstream's.
        let passes =
            [RETRY_AFTER, VARY].contains(name) || name.as_str().starts_with("access-control-");
        if passes {
            ours.headers_mut().append(name, value.clone());
        }
    }
    if method == Method::HEAD {
        let length = HeaderValue::from(ours.body().len());
        ours.headers_mut().insert(CONTENT_LENGTH, length);
        ours.body_mut().clear();
    }
    ours.map(Said::Ours)
}

fn speaks_for_itself(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else { return false };
    let kind = kind.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let begins =
        |with: &[u8]| kind.get(..with.len()).is_some_and(|it| it.eq_ignore_ascii_case(with));
    kind.eq_ignore_ascii_case(PROBLEM_JSON.as_bytes()) || begins(b"application/grpc")
}

async fn read_out(mut body: upstream::Body<ClientBody>) {
    let mut left = REST_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(less) = left.checked_sub(length) else { return };
        left = less;
    }
}
