//! Which records of a log go into a bundle.
//!
//! Besides those that were asked for: what enforced before the first of them and what changed until
//! the last, the keys that followed one another meanwhile, and the two records beside a span of time,
//! which show that it was not cut short.

use std::collections::{BTreeMap, BTreeSet};

use enforcer_model::Timestamp;

use super::{BUNDLE_RECORDS_MAX, BundleError, CONTEXT_MAX, Choice, Wanted};
use crate::read::Log;
use crate::stored::Stored;

/// The records of a bundle.
pub(super) struct Gathered {
    /// Those that were asked for, in order.
    pub(super) records: Vec<Stored>,
    /// Those that stand around them, in order.
    pub(super) context: Vec<Stored>,
    /// The first that could have been asked for.
    pub(super) from: u64,
    /// The first behind the last that could.
    pub(super) to: u64,
}

/// What one reading of the whole log finds.
struct Survey {
    /// The first record at or behind the begin.
    from: Option<u64>,
    /// Behind the last record before the end.
    to: u64,
    /// Those of a trail.
    found: Vec<Stored>,
    /// What says which program, policy and keys were at work.
    changes: Vec<Change>,
}

struct Change {
    /// The kind, of which the newest before the selection counts.
    kind: String,
    stored: Stored,
}

/// What `wanted` means in `log`.
pub(super) fn gather(log: &Log, wanted: &Wanted) -> Result<Gathered, BundleError> {
    let size = log.size();
    let mut survey = survey(log, wanted)?;
    let (from, to) = (survey.from.unwrap_or(size), survey.to);
    let within = |index: u64| (from..to).contains(&index);
    let records: Vec<Stored> = match &wanted.what {
        Choice::Numbers(numbers) => {
            let numbers: BTreeSet<u64> = numbers.iter().copied().collect();
            bounded(numbers.len())?;
            numbers.into_iter().map(|index| log.record(index)).collect::<Result<_, _>>()?
        }
        Choice::Everything => {
            bounded(usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX))?;
            log.records(from..to.max(from))?.collect::<Result<_, _>>()?
        }
        Choice::Trail(_) => {
            survey.found.retain(|stored| within(stored.index));
            survey.found
        }
    };
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        return Err(BundleError::Nothing);
    };
    let mut context = around(survey.changes, first.index, last.index);
    if !matches!(wanted.what, Choice::Numbers(_)) {
        let before = from.checked_sub(1).filter(|_| wanted.since.is_some());
        let behind = Some(to).filter(|_| wanted.until.is_some() && to < size);
        for beside in before.into_iter().chain(behind) {
            context.insert(beside, log.record(beside)?);
        }
    }
    for stored in &records {
        context.remove(&stored.index);
    }
    if context.len() > CONTEXT_MAX {
        return Err(BundleError::TooMany);
    }
    Ok(Gathered { records, context: context.into_values().collect(), from, to })
}

fn survey(log: &Log, wanted: &Wanted) -> Result<Survey, BundleError> {
    let mut survey = Survey { from: None, to: 0, found: Vec::new(), changes: Vec::new() };
    for stored in log.records(0..log.size())? {
        let stored = stored?;
        let time = stored.header().map(|header| header.time).ok();
        if survey.from.is_none() && !is_before(time, wanted.since) {
            survey.from = Some(stored.index);
        }
        if wanted.until.is_none() || is_before(time, wanted.until) {
            survey.to = stored.index.saturating_add(1);
        }
        if let Some(kind) = change(&stored) {
            survey.changes.push(Change { kind, stored: stored.clone() });
        }
        match &wanted.what {
            Choice::Trail(selector) if selector.matches(&stored) => {
                survey.found.push(stored);
                bounded(survey.found.len())?;
            }
            Choice::Trail(_) | Choice::Everything | Choice::Numbers(_) => {}
        }
    }
    survey.from = survey.from.or(Some(log.size()));
    survey.to = survey.to.max(survey.from.unwrap_or_default());
    Ok(survey)
}

/// Whether `time` is before `moment`; a time that cannot be read is not.
fn is_before(time: Option<Timestamp>, moment: Option<Timestamp>) -> bool {
    time.is_some_and(|time| moment.is_some_and(|moment| time < moment))
}

/// What `stored` changes about program, policy or keys, if it does.
fn change(stored: &Stored) -> Option<String> {
    // The class stands near the beginning of every record; most are requests.
    let is_change = ["\"class\":\"config\"", "\"class\":\"key\""];
    if !is_change.iter().any(|class| stored.text.contains(class)) {
        return None;
    }
    let json = stored.json().ok()?;
    let class = json.get("class")?.as_str()?;
    if class != "config" && class != "key" {
        return None;
    }
    let what = json.pointer("/body/what").and_then(|what| what.as_str()).unwrap_or_default();
    Some(format!("{class} {what}"))
}

/// The newest change of each kind before `first`, all until `last`, and the next key behind it.
fn around(changes: Vec<Change>, first: u64, last: u64) -> BTreeMap<u64, Stored> {
    let mut before = BTreeMap::new();
    let mut around = BTreeMap::new();
    let mut next_key = None;
    for Change { kind, stored } in changes {
        if stored.index < first {
            before.insert(kind, stored);
        } else if stored.index <= last {
            around.insert(stored.index, stored);
        } else if next_key.is_none() && kind.starts_with("key") {
            next_key = Some(stored);
        }
    }
    around.extend(before.into_values().chain(next_key).map(|stored| (stored.index, stored)));
    around
}

fn bounded(records: usize) -> Result<(), BundleError> {
    if records > BUNDLE_RECORDS_MAX { Err(BundleError::TooMany) } else { Ok(()) }
}
