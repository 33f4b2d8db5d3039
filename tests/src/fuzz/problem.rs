//! What a refusal says to the one who is refused.

use std::collections::HashMap;

use enforcer_model::{HttpVersion, Reason, RequestId};
use enforcer_proxy::problem;
use serde_json::Value;

/// What happened, as we know it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cause(String);

/// A reason in the first byte, the version in the second, an id in the next sixteen, and a cause in
/// the rest.
///
/// The document is JSON of four members, says what the status says and nothing of the cause, names the
/// request in body and head alike, and is the same for every reason of one status.
pub fn problem_document(bytes: &[u8]) {
    let [reason, version, rest @ ..] = bytes else { return };
    let Some((id, cause)) = rest.split_first_chunk::<16>() else { return };
    let reason = *Reason::ALL.iter().cycle().nth(usize::from(*reason)).expect("there are reasons");
    let version = if version & 1 == 0 { HttpVersion::H1 } else { HttpVersion::H2 };
    let id = RequestId::from_bits(u128::from_be_bytes(*id));
    let cause = String::from_utf8_lossy(cause).into_owned();

    let answer = problem(&reason.because(Cause(cause)), id, version);

    let status = answer.status();
    assert_eq!(status.as_u16(), reason.status());
    let document: HashMap<String, Value> =
        serde_json::from_slice(answer.body()).expect("a problem document is JSON");
    let named = id.to_string();
    let of = |member: &str| document.get(member).cloned().unwrap_or_default();
    assert_eq!(of("type"), "about:blank");
    assert_eq!(of("title"), status.canonical_reason().expect("a status has a name"));
    assert_eq!(of("status"), reason.status());
    assert_eq!(of("request_id"), named);
    assert_eq!(document.len(), 4, "{document:?}");
    let headers = answer.headers();
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["x-request-id"], named);
    assert!(version == HttpVersion::H1 || !headers.contains_key("connection"));

    let alike = Reason::ALL.iter().filter(|other| other.status() == reason.status());
    for other in alike {
        let told = problem(&other.because(Cause(String::new())), id, version);
        assert_eq!(told.headers(), headers, "{other} is told from {reason}");
        assert_eq!(told.body(), answer.body(), "{other} is told from {reason}");
    }
}
