//! Searching a log: conditions that a record must meet, and the way through the segments.
//!
//! Each segment is asked by its index, a few of them at once, and read where that does not answer.
//! Every record that is found is looked at before it is given: an index only says where to look.

use std::collections::VecDeque;
use std::ops::{Range, RangeInclusive};

use enforcer_model::Timestamp;

use crate::index::{self, Found};
use crate::read::{Log, ReadError, Records, Span};
use crate::select::Selector;
use crate::stored::Stored;
use crate::term::{Term, terms};

/// Segments that are asked at once.
const ASKED_AT_ONCE: usize = 64;
/// Threads that ask.
const ASKING: usize = 8;
/// Candidates that are this near are read in one go.
const NEAR: u64 = 32;
/// Records that are read at once when the newest come first.
const BACKWARDS: u64 = 1_024;

/// What a record must meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It belongs to one of these trails.
    Any(Vec<Selector>),
    /// It is of one of these classes.
    Class(Vec<String>),
    /// It is a request that was refused for one of these reasons.
    Reason(Vec<String>),
    /// It is about the segment that begins with this record.
    Segment(u64),
    /// It is a request whose answer had one of these statuses.
    Status(Vec<RangeInclusive<u16>>),
    /// It is a request that was served, or one that was refused.
    Verdict(Verdict),
    /// It belongs to this trail.
    Who(Selector),
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is the upstream's, or the cache's.
    Served,
    /// It was refused here.
    Refused,
}

/// Which end comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As they were written.
    #[default]
    OldestFirst,
    /// The other way round.
    NewestFirst,
}

/// Which records are wanted: those that meet all conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// All of them must be met.
    pub conditions: Vec<Condition>,
    /// Written at this time or later.
    pub since: Option<Timestamp>,
    /// Written at this time or earlier.
    pub until: Option<Timestamp>,
    /// By their numbers.
    pub range: Range<u64>,
    /// Which end comes first.
    pub order: Order,
}

/// The records of a [`Query`].
#[derive(Debug)]
pub struct Search {
    log: Log,
    query: Query,
    /// Not asked yet; the next one is in front.
    spans: VecDeque<Span>,
    /// Asked: what is left to read of each, the next one in front.
    asked: VecDeque<Plan>,
    reading: Option<Records>,
    ready: VecDeque<Stored>,
    unindexed: u64,
    over: bool,
}

/// What is left to read of a segment.
#[derive(Debug)]
struct Plan {
    ranges: VecDeque<Range<u64>>,
}

// === impl Condition ===

impl Condition {
    /// Whether a record with this term meets the condition.
    fn wants(&self, term: &Term<'_>) -> bool {
        match (self, term) {
            (Self::Who(selector), term) => selector.wants(term),
            (Self::Any(selectors), term) => selectors.iter().any(|it| it.wants(term)),
            (Self::Class(classes), Term::Class(named)) => classes.iter().any(|it| it == named),
            (Self::Reason(reasons), Term::Reason(named)) => reasons.iter().any(|it| it == named),
            (Self::Segment(first), Term::Segment(named)) => first == named,
            (Self::Status(ranges), Term::Status(named)) => {
                u16::try_from(*named).is_ok_and(|it| ranges.iter().any(|range| range.contains(&it)))
            }
            (Self::Verdict(Verdict::Served), Term::Served)
            | (Self::Verdict(Verdict::Refused), Term::Reason(_)) => true,
            _ => false,
        }
    }
}

// === impl Query ===

impl Default for Query {
    fn default() -> Self {
        Self {
            conditions: Vec::new(),
            since: None,
            until: None,
            range: 0..u64::MAX,
            order: Order::OldestFirst,
        }
    }
}

impl Query {
    /// Whether `record` is wanted.
    pub fn matches(&self, record: &Stored) -> bool {
        if !self.range.contains(&record.index) {
            return false;
        }
        let mut met = vec![false; self.conditions.len()];
        let envelope = terms(&record.text, &mut |term| {
            for (met, condition) in met.iter_mut().zip(&self.conditions) {
                *met |= condition.wants(&term);
            }
        });
        let Some(envelope) = envelope else { return false };
        let since = self.since.is_none_or(|since| envelope.time.is_some_and(|it| it >= since));
        let until = self.until.is_none_or(|until| envelope.time.is_some_and(|it| it <= until));
        since && until && met.into_iter().all(|met| met)
    }
}

// === impl Log ===

