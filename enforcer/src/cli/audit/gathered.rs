//! Records that are counted before the first of them is shown.

use enforcer_audit::{Log, Order, Query, ReadError, Stored};

/// Records that are kept while they are counted; those behind are read twice.
const KEPT_MAX: usize = 20_000;

/// What a query found.
#[derive(Debug)]
pub(crate) struct Gathered {
    query: Query,
    kept: Vec<Stored>,
    count: u64,
    unindexed: u64,
}

impl Gathered {
    /// Counts what `query` finds, at most `limit` of it, and lets `each` have a look.
    pub(crate) fn new(
        log: &Log,
        query: Query,
        limit: u64,
        mut each: impl FnMut(&Stored),
    ) -> Result<Self, ReadError> {
        let mut search = log.search(query.clone())?;
        let (mut kept, mut count) = (Vec::new(), 0);
        while count < limit {
            let Some(record) = search.next() else { break };
            let record = record?;
            each(&record);
            count += 1;
            if kept.len() < KEPT_MAX {
                kept.push(record);
            }
        }
        Ok(Self { query, kept, count, unindexed: search.unindexed() })
    }

    /// How many there are.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// Closed segments that had to be read for it.
    pub(crate) const fn unindexed(&self) -> u64 {
        self.unindexed
    }

    /// All of them, in order.
    pub(crate) fn records(
        self,
        log: &Log,
    ) -> Result<impl Iterator<Item = Result<Stored, ReadError>>, ReadError> {
        let Self { mut query, kept, count, unindexed: _ } = self;
        let behind = count.saturating_sub(u64::try_from(kept.len()).unwrap_or(u64::MAX));
        if let Some(last) = kept.last() {
            match query.order {
                Order::OldestFirst => query.range.start = last.index + 1,
                Order::NewestFirst => query.range.end = last.index,
            }
        }
        let rest = if behind > 0 { Some(log.search(query)?) } else { None };
        let rest = rest.into_iter().flatten();
        let rest = rest.take(usize::try_from(behind).unwrap_or(usize::MAX));
        Ok(kept.into_iter().map(Ok).chain(rest))
    }
}
