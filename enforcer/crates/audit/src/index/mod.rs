//! Finding the records of one token among a hundred million, and proving that these are all.
//!
//! Each closed segment has an index beside it: a file that says which records name what, by keyed
//! hashes, sealed with a key that follows from the segment's own. It is derived from the records and
//! can be made again by whoever can read them. A search that meets a missing or damaged one reads
//! the segment instead; so an index makes an answer fast and never changes it.
//!
//! The entries of an index are the leaves of a Merkle tree. Its root stands in the log itself, in a
//! record of class `segment`; a [`SegmentProof`] leads from there to the exact records of a selector,
//! or shows that there are none.

mod bits;
mod build;
mod format;
mod keeper;
mod keys;
mod lookup;
mod pages;
mod proof;
mod statement;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use crate::files::FileError;
use crate::layout::Layout;
use crate::merkle::inclusion_path;
use crate::query::{Condition, Order, Query};
use crate::read::{Log, ReadError, Span};
use crate::select::Selector;

pub use build::{Built, IndexBuilder};
pub use keeper::{IndexReport, Keeper, catch_up};
pub use pages::{Salt, seal};
pub use proof::{Coverage, ProofError, Proven, SegmentProof};
pub use statement::Statement;

use format::{RECORDS_MAX, round_up};
use keys::{Kind, Word, words_for};
use lookup::{Index, Leaves};
use proof::{Claim, Neighbour};

/// An index cannot be made or used; the records are all there is to go by.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The cipher refused.
    #[error("the cipher refused")]
    Cipher,
    /// The file is not as it was written.
    #[error("the index is damaged: {0}")]
    Damaged(&'static str),
    /// A call to the file system failed.
    #[error("the index cannot be read")]
    Io(#[source] io::Error),
    /// The key of the segment is not at hand.
    #[error("the key of the segment is not here")]
    Locked,
    /// There is none yet.
    #[error("there is no index")]
    Missing,
    /// The segment has more records, or they name more, than an index can hold.
    #[error("the segment is too long to be indexed")]
    TooLong,
}

/// What an index says of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// None of its records can match.
    Nothing,
    /// Those that may match, ascending.
    Candidates(Vec<u64>),
}

/// What the index of `span` says of `query`; an error: read the records.
pub(crate) fn ask(log: &Log, span: &Span, query: &Query) -> Result<Found, IndexError> {
    let index = open(log, span)?;
    let frame = &index.frame;
    let is_early = query.since.is_some_and(|since| frame.until < since);
    let is_late = query.until.is_some_and(|until| frame.from > until);
    if is_early || is_late {
        return Ok(Found::Nothing);
    }
    let mut found: Option<Vec<u64>> = None;
    for condition in &query.conditions {
        let Some(words) = words(log, span, condition, &index) else { continue };
        let mut places = Vec::new();
        for word in &words {
            places.extend(index.find(word)?.unwrap_or_default());
        }
        places.sort_unstable();
        places.dedup();
        let both = match found {
            None => places,
            Some(before) => {
                before.into_iter().filter(|place| places.binary_search(place).is_ok()).collect()
            }
        };
        if both.is_empty() {
            return Ok(Found::Nothing);
        }
        found = Some(both);
    }
    let places = found.ok_or(IndexError::Missing)?;
    Ok(Found::Candidates(places.into_iter().map(|place| frame.first + place).collect()))
}

fn words(log: &Log, span: &Span, condition: &Condition, index: &Index) -> Option<Vec<Word>> {
    let words = |selector| selector_words(log, span, selector, index);
    match condition {
        Condition::Any(selectors) => {
            let all: Option<Vec<Vec<Word>>> = selectors.iter().map(words).collect();
            all.map(|all| all.concat())
        }
        Condition::Who(selector) => words(selector),
        Condition::Class(classes) => {
            Some(classes.iter().map(|class| keys::class_word(class)).collect())
        }
        Condition::Reason(reasons) => {
            Some(reasons.iter().map(|reason| keys::reason_word(reason)).collect())
        }
        Condition::Segment(first) => Some(vec![keys::segment_word(*first)]),
        Condition::Status(ranges) => {
            Some(ranges.iter().cloned().flatten().map(keys::status_word).collect())
        }
        // Nearly everything is served: reading is as fast.
        Condition::Verdict(_) => None,
    }
}

