//! From the request that shows an attack to the first packet that the kernel drops.
//!
//! The echo of the lab's own cable comes first: no time below it can be seen by these means.

use std::time::Duration;

use anyhow::{Context, Result};

use super::super::{Effort, Row, alternate, milliseconds};
use super::Area;
use crate::lab::{Family, HOST_FOR_CLIENT, Lab, Ping};

/// The area.
pub(super) const AREA: Area =
    Area { name: "loop", what: "how soon a decision is in force in the kernel", measure };

/// Echoes of one round.
const ECHOES: u32 = 50;

fn measure(effort: Effort) -> Result<Vec<Row>> {
    let lab = Lab::new()?;
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.push(cable(&lab, family, effort)?);
    }
    Ok(rows)
}

/// What the lab itself costs: an echo over the cable beside one on loopback.
fn cable(lab: &Lab, family: Family, effort: Effort) -> Result<Row> {
    let cable = Ping::new(&lab.client, HOST_FOR_CLIENT.of(family))?;
    let loopback = Ping::new(&lab.client, family.loopback())?;
    let (ours, peer) = alternate(effort.rounds(30), || echoes(&cable), || echoes(&loopback))?;
    Ok(Row::new(format!("echo over the lab's cable, {family:?}"), "ms", ours.median()?)
        .beside("loopback", peer.median()?))
}

/// The mean round trip of a few echoes.
fn echoes(ping: &Ping) -> Result<f64> {
    let mut total = Duration::ZERO;
    for _ in 0..ECHOES {
        total += ping.once(Duration::from_secs(1))?.context("an echo was lost")?;
    }
    Ok(milliseconds(total) / f64::from(ECHOES))
}
