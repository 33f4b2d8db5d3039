//! Every call of the log to the file system fails once, each in every way that there is.
//!
//! `strace` first shows which calls the log makes on which of its files. Then each of these calls,
//! one in a run, fails with EIO or ENOSPC, tells of a shorter write than it was asked for, or is
//! the last thing that the process does. That goes on until there is no such call any more; in CI with
//! some of the calls.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use parking_lot::Mutex;

use super::{History, copy_log, is_long};

/// Records of a run, two at a time: some commits, each of a few calls.
const RECORDS: &str = "12";

/// What becomes of a call, in the words of strace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Eio,
    NoSpace,
    Kill,
    /// Says that nothing was written.
    Nothing,
    /// Says that one byte was written, which is not so.
    OneByte,
}

/// When the calls are counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// The log does not exist.
    Beginning,
    /// The log was closed in order.
    Start,
    /// The log is open, and its writer has a thread of its own.
    Opened,
}

/// The calls of one kind on the files of a log, each of which fails in this way.
struct Sweep {
    call: String,
    fault: Fault,
}

impl Fault {
    const ALL: [Self; 5] = [Self::Eio, Self::NoSpace, Self::Kill, Self::Nothing, Self::OneByte];

    const fn word(self) -> &'static str {
        match self {
            Self::Eio => "error=EIO",
            Self::NoSpace => "error=ENOSPC",
            Self::Kill => "signal=KILL",
            Self::Nothing => "retval=0",
            Self::OneByte => "retval=1",
        }
    }

    /// Whether a call can end in this way.
    fn befits(self, call: &str) -> bool {
        match self {
            Self::Eio | Self::NoSpace | Self::Kill => true,
            Self::Nothing | Self::OneByte => call.contains("write"),
        }
    }
}

#[test]
fn a_call_that_fails_at_the_beginning_of_a_log_costs_no_acknowledged_record() {
    sweep(Since::Beginning);
}

#[test]
fn a_call_that_fails_while_a_log_is_opened_costs_no_acknowledged_record() {
    sweep(Since::Start);
}

#[test]
fn a_call_that_fails_while_a_log_is_written_costs_no_acknowledged_record() {
    sweep(Since::Opened);
}

