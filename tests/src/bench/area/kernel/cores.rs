//! Two cores that want the same thing: one source, one block, one set of sources.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use anyhow::{Result, ensure};
use enforcer_ebpf::source::{V4_MARK, set_of};
use enforcer_ebpf::{Reason, Verdict};

use super::super::super::{Effort, Row, Samples, Target, alternate};
use super::ours::{Counted, Ours, ROOM, budgets, generous, single};
use super::traffic::{Generator, Stream, address, key};
use super::{packets, rounds};
use crate::lab::{Family, Lab};

/// The key that is blocked, and the key of a source.
const BLOCKED: u32 = 0;
const SOURCE: u32 = 1;

/// A budget that two cores exceed many times.
const RATE: u32 = 100_000;
const BURST: u32 = 1000;

/// Packets of either core in the race for it: a second or so, of which what a run takes to begin is
/// a small part.
const RACE: u32 = 4_000_000;

pub(super) fn measure(lab: &Lab, generator: &mut Generator, effort: Effort) -> Result<Vec<Row>> {
    let mut ours = Ours::start(&lab.host, &ROOM, generous())?;
    ours.block(Family::V4, BLOCKED..BLOCKED + 1)?;
    generator.ask(ours.program())?;
    let counted = ours.counted()?;
    let packets = packets(effort, 2_000_000);

    let one = |number| Stream::new(Family::V4, [0; 6], number..number + 1);
    let mut rows = Vec::new();
    let before = hits(&ours)?;
    let (row, sent) =
        contend(generator, &counted, &[one(BLOCKED), one(BLOCKED)], packets, "block", effort)?;
    rows.push(row);
    let hits = hits(&ours)?.wrapping_sub(before);
    rows.push(share("packets that the block counted, two cores", hits, sent));
    let (row, _) =
        contend(generator, &counted, &[one(SOURCE), one(SOURCE)], packets, "source", effort)?;
    rows.push(row);
    let [first, second] = neighbours(&ours, generator)?;
    let (row, _) = contend(generator, &counted, &[first, second], packets, "set of four", effort)?;
    rows.push(row);

    ours.kernel.set_budgets(&budgets(RATE, BURST))?;
    rows.push(overdraft(generator, &counted, &one(SOURCE))?);
    Ok(rows)
}

/// The time of a packet on each of two cores, beside that on one core that has the place alone, and
/// how many packets there were. Each is counted in the statistics, or it is an error.
fn contend(
    generator: &Generator,
    counted: &Counted,
    streams: &[Stream; 2],
    packets: u32,
    what: &str,
    effort: Effort,
) -> Result<(Row, u64)> {
    let [first, _] = streams;
    let before = everything(counted)?;
    let (both, alone) = alternate(
        rounds(effort),
        || together(generator, streams, packets),
        || Ok(generator.judge(0, first, packets)?.ns),
    )?;
    let sent = u64::try_from(rounds(effort))? * 3 * u64::from(packets);
    let seen = everything(counted)?.wrapping_sub(before);
    ensure!(seen == sent, "{seen} of {sent} packets were counted");
    let name = format!("two cores on one {what}, with the making of the packet");
    Ok((Row::new(name, "ns", both.median()?).beside("one core", alone.median()?), sent))
}

/// The mean time of a packet on either core.
fn together(generator: &Generator, streams: &[Stream; 2], packets: u32) -> Result<f64> {
    let start = Barrier::new(2);
    let runs: Vec<Result<f64>> = thread::scope(|scope| {
        let run = |(cpu, stream)| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                Ok(generator.judge(cpu, stream, packets)?.ns)
            })
        };
        let threads: Vec<_> = streams.iter().enumerate().map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    Samples::new(runs.into_iter().collect::<Result<_>>()?)?.median()
}

fn panicked<T>(panic: Box<dyn std::any::Any + Send>) -> T {
    std::panic::resume_unwind(panic)
}

/// Two pairs of sources whose slots are in one set.
fn neighbours(ours: &Ours, generator: &mut Generator) -> Result<[Stream; 2]> {
    let config = ours.config()?;
    let set =
        |number: &u32| set_of(V4_MARK | u64::from(key(*number)), config.seed, config.source4_mask);
    let wanted = set(&SOURCE);
    let same: Vec<u32> =
        (SOURCE..u32::MAX).filter(|number| set(number) == wanted).take(4).collect();
    let first = generator.choose(&same)?;
    let middle = first.start + 2;
    Ok([first.start..middle, middle..first.end].map(|keys| Stream::new(Family::V4, [0; 6], keys)))
}

/// Packets that passed beyond what a budget covers, when two cores race for it.
fn overdraft(generator: &Generator, counted: &Counted, stream: &Stream) -> Result<Row> {
    let before = counted.packets(Verdict::Pass, Reason::Clean)?;
    let begun = Instant::now();
    together(generator, &[stream.clone(), stream.clone()], RACE)?;
    let covered = begun.elapsed().as_secs_f64() * f64::from(RATE) + f64::from(BURST);
    let passed = counted.packets(Verdict::Pass, Reason::Clean)?.wrapping_sub(before);
    let beyond = (number(passed) / covered - 1.0).max(0.0) * 100.0;
    let name = "packets passed beyond the budget of one source, two cores";
    // When both read the same state, both may pass: the budget of one source for each core at most.
    Ok(Row::new(name, "%", beyond).target(Target::AtMost(100.0)))
}

fn hits(ours: &Ours) -> Result<u64> {
    let block = ours.kernel.find(single(address(Family::V4, BLOCKED)))?;
    Ok(block.map_or(0, |block| block.packets))
}

fn everything(counted: &Counted) -> Result<u64> {
    Ok(counted.total(Verdict::Pass)?.wrapping_add(counted.total(Verdict::Drop)?))
}

fn share(name: &str, counted: u64, sent: u64) -> Row {
    let row = Row::new(name, "%", number(counted) / number(sent) * 100.0);
    // Neither lost nor counted twice.
    row.beside("sent", 100.0).target(Target::AtLeast(100.0))
}

#[expect(clippy::as_conversions, reason = "a figure for a person")]
fn number(count: u64) -> f64 {
    count as f64
}
