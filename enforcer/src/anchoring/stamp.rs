//! One note, one timestamping authority.

use std::time::Duration;

use enforcer_audit::{Stamped, TOKEN_BYTES_MAX, TimestampRequest};
use enforcer_authn::HttpClient;
use enforcer_policy::TimestampPlan;
use http::header::HeaderValue;

use crate::cli::chain;

/// For one question.
const PATIENCE: Duration = Duration::from_secs(10);

/// The answer about `note` as it came, and what it says; or why there is none.
pub(super) async fn stamp(
    client: &HttpClient,
    plan: &TimestampPlan,
    note: &str,
) -> Result<(Vec<u8>, Stamped), String> {
    let request = TimestampRequest::about(note.as_bytes());
    let request = request.ok_or("the system gives no random bits")?;
    let answer = client.post(
        &plan.endpoint,
        HeaderValue::from_static("application/timestamp-query"),
        request.to_bytes(),
        TOKEN_BYTES_MAX,
        PATIENCE,
    );
    let (status, body) = answer.await.map_err(|error| chain(&error))?;
    if !status.is_success() {
        return Err(format!("it answers {status}"));
    }
    let stamped = request.check(&body).map_err(|error| error.to_string())?;
    Ok((body.to_vec(), stamped))
}
