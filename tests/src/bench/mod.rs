//! From measurements to rows with a peer, a target, and a verdict.
//!
//! Ours and the peer are measured in turns, round by round, because a machine is not the same
//! machine a minute later; what is told is the median of the rounds. A report names the machine it
//! was made on: figures of two machines are never compared.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

pub mod area;
mod machine;
mod row;
mod samples;
mod table;

pub use area::{AREAS, Area};
pub use machine::Machine;
pub use row::{Row, Target};
pub use samples::{Samples, alternate};

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Enough to show that the measurement works.
    Quick,
    /// Enough to believe the figures.
    Full,
}

impl Effort {
    /// The number of rounds or trials: `full`, or a tenth of it and at least 3.
    pub fn rounds(self, full: usize) -> usize {
        match self {
            Self::Quick => full.div_ceil(10).max(3),
            Self::Full => full,
        }
    }
}

/// What is to be measured, and how.
#[derive(Clone, Debug)]
pub struct Order {
    /// How thoroughly.
    pub effort: Effort,
    /// So many rounds, whatever the effort; an area may have none.
    pub rounds: Option<usize>,
    /// Those beside us that are measured only when they are named.
    pub peers: Vec<String>,
    /// Only what has this in its name.
    pub only: Option<String>,
}

/// Measures an area, prints its table, and writes `<folder>/<area>.json`; returns that path.
pub fn report(area: &Area, order: &Order, folder: &Path) -> Result<PathBuf> {
    let machine = Machine::read()?;
    let rows = (area.measure)(order).with_context(|| format!("measuring `{}`", area.name))?;
    table::print(area, order.effort, &machine, &rows);
    fs::create_dir_all(folder)?;
    let path = folder.join(format!("{}.json", area.name));
    fs::write(&path, serde_json::to_string_pretty(&rows)? + "\n")?;
    Ok(path)
}

/// A duration in milliseconds, as figures are told.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
