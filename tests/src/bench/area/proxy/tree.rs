//! What a process and its children have used, as the kernel counts it.
//!
//! Time is the kernel's own sum of what every thread ran, in nanoseconds. A thread that ends takes its
//! sum along; then the coarser time of its process is told, which keeps it. A process that ends, or a
//! new one, makes the figure worthless, and a tree that used nothing was not the one that worked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// One clock tick of `/proc/PID/stat`: `USER_HZ` is 100 on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

/// A process that has not ended, and those that it started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree(u32);

/// What a tree was at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    processes: BTreeMap<Process, Used>,
}

/// A number may come back; with the time of its start it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    id: u32,
    started: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Used {
    /// Of the process, with its ended threads.
    ticks: u32,
    /// Nanoseconds of each thread.
    threads: BTreeMap<u32, u64>,
    resident: u64,
}

impl Tree {
    /// The tree below this process.
    pub(super) const fn of(root: u32) -> Self {
        Self(root)
    }

    /// As it is.
    pub(super) fn read(self) -> Result<Reading> {
        let mut reading = Reading::default();
        let mut open = vec![self.0];
        while let Some(id) = open.pop() {
            let folder = Path::new("/proc").join(id.to_string());
            let (process, used, children) =
                process(id, &folder).with_context(|| format!("process {id} is gone"))?;
            reading.processes.insert(process, used);
            open.extend(children);
        }
        Ok(reading)
    }
}

impl Reading {
    /// Processor time between this reading and a later one.
    pub(super) fn spent_until(&self, later: &Self) -> Result<Duration> {
        let before: BTreeSet<_> = self.processes.keys().collect();
        let after: BTreeSet<_> = later.processes.keys().collect();
        ensure!(before == after, "its processes changed: {} and {}", ids(&before), ids(&after));
        let pairs = self.processes.values().zip(later.processes.values());
        let spent = pairs.map(|(before, after)| before.spent_until(after)).sum::<Duration>();
        if spent.is_zero() {
            bail!("it used no processor time: somebody else answered");
        }
        Ok(spent)
    }

    /// Resident memory, in bytes.
    pub(super) fn resident(&self) -> u64 {
        self.processes.values().map(|used| used.resident).sum()
    }

    /// The numbers of its processes.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.processes.keys().map(|process| process.id)
    }
}

impl Used {
    fn spent_until(&self, later: &Self) -> Duration {
        let kept = self.threads.keys().all(|thread| later.threads.contains_key(thread));
        if kept {
            let sum = |used: &Self| used.threads.values().sum::<u64>();
            Duration::from_nanos(sum(later).saturating_sub(sum(self)))
        } else {
            TICK.saturating_mul(later.ticks.saturating_sub(self.ticks))
        }
    }
}

fn ids(processes: &BTreeSet<&Process>) -> String {
    format!("{:?}", processes.iter().map(|process| process.id).collect::<Vec<_>>())
}

fn process(id: u32, folder: &Path) -> Result<(Process, Used, Vec<u32>)> {
    let stat = fs::read_to_string(folder.join("stat"))?;
    // The name is in brackets, and may have brackets and blanks of its own.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).context("stat is short");
    ensure!(*field(3)? != "Z", "it ended");
    let ticks = field(14)?.parse::<u32>()? + field(15)?.parse::<u32>()?;
    let started = field(22)?.parse()?;

    let (mut threads, mut children) = (BTreeMap::new(), Vec::new());
    for entry in fs::read_dir(folder.join("task"))? {
        let folder = entry?.path();
        // A thread may end between the listing and the reading.
        let Ok(schedstat) = fs::read_to_string(folder.join("schedstat")) else { continue };
        let Ok(own) = fs::read_to_string(folder.join("children")) else { continue };
        let thread = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let ran = schedstat.split_whitespace().next().context("schedstat is empty")?;
        threads.insert(thread.parse()?, ran.parse()?);
        for child in own.split_whitespace() {
            children.push(child.parse()?);
        }
    }
    let status = fs::read_to_string(folder.join("status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = resident.and_then(|size| size.split_whitespace().next());
    let resident = kilobytes.context("no VmRSS")?.parse::<u64>()? * 1024;
    Ok((Process { id, started }, Used { ticks, threads, resident }, children))
}

#[cfg(test)]
mod tests {
    use std::process::{self as std_process, Command, Stdio};

    use super::*;
    use crate::lab::{DEADLINE, wait_until};

    /// A process: its id, when it started, its ticks, and those of its threads.
    type One<'a> = (u32, u64, u32, &'a [(u32, u64)]);

    fn reading(of: &[One<'_>]) -> Reading {
        let processes = of.iter().map(|&(id, started, ticks, threads)| {
            let threads = threads.iter().copied().collect();
            (Process { id, started }, Used { ticks, threads, resident: 1 })
        });
        Reading { processes: processes.collect() }
    }

    #[test]
    fn what_this_process_computes_is_counted_as_its_own_and_its_children_belong_to_it() {
        let tree = Tree::of(std_process::id());
        let before = tree.read().unwrap();
        let mut sum = 0_u64;
        for n in 0..30_000_000_u64 {
            sum = std::hint::black_box(sum ^ n);
        }
        // The kernel adds up what a thread ran when it stops running for a moment.
        std::thread::sleep(Duration::from_millis(1));
        let after = tree.read().unwrap();

        let used = |reading: &Reading| {
            reading.processes.values().flat_map(|used| used.threads.values()).sum::<u64>()
        };
        assert!(used(&after) > used(&before));
        assert!(after.resident() > 1 << 20);

        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let id = child.id();
        wait_until("the child is seen", DEADLINE, || {
            tree.read().is_ok_and(|reading| reading.ids().any(|other| other == id))
        })
        .unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(Tree::of(id).read().is_err());
    }

    #[test]
    fn other_processes_than_before_and_no_time_at_all_are_refused() {
        let one = reading(&[(1, 10, 5, &[(1, 100)])]);
        let restarted = reading(&[(1, 99, 5, &[(1, 500)])]);
        let more = reading(&[(1, 10, 9, &[(1, 500)]), (2, 20, 0, &[(2, 0)])]);

        for other in [&restarted, &more] {
            let refused = one.spent_until(other).unwrap_err().to_string();
            assert!(refused.starts_with("its processes changed"), "{refused}");
        }
        let idle = one.spent_until(&one).unwrap_err().to_string();
        assert!(idle.starts_with("it used no processor time"), "{idle}");
    }

    #[test]
    fn threads_are_told_in_nanoseconds_and_ended_ones_in_ticks_of_their_process() {
        let before = reading(&[(1, 10, 5, &[(1, 100), (2, 7)])]);
        let longer = reading(&[(1, 10, 5, &[(1, 400), (2, 8), (3, 9)])]);
        let ended = reading(&[(1, 10, 8, &[(1, 400)])]);

        assert_eq!(before.spent_until(&longer).unwrap(), Duration::from_nanos(310));
        assert_eq!(before.spent_until(&ended).unwrap(), TICK * 3);
    }
}
