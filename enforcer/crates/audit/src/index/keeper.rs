//! Makes the indexes: in the agent beside its other work, or for anybody who can read the log.
//!
//! Nothing is queued. What there is to do is what lies on the disk: closed segments without an index,
//! and indexes that the log does not vouch for yet. A crash in between leaves it there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tracing::{debug, error, warn};

use super::pages::Salt;
use super::{IndexError, Statement, build, open};
use crate::audit::Audit;
use crate::files::FileError;
use crate::layout::{Layout, index_first};
use crate::query::{Condition, Query};
use crate::read::{Log, ReadError, Span};
use crate::record::Record;

/// How often the agent looks for a segment that was closed.
const EVERY: Duration = Duration::from_millis(250);
/// How many times it does not, after the log could not be read: a minute.
const PAUSE: u32 = 240;
/// Others come first.
const NICE: i32 = 15;

/// Indexes each segment of a log after it was closed.
#[derive(Debug)]
pub struct Keeper {
    audit: Audit,
    directory: PathBuf,
    /// Segments that are done, or cannot be.
    settled: BTreeMap<u64, Settled>,
    /// Whether what the log vouches for was read.
    is_begun: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Done,
    /// It was told why.
    Impossible,
}

/// What was done about the indexes of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexReport {
    /// Closed segments.
    pub segments: u64,
    /// Of them, those whose index was made now.
    pub built: u64,
    /// Of them, those whose records or keys are not at hand, or that cannot be indexed.
    pub impossible: u64,
}

impl Keeper {
    /// For the log in `directory`, to which `audit` writes.
    pub fn new(audit: Audit, directory: impl Into<PathBuf>) -> Self {
        Self { audit, directory: directory.into(), settled: BTreeMap::new(), is_begun: false }
    }

    /// Works until `is_over`, in the background of whatever else the host does.
    pub fn run(mut self, is_over: &dyn Fn() -> bool) {
        if let Err(error) = rustix::process::nice(NICE) {
            debug!(%error, "the index thread has no lower priority");
        }
        let mut seen = None;
        let mut pause = 0;
        while !is_over() {
            let segments = newest_segment(&self.directory);
            if pause == 0 && seen != segments {
                seen = segments;
                if let Err(error) = self.pass(is_over) {
                    let error = super::told(&error);
                    warn!(error, "segments of the audit log wait to be indexed");
                    (seen, pause) = (None, PAUSE);
                }
            }
            pause = pause.saturating_sub(1);
            std::thread::park_timeout(EVERY);
        }
    }

    /// Indexes every closed segment that has no index, and has the log vouch for each.
    pub fn pass(&mut self, is_over: &dyn Fn() -> bool) -> Result<IndexReport, ReadError> {
        let log = Log::open_read_only(&self.directory)?;
        if !self.is_begun {
            self.begin(&log, is_over)?;
        }
        let mut report = IndexReport::default();
        for span in log.spans()?.into_iter().filter(|span| span.closed) {
            if is_over() {
                break;
            }
            report.segments += 1;
            match self.settled.get(&span.first) {
                Some(Settled::Done) => continue,
                Some(Settled::Impossible) => {
                    report.impossible += 1;
                    continue;
                }
                None => {}
            }
            match index_of(&log, &span, is_over) {
                Ok(None) => break,
                Ok(Some((statement, is_new))) => {
                    report.built += u64::from(is_new);
                    let Ok(slot) = self.audit.reserve() else { continue };
                    drop(slot.write(Record::Segment(Box::new(statement))));
                    self.settled.insert(span.first, Settled::Done);
                }
                Err(error) if is_of_segment(&error) => {
                    report.impossible += 1;
                    let (first, error) = (span.first, super::told(&error));
                    error!(first, error, "a segment of the audit log cannot be indexed");
                    self.settled.insert(first, Settled::Impossible);
                }
                Err(other) => return Err(other),
            }
        }
        Ok(report)
    }

