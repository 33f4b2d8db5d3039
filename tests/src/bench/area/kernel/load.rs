//! A list of a million networks goes into force while packets come.
//!
//! One core judges packets without a pause, one from a source that was blocked before and one from a
//! source in no list by turns. The other core loads the list, and then replaces half of it. Both
//! kinds of packet must meet the same verdict all the time, and the counters tell of every one that
//! did not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use enforcer_ebpf::Verdict;
use enforcer_model::Prefix;

use super::super::super::{Effort, Row, Samples, Target, milliseconds};
use super::ours::{Counted, Ours, ROOM, blocks, generous, single};
use super::traffic::{Generator, Stream, address};
use super::{MILLION, rounds};
use crate::lab::{Family, Lab};

/// Blocked before the list comes, and all the time.
const BEFORE: u32 = 1000;

/// The first of as many that are in no list.
const OTHERS: u32 = 2 * MILLION;

/// Packets between two looks at the counters, half of them from blocked sources.
const PORTION: u32 = 1_000_000;

pub(super) fn measure(lab: &Lab, generator: &mut Generator, effort: Effort) -> Result<Vec<Row>> {
    let by_turns: Vec<u32> = (0..BEFORE).flat_map(|number| [number, OTHERS + number]).collect();
    let stream = Stream::new(Family::V4, [0; 6], generator.choose(&by_turns)?);
    let half = MILLION / 2;
    let first = blocks(Family::V4, BEFORE..BEFORE + MILLION);
    // Half of the second list is in the first.
    let second = blocks(Family::V4, BEFORE + half..BEFORE + half + MILLION);
    let gone: Vec<Prefix> =
        blocks(Family::V4, BEFORE..BEFORE + half).iter().map(|it| it.0).collect();

    let mut loads = Vec::new();
    let mut replacements = Vec::new();
    let mut met = Met::default();
    for _ in 0..rounds(effort) {
        let mut ours = Ours::start(&lab.host, &ROOM, generous())?;
        ours.block(Family::V4, 0..BEFORE)?;
        generator.ask(ours.program())?;
        let counted = ours.counted()?;
        loads.push(milliseconds(met.during(generator, &counted, &stream, || {
            let loaded = ours.kernel.load(&first, &[])?;
            ensure!(loaded.added == first.len(), "not all networks were added: {loaded:?}");
            Ok(())
        })?));
        replacements.push(milliseconds(met.during(generator, &counted, &stream, || {
            let loaded = ours.kernel.load(&second, &gone)?;
            ensure!(loaded.removed == gone.len(), "not all networks were removed: {loaded:?}");
            Ok(())
        })?));
        for number in 0..BEFORE {
            let block = ours.kernel.find(single(address(Family::V4, number)))?;
            met.hits += block.map_or(0, |block| block.packets);
        }
    }
    let hits = number(met.hits) / number(met.judged / 2) * 100.0;
    Ok(vec![
        Row::new("load of 1,000,000 networks under load", "ms", Samples::new(loads)?.median()?),
        Row::new("the same with 500,000 of them gone", "ms", Samples::new(replacements)?.median()?),
        Row::new("blocked packets that passed meanwhile", "packets", number(met.leaked))
            .target(Target::AtMost(0.0)),
        Row::new("other packets that were lost meanwhile", "packets", number(met.lost))
            .target(Target::AtMost(0.0)),
        Row::new("blocked packets that their blocks have counted afterwards", "%", hits)
            .target(Target::AtLeast(100.0)),
        Row::new("packets judged meanwhile", "packets", number(met.judged)),
    ])
}

/// What packets met while something changed.
#[derive(Clone, Copy, Debug, Default)]
struct Met {
    judged: u64,
    leaked: u64,
    lost: u64,
    /// By the blocks' own counters, which move to the new table with them.
    hits: u64,
}

impl Met {
    /// Makes a change while packets are judged; says how long it took.
    fn during(
        &mut self,
        generator: &Generator,
        counted: &Counted,
        stream: &Stream,
        change: impl FnOnce() -> Result<()>,
    ) -> Result<Duration> {
        let (passed, dropped) = totals(counted)?;
        let over = AtomicBool::new(false);
        let (took, judged) = thread::scope(|scope| {
            let packets = scope.spawn(|| {
                let mut judged = 0;
                while !over.load(Ordering::Relaxed) {
                    generator.judge(0, stream, PORTION)?;
                    judged += u64::from(PORTION);
                }
                Ok::<_, anyhow::Error>(judged)
            });
            while totals(counted)? == (passed, dropped) && !packets.is_finished() {
                thread::yield_now();
            }
            let start = Instant::now();
            let changed = change();
            let took = start.elapsed();
            over.store(true, Ordering::Relaxed);
            let judged = packets.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            changed.map(|()| (took, judged))
        })?;
        let (passed, dropped) = {
            let (passed_since, dropped_since) = totals(counted)?;
            (passed_since.wrapping_sub(passed), dropped_since.wrapping_sub(dropped))
        };
        ensure!(passed + dropped == judged, "{judged} packets and {passed} + {dropped} verdicts");
        self.judged += judged;
        // Half of them are of either kind, so what one verdict has too many the other has too few.
        self.leaked += passed.saturating_sub(judged / 2);
        self.lost += dropped.saturating_sub(judged / 2);
        Ok(took)
    }
}

fn totals(counted: &Counted) -> Result<(u64, u64)> {
    Ok((counted.total(Verdict::Pass)?, counted.total(Verdict::Drop)?))
}

#[expect(clippy::as_conversions, reason = "a figure for a person")]
fn number(count: u64) -> f64 {
    count as f64
}
