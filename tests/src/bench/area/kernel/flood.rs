//! Those who were here before, while two million forged sources come.
//!
//! Known sources send one packet a second each, far below their budget, before and during the flood.
//! Every one of their packets is asked for its verdict. The forged ones come from the other core as
//! fast as it can make them, on the same maps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use enforcer_ebpf::Verdict;
use enforcer_kernel::Budgets;
use enforcer_model::PerSecond;

use super::super::super::{Effort, Row, Target};
use super::ours::{Ours, Room, budgets};
use super::traffic::{DROP, Generator, Stream};
use super::{MILLION, thousands};
use crate::lab::{Family, Lab};

/// Numbers of the forged keys, then of the known ones.
const FORGED: u32 = 2 * MILLION;
const KNOWN: u32 = 10_000;

/// What each source may send, and how many new ones a second are a flood.
const RATE: u32 = 1000;
const BURST: u32 = 2000;
const FLOOD: u32 = 50_000;

/// Forged packets that are made before anybody looks whether it is time to stop.
const BURSTS: u32 = 1_000_000;

/// Known packets go out in so many portions a second.
const PORTIONS: u32 = 100;

/// Places for sources: as many as the targets say, and as few as a small host has.
const PLACES: [u32; 2] = [MILLION, 65_536];

pub(super) fn measure(lab: &Lab, generator: &Generator, effort: Effort) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for sources in PLACES {
        let room = Room { blocks: 1000, sources };
        let flood = std::num::NonZeroU32::new(FLOOD).context("a flood of nothing")?;
        let budgets = Budgets { flood: Some(PerSecond::new(flood)), ..budgets(RATE, BURST) };
        let ours = Ours::start(&lab.host, &room, budgets)?;
        rows.extend(flood_of(&ours, generator, sources, effort)?);
    }
    Ok(rows)
}

fn flood_of(ours: &Ours, generator: &Generator, sources: u32, effort: Effort) -> Result<Vec<Row>> {
    let known = Stream::new(Family::V4, [0; 6], FORGED..FORGED + KNOWN);
    let forged = Stream::new(Family::V4, [0; 6], 0..FORGED);
    generator.ask(ours.program())?;
    generator.judge(1, &known, KNOWN)?;

    let counted = ours.counted()?;
    let before = counted.total(Verdict::Pass)?;
    let seconds = match effort {
        Effort::Quick => 3,
        Effort::Full => 12,
    };
    let over = AtomicBool::new(false);
    let (sent, told) = thread::scope(|scope| {
        let attacker = scope.spawn(|| attack(generator, &forged, &over));
        let told = ask_steadily(generator, &known, seconds);
        over.store(true, Ordering::Relaxed);
        let sent = attacker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, anyhow::Error>((sent, told?))
    })?;
    let passed = counted.total(Verdict::Pass)?.wrapping_sub(before);
    let forged_passed = passed.wrapping_sub(told.asked.wrapping_sub(told.lost));

    let places = thousands(sources);
    let name = |what: &str| format!("{what}, 2,000,000 forged sources, {places} places");
    Ok(vec![
        Row::new(name("known sources' packets lost"), "%", percent(told.lost, told.asked))
            .target(Target::AtMost(0.0)),
        Row::new(name("forged packets passed"), "%", percent(forged_passed, sent)),
        Row::new(name("forged packets"), "million/s", number(sent) / told.seconds / 1e6),
    ])
}

fn attack(generator: &Generator, forged: &Stream, over: &AtomicBool) -> Result<u64> {
    let mut sent = 0;
    while !over.load(Ordering::Relaxed) {
        generator.judge(0, forged, BURSTS)?;
        sent += u64::from(BURSTS);
    }
    Ok(sent)
}

/// What became of the known sources' packets.
struct Told {
    asked: u64,
    lost: u64,
    seconds: f64,
}

/// Each of the known sources sends once a second.
fn ask_steadily(generator: &Generator, known: &Stream, seconds: u32) -> Result<Told> {
    let begun = Instant::now();
    let mut told = Told { asked: 0, lost: 0, seconds: 0.0 };
    for portion in 0..seconds * PORTIONS {
        let due = Duration::from_secs(1) / PORTIONS * portion;
        thread::sleep(due.saturating_sub(begun.elapsed()));
        for _ in 0..KNOWN / PORTIONS {
            let run = generator.judge(1, known, 1)?;
            told.asked += 1;
            told.lost += u64::from(run.verdict == DROP);
        }
    }
    told.seconds = begun.elapsed().as_secs_f64();
    Ok(told)
}

fn percent(part: u64, whole: u64) -> f64 {
    number(part) / number(whole) * 100.0
}

#[expect(clippy::as_conversions, reason = "a figure for a person")]
fn number(count: u64) -> f64 {
    count as f64
}
