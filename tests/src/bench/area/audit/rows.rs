//! The rows of the report.

use std::time::Instant;

use anyhow::{Context, Result};

use super::super::super::{Effort, Order, Row, Samples, Target};
use super::history::{self, Cache};
use super::loggers::{self, Logger};
use super::{REQUESTS, World, by, bytes_below, figure, in_turns, ours, row, sqlite};

/// Records of an audit that the target is told for.
const AUDITED: f64 = 100e6;
/// Offered while it is measured how long records take.
const RATE: u64 = 100_000;
/// More than a record takes of the disk, with index and tiles.
const BYTES_EACH: u64 = 160;
/// Files in a log's folder that are there once, however many records there are.
const ONCE: [&str; 1] = ["reserve"];

/// A name that the order can ask for.
const NAMES: [&str; 6] = ["write", "latency", "thread", "bytes", "audit", "history"];

pub(super) fn measure(order: &Order) -> Result<Vec<Row>> {
    let world = World::new(REQUESTS)?;
    let mut rows = Vec::new();
    for name in NAMES.into_iter().filter(|name| is_wanted(order, name)) {
        let measured = match name {
            "write" => write(&world, order),
            "latency" => latency(&world, order),
            "thread" => thread(&world, order),
            "bytes" => bytes(&world, order),
            "audit" => audit(&world, order),
            _ => history(&world, order),
        };
        rows.extend(
            measured.unwrap_or_else(|error| vec![Row::refused(name, "", format!("{error:#}"))]),
        );
    }
    Ok(rows)
}

fn is_wanted(order: &Order, name: &str) -> bool {
    order.only.as_ref().is_none_or(|only| name.contains(&only.to_lowercase()))
}

fn rounds(order: &Order) -> usize {
    order.rounds.unwrap_or(match order.effort {
        Effort::Quick => 3,
        Effort::Full => 7,
    })
}

/// Whom we are written beside, and how many records each gets: a second or two of work.
const PEERS: [(&str, usize); 4] = [
    ("SQLite WAL FULL, batch 1024", 100_000),
    ("SQLite WAL FULL, batch 1", 1_000),
    ("rsyslog, synced", 30_000),
    ("syslog-ng slog, synced", 5_000),
];

fn peer(world: &World, place: usize) -> Result<f64> {
    let (_, count) = PEERS.get(place).context("no such peer")?;
    let folder = world.fresh("peer")?;
    match place {
        0 => sqlite::write(world, &folder, *count, 1_024),
        1 => sqlite::write(world, &folder, *count, 1),
        2 => loggers::write(world, &folder, Logger::Rsyslog, *count),
        _ => loggers::write(world, &folder, Logger::SyslogNg, *count),
    }
}

fn write(world: &World, order: &Order) -> Result<Vec<Row>> {
    let count = by(order.effort, 400_000, 2_000_000);
    let (mut mine, mut theirs) = (Vec::new(), vec![Vec::new(); PEERS.len()]);
    for round in 0..rounds(order) {
        // Whoever begins changes from round to round.
        for turn in 0..=PEERS.len() {
            match (round + turn) % (PEERS.len() + 1) {
                0 => mine.push(ours::write(world, &world.fresh("ours")?.join("log"), count)?),
                other => {
                    let figure = peer(world, other - 1)
                        .with_context(|| PEERS.get(other - 1).map_or("", |(name, _)| name))?;
                    theirs.get_mut(other - 1).context("no such peer")?.push(figure);
                }
            }
        }
    }
    let mut rows = Vec::new();
    for ((name, _), theirs) in PEERS.iter().zip(&theirs) {
        let row = row("write: durable, signed records", "/s", &mine)?;
        let row = in_turns(row, name, &mine, theirs)?;
        rows.push(row.target(Target::AtLeast(500_000.0)));
    }
    Ok(rows)
}

fn latency(world: &World, order: &Order) -> Result<Vec<Row>> {
    let seconds = by(order.effort, 2, 10);
    let (mut p50, mut p99, mut most) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds(order) {
        let folder = world.fresh("ours")?.join("log");
        let latency = ours::latency(world, &folder, RATE, seconds)?;
        p50.push(latency.p50);
        p99.push(latency.p99);
        most.push(latency.most);
    }
    Ok(vec![
        row("latency: written to signed at 100 k/s, p50", "ms", &p50)?,
        row("latency: the same, p99", "ms", &p99)?.target(Target::AtMost(5.0)),
        row("latency: the same, most", "ms", &most)?,
    ])
}

fn thread(world: &World, order: &Order) -> Result<Vec<Row>> {
    let mut figures = Vec::new();
    for _ in 0..rounds(order) {
        let folder = world.fresh("ours")?.join("log");
        figures.push(ours::on_the_thread(world, &folder, by(order.effort, 20, 200))?);
    }
    let row = row("thread: slot, write and ticket on the request's thread", "µs", &figures)?;
    Ok(vec![row.target(Target::AtMost(1.5))])
}

