//! The time of one verdict, in a test run: that of a packet that is made and judged, less that of a
//! packet that is made and meets a program that does nothing.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use enforcer_ebpf::table::TICK_NS;
use enforcer_ebpf::{Reason, Verdict};
use rustix::time::{ClockId, clock_gettime};

use super::super::super::{Effort, Row, Samples, Target, alternate};
use super::ours::{Ours, ROOM, generous};
use super::traffic::{DROP, Generator, PASS, Stream};
use super::{MILLION, SIZES, packets, rounds, thousands};
use crate::lab::{Family, Lab};

/// Instructions that the kernel may have to go through for one program. It gives up at a million.
const MOST_VERIFIED: f64 = 200_000.0;

/// Nanoseconds that a drop and a pass may take, for IPv4.
const fn targets(size: u32) -> Option<(f64, f64)> {
    match size {
        10_000 => Some((60.0, 110.0)),
        MILLION => Some((250.0, 220.0)),
        _ => None,
    }
}

pub(super) fn measure(lab: &Lab, generator: &Generator, effort: Effort) -> Result<Vec<Row>> {
    let mut ours = Ours::start(&lab.host, &ROOM, generous())?;
    let mut rows = Vec::new();
    let mut from = 0;
    for size in SIZES {
        for family in Family::BOTH {
            ours.block(family, from..size)?;
            rows.extend(verdicts(&ours, generator, family, size, effort)?);
        }
        from = size;
    }
    for (name, count) in ours.verified()? {
        let row = Row::new(format!("verified for `{name}`"), "instructions", count.into());
        rows.push(row.target(Target::AtMost(MOST_VERIFIED)));
    }
    rows.push(event(&mut ours, generator, effort)?);
    Ok(rows)
}

/// The first `size` keys are blocked; the first `size` behind the million are sources.
fn verdicts(
    ours: &Ours,
    generator: &Generator,
    family: Family,
    size: u32,
    effort: Effort,
) -> Result<Vec<Row>> {
    let blocked = Stream::new(family, [0; 6], 0..size);
    let sources = Stream::new(family, [0; 6], MILLION..MILLION + size);
    let mut rows = Vec::new();
    for (verdict, stream) in [(DROP, blocked), (PASS, sources)] {
        // Every source gets its place.
        generator.ask(ours.program())?;
        generator.judge(0, &stream, size)?;
        let packets = packets(effort, 4_000_000);
        let (judged, empty) = alternate(
            rounds(effort),
            || certain(ours, generator, &stream, packets, verdict),
            || {
                generator.ask(generator.empty(verdict)?)?;
                Ok(generator.judge(0, &stream, packets)?.ns)
            },
        )?;
        let name = if verdict == DROP { "drop" } else { "pass" };
        let size_text = thousands(size);
        let row = Row::new(
            format!("verdict {name}, {family:?}, {size_text} blocked + {size_text} sources"),
            "ns",
            judged.median()? - empty.median()?,
        );
        let most = match (targets(size), family) {
            (Some((drop, pass)), Family::V4) => Some(if verdict == DROP { drop } else { pass }),
            (Some(_), Family::V6) | (None, _) => None,
        };
        rows.push(match most {
            Some(most) => row.target(Target::AtMost(most)),
            None => row,
        });
    }
    Ok(rows)
}

/// The time of a packet, when every one of them got this verdict.
fn certain(
    ours: &Ours,
    generator: &Generator,
    stream: &Stream,
    packets: u32,
    verdict: u32,
) -> Result<f64> {
    let (wanted, reason) = match verdict {
        DROP => (Verdict::Drop, Reason::Blocked),
        _ => (Verdict::Pass, Reason::Clean),
    };
    let counted = ours.counted()?;
    generator.ask(ours.program())?;
    let before = counted.packets(wanted, reason)?;
    let run = generator.judge(0, stream, packets)?;
    let got = counted.packets(wanted, reason)?.wrapping_sub(before);
    ensure!(got == u64::from(packets), "{got} of {packets} packets were {wanted} for {reason}");
    Ok(run.ns)
}

/// Blocks whose first packet in a tick is reported: not more than the program tells of in a tick.
const REPORTED: u32 = 2000;

/// A drop that is the first of its block in a second, and so is reported, less one that is not.
///
/// The same packets three times around the turn of a tick: the first run warms the caches, the
/// second reports, the third does not.
fn event(ours: &mut Ours, generator: &Generator, effort: Effort) -> Result<Row> {
    let stream = Stream::new(Family::V4, [0; 6], 0..REPORTED);
    let mut events = ours.kernel.take_events()?;
    let mut figures = Vec::new();
    for _ in 0..effort.rounds(20) {
        thread::sleep(until_next_tick().saturating_sub(WARM));
        certain(ours, generator, &stream, REPORTED, DROP)?;
        while events.try_next().is_some() {}
        thread::sleep(until_next_tick());
        let reported = certain(ours, generator, &stream, REPORTED, DROP)?;
        let silent = certain(ours, generator, &stream, REPORTED, DROP)?;
        let mut count = 0;
        while events.try_next().is_some() {
            count += 1;
        }
        ensure!(count == REPORTED, "{count} of {REPORTED} drops were reported");
        figures.push(reported - silent);
    }
    Ok(Row::new("one event", "ns", Samples::new(figures)?.median()?))
}

/// How long before the turn of a tick the caches are warmed.
const WARM: Duration = Duration::from_millis(20);

fn until_next_tick() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let ns = u64::try_from(now.tv_nsec).unwrap_or_default();
    let into = seconds.wrapping_mul(1_000_000_000).wrapping_add(ns) % TICK_NS;
    Duration::from_nanos(TICK_NS - into)
}