/// All faults of all calls, by two workers.
fn sweep(since: Since) {
    let calls = Bench::new(since).calls;
    for expected in ["openat", "rename", "fdatasync"] {
        assert!(calls.iter().any(|call| call == expected), "{expected} is seen: {calls:?}");
    }
    let sweeps = calls.iter().flat_map(|call| {
        let befitting = Fault::ALL.into_iter().filter(|fault| fault.befits(call));
        befitting.map(|fault| Sweep { call: call.clone(), fault })
    });
    let waiting: Mutex<Vec<Sweep>> = Mutex::new(sweeps.collect());
    let hits: usize = thread::scope(|scope| {
        let work = || {
            let (mut bench, mut hits) = (Bench::new(since), 0);
            loop {
                let next = waiting.lock().pop();
                let Some(sweep) = next else { return hits };
                hits += sweep.run(&mut bench);
            }
        };
        let workers = [scope.spawn(work), scope.spawn(work)];
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert!(hits > 20, "only {hits} calls were hit");
}

/// A log in a place of its own, the same for every run.
struct Bench {
    since: Since,
    history: History,
    /// Its files, which is how strace knows its calls.
    paths: BTreeSet<String>,
    calls: BTreeSet<String>,
}

impl Bench {
    fn new(since: Since) -> Self {
        let history = History::in_memory();
        let mut bench = Self { since, history, paths: BTreeSet::new(), calls: BTreeSet::new() };
        if since != Since::Beginning {
            let end = bench.history.run(&[], &["--records", "40", "--segment-bytes", "3000"]);
            assert!(end.unwrap().closed);
            copy_log(&bench.history.directory(), &bench.history.home.path().join("before"));
        }
        bench.record();
        bench
    }

    /// The log as every run finds it.
    fn restore(&mut self) {
        let directory = self.history.directory();
        if directory.exists() {
            fs::remove_dir_all(&directory).unwrap();
        }
        let before = self.history.home.path().join("before");
        let written = if before.exists() {
            copy_log(&before, &directory);
            40
        } else {
            0
        };
        self.history.fates.retain(|number, _| *number < written);
        self.history.offered = written;
        self.history.killed = false;
    }

    /// Sees which calls there are, on which files.
    fn record(&mut self) {
        let seen = self.history.home.path().join("seen");
        let end = self.run(&["-y", "-e", "trace=%file,%desc"], &seen);
        assert!(end, "nothing fails, and the log is closed");
        let text = fs::read_to_string(seen).unwrap();
        let log = self.history.directory().to_str().unwrap().to_owned();
        for line in text.lines().filter(|line| line.contains(&log)) {
            let Some((call, _)) = line.split_once('(') else { continue };
            let Some(call) = call.split_whitespace().next_back() else { continue };
            self.calls.insert(call.to_owned());
            for (at, _) in line.match_indices(&log) {
                let path = line.get(at..).unwrap().split(['"', '>']).next().unwrap();
                self.paths.insert(path.to_owned());
            }
        }
    }

    /// Runs a writer under strace with these flags, which writes to `seen`; whether it closed the log
    /// in order.
    fn run(&mut self, flags: &[&str], seen: &Path) -> bool {
        self.restore();
        let words = ["--records", RECORDS, "--in-flight", "2", "--segment-bytes", "3000"];
        let strace = ["strace", "-f", "-o", seen.to_str().unwrap()];
        let before = [&strace[..], flags].concat();
        let end = if self.since == Since::Opened {
            let mut writer = self.history.start(&[], &[&words[..], &["--wait"]].concat()).unwrap();
            assert!(writer.line().unwrap().starts_with("opened "));
            let mut tracer = attach(&before, writer.id());
            writer.go();
            let end = self.history.finish(writer);
            tracer.wait().unwrap();
            Some(end)
        } else {
            self.history.run(&[&before[..], &["--"]].concat(), &words)
        };
        end.is_some_and(|end| end.closed)
    }
}

/// Lets strace follow a writer.
fn attach(before: &[&str], id: u32) -> std::process::Child {
    use std::io::{BufRead, BufReader};
    let mut command = Command::new(before[0]);
    command.args(&before[1..]).args(["-p", &id.to_string()]);
    let mut tracer = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(tracer.stderr.take().unwrap()).lines();
    let attached = said.next().unwrap().unwrap();
    assert!(attached.contains("attached"), "{attached}");
    // Whatever else it says must find somebody who reads it.
    thread::spawn(move || said.for_each(drop));
    tracer
}

impl Sweep {
    /// Lets the first call fail, then the second, and so on; how many there were.
    fn run(&self, bench: &mut Bench) -> usize {
        let (Self { call, fault }, since) = (self, bench.since);
        let seen = bench.history.home.path().join("seen");
        let mut hits = 0;
        // In CI the first of a kind and an eighth of the others, which of them by the fault.
        let offset = Fault::ALL.iter().position(|it| it == fault).unwrap();
        let is_wanted = |turn: &usize| is_long() || *turn == 1 || (turn + offset).is_multiple_of(8);
        for turn in (1..).filter(is_wanted) {
            let what = format!("{since:?}: {call} {turn}: {fault:?}");
            let inject = format!("inject={call}:{}:when={turn}", fault.word());
            let mut flags = vec!["-e", &*inject];
            bench.paths.iter().for_each(|path| flags.extend(["-P", path]));
            let flags: Vec<String> = flags.into_iter().map(str::to_owned).collect();
            let flags: Vec<&str> = flags.iter().map(|flag| &**flag).collect();

            bench.run(&flags, &seen);

            let text = fs::read_to_string(&seen).unwrap();
            if !(text.contains("(INJECTED)") || text.contains("killed by SIGKILL")) {
                break;
            }
            hits += 1;
            if bench.history.directory().exists() {
                bench.history.expect_whole(&what);
            }
        }
        hits
    }
}
