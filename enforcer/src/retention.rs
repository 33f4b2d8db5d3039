//! Old segments of the audit log go: when an operator says so, and when the policy does.
//!
//! The record that tells of it is on disk before the first file is removed. What no witness knows
//! is not removed where there are witnesses, for nobody could say later what it was.

use std::path::Path;
use std::time::Duration;

use enforcer_admin::call::PrunedAnswer;
use enforcer_audit::{Audit, PruneRecord, Pruned, Record};
use enforcer_model::{Author, Timestamp};

use crate::cli::chain;

/// How often the policy's `keep` is looked at.
pub(crate) const EVERY: Duration = Duration::from_secs(600);

/// What is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Records that were written before may go …
    pub(crate) before: Timestamp,
    /// … below this one.
    pub(crate) below: u64,
    pub(crate) by: Author,
    /// Whether the operator wants it although witnesses do not know everything.
    pub(crate) is_forced: bool,
    /// Whether it is only told.
    pub(crate) is_rehearsed: bool,
}

/// What came of it.
pub(crate) struct Removed {
    pub(crate) pruned: Pruned,
    /// Number of the record; none for a rehearsal.
    pub(crate) audit: Option<u64>,
}

/// Removes what `wish` allows from the log in `folder`; none when that is nothing.
pub(crate) async fn prune(
    audit: &Audit,
    folder: &Path,
    wish: Wish,
) -> Result<Option<Removed>, String> {
    let Wish { before, below, by, is_forced, is_rehearsed } = wish;
    let pruned = enforcer_audit::prunable(folder, before, below).map_err(|error| chain(&error))?;
    if pruned.segments == 0 {
        return Ok(None);
    }
    if is_rehearsed {
        return Ok(Some(Removed { pruned, audit: None }));
    }
    let record = PruneRecord {
        first: pruned.from,
        end: pruned.until,
        segments: u64::try_from(pruned.segments).unwrap_or(u64::MAX),
        before,
        root: hex(&pruned.root),
        is_forced,
        author: by,
    };
    let written = audit.append(Record::Prune(record)).await;
    let number = written.map_err(|error| format!("nothing was removed: {}", chain(&error)))?;
    enforcer_audit::prune(folder, pruned.until).map_err(|error| chain(&error))?;
    Ok(Some(Removed { pruned, audit: Some(number) }))
}

impl Removed {
    /// As it is told.
    pub(crate) fn answer(&self, before: Timestamp, dry_run: bool) -> PrunedAnswer {
        PrunedAnswer {
            before,
            first: self.pruned.from,
            end: self.pruned.until,
            segments: u64::try_from(self.pruned.segments).unwrap_or(u64::MAX),
            bytes: self.pruned.bytes,
            root: hex(&self.pruned.root),
            dry_run,
            audit: self.audit,
        }
    }
}

/// What may go at `now` under a `keep`.
pub(crate) fn before(now: Timestamp, keep: Duration) -> Timestamp {
    let keep = u64::try_from(keep.as_nanos()).unwrap_or(u64::MAX);
    Timestamp::from_unix_ns(now.unix_ns().saturating_sub(keep))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
