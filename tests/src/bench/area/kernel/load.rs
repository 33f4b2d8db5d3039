//! A list of a million networks goes into force while packets come.
//!
//! One core judges packets without a pause, a portion from blocked sources and a portion from
//! others by turns, and counts each portion's verdicts. The other core loads the list, and then
//! replaces half of it. Whoever is blocked before, and whoever is in no list, meets the same verdict
//! all the time.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use enforcer_ebpf::Verdict;

use super::super::super::{Effort, Row, Samples, Target, milliseconds};
use super::ours::{Counted, Ours, ROOM, blocks, generous};
use super::traffic::{Generator, Stream};
use super::{MILLION, rounds};
use crate::lab::{Family, Lab};

/// Blocked before the list comes, and all the time.
const BEFORE: u32 = 1000;

/// In no list.
const OTHERS: Range<u32> = 2 * MILLION..2 * MILLION + 10_000;

/// Packets of one portion: what a gap can be told from, in time.
const PORTION: u32 = 2000;

pub(super) fn measure(lab: &Lab, generator: &Generator, effort: Effort) -> Result<Vec<Row>> {
    let mut loads = Vec::new();
    let mut replacements = Vec::new();
    let mut seen = Seen::default();
    for _ in 0..rounds(effort) {
        let mut ours = Ours::start(&lab.host, &ROOM, generous())?;
        ours.block(Family::V4, 0..BEFORE)?;
        generator.ask(ours.program())?;
        let counted = ours.counted()?;
        let list = BEFORE..BEFORE + MILLION;
        // The second list shares half with the first.
        let half = MILLION / 2;
        let second = blocks(Family::V4, list.start + half..list.end + half);
        let gone: Vec<_> =
            blocks(Family::V4, list.start..list.start + half).iter().map(|(it, _)| *it).collect();

        let first = blocks(Family::V4, list);
        let (took, watched) = watch(generator, &counted, || {
            let loaded = ours.kernel.load(&first, &[])?;
            ensure!(loaded.added == first.len(), "not all networks were added: {loaded:?}");
            Ok(())
        })?;
        loads.push(milliseconds(took));
        seen = seen.and(&watched);
        let (took, watched) = watch(generator, &counted, || {
            let loaded = ours.kernel.load(&second, &gone)?;
            ensure!(loaded.removed == gone.len(), "not all networks were removed: {loaded:?}");
            Ok(())
        })?;
        replacements.push(milliseconds(took));
        seen = seen.and(&watched);
    }
    let most = |time: Duration| milliseconds(time);
    Ok(vec![
        Row::new("load of 1,000,000 networks under load", "ms", Samples::new(loads)?.median()?),
        Row::new("the same, 500,000 of them replaced", "ms", Samples::new(replacements)?.median()?),
        Row::new("longest time in which a blocked packet passed meanwhile", "ms", most(seen.leak))
            .target(Target::AtMost(0.0)),
        Row::new("longest time in which another packet was lost meanwhile", "ms", most(seen.loss))
            .target(Target::AtMost(0.0)),
        Row::new("packets judged meanwhile", "million", f64::from(seen.portions) * MILLIONS),
        Row::new("longest pause of a portion of packets", "ms", most(seen.pause)),
    ])
}

/// Millions of packets in two portions.
const MILLIONS: f64 = 2.0 * 2000.0 / 1e6;

/// What packets met during a change.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Pairs of portions.
    portions: u32,
    /// The longest time over which a portion let a blocked packet pass.
    leak: Duration,
    /// The longest time over which a portion lost another packet.
    loss: Duration,
    /// The longest time that a portion took.
    pause: Duration,
}

impl Seen {
    fn and(self, other: &Self) -> Self {
        Self {
            portions: self.portions + other.portions,
            leak: self.leak.max(other.leak),
            loss: self.loss.max(other.loss),
            pause: self.pause.max(other.pause),
        }
    }
}

/// Does `change` while packets are judged: how long it took, and what they met.
fn watch(
    generator: &Generator,
    counted: &Counted,
    change: impl FnOnce() -> Result<()>,
) -> Result<(Duration, Seen)> {
    let (begun, over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let packets = scope.spawn(|| judge_until(generator, counted, &begun, &over));
        while !begun.load(Ordering::Relaxed) && !packets.is_finished() {
            thread::yield_now();
        }
        let start = Instant::now();
        let changed = change();
        let took = start.elapsed();
        over.store(true, Ordering::Relaxed);
        let seen = packets.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        changed?;
        ensure!(seen.portions > 0, "no packet was judged meanwhile");
        Ok((took, seen))
    })
}

fn judge_until(
    generator: &Generator,
    counted: &Counted,
    begun: &AtomicBool,
    over: &AtomicBool,
) -> Result<Seen> {
    let blocked = Stream::new(Family::V4, [0; 6], 0..BEFORE);
    let others = Stream::new(Family::V4, [0; 6], OTHERS);
    let mut seen = Seen::default();
    let (mut leak, mut loss) = (Span::default(), Span::default());
    while !over.load(Ordering::Relaxed) {
        let (took, wrong) = portion(generator, counted, &blocked, Verdict::Pass)?;
        seen.pause = seen.pause.max(took);
        seen.leak = seen.leak.max(leak.extend(took, wrong));
        let (took, wrong) = portion(generator, counted, &others, Verdict::Drop)?;
        seen.pause = seen.pause.max(took);
        seen.loss = seen.loss.max(loss.extend(took, wrong));
        seen.portions += 1;
        begun.store(true, Ordering::Relaxed);
    }
    Ok(seen)
}

/// How long a portion took, and how many of its packets met a verdict that they must not meet.
fn portion(
    generator: &Generator,
    counted: &Counted,
    stream: &Stream,
    wrong: Verdict,
) -> Result<(Duration, u64)> {
    let before = counted.total(wrong)?;
    let start = Instant::now();
    generator.judge(0, stream, PORTION)?;
    let took = start.elapsed();
    let met = counted.total(wrong)?.checked_sub(before).context("a counter went back")?;
    Ok((took, met))
}

/// Time over which portion after portion met a wrong verdict.
#[derive(Default)]
struct Span {
    length: Duration,
}

impl Span {
    fn extend(&mut self, took: Duration, wrong: u64) -> Duration {
        self.length = if wrong == 0 { Duration::ZERO } else { self.length + took };
        self.length
    }
}
