//! That a trail is whole: what the log vouches for in each segment, and what is in the bundle.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::BundleError;
use crate::index::{Coverage, SegmentProof, Statement, prove};
use crate::read::Log;
use crate::select::Selector;
use crate::stored::Stored;

/// The proofs of each segment that has records of `range`. What they need besides the `records` goes
/// to `context`: the records in which the log vouches, and what an index takes for one of the trail.
pub(super) fn proofs(
    log: &Log,
    selector: &Selector,
    range: Range<u64>,
    records: &[Stored],
    context: &mut BTreeMap<u64, Stored>,
) -> Result<Vec<SegmentProof>, BundleError> {
    let there: BTreeSet<u64> = records.iter().map(|stored| stored.index).collect();
    let mut proofs = prove(log, selector, range.clone())?;
    for proof in &mut proofs {
        let statement = proof.statement().map(|index| log.record(index)).transpose()?;
        let vouched = statement.as_ref().and_then(|stored| Statement::of(&stored.text));
        let named = vouched.and_then(|vouched| proof.verify(selector, &vouched).ok());
        let (Some(statement), Some(named)) = (statement, named) else {
            // What cannot be shown is not claimed.
            proof.coverage = Coverage::Uncovered;
            continue;
        };
        for index in named.into_iter().filter(|index| range.contains(index)) {
            if !there.contains(&index) {
                context.insert(index, log.record(index)?);
            }
        }
        if !there.contains(&statement.index) {
            context.insert(statement.index, statement);
        }
    }
    Ok(proofs)
}

/// Whether every record of `range` that the `proofs` name is among `there`; gives the ranges of which
/// nothing is proven. `leaf` reads the JSON of a record whose place in the log was proven.
pub(super) fn check(
    proofs: &[SegmentProof],
    selector: &Selector,
    range: Range<u64>,
    there: &BTreeSet<u64>,
    mut leaf: impl FnMut(u64) -> Option<String>,
) -> Result<Vec<Range<u64>>, String> {
    let mut uncovered = Vec::new();
    let mut reached = range.start;
    for (place, proof) in proofs.iter().enumerate() {
        let follows = if place == 0 { proof.first <= reached } else { proof.first == reached };
        if !follows || proof.end <= reached || reached >= range.end {
            return Err(format!(
                "the proof of the segment from record {} is misplaced",
                proof.first
            ));
        }
        reached = proof.end;
        let Some(statement) = proof.statement() else {
            uncovered.push(proof.first.max(range.start)..proof.end.min(range.end));
            continue;
        };
        let statement = leaf(statement).as_deref().and_then(Statement::of).ok_or_else(|| {
            format!("record {statement}, which vouches for a segment, is missing or another")
        })?;
        let named = proof.verify(selector, &statement).map_err(|error| error.to_string())?;
        let missing =
            named.into_iter().find(|index| range.contains(index) && !there.contains(index));
        if let Some(index) = missing {
            return Err(format!(
                "record {index}, which the log names for the selection, is missing"
            ));
        }
    }
    if reached < range.end {
        return Err(format!("nothing is said about the records from {reached} on"));
    }
    Ok(uncovered)
}