impl Log {
    /// The records that `query` wants.
    pub fn search(&self, query: Query) -> Result<Search, ReadError> {
        let mut spans: VecDeque<Span> = self
            .spans()?
            .into_iter()
            .filter(|span| span.first < query.range.end && span.end > query.range.start)
            .filter(|span| span.first < span.end)
            .collect();
        if query.order == Order::NewestFirst {
            spans.make_contiguous().reverse();
        }
        Ok(Search {
            log: self.clone(),
            query,
            spans,
            asked: VecDeque::new(),
            reading: None,
            ready: VecDeque::new(),
            unindexed: 0,
            over: false,
        })
    }
}

// === impl Search ===

impl Search {
    /// Closed segments that were read because no index answered for them.
    pub const fn unindexed(&self) -> u64 {
        self.unindexed
    }

    fn advance(&mut self) -> Result<Option<Stored>, ReadError> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Ok(Some(record));
            }
            if let Some(records) = &mut self.reading {
                for record in records {
                    let record = record?;
                    if self.query.matches(&record) {
                        return Ok(Some(record));
                    }
                }
                self.reading = None;
            }
            let Some(range) = self.next_range() else {
                if self.spans.is_empty() {
                    return Ok(None);
                }
                self.ask();
                continue;
            };
            let records = self.log.records(range)?;
            match self.query.order {
                Order::OldestFirst => self.reading = Some(records),
                Order::NewestFirst => {
                    for record in records {
                        let record = record?;
                        if self.query.matches(&record) {
                            self.ready.push_front(record);
                        }
                    }
                }
            }
        }
    }

    fn next_range(&mut self) -> Option<Range<u64>> {
        while let Some(plan) = self.asked.front_mut() {
            if let Some(range) = plan.ranges.pop_front() {
                return Some(range);
            }
            self.asked.pop_front();
        }
        None
    }

    /// Asks the next few segments, several at once: on a disk each answer is a wait.
    fn ask(&mut self) {
        let spans: Vec<Span> = self.spans.drain(..self.spans.len().min(ASKED_AT_ONCE)).collect();
        let share = spans.len().div_ceil(ASKING).max(1);
        let (log, query) = (&self.log, &self.query);
        let mut answers: Vec<Option<Found>> = vec![None; spans.len()];
        if spans.len() < ASKING {
            for (span, answer) in spans.iter().zip(&mut answers) {
                *answer = index::ask(log, span, query).ok();
            }
        } else {
            std::thread::scope(|scope| {
                for (spans, answers) in spans.chunks(share).zip(answers.chunks_mut(share)) {
                    scope.spawn(move || {
                        for (span, answer) in spans.iter().zip(answers) {
                            *answer = index::ask(log, span, query).ok();
                        }
                    });
                }
            });
        }
        for (span, answer) in spans.iter().zip(answers) {
            if answer.is_none() && span.closed {
                self.unindexed += 1;
            }
            let ranges = self.ranges(span, answer);
            self.asked.push_back(Plan { ranges });
        }
    }

    /// What has to be read of a segment, in the order in which it is wanted.
    fn ranges(&self, span: &Span, answer: Option<Found>) -> VecDeque<Range<u64>> {
        let wanted = span.first.max(self.query.range.start)..span.end.min(self.query.range.end);
        let mut ranges: VecDeque<Range<u64>> = VecDeque::new();
        match answer {
            Some(Found::Nothing) => {}
            Some(Found::Candidates(numbers)) => {
                for number in numbers.into_iter().filter(|number| wanted.contains(number)) {
                    match ranges.back_mut() {
                        Some(range)
                            if number < range.end.saturating_add(NEAR)
                                && number - range.start < BACKWARDS =>
                        {
                            range.end = number + 1;
                        }
                        _ => ranges.push_back(number..number + 1),
                    }
                }
            }
            None if self.query.order == Order::OldestFirst => ranges.push_back(wanted),
            None => {
                let mut from = wanted.start;
                while from < wanted.end {
                    let until = wanted.end.min(from.saturating_add(BACKWARDS));
                    ranges.push_back(from..until);
                    from = until;
                }
            }
        }
        if self.query.order == Order::NewestFirst {
            ranges.make_contiguous().reverse();
        }
        ranges
    }
}

impl Iterator for Search {
    type Item = Result<Stored, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let record = self.advance().transpose();
        // Behind damage nothing is known to be in its place.
        self.over = !matches!(record, Some(Ok(_)));
        record
    }
}
