//! From the target of a request to its canonical path and its route, of 200.

use std::hint::black_box;

use anyhow::{Context, Result, ensure};
use enforcer_inspect::{self as inspect, Path};
use http::Request;
use http::request::Parts;

use super::super::super::{Effort, Row, Samples, Target};
use super::world::{self, HOST, ROUTES};
use super::{each, rounds};
use crate::oracle::Random;

const MOST: f64 = 150.0;

pub(super) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let policy = world::read(&world::ordinary()?)?;
    let mut random = Random::new(0x0090_47e5);
    let asked: Vec<(usize, String)> = (0..4_096)
        .map(|_| {
            let (route, salt) = (random.below(ROUTES), random.below(100_000));
            (route, world::path(route, salt))
        })
        .collect();
    for (route, text) in &asked {
        let path: Path = text.parse()?;
        let found = policy.route_for(HOST, path.as_str()).context("no route")?;
        ensure!(found.route.number == *route, "{text} leads to {}", found.route.name);
    }
    let calls = 20_000;
    let at = |n: usize| &*asked[n % asked.len()].1;
    let canonical = || {
        each(calls, |n| {
            let path: Path = at(n).parse()?;
            let found = policy.route_for(HOST, path.as_str());
            Ok(black_box(found).is_some())
        })
    };
    let parse = || each(calls, |n| Ok(black_box(at(n).parse::<Path>()).is_ok()));
    let heads: Vec<Parts> = asked.iter().map(|(_, path)| parts(path)).collect::<Result<_>>()?;
    let whole = || {
        each(calls, |n| {
            let head = inspect::normalise(&heads[n % heads.len()])?;
            Ok(black_box(policy.route(&head)).is_some())
        })
    };
    let rounds = rounds(effort);
    let median = |one: &dyn Fn() -> Result<f64>| -> Result<f64> {
        Samples::new((0..rounds).map(|_| one()).collect::<Result<_>>()?)?.median()
    };
    Ok(vec![
        Row::new(format!("canonical path and route, {ROUTES} routes"), "ns", median(&canonical)?)
            .target(Target::AtMost(MOST)),
        Row::new("of that, the path", "ns", median(&parse)?),
        Row::new(
            "whole head (host, framing, 6 headers, path, query) and route",
            "ns",
            median(&whole)?,
        ),
    ])
}

/// What a client of today sends.
pub(super) fn parts(path: &str) -> Result<Parts> {
    let request = Request::get(format!("{path}?page=2"))
        .header("host", HOST)
        .header("user-agent", "orders-sync/4.2 (linux; x86_64)")
        .header("accept", "application/json")
        .header("accept-encoding", "gzip, br")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("x-request-id", "5f0c2a4e-9a34-4c0e-8f3b-0d8a7a9a1f11")
        .body(())?;
    Ok(request.into_parts().0)
}
