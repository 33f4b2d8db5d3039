//! `enforcer audit stats`: what the records of a log, or some of them, come to.

use std::collections::BTreeMap;

use clap::Args;
use enforcer_admin::call::LookVerb;
use enforcer_audit::{DiskUsage, Log, Order, Query};
use enforcer_model::Timestamp;
use serde::Serialize;

use super::wanted::Filters;
use super::{Place, unreadable};
use crate::cli::tally::{Counts, Tally};
use crate::cli::{Context, Exit, Failure, bytes, counted};

/// Things of one kind that are printed for people; programs get all.
const TOP: usize = 10;

/// Stretches of time that are told apart; with more of them, each becomes twice as long.
const STEPS_MAX: usize = 64;

/// What the records come to: classes, decisions, bytes, rates, who sends most, gaps
///
/// Every record in question is read; `--since` keeps that short.
#[derive(Args, Debug)]
pub(crate) struct Stats {
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    place: Place,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Told {
    origin: String,
    signed_records: u64,
    segments: u64,
    indexed_segments: u64,
    segment_bytes: u64,
    index_bytes: u64,
    rate: Vec<Step>,
    #[serde(flatten)]
    tally: Tally,
}

/// Records of one stretch of time.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Step {
    from: Timestamp,
    seconds: u64,
    records: u64,
}

/// How many records were written when.
#[derive(Debug)]
struct Rate {
    seconds: u64,
    counts: BTreeMap<u64, u64>,
}

impl Stats {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let query = self.filters.query(context, Order::OldestFirst)?;
        let log = self.place.open(context)?;
        let arguments = self.filters.told(&query);
        let (tally, rate) = count(&log, query)?;
        self.place.look(context, &log, LookVerb::Stats, arguments, tally.records)?;
        let usage = log.disk_usage().map_err(|error| unreadable(&error))?;
        let DiskUsage { segments, indexed_segments, segment_bytes, index_bytes } = usage;
        let told = Told {
            origin: log.checkpoint().origin.clone(),
            signed_records: log.size(),
            segments,
            indexed_segments,
            segment_bytes,
            index_bytes,
            rate: rate.steps(),
            tally,
        };
        context.printer.item(&told, &told.lines())?;
        Ok(Exit::Done)
    }
}

fn count(log: &Log, query: Query) -> Result<(Tally, Rate), Failure> {
    let mut tally = Tally::default();
    let mut rate = Rate { seconds: 1, counts: BTreeMap::new() };
    for record in log.search(query).map_err(|error| unreadable(&error))? {
        let record = record.map_err(|error| unreadable(&error))?;
        if let Ok(header) = record.header() {
            rate.add(header.time);
        }
        tally.add(&record);
    }
    Ok((tally, rate))
}

impl Rate {
    fn add(&mut self, time: Timestamp) {
        *self.counts.entry(time.unix_seconds() / self.seconds).or_default() += 1;
        while self.counts.len() > STEPS_MAX {
            self.seconds = self.seconds.saturating_mul(2);
            let mut longer = BTreeMap::new();
            for (step, count) in std::mem::take(&mut self.counts) {
                *longer.entry(step / 2).or_default() += count;
            }
            self.counts = longer;
        }
    }

    fn steps(&self) -> Vec<Step> {
        let step = |(step, records): (&u64, &u64)| Step {
            from: Timestamp::from_unix_seconds(step.saturating_mul(self.seconds)),
            seconds: self.seconds,
            records: *records,
        };
        self.counts.iter().map(step).collect()
    }
}

impl Told {
    fn lines(&self) -> Vec<String> {
        let tally = &self.tally;
        let per_record = self.segment_bytes.checked_div(self.signed_records).unwrap_or(0);
        let mut lines = vec![
            format!("{}: {} records", self.origin, self.signed_records),
            format!(
                "  on disk   {}, {} each; {} indexed, {} of index",
                bytes(self.segment_bytes),
                counted(per_record, "byte"),
                counted(self.indexed_segments, "segment"),
                bytes(self.index_bytes)
            ),
            format!("  counted   {} records", tally.records),
        ];
        for (what, mark) in [("first", &tally.first), ("last", &tally.last)] {
            if let Some(mark) = mark {
                lines.push(format!("  {what:<9} {}  #{}", mark.time, mark.record));
            }
        }
        if tally.requests > 0 {
            lines.push(format!(
                "  requests  {}: {} served, {} refused; {} in, {} out",
                tally.requests,
                tally.served,
                tally.refused,
                bytes(tally.bytes_in),
                bytes(tally.bytes_out)
            ));
            let latency = &tally.latency_us;
            let [p50, p95, p99] = [500, 950, 990].map(|part| latency.quantile(part));
            lines.push(format!(
                "  latency   median {p50} us, 95 % {p95} us, 99 % {p99} us, at most {} us",
                latency.most()
            ));
        }
        lines.push(match tally.missing {
            0 => "  gaps      none".to_owned(),
            missing => format!("  gaps      {missing} records are missing"),
        });
        for (name, counts) in [
            ("classes", &tally.classes),
            ("decisions", &tally.decisions),
            ("refused for", &tally.reasons),
            ("statuses", &tally.statuses),
            ("routes", &tally.routes),
            ("callers", &tally.callers),
            ("addresses", &tally.addresses),
            ("gaps", &tally.gaps),
        ] {
            section(&mut lines, name, counts);
        }
        if self.rate.len() > 1 {
            lines.push("  over time".to_owned());
        }
        for step in self.rate.iter().filter(|_| self.rate.len() > 1) {
            let Step { from, seconds, records } = step;
            lines.push(format!("    {from}  {records} in {seconds} s"));
        }
        lines
    }
}

fn section(lines: &mut Vec<String>, name: &str, counts: &Counts) {
    if counts.is_empty() {
        return;
    }
    lines.push(format!("  {name}"));
    for (thing, count) in counts.top().into_iter().take(TOP) {
        lines.push(format!("    {thing}: {}", count.records));
    }
    if let Some(more) = counts.len().checked_sub(TOP).filter(|more| *more > 0) {
        lines.push(format!("    and {more} more; `-o json` has all"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_keeps_its_sum_and_its_bounds_however_long_the_time() {
        let mut rate = Rate { seconds: 1, counts: BTreeMap::new() };

        (0..10_000).for_each(|hour| rate.add(Timestamp::from_unix_seconds(hour * 3_600)));

        let steps = rate.steps();
        assert!(steps.len() <= STEPS_MAX && steps.len() > STEPS_MAX / 4);
        assert_eq!(steps.iter().map(|step| step.records).sum::<u64>(), 10_000);
    }
}
