//! What a request costs in the proxy, beside nginx, haproxy and whom else one names.
//!
//! The figure is processor time: of the proxy's whole process tree, as the kernel counts it, for one
//! request. The proxy has a core for itself; the upstream and the load have another. Everybody is
//! measured in turns within one run, answers are checked, and a round that is not worth its ink
//! refuses its row: a peer that died, used no time, changed its processes or was not alone at its
//! port. `enforcer/docs/benchmarks.md` has the method and its limits.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

use super::super::{Effort, Order, Row, Samples};
use super::Area;

mod case;
mod client;
mod idle;
mod latency;
mod load;
mod party;
mod tokens;
mod tree;
mod world;

use case::{CASES, Case, Load};
use load::{Done, Target as Ask};
use party::{Door, Name, Party};
use world::World;

/// The area.
pub(super) const AREA: Area = Area {
    name: "proxy",
    what: "processor time of the proxy for a request, beside nginx and haproxy",
    measure,
};

fn measure(order: &Order) -> Result<Vec<Row>> {
    let names = names(&order.peers)?;
    let cases: Vec<_> = CASES.iter().filter(|case| is_wanted(order, case.name)).collect();
    let world = World::new(cases.iter().any(|case| case.ours.is_guarded()))?;
    let mut rows = Vec::new();
    for case in cases {
        let figures = compare(&world, case, &names, order);
        rows.extend(figures.unwrap_or_else(|error| refused(case.name, &error)));
    }
    if is_wanted(order, latency::NAME) {
        let figures = latency::measure(&world, order);
        rows.extend(figures.unwrap_or_else(|error| refused(latency::NAME, &error)));
    }
    if is_wanted(order, idle::NAME) {
        let figures = idle::measure(&world);
        rows.extend(figures.unwrap_or_else(|error| refused(idle::NAME, &error)));
    }
    Ok(rows)
}

fn refused(name: &str, error: &anyhow::Error) -> Vec<Row> {
    vec![Row::refused(name, "", format!("{error:#}"))]
}

fn is_wanted(order: &Order, name: &str) -> bool {
    order.only.as_ref().is_none_or(|only| name.to_lowercase().contains(&only.to_lowercase()))
}

/// Everybody who is measured.
fn names(wanted: &[String]) -> Result<BTreeSet<Name>> {
    let mut names = BTreeSet::from(Name::ALWAYS);
    for word in wanted {
        let Some(&name) = Name::WANTED.iter().find(|name| name.text() == word) else {
            let known: Vec<&str> = Name::WANTED.iter().map(|name| name.text()).collect();
            bail!(
                "no peer is called `{word}`\nhint: those that can be named are {}",
                known.join(", ")
            );
        };
        names.insert(name);
    }
    Ok(names)
}

/// Rounds that take turns.
fn rounds(order: &Order) -> usize {
    order.rounds.unwrap_or(match order.effort {
        Effort::Quick => 3,
        Effort::Full => 8,
    })
}

/// How long a round of one takes.
const fn seconds(effort: Effort) -> u32 {
    match effort {
        Effort::Quick => 1,
        Effort::Full => 4,
    }
}

/// The rounds of one who is compared.
#[derive(Default)]
struct Rounds {
    /// Microseconds of processor time for a request.
    cost: Vec<f64>,
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// MiB at the end of a round.
    memory: Vec<f64>,
}

