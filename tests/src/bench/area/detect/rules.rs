//! What a request costs in the rules of the pack.

use anyhow::{Result, anyhow};
use enforcer_detect::Event;
use enforcer_detect::rules::{Rules, pack};

use super::processor;
use crate::behaviour::{Texts, speed};
use crate::bench::{Effort, Row, Samples, Target};

/// Callers of the traffic.
const CALLERS: u32 = 100_000;

/// CPU of a request in all rules of the pack.
pub(super) fn cost(effort: Effort) -> Result<Vec<Row>> {
    let requests = match effort {
        Effort::Quick => 200_000,
        Effort::Full => 2_000_000,
    };
    let plans = pack().map_err(|(file, _)| anyhow!("the pack is not understood: {file}"))?;
    let mut rules = Rules::new(&plans);
    let deeds = speed::traffic(CALLERS, requests);
    let mut figures = Vec::new();
    for _ in 0..effort.rounds(10) {
        let made = processor(|| speed::drive(&deeds))?;
        let seen = processor(|| {
            let (mut texts, mut found) = (Texts::default(), Vec::new());
            for deed in &deeds {
                rules.observe(&Event::Request(deed.request(&mut texts)), &mut found);
                found.clear();
            }
            0
        })?;
        figures.push((seen - made) * 1e9 / f64::from(requests));
    }
    let samples = Samples::new(figures)?;
    Ok(vec![
        Row::new(
            format!("cost of a request in the {} rules of the pack", plans.len()),
            "ns",
            samples.median()?,
        )
        .spread(samples.percentile(0)?, samples.percentile(100)?)
        .target(Target::AtMost(300.0)),
    ])
}