/// A log that is closed, and what it takes of the disk for a record.
fn bytes(world: &World, order: &Order) -> Result<Vec<Row>> {
    let folder = world.fresh("ours")?.join("log");
    ours::write(world, &folder, by(order.effort, 200_000, 1_000_000))?;
    let each = figure(bytes_below(&folder, &ONCE)?)? / figure(ours::size(&folder)?)?;
    let lines = world.lines.iter().map(String::len).sum::<usize>();
    let json = figure(u64::try_from(lines)?)? / figure(REQUESTS)?;
    let peer = world.fresh("peer")?;
    loggers::write(world, &peer, Logger::SyslogNg, 5_000)?;
    let row = || Row::new("bytes: of a record, all files", "B", each);
    Ok(vec![
        row()
            .beside("syslog-ng slog", loggers::bytes_per_line(&peer)?)
            .target(Target::AtMost(120.0)),
        row().beside("JSON lines", json),
    ])
}

fn audit(world: &World, order: &Order) -> Result<Vec<Row>> {
    let folder = world.fresh("ours")?.join("log");
    ours::write(world, &folder, by(order.effort, 400_000, 5_000_000))?;
    let peer = world.fresh("peer")?;
    loggers::write(world, &peer, Logger::SyslogNg, 5_000)?;
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds(order) {
        mine.push(ours::audit(&folder)?.0);
        theirs.push(loggers::audit(&peer)?);
    }
    let (_, size) = ours::audit(&folder)?;
    let seconds = AUDITED / Samples::new(mine.clone())?.median()?;
    let rate = row(format!("audit: leaves of {size}, one core"), "/s", &mine)?;
    Ok(vec![
        in_turns(rate, "slogverify", &mine, &theirs)?,
        Row::new("audit: 100 M records at that rate", "s", seconds).target(Target::AtMost(90.0)),
    ])
}

/// One log of as many records as there shall be and fit, which is audited whole and searched.
fn history(world: &World, order: &Order) -> Result<Vec<Row>> {
    let most = by(order.effort, 1_000_000, 100_000_000);
    let count = history::that_fit(world.folder.path(), most, BYTES_EACH)?;
    let folder = world.fresh("ours")?.join("log");
    history::build(world, &folder, count)?;
    let size = history::millions(count)?;
    let mut rows = Vec::new();
    for rare in history::RARE {
        for cache in [Cache::Cold, Cache::Warm] {
            let figures = (0..rounds(order)).map(|_| history::find(&folder, rare, cache));
            let figures: Vec<f64> = figures.collect::<Result<_>>()?;
            let state = if cache == Cache::Cold { "cold" } else { "warm" };
            let uses = rare.uses;
            let name = format!("history: {uses} records of a token in {size}, {state}");
            let row = row(name, "ms", &figures)?;
            rows.push(match (uses, cache) {
                (10, Cache::Cold) => row.target(Target::AtMost(10.0)),
                (1_000, Cache::Warm) => row.target(Target::AtMost(50.0)),
                _ => row,
            });
        }
    }
    let begun = Instant::now();
    let (_, audited) = ours::audit(&folder)?;
    let seconds = begun.elapsed().as_secs_f64();
    let name = format!("history: audit of all {audited} of them, one core");
    let row = Row::new(name, "s", seconds);
    rows.push(if count == 100_000_000 { row.target(Target::AtMost(90.0)) } else { row });
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_written_audited_and_counted() {
        let world = World::new(500).unwrap();
        let folder = world.fresh("ours").unwrap().join("log");

        let rate = ours::write(&world, &folder, 3_000).unwrap();

        assert!(rate > 100.0, "{rate}");
        assert!(ours::size(&folder).unwrap() >= 3_000);
        assert_eq!(ours::audit(&folder).unwrap().1, ours::size(&folder).unwrap());
        assert!(bytes_below(&folder, &ONCE).unwrap() > 3_000 * 40);
    }

    #[test]
    fn every_use_of_a_rare_token_is_found_with_its_proof() {
        let world = World::new(500).unwrap();
        let folder = world.fresh("ours").unwrap().join("log");

        history::build(&world, &folder, 6_000).unwrap();

        for rare in history::RARE {
            for cache in [Cache::Cold, Cache::Warm] {
                assert!(history::find(&folder, rare, cache).unwrap() > 0.0);
            }
        }
    }

    #[test]
    fn latency_and_processor_time_are_told() {
        let world = World::new(500).unwrap();

        let latency =
            ours::latency(&world, &world.fresh("a").unwrap().join("log"), 1_000, 1).unwrap();
        let spent = ours::on_the_thread(&world, &world.fresh("b").unwrap().join("log"), 2).unwrap();

        assert!(latency.p50 <= latency.p99 && latency.p99 <= latency.most);
        assert!(spent > 0.0);
    }
}