fn compare(world: &World, case: &Case, names: &BTreeSet<Name>, order: &Order) -> Result<Vec<Row>> {
    let mut entries = vec![(Name::Enforcer, case.ours)];
    let beside: Vec<_> = case.beside.iter().filter(|(name, ..)| names.contains(name)).collect();
    entries.extend(beside.iter().map(|(name, door, _)| (*name, *door)));
    // Ours first: it issues the keys that others know.
    let mut parties: Vec<Party<'_>> = Vec::new();
    for &(name, _) in &entries {
        if parties.iter().all(|party| party.name() != name) {
            let doors = entries.iter().filter(|entry| entry.0 == name).map(|entry| entry.1);
            let doors: Vec<Door> = doors.collect();
            let party = Party::start(world, name, &doors);
            parties.push(party.with_context(|| format!("starting {}", name.text()))?);
        }
    }
    let mut measured: Vec<Rounds> = entries.iter().map(|_| Rounds::default()).collect();
    for round in 0..rounds(order) {
        for turn in 0..entries.len() {
            let at = (round + turn) % entries.len();
            let (name, door) = entries.get(at).context("no such entry")?;
            let party = parties.iter().find(|party| party.name() == *name);
            let party = party.context("it was not started")?;
            let figures = measured.get_mut(at).context("no such entry")?;
            one_round(world, case.load, party, *door, order.effort, figures)
                .with_context(|| format!("{}, round {}", name.text(), round + 1))?;
        }
    }
    for party in parties {
        let name = party.name().text();
        party.end().with_context(|| format!("ending {name}"))?;
    }
    let (ours, others) = measured.split_first().context("nobody was measured")?;
    let mut rows = Vec::new();
    for ((name, door, target), theirs) in beside.iter().zip(others) {
        let label = if *door == case.ours {
            name.text().to_owned()
        } else {
            format!("{}, {door:?}", name.text())
        };
        let row = row(format!("{}: processor time", case.name), "µs", &ours.cost)?;
        let row = in_turns(row, label, &ours.cost, &theirs.cost)?;
        rows.push(match target {
            Some(target) => row.target(*target),
            None => row,
        });
    }
    if let (Some((name, ..)), Some(theirs)) = (beside.first(), others.first()) {
        for (what, unit, ours, theirs) in [
            ("requests", "/s", &ours.rate, &theirs.rate),
            ("p50, saturated", "ms", &ours.p50, &theirs.p50),
            ("p99, saturated", "ms", &ours.p99, &theirs.p99),
            ("resident memory", "MiB", &ours.memory, &theirs.memory),
        ] {
            let row = row(format!("{}: {what}", case.name), unit, ours)?;
            rows.push(in_turns(row, name.text().to_owned(), ours, theirs)?);
        }
    }
    Ok(rows)
}

fn row(figure: String, unit: &'static str, ours: &[f64]) -> Result<Row> {
    let ours = Samples::new(ours.to_vec())?;
    Ok(Row::new(figure, unit, ours.median()?).spread(ours.percentile(0)?, ours.percentile(100)?))
}

fn in_turns(row: Row, peer: String, ours: &[f64], theirs: &[f64]) -> Result<Row> {
    let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    let (theirs, ratio) = (Samples::new(theirs.to_vec())?, Samples::new(ratios)?);
    Ok(row.beside_in_turns(peer, theirs.median()?, ratio.median()?))
}

fn one_round(
    world: &World,
    load: Load,
    party: &Party<'_>,
    door: Door,
    effort: Effort,
    figures: &mut Rounds,
) -> Result<()> {
    let port = party.name().port(door);
    let url = |path: &str| format!("{}://127.0.0.1:{port}{path}", door.scheme());
    let credentials = door.credentials().map(|of| world.credentials(of));
    let ask = |url, body| Ask { url, body, credentials: credentials.as_deref() };
    let seconds = seconds(effort);
    party.probe(door)?;
    let before = party.read()?;
    let done: Done = match load {
        Load::Http1(path, body) => load::wrk(world, ask(&url(path), body), seconds)?,
        Load::Http2(path, body) => load::h2load(world, ask(&url(path), body), seconds)?,
        Load::Handshakes => client::handshakes(world, port, seconds)?,
    };
    let after = party.read()?;
    party.probe(door)?;
    let spent = before.spent_until(&after)?;
    let requests = f64::from(u32::try_from(done.requests)?);
    figures.cost.push(spent.as_secs_f64() * 1e6 / requests);
    figures.rate.push(requests / done.seconds);
    figures.p50.push(done.p50);
    figures.p99.push(done.p99);
    figures.memory.push(f64::from(u32::try_from(after.resident() / 1024)?) / 1024.0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_nobody_knows_is_named_with_those_that_are_known() {
        let error = names(&["apache".to_owned()]).unwrap_err().to_string();

        assert!(error.contains("envoy, caddy, traefik, pingora"), "{error}");
        assert_eq!(names(&[]).unwrap().len(), 3);
        assert_eq!(names(&["envoy".to_owned()]).unwrap().len(), 4);
    }
}