/// Where to look for what `selector` selects. An operator's words lie apart from their record, and
/// may name anybody: such a record is looked at, rather than a table of all that was ever said.
fn selector_words(log: &Log, span: &Span, selector: &Selector, index: &Index) -> Option<Vec<Word>> {
    let (is_told_by_handle, may_be_argued) = match selector {
        Selector::Network(_) | Selector::Principal(_) => (true, true),
        Selector::Block(_)
        | Selector::Case(_)
        | Selector::Hex(_)
        | Selector::Key(_)
        | Selector::Token(_) => (false, true),
        Selector::Fingerprint(_)
        | Selector::Incident(_)
        | Selector::Request(_)
        | Selector::Route(_)
        | Selector::Rule(_) => (false, false),
    };
    let handles = if is_told_by_handle { log.handles(span.first, selector)? } else { Vec::new() };
    let mut words = words_for(selector, &index.frame.lengths, &handles)?;
    if may_be_argued && log.is_concealed(span.first) {
        words.push(keys::class_word("admin"));
    }
    Some(words)
}

/// The index of `span`, if it is the one of all its records.
fn open(log: &Log, span: &Span) -> Result<Index, IndexError> {
    if !span.closed {
        return Err(IndexError::Missing);
    }
    let key = log.index_key(span.first).ok_or(IndexError::Locked)?;
    let index = Index::open(&log.layout().index(span.first), span.first, &key)?;
    if index.frame.first + index.frame.records != span.end {
        return Err(IndexError::Damaged("it is of another number of records"));
    }
    Ok(index)
}

/// For each segment that has records of `range`: the proof which of them `selector` selects, as far
/// as the log vouches for its index; the others are told as not covered.
///
/// The record numbers of a proof are of a whole segment, and may lie outside of `range`.
pub fn prove(
    log: &Log,
    selector: &Selector,
    range: Range<u64>,
) -> Result<Vec<SegmentProof>, ReadError> {
    let mut proofs: Vec<SegmentProof> = Vec::new();
    for span in log.spans()? {
        if span.end <= range.start || span.first >= range.end || span.first == span.end {
            continue;
        }
        let covered = match open(log, &span) {
            Ok(index) => match statement_of(log, &span, &index)? {
                Some(record) => claims(log, &span, selector, &index)
                    .ok()
                    .map(|proven| Coverage::Proven(Proven { record, ..proven })),
                None => None,
            },
            Err(_) => None,
        };
        let coverage = covered.unwrap_or(Coverage::Uncovered);
        proofs.push(SegmentProof { first: span.first, end: span.end, coverage });
    }
    Ok(proofs)
}

/// The record in which the log vouches for this index.
fn statement_of(log: &Log, span: &Span, index: &Index) -> Result<Option<u64>, ReadError> {
    let expected = index.frame.statement(&index.keys);
    let query = Query {
        conditions: vec![Condition::Segment(span.first)],
        range: span.end..u64::MAX,
        order: Order::OldestFirst,
        ..Query::default()
    };
    for record in log.search(query)? {
        let record = record?;
        if Statement::of(&record.text).is_some_and(|it| it.vouches_like(&expected)) {
            return Ok(Some(record.index));
        }
    }
    Ok(None)
}

/// Everything but the record that vouches for it.
fn claims(
    log: &Log,
    span: &Span,
    selector: &Selector,
    index: &Index,
) -> Result<Proven, IndexError> {
    let handles = log.handles(span.first, selector).ok_or(IndexError::Locked)?;
    let words = words_for(selector, &index.frame.lengths, &handles).ok_or(IndexError::Missing)?;
    let mut kinds: Vec<Kind> = words.iter().map(|word| word.kind).collect();
    kinds.dedup();
    let keys = kinds.into_iter().map(|kind| (kind, index.keys.disclosed(kind))).collect();
    let mut leaves = Leaves::new(index);
    let claims =
        words.iter().map(|word| claim(index, &mut leaves, word)).collect::<Result<_, _>>()?;
    Ok(Proven { record: 0, handles, keys, claims })
}

