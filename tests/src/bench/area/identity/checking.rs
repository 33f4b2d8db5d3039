//! What `enforcer policy check` does with 200 routes, in memory: reading, and proving what each
//! rule can mean.

use std::hint::black_box;

use anyhow::Result;

use super::super::super::{Effort, Row, Samples, Target};
use super::{each, rounds, world};
use crate::oracle::{Random, World};

const MOST: f64 = 50.0;

pub(super) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let mut random = Random::new(0xc4ec);
    let world = World::random(&mut random, world::ROLES, world::ROUTES, 5);
    let policies = [
        ("`policy check`, 200 routes with conditions", world::ordinary()?),
        ("`policy check`, 200 routes with rules drawn at random", world::drawn(&world)?),
    ];
    let mut rows = Vec::new();
    for (figure, text) in policies {
        let figures: Result<Vec<f64>> = (0..rounds(effort).div_ceil(3))
            .map(|_| {
                Ok(each(1, |_| Ok(black_box(world::read(&text)?).routes().len() == 200))? / 1e6)
            })
            .collect();
        let median = Samples::new(figures?)?.median()?;
        rows.push(Row::new(figure, "ms", median).target(Target::AtMost(MOST)));
    }
    Ok(rows)
}
