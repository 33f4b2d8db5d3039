//! The limits of a route, taken in two steps, and the proof that both were.
//!
//! What is counted by address is taken before anybody is asked who they are, so that guessing keys
//! costs as much as using them. What is counted by caller is taken last, so that a refusal for
//! another reason costs the caller nothing. Each step takes all or none.

use std::sync::Arc;
use std::time::Instant;

use enforcer_limits::{By, Limit, Limits};
use enforcer_model::{Principal, Rejection, Source};

/// The source may go on.
#[derive(Debug)]
pub(crate) struct SourceAdmitted(());

/// Source and caller are within every limit of the route; what is forwarded needs one.
#[derive(Debug)]
pub(crate) struct Admitted(());

/// Takes the limits that count by address.
pub(crate) fn admit_source(
    source: Source,
    limits: &[Arc<Limit>],
    buckets: &Limits,
    now: Instant,
) -> Result<SourceAdmitted, Rejection> {
    take(By::Ip, source, None, limits, buckets, now)?;
    Ok(SourceAdmitted(()))
}

/// Takes the limits that count by caller; on a public route the source stands in for one.
pub(crate) fn admit_caller(
    SourceAdmitted(()): SourceAdmitted,
    source: Source,
    caller: Option<&Principal>,
    limits: &[Arc<Limit>],
    buckets: &Limits,
    now: Instant,
) -> Result<Admitted, Rejection> {
    take(By::Key, source, caller, limits, buckets, now)?;
    Ok(Admitted(()))
}

fn take(
    by: By,
    source: Source,
    caller: Option<&Principal>,
    limits: &[Arc<Limit>],
    buckets: &Limits,
    now: Instant,
) -> Result<(), Rejection> {
    let mine = limits.iter().filter(|limit| limit.by == by);
    let demands: Vec<_> = mine.map(|limit| limit.demand(source, caller)).collect();
    if demands.is_empty() { Ok(()) } else { Ok(buckets.take(&demands, now)?) }
}