fn claim(index: &Index, leaves: &mut Leaves<'_>, word: &Word) -> Result<Claim, IndexError> {
    let id = index.keys.id(word.kind, &word.value);
    let size = index.frame.keys;
    let group = index.group_of(id)?;
    let base = group.unwrap_or(0) * format::GROUP;
    let entries = match group {
        Some(group) => index.group(group)?,
        None => Vec::new(),
    };
    let behind = entries.partition_point(|entry| entry.id <= id);
    let last = behind.checked_sub(1).and_then(|place| Some((base + place, entries.get(place)?)));
    if let Some((at, entry)) = last.filter(|(_, entry)| entry.id == id) {
        let (_, numbers) = index.committed(entry)?;
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        let path = inclusion_path(leaves, at, size)?;
        return Ok(Claim::Present { at, nonce: index.keys.nonce(id), numbers, path });
    }
    let mut neighbour = |at: usize| -> Result<Option<Neighbour>, IndexError> {
        let entry = index.group(at / format::GROUP)?.into_iter().nth(at % format::GROUP);
        let Some(entry) = entry else { return Ok(None) };
        let (numbers, _) = index.committed(&entry)?;
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        let path = inclusion_path(leaves, at, size)?;
        Ok(Some(Neighbour { at, id: entry.id, numbers, path }))
    };
    let total = usize::try_from(size).unwrap_or(usize::MAX);
    let before = match last {
        Some((at, _)) => neighbour(at)?,
        None => None,
    };
    let next = base + behind;
    let after = if next < total { neighbour(next)? } else { None };
    Ok(Claim::Absent { before, after })
}

/// How often whoever makes an index looks whether that is still wanted, in records.
const LOOK_UP: u64 = 1_024;

/// Makes the index of the records in `span`, without writing it; none when it is over before.
pub(crate) fn build(
    log: &Log,
    span: &Span,
    is_over: &dyn Fn() -> bool,
) -> Result<Option<Built>, ReadError> {
    let unusable = |source| ReadError::Index { first: span.first, source };
    let key = log.index_key(span.first).ok_or_else(|| unusable(IndexError::Locked))?;
    let mut builder = IndexBuilder::new(span.first, &key);
    for record in log.records(span.first..span.end)? {
        let record = record?;
        if record.index.is_multiple_of(LOOK_UP) && is_over() {
            return Ok(None);
        }
        builder.push(&record.stored_text()).map_err(unusable)?;
    }
    builder.finish(keeper::salt().map_err(unusable)?).map(Some).map_err(unusable)
}

/// The records that the index in `file` has for `selector`, without a log around it: for measuring,
/// and for trying what damage does. `first` begins its segment, `key` is that of the segment.
pub fn find_in(
    file: File,
    first: u64,
    key: &[u8; 32],
    selector: &Selector,
) -> Result<Vec<u64>, IndexError> {
    let index = Index::read(file, first, key)?;
    let words = words_for(selector, &index.frame.lengths, &[]).ok_or(IndexError::Missing)?;
    let mut numbers = Vec::new();
    for word in &words {
        let places = index.find(word)?.unwrap_or_default();
        numbers.extend(places.into_iter().map(|place| index.frame.first + place));
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// Every entry of the index in `file` with its records: how many entries there are, and how many
/// records they name.
pub fn walk(file: File, first: u64, key: &[u8; 32]) -> Result<(u64, u64), IndexError> {
    let index = Index::read(file, first, key)?;
    let (mut entries, mut named) = (0, 0);
    for group in 0..index.frame.groups() {
        for entry in index.group(group)? {
            entries += 1;
            named += u64::try_from(index.places(&entry.places)?.len()).unwrap_or(u64::MAX);
        }
    }
    Ok((entries, named))
}

/// Whether the index files of a log are whole, as can be told without a key: gives those that are
/// not.
pub fn damaged_files(directory: &Path) -> Result<Vec<u64>, FileError> {
    let layout = Layout::new(directory);
    let mut damaged = Vec::new();
    for first in keeper::files(&layout)? {
        let path = layout.index(first);
        let whole = File::open(&path).and_then(|file| pages::is_whole(&file));
        if !whole.map_err(FileError::on("read", &path))? {
            damaged.push(first);
        }
    }
    Ok(damaged)
}

/// An error and its causes on one line.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

const _: () = assert!(RECORDS_MAX > 1 << 20 && round_up(1) == pages::PAGE_BYTES);
