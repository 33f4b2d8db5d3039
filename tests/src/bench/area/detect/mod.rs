//! Detection: what profiles find of a made-up company's attacks, and what a request costs.

use anyhow::{Context, Result};

use super::Area;
use crate::behaviour::{
    Attack, Found, Judge, MEASURING, RATES, Verdict, World, found, judge,
    speed::{Arrival, Crowd, Hand},
};
use crate::bench::{Effort, Order, Row, Samples, Target};

mod rules;

/// What is measured.
pub(super) const AREA: Area =
    Area { name: "detect", what: "what is found of attacks, and what a request costs", measure };

/// Identities of the figure for a crowd.
const CROWD: u32 = 1_000_000;

fn measure(wanted: &Order) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let asked = |name: &str| wanted.only.as_deref().is_none_or(|only| name.contains(only));
    if asked("found") {
        rows.extend(detection(wanted.effort));
    }
    if asked("cost") {
        rows.extend(cost(wanted.effort)?);
        rows.extend(rules::cost(wanted.effort)?);
    }
    Ok(rows)
}

/// What is found at each rate of false positives, ordinary worlds and others.
fn detection(effort: Effort) -> Vec<Row> {
    let seeds = match effort {
        Effort::Quick => MEASURING.get(..1).unwrap_or(&MEASURING),
        Effort::Full => &MEASURING[..],
    };
    let ordinary = live(seeds, World::ordinary);
    let mut rows = Vec::new();
    for rate in RATES {
        let ours = found(&ordinary, Judge::Profiles, rate);
        let told = |what: &str| format!("found at {} % false positives, {what}", rate * 100.0);
        for (rival, name) in
            [(Judge::Static, "static thresholds"), (Judge::Forest, "isolation forest")]
        {
            let theirs = percent(found(&ordinary, rival, rate).share());
            let row = Row::new(told("all attacks"), "%", percent(ours.share()));
            let row = row.beside(name, theirs);
            rows.push(if (rate - 0.005).abs() < 1e-9 {
                row.target(Target::AtLeast(85.0))
            } else {
                row
            });
        }
        rows.extend(Attack::ALL.map(|attack| of(&told(attack.name()), &ours, attack)));
    }
    rows.extend(by_itself(&ordinary));
    for (name, change) in WORLDS {
        let world = live(seeds, |seed| change(World::ordinary(seed)));
        let share = percent(found(&world, Judge::Profiles, 0.005).share());
        rows.push(Row::new(format!("found at 0.5 % false positives, {name}"), "%", share));
    }
    rows
}

/// A world that is not the ordinary one.
type Change = fn(World) -> World;

const WORLDS: &[(&str, Change)] = &[
    ("volumes with heavy tails", |world| World { tails: 1.8, ..world }),
    ("40 identities", |world| World { identities: 40, attacks: 0.04, ..world }),
    ("9 days of history", |world| World { history: 9, ..world }),
    ("45 days of history", |world| World { history: 45, ..world }),
    ("all time zones", |world| World { zones: 24, ..world }),
    ("five times the bursts", |world| World { bursts: 0.05, ..world }),
    ("attacks of 60 %", |world| World { strength: 0.6, ..world }),
    ("four times the attacks", |world| World { attacks: 0.08, ..world }),
    ("a third joins late", |world| World { joiners: 0.3, ..world }),
];

fn live(seeds: &[u64], world: impl Fn(u64) -> World) -> Vec<Verdict> {
    seeds.iter().flat_map(|seed| judge(&world(*seed))).collect()
}

fn of(told: &str, found: &Found, attack: Attack) -> Row {
    Row::new(told, "%", percent(found.of(attack)))
}

/// What is found with the threshold as it is set.
fn by_itself(verdicts: &[Verdict]) -> [Row; 2] {
    let share = |attacks: bool| {
        let those: Vec<_> = verdicts.iter().filter(|one| one.attack.is_some() == attacks).collect();
        let told = those.iter().filter(|one| one.told).count();
        percent(count(told) / count(those.len()).max(1.0))
    };
    [
        Row::new("found as set out of the box, attack days", "%", share(true)),
        Row::new("found as set out of the box, harmless days", "%", share(false)),
    ]
}

/// Blocks of requests of one sample.
const BLOCKS: usize = 100;

/// CPU of a request, and memory of an identity.
fn cost(effort: Effort) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (arrival, told) in [(Arrival::Uniform, "anybody's"), (Arrival::Zipf, "mostly of a few")] {
        let before = resident()?;
        let mut crowd = Crowd::new(CROWD, arrival);
        let bytes = (resident()? - before).max(0.0) / f64::from(CROWD);
        crowd.grow_up();
        let (mut together, mut single) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds(60) {
            together.push(sample(&mut crowd, Hand::Together));
            single.push(sample(&mut crowd, Hand::Single));
        }
        let (together, single) = (Samples::new(together)?, Samples::new(single)?);
        rows.push(
            Row::new(
                format!("cost of a request, {told}, profiles of {CROWD} identities"),
                "ns",
                together.median()?,
            )
            .spread(together.percentile(0)?, together.percentile(100)?)
            .beside("each looked up by itself", single.median()?)
            .target(Target::AtMost(300.0)),
        );
        if arrival == Arrival::Uniform {
            rows.push(
                Row::new("cost of an identity, resident", "B", bytes)
                    .target(Target::AtMost(1_024.0)),
            );
            rows.extend(snapshot(&crowd)?);
        }
    }
    Ok(rows)
}

/// Nanoseconds of the processor for a request.
fn sample(crowd: &mut Crowd, hand: Hand) -> f64 {
    let mut spent = 0.0;
    for _ in 0..BLOCKS {
        let (before, after, _) = crowd.block(hand, thread_time);
        spent += after - before;
    }
    spent * 1e9 / count(BLOCKS * Crowd::size())
}

/// For how long detection waits for the file of profiles: by the piece.
fn snapshot(crowd: &Crowd) -> Result<[Row; 2]> {
    let mut cursor = crowd.profiles.snapshot();
    let (mut each, mut most) = (Vec::new(), 0);
    loop {
        let before = thread_time();
        let Some(piece) = crowd.profiles.piece(&mut cursor) else { break };
        each.push((thread_time() - before) * 1e3);
        most = most.max(piece.len());
    }
    let each = Samples::new(each)?;
    Ok([
        Row::new("snapshot: a piece, for which detection waits", "ms", each.median()?)
            .spread(each.percentile(0)?, each.percentile(100)?),
        Row::new("snapshot: the largest piece in memory", "KiB", count(most) / 1_024.0),
    ])
}

/// Seconds of the processor that this thread has had.
fn thread_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let whole = |part: i64| f64::from(u32::try_from(part).unwrap_or(u32::MAX));
    whole(time.tv_sec) + whole(time.tv_nsec) / 1e9
}

/// Seconds of the processor that `work` takes in this process, in user mode.
pub(super) fn processor(work: impl FnOnce() -> u64) -> Result<f64> {
    let before = user()?;
    std::hint::black_box(work());
    Ok(user()? - before)
}

fn user() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields = text.rsplit(')').next().context("no fields in /proc/self/stat")?;
    let ticks: u32 =
        fields.split_whitespace().nth(11).context("no user time in /proc/self/stat")?.parse()?;
    let second = u32::try_from(rustix::param::clock_ticks_per_second())?;
    Ok(f64::from(ticks) / f64::from(second))
}

fn resident() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u32 = text.split_whitespace().nth(1).context("no size")?.parse()?;
    Ok(f64::from(pages) * count(rustix::param::page_size()))
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn percent(share: f64) -> f64 {
    share * 100.0
}
