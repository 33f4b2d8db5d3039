//! What the kernel half takes of the machine's memory, as the memory controller counts it.
//!
//! This process moves into a control group of its own for as long as the maps are made and filled:
//! the kernel charges a map to the group of whoever makes it. Counted is what the kernel allocated for
//! the group (maps, programs, page tables), without the pages of the process itself, which are told
//! apart. The controller charges in advance, 64 pages for each core at most.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result, bail};

use super::super::super::{Row, Target};
use super::MILLION;
use super::ours::{Ours, Room, generous};
use crate::lab::{Family, Lab};

/// The most that a million blocks and a million sources may take, in millions of bytes.
const MOST: f64 = 120.0;

/// Room for what is measured, and for the few networks beside it.
const ROOM: Room = Room { blocks: MILLION + 1000, sources: MILLION };

pub(super) fn measure(lab: &Lab) -> Result<Vec<Row>> {
    let group = Group::enter()?;
    let before = group.charged()?;
    let mut ours = Ours::start(&lab.host, &ROOM, generous())?;
    let empty = group.charged()?;
    ours.block(Family::V4, 0..MILLION)?;
    let full = group.charged()?;
    let told = ours.kernel.memory();
    drop(ours);

    let kernel = |usage: Charged| megabytes(usage.kernel.saturating_sub(before.kernel));
    let process = megabytes(full.process.saturating_sub(before.process));
    Ok(vec![
        Row::new("kernel memory, nothing blocked, room for 1,000,000 sources", "MB", kernel(empty)),
        Row::new("kernel memory, 1,000,000 blocked + 1,000,000 sources", "MB", kernel(full))
            .beside("what the agent tells", megabytes(told))
            .target(Target::AtMost(MOST)),
        Row::new("memory of the process that did it", "MB", process),
    ])
}

/// Bytes that a group is charged for.
#[derive(Clone, Copy, Debug)]
struct Charged {
    kernel: u64,
    process: u64,
}

/// A control group that this process is in. It goes back where it was when this is dropped.
struct Group {
    version: Version,
    before: PathBuf,
    folder: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Group {
    fn enter() -> Result<Self> {
        let (version, before) = own_group()?;
        // In the second version a group with processes can have no groups below it.
        let parent = match version {
            Version::One => before.as_path(),
            Version::Two => Path::new("/sys/fs/cgroup"),
        };
        let folder = parent.join(format!("enforcer-bench-{}", process::id()));
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let group = Self { version, before, folder };
        enter(&group.folder)?;
        Ok(group)
    }

    fn charged(&self) -> Result<Charged> {
        let stat = self.read("memory.stat")?;
        let field = |name: &str| -> Result<u64> {
            let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            Ok(line.with_context(|| format!("memory.stat has no `{name}`"))?.parse()?)
        };
        Ok(match self.version {
            Version::One => Charged {
                kernel: self.read("memory.kmem.usage_in_bytes")?.trim().parse()?,
                process: field("rss")?,
            },
            Version::Two => Charged { kernel: field("kernel")?, process: field("anon")? },
        })
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.folder.join(file);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A destructor has nobody to tell of a failure; an empty group costs nothing.
        if enter(&self.before).is_ok() {
            drop(fs::remove_dir(&self.folder));
        }
    }
}

fn enter(group: &Path) -> Result<()> {
    let path = group.join("cgroup.procs");
    fs::write(&path, process::id().to_string()).with_context(|| path.display().to_string())
}

/// Where the memory controller is, and this process in it.
fn own_group() -> Result<(Version, PathBuf)> {
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers");
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let below = path.trim_start_matches('/');
        if controllers.split(',').any(|name| name == "memory") {
            return Ok((Version::One, Path::new("/sys/fs/cgroup/memory").join(below)));
        }
        if controllers.is_empty() && unified.exists() {
            return Ok((Version::Two, Path::new("/sys/fs/cgroup").join(below)));
        }
    }
    bail!("this machine has no memory controller")
}

#[expect(clippy::as_conversions, reason = "a figure for a person")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
