//! Our log, as a server uses it: slots, tickets, and somebody who waits for each of them.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use enforcer_audit::{Audit, Config, Expected, Log, Record, Ticket, verify};
use enforcer_model::{Exchange, SystemClock};
use rustix::time::{ClockId, clock_gettime};

use super::{World, figure};
use crate::bench::Samples;

/// Room in the queue while as much as possible is written.
const QUEUE: usize = 65_536;
/// Whom segments are sealed to.
const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
/// Threads that write, each with a share of the queue under way.
const WRITERS: u64 = 2;
/// A millisecond's worth of records is offered at a time.
const BEAT: Duration = Duration::from_millis(1);
/// Records written in a row while processor time is measured.
const BURST: u64 = 2_000;

/// How long records took to be under a signed checkpoint, in milliseconds.
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) most: f64,
}

/// Opens a log with a long queue.
fn open(folder: &Path) -> Result<Audit> {
    let recipients = vec![RECIPIENT.parse()?];
    let config = Config { queue: QUEUE, recipients, ..Config::new(folder, "bench.example/audit") };
    let (audit, _) = Audit::open(config, Arc::new(SystemClock))?;
    Ok(audit)
}

fn close(audit: Audit) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    // Its last segment is one like the others.
    runtime.block_on(audit.roll())?;
    Ok(runtime.block_on(audit.close())?)
}

/// Writes `count` records, all of which are acknowledged at the end; records a second.
pub(super) fn write(world: &World, folder: &Path, count: u64) -> Result<f64> {
    write_each(folder, count, |number| world.request(number))
}

/// The same of other requests.
pub(super) fn write_each(
    folder: &Path,
    count: u64,
    request: impl Fn(u64) -> Result<Arc<Exchange>> + Sync,
) -> Result<f64> {
    let audit = open(folder)?;
    let request = &request;
    let begun = Instant::now();
    thread::scope(|scope| {
        let writers = (0..WRITERS).map(|writer| {
            let audit = audit.clone();
            scope.spawn(move || -> Result<()> {
                let share = QUEUE / usize::try_from(WRITERS)?;
                let mut waiting: VecDeque<Ticket> = VecDeque::with_capacity(share);
                let mut number = writer;
                while number < count {
                    // Never more under way than there is room for, so that none is refused.
                    if waiting.len() == share {
                        for ticket in waiting.drain(..share / 2) {
                            ticket.wait()?;
                        }
                    }
                    let record = Record::Http(request(number)?);
                    waiting.push_back(audit.reserve()?.write(record));
                    number += WRITERS;
                }
                waiting.into_iter().try_for_each(|ticket| ticket.wait().map(drop))?;
                Ok(())
            })
        });
        let writers: Vec<_> = writers.collect();
        writers.into_iter().try_for_each(|writer| writer.join().ok().context("a panic")?)
    })?;
    let spent = begun.elapsed().as_secs_f64();
    let size = close(audit)?;
    ensure!(size >= count, "{count} records were written, the log has {size}");
    Ok(figure(count)? / spent)
}

/// Offers `rate` records a second for a while; how long each took.
pub(super) fn latency(world: &World, folder: &Path, rate: u64, seconds: u64) -> Result<Latency> {
    let audit = open(folder)?;
    let (tickets, waiting) = channel::<(Instant, Ticket)>();
    let hearer = thread::spawn(move || -> Result<Vec<f64>> {
        let mut figures = Vec::new();
        // They are acknowledged in the order in which they were written.
        for (written, ticket) in waiting {
            ticket.wait()?;
            figures.push(written.elapsed().as_secs_f64() * 1e3);
        }
        Ok(figures)
    });
    let begun = Instant::now();
    let each = rate / 1_000;
    for beat in 0..seconds * 1_000 {
        let due = begun + BEAT * u32::try_from(beat)?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        for number in beat * each..(beat + 1) * each {
            let record = Record::Http(world.request(number)?);
            // A turn that comes late has waited since it was due.
            tickets.send((due, audit.reserve()?.write(record)))?;
        }
    }
    drop(tickets);
    let figures = hearer.join().ok().context("a panic")??;
    close(audit)?;
    let samples = Samples::new(figures)?;
    Ok(Latency {
        p50: samples.median()?,
        p99: samples.percentile(99)?,
        most: samples.percentile(100)?,
    })
}

/// What a slot, a write and a ticket that nobody waits for cost the thread, in microseconds.
pub(super) fn on_the_thread(world: &World, folder: &Path, bursts: u64) -> Result<f64> {
    let audit = open(folder)?;
    let mut spent = Duration::ZERO;
    for burst in 0..bursts {
        let records = (burst * BURST..(burst + 1) * BURST).map(|number| world.request(number));
        let records = records.collect::<Result<Vec<_>>>()?;
        let begun = processor_time();
        for record in records {
            drop(audit.reserve()?.write(Record::Http(record)));
        }
        spent += processor_time().saturating_sub(begun);
        // The writer has its turn, and the queue is empty again.
        let last = audit.reserve()?.write(Record::Http(world.request(0)?));
        last.wait()?;
    }
    close(audit)?;
    Ok(spent.as_secs_f64() * 1e6 / figure(bursts * BURST)?)
}

/// Audits the whole log; records a second.
pub(super) fn audit(folder: &Path) -> Result<(f64, u64)> {
    let begun = processor_time();
    let report = verify(folder, &Expected::default(), |_, _| ())?;
    let spent = processor_time().saturating_sub(begun);
    let size = report.checkpoint.size;
    Ok((figure(size)? / spent.as_secs_f64(), size))
}

/// How many records a log has.
pub(super) fn size(folder: &Path) -> Result<u64> {
    Ok(Log::open_read_only(folder)?.size())
}

/// What this thread has used of a core.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
