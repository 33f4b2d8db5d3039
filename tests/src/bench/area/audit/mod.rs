//! What it costs to keep evidence: to write it durably, to be told so, to keep it, to audit it.
//!
//! Everybody writes the same requests (`traffic.rs`) to the same disk and is measured in turns, round
//! by round. Ours waits for the signed checkpoint over each record; the peers sync what they write,
//! and sign nothing, but for syslog-ng's secure logging. `enforcer/docs/benchmarks.md` has the method
//! and its limits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use enforcer_model::Exchange;
use tempfile::TempDir;

use super::super::{Effort, Row, Samples};
use super::Area;
use crate::traffic::Traffic;

mod history;
mod loggers;
mod ours;
mod rows;
mod sqlite;

/// The area.
pub(super) const AREA: Area = Area {
    name: "audit",
    what: "what it costs to keep evidence, beside rsyslog, SQLite and syslog-ng's secure logging",
    measure: rows::measure,
};

/// Requests that are written again and again: far more than any compression remembers.
const REQUESTS: u64 = 200_000;

/// What everybody writes.
struct World {
    requests: Vec<Arc<Exchange>>,
    /// The same as lines of JSON, for those who write text.
    lines: Vec<String>,
    folder: TempDir,
}

impl World {
    fn new(count: u64) -> Result<Self> {
        let traffic = Traffic::new(7);
        let requests: Vec<_> = (0..count).map(|n| Arc::new(traffic.request(n))).collect();
        let lines = requests.iter().map(|request| serde_json::to_string(&**request));
        let lines = lines.collect::<Result<_, _>>()?;
        let folder = tempfile::Builder::new().prefix("enforcer-bench-").tempdir()?;
        Ok(Self { requests, lines, folder })
    }

    /// The request with this number, and after the last the first again.
    fn request(&self, number: u64) -> Result<Arc<Exchange>> {
        let place = usize::try_from(number)? % self.requests.len().max(1);
        self.requests.get(place).map(Arc::clone).context("there are no requests")
    }

    /// So many lines from the beginning.
    fn lines(&self, count: usize) -> impl Iterator<Item = &str> {
        self.lines.iter().cycle().take(count).map(String::as_str)
    }

    /// A folder that did not exist before.
    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir(&folder)?;
        Ok(folder)
    }
}

/// Bytes of all files below a folder, but for those with these names.
fn bytes_below(folder: &Path, but: &[&str]) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let is_counted = entry.file_name().to_str().is_none_or(|name| !but.contains(&name));
        if entry.file_type()?.is_dir() {
            bytes += bytes_below(&entry.path(), but)?;
        } else if is_counted {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// A figure of rounds, with the least and the most of them.
fn row(figure: impl Into<String>, unit: &'static str, rounds: &[f64]) -> Result<Row> {
    let rounds = Samples::new(rounds.to_vec())?;
    let row = Row::new(figure, unit, rounds.median()?);
    Ok(row.spread(rounds.percentile(0)?, rounds.percentile(100)?))
}

/// The same beside a peer's rounds, which took turns with them.
fn in_turns(row: Row, peer: &str, ours: &[f64], theirs: &[f64]) -> Result<Row> {
    let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    let (theirs, ratio) = (Samples::new(theirs.to_vec())?, Samples::new(ratios)?);
    Ok(row.beside_in_turns(peer, theirs.median()?, ratio.median()?))
}

/// A count as a figure.
fn figure(count: u64) -> Result<f64> {
    // Counts here are far below 2^53.
    let (high, low) = (u32::try_from(count >> 32)?, u32::try_from(count & 0xFFFF_FFFF)?);
    Ok(f64::from(high).mul_add(4_294_967_296.0, f64::from(low)))
}

/// So many, by effort.
const fn by(effort: Effort, quick: u64, full: u64) -> u64 {
    match effort {
        Effort::Quick => quick,
        Effort::Full => full,
    }
}
