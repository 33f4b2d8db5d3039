//! A request of the audit log, explained: why it got its answer, and what a policy says today.

use std::path::Path;

use enforcer_admin::call::LookVerb;
use enforcer_audit::Stored;
use enforcer_model::Reason;
use enforcer_policy::Policy;
use enforcer_policy::trial::{Past, PastError};
use serde_json::{Value, json};

use super::explain::{document, told};
use super::understood;
use crate::cli::audit::{Place, unreadable};
use crate::cli::{Context, Exit, Failure};

/// Explains record `index` as `enforcer explain --audit` does: with the policy in use, if it loads.
pub(crate) fn explain_record(
    context: &Context,
    place: &Place,
    index: u64,
) -> Result<Exit, Failure> {
    explain(context, place, index, None)
}

/// The record's own answer, and what the policy in `file` says of its request; a file that was named
/// must load, the one in use need not.
pub(super) fn explain(
    context: &Context,
    place: &Place,
    index: u64,
    file: Option<&Path>,
) -> Result<Exit, Failure> {
    let log = place.open(context)?;
    let stored = log.record(index).map_err(|error| unreadable(&error))?;
    place.look(context, &log, LookVerb::Explain, vec![format!("#{index}")], 1)?;
    let json = stored.json().map_err(|error| Failure::because(&error))?;
    if json.get("class").and_then(Value::as_str) != Some("http") {
        return Err(Failure::nothing(PastError::NotHttp(index).to_string())
            .hint("`enforcer audit tail` shows which records are requests"));
    }
    let mut lines = vec![crate::cli::record::told(&stored)];
    let reason = reason(&json);
    lines.extend(answer(&json, reason));

    let past = Past::read(index, &json);
    let policy = match file {
        Some(file) => Some(understood(context, file)?),
        None => context.policy()?,
    };
    let replayed = match (&past, &policy) {
        (Ok(past), Some(policy)) => replay(past, policy, &mut lines)?,
        (Err(error), _) => {
            lines.push(format!("replay    not possible: {error}"));
            None
        }
        (Ok(_), None) => {
            lines.push("replay    not possible: no policy file; --policy names one".to_owned());
            None
        }
    };
    let unknown = past.as_ref().map(|past| past.unknown.clone()).unwrap_or_default();
    let value = json!({
        "record": json,
        "reason": reason.map(Reason::as_str),
        "meaning": reason.map(Reason::meaning),
        "not_recorded": unknown,
        "replay": replayed,
    });
    context.printer.item(&value, &lines)?;
    Ok(Exit::Done)
}

/// Why the request got its answer then, in plain words.
fn answer(json: &Value, reason: Option<Reason>) -> Vec<String> {
    let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str);
    let mut lines = Vec::new();
    match reason {
        Some(reason) => {
            // An operator may have chosen another status than the reason's.
            let status = json.pointer("/body/status").and_then(Value::as_u64);
            let status = status.unwrap_or_else(|| reason.status().into());
            lines.push(format!("refused   {status} {reason}: {}", reason.meaning()));
        }
        None => lines.push("forwarded the answer is the upstream's".to_owned()),
    }
    lines.extend(text("/body/cause").map(|cause| format!("cause     {cause}")));
    lines.extend(text("/body/rule").map(|rule| format!("rule      {rule}")));
    lines.extend(text("/body/policy").map(|sha| format!("policy    sha256 {sha} was in force")));
    lines
}

/// What `policy` says of the same request, and in how far that can be believed.
fn replay(past: &Past, policy: &Policy, lines: &mut Vec<String>) -> Result<Option<Value>, Failure> {
    let judgement = past
        .judge(policy)
        .map_err(|ambiguous| Failure::failed(ambiguous.to_string()).hint(ambiguous.hint))?;
    lines.push(String::new());
    lines.push(format!("asked again: {}", past.request));
    if !past.unknown.is_empty() {
        lines.push(format!("not recorded, so unknown here: {}", past.unknown.join(", ")));
    }
    if past.policy.as_deref() != Some(&**policy.sha256()) {
        lines.push("the policy is another one than the one in force then".to_owned());
    }
    if !past.was_allowed() && !past.was_decided_by_policy() {
        let note = "the answer did not come from the policy; it would allow or refuse as follows";
        lines.push(note.to_owned());
    }
    lines.extend(told(policy, &judgement));
    Ok(Some(document(policy, &past.request, &judgement)))
}

fn reason(json: &Value) -> Option<Reason> {
    Reason::from_name(json.pointer("/body/reason")?.as_str()?)
}

/// The request in a record, if it is one that can be asked again.
pub(super) fn past(stored: &Stored) -> Option<Past> {
    Past::read(stored.index, &stored.json().ok()?).ok()
}