    /// Reads which indexes the log vouches for. One that is not as it vouches for is made again.
    fn begin(&mut self, log: &Log, is_over: &dyn Fn() -> bool) -> Result<(), ReadError> {
        let mut vouched: BTreeMap<u64, Vec<Statement>> = BTreeMap::new();
        let conditions = vec![Condition::Class(vec!["segment".to_owned()])];
        for record in log.search(Query { conditions, ..Query::default() })? {
            if let Some(statement) = Statement::of(&record?.text) {
                vouched.entry(statement.first).or_default().push(statement);
            }
        }
        for span in log.spans()?.into_iter().filter(|span| span.closed) {
            let Some(statements) = vouched.get(&span.first) else { continue };
            let (found, _) = match index_of(log, &span, is_over) {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(()),
                Err(error) if is_of_segment(&error) => continue,
                Err(other) => return Err(other),
            };
            if statements.iter().any(|statement| statement.vouches_like(&found)) {
                self.settled.insert(span.first, Settled::Done);
            } else {
                error!(
                    first = span.first,
                    "the index of a segment is not the one that the audit log vouches for"
                );
                self.settled.insert(span.first, Settled::Impossible);
            }
        }
        self.is_begun = true;
        Ok(())
    }
}

/// Makes every index that is missing or damaged; `progress` is told how many closed segments there
/// are and how many are done. For whoever can read the log; the agent does so by itself.
pub fn catch_up(
    directory: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<IndexReport, ReadError> {
    let log = Log::open_read_only(directory)?;
    let spans: Vec<Span> = log.spans()?.into_iter().filter(|span| span.closed).collect();
    let segments = u64::try_from(spans.len()).unwrap_or(u64::MAX);
    let mut report = IndexReport { segments, ..IndexReport::default() };
    for (done, span) in (0..).zip(&spans) {
        progress(done, segments);
        match index_of(&log, span, &|| false) {
            Ok(found) => report.built += u64::from(found.is_some_and(|(_, is_new)| is_new)),
            Err(error) if is_of_segment(&error) => report.impossible += 1,
            Err(other) => return Err(other),
        }
    }
    Ok(report)
}

/// Whether other segments can be indexed all the same.
fn is_of_segment(error: &ReadError) -> bool {
    match error {
        ReadError::Damaged { .. }
        | ReadError::Index { .. }
        | ReadError::Sealed { .. }
        | ReadError::Segment(_)
        | ReadError::Tile(_) => true,
        ReadError::Checkpoint { .. }
        | ReadError::File(_)
        | ReadError::Key { .. }
        | ReadError::NoLog(_)
        | ReadError::NoRecord { .. }
        | ReadError::Root(_) => false,
    }
}

/// What the index of `span` says of itself, and whether it was made now because there was none. None
/// when it is over before.
fn index_of(
    log: &Log,
    span: &Span,
    is_over: &dyn Fn() -> bool,
) -> Result<Option<(Statement, bool)>, ReadError> {
    prepare(log.layout()).map_err(ReadError::File)?;
    let layout = log.layout();
    let path = layout.index(span.first);
    let whole = fs::File::open(&path).and_then(|file| super::pages::is_whole(&file));
    if whole.unwrap_or(false)
        && let Ok(index) = open(log, span)
    {
        return Ok(Some((index.frame.statement(&index.keys), false)));
    }
    let Some(built) = build(log, span, is_over)? else { return Ok(None) };
    let unfinished = layout.indexes().join("unfinished");
    let written = fs::write(&unfinished, &built.bytes);
    written.map_err(FileError::on("write", &unfinished))?;
    fs::rename(&unfinished, &path).map_err(FileError::on("rename to", &path))?;
    debug!(first = span.first, end = span.end, bytes = built.bytes.len(), "segment indexed");
    Ok(Some((built.statement, true)))
}

fn prepare(layout: &Layout) -> Result<(), FileError> {
    let folder = layout.indexes();
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(FileError::on("create directory", &folder))
}

/// First indices of the segments that have an index, ascending.
pub(super) fn files(layout: &Layout) -> Result<Vec<u64>, FileError> {
    let names = crate::files::names(&layout.indexes())?;
    let mut firsts: Vec<u64> = names.iter().filter_map(|name| index_first(name)).collect();
    firsts.sort_unstable();
    Ok(firsts)
}

pub(super) fn salt() -> Result<Salt, IndexError> {
    let mut salt = Salt::default();
    SystemRandom::new().fill(&mut salt).map_err(|_unspecified| IndexError::Cipher)?;
    Ok(salt)
}

fn newest_segment(directory: &Path) -> Option<u64> {
    crate::chain::segments(&Layout::new(directory)).ok()?.last().copied()
}
