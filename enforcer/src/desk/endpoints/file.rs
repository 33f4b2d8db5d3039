//! `endpoints.json`: every rule that holds, for the next start.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use enforcer_admin::call::EndpointMeasure;
use enforcer_model::{Author, DecisionId, Expiry, Timestamp};
use enforcer_proxy::{CALLERS_MAX, ENDPOINTS_MAX, EndpointRule};
use serde::{Deserialize, Serialize};

use super::{Held, limit, named, numbers, refusing, requiring, shrinking};
use crate::files;

/// What an agent that starts would not know to refuse.
#[derive(Debug, thiserror::Error)]
#[error(
    "what operators have decided about endpoints cannot be read from {}: {why}\nhint: bring the \
     file back, or move it away and decide anew with `enforcer endpoint`", .file.display()
)]
pub(crate) struct OpenError {
    file: PathBuf,
    why: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Of the next rule: an id that was told is never another rule's.
    next: u32,
    rules: Vec<KeptRule>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct KeptRule {
    id: Arc<str>,
    endpoint: String,
    measure: EndpointMeasure,
    since: Timestamp,
    until: Expiry,
    author: Author,
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decision: Option<DecisionId>,
}

/// The number of the next rule, and those that hold.
pub(super) fn read(file: &Path) -> Result<(u32, Vec<Held>), OpenError> {
    let broken = |why: String| OpenError { file: file.to_owned(), why };
    let bytes = match std::fs::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((1, Vec::new())),
        read => read.map_err(|error| broken(error.to_string()))?,
    };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    if kept.rules.len() > ENDPOINTS_MAX + CALLERS_MAX {
        return Err(broken(format!("it has more than {} rules", ENDPOINTS_MAX + CALLERS_MAX)));
    }
    let held = kept.rules.into_iter().map(|rule| rule.held().map_err(&broken));
    Ok((kept.next, held.collect::<Result<_, _>>()?))
}

/// Replaces the file.
pub(super) fn write(file: &Path, next: u32, held: &[Held]) -> std::io::Result<()> {
    let rules = held.iter().map(KeptRule::of).collect();
    files::write_private(file, &serde_json::to_vec(&Kept { next, rules })?)
}

impl KeptRule {
    fn of(held: &Held) -> Self {
        Self {
            id: Arc::clone(&held.rule.id),
            endpoint: held.rule.scope.to_string(),
            measure: held.measure.clone(),
            since: held.since,
            until: held.rule.until,
            author: held.author.clone(),
            reason: held.reason.clone(),
            decision: held.decision,
        }
    }

    fn held(self) -> Result<Held, String> {
        let Self { id, endpoint, measure: kept, since, until, author, reason, decision } = self;
        let wrong = |refusal: enforcer_admin::Refusal| refusal.message;
        let measure = match &kept {
            EndpointMeasure::Disabled { status } => refusing(*status).map_err(wrong)?,
            EndpointMeasure::Tightened { rate, burst, by } => {
                limit(&id, *by, numbers(rate, Some(*burst)).map_err(wrong)?.0)
            }
            EndpointMeasure::Required { what } => requiring(what).map_err(wrong)?,
            EndpointMeasure::Shrunk { percent } => shrinking(*percent).map_err(wrong)?,
        };
        let endpoint = named(&endpoint).map_err(wrong)?;
        let rule = Arc::new(EndpointRule::new(id, endpoint, measure, until));
        Ok(Held { rule, measure: kept, since, author, reason, decision })
    }
}
