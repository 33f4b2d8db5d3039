//! Which records of a log go into a bundle.
//!
//! Besides those that were asked for: what enforced before the first of them and what changed until
//! the last, the keys that followed one another meanwhile, and the two records beside a span of time,
//! which show that it was not cut short.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use enforcer_model::Timestamp;
use serde_json::Value;

use super::{BUNDLE_RECORDS_MAX, BundleError, CONTEXT_MAX, Choice, Wanted};
use crate::query::{Condition, Order, Query};
use crate::read::{Log, ReadError};
use crate::select::Selector;
use crate::stored::Stored;

/// How many changes before the first record are looked through for the newest of each kind.
const LOOKED_BACK: usize = 1_024;

/// The records of a bundle.
pub(super) struct Gathered {
    /// Those that were asked for, in order.
    pub(super) records: Vec<Stored>,
    /// Those that stand around them.
    pub(super) context: BTreeMap<u64, Stored>,
    /// The first that could have been asked for.
    pub(super) from: u64,
    /// The first behind the last that could.
    pub(super) to: u64,
}

/// What `wanted` means in `log`.
pub(super) fn gather(log: &Log, wanted: &Wanted) -> Result<Gathered, BundleError> {
    let size = log.size();
    let (from, to) = span(log, wanted)?;
    let records: Vec<Stored> = match &wanted.what {
        Choice::Numbers(numbers) => {
            let numbers: BTreeSet<u64> = numbers.iter().copied().collect();
            bounded(numbers.len())?;
            numbers.into_iter().map(|index| log.record(index)).collect::<Result<_, _>>()?
        }
        Choice::Everything => {
            bounded(usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX))?;
            log.records(from..to)?.collect::<Result<_, _>>()?
        }
        Choice::Trail(selector) => trail(log, selector, from..to)?,
    };
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        return Err(BundleError::Nothing);
    };
    let mut context = around(log, first.index, last.index)?;
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
    Ok(Gathered { records, context, from, to })
}

/// From the first record that is not too early to behind the last that is not too late.
fn span(log: &Log, wanted: &Wanted) -> Result<(u64, u64), BundleError> {
    let size = log.size();
    let from = match wanted.since {
        None => 0,
        Some(since) => {
            let query = Query { since: Some(since), range: 0..size, ..Query::default() };
            index_of(log.search(query)?.next())?.unwrap_or(size)
        }
    };
    let to = match wanted.until {
        None => size,
        Some(until) => {
            let last = Timestamp::from_unix_ns(until.unix_ns().saturating_sub(1));
            let order = Order::NewestFirst;
            let query = Query { until: Some(last), range: 0..size, order, ..Query::default() };
            index_of(log.search(query)?.next())?.map_or(0, |last| last.saturating_add(1))
        }
    };
    Ok((from, to.max(from)))
}

fn index_of(found: Option<Result<Stored, ReadError>>) -> Result<Option<u64>, ReadError> {
    found.transpose().map(|found| found.map(|stored| stored.index))
}

fn trail(log: &Log, selector: &Selector, range: Range<u64>) -> Result<Vec<Stored>, BundleError> {
    let conditions = vec![Condition::Who(selector.clone())];
    let mut records = Vec::new();
    for stored in log.search(Query { conditions, range, ..Query::default() })? {
        records.push(stored?);
        bounded(records.len())?;
    }
    Ok(records)
}

/// The newest change of program, policy and keys of each kind before `first`, all of them until
/// `last`, and the next key behind it.
fn around(log: &Log, first: u64, last: u64) -> Result<BTreeMap<u64, Stored>, BundleError> {
    let changes = |range, order| {
        let classes = vec!["config".to_owned(), "key".to_owned()];
        let conditions = vec![Condition::Class(classes)];
        log.search(Query { conditions, range, order, ..Query::default() })
    };
    let mut around = BTreeMap::new();
    let mut kinds = BTreeSet::new();
    for stored in changes(0..first, Order::NewestFirst)?.take(LOOKED_BACK) {
        let stored = stored?;
        if kinds.insert(kind(&stored)) {
            around.insert(stored.index, stored);
        }
    }
    for stored in changes(first..last.saturating_add(1), Order::OldestFirst)? {
        let stored = stored?;
        around.insert(stored.index, stored);
        if around.len() > CONTEXT_MAX {
            return Err(BundleError::TooMany);
        }
    }
    let conditions = vec![Condition::Class(vec!["key".to_owned()])];
    let range = last.saturating_add(1)..log.size();
    let next = log.search(Query { conditions, range, ..Query::default() })?.next().transpose()?;
    around.extend(next.map(|stored| (stored.index, stored)));
    Ok(around)
}

/// What a record of class `config` or `key` changes.
fn kind(stored: &Stored) -> String {
    let Ok(json) = stored.json() else { return String::new() };
    let text = |path| json.pointer(path).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}", text("/class"), text("/body/what"))
}

fn bounded(records: usize) -> Result<(), BundleError> {
    if records > BUNDLE_RECORDS_MAX { Err(BundleError::TooMany) } else { Ok(()) }
}
