//! What breaks under the audit log, one thing at a time, and what is left of the log.
//!
//! A [`History`] is a log and everything that its writers were promised. The writers are processes
//! (`tests/src/bin/writer.rs`), so that they can be killed and denied what they ask for. Whatever
//! happened, the log is opened again, and then: every acknowledged record is where its number says,
//! no record is there twice, what is missing was told or counted, and the audit finds no fault.
//!
//! `cargo nextest run --profile long` does everything that CI does a part of.

#![expect(clippy::panic, reason = "what helpers of tests find wrong fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use enforcer_audit::{Audit, Config, Expected, Log, Opened, verify};
use enforcer_model::SystemClock;
use enforcer_tests::lab::{DEADLINE, wait_for};
use enforcer_tests::traffic::Traffic;
use tempfile::TempDir;

mod agent;
mod clock;
mod disk;
mod journald;
mod killed;
mod syscalls;

const ORIGIN: &str = "host.example/enforcer";

/// A log, and what was said of its records.
struct History {
    home: TempDir,
    socket: UnixListener,
    /// Records are numbered from here on by the next run.
    offered: u64,
    fates: BTreeMap<u64, Fate>,
    /// Whether a run ended in a way that leaves records untold.
    killed: bool,
}

/// What was said of a record, at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is on disk, at this index.
    Acknowledged(u64),
    /// It was not taken; a gap counts it.
    Refused,
    /// It is kept until there is room, or counted by a gap.
    Delayed,
    /// It may be lost; whoever waited knows.
    Lost,
}

/// A writer at work.
struct Run {
    child: Child,
    lines: BufReader<UnixStream>,
}

/// How a run ended.
#[derive(Debug)]
struct End {
    /// Whether it was closed in order.
    closed: bool,
    /// Everything that the writer told.
    words: Vec<String>,
}

/// What is in a log.
#[derive(Debug, Default)]
struct Content {
    /// The indices of records by their numbers.
    stored: BTreeMap<u64, u64>,
    /// Records that gaps count.
    counted: u64,
    size: u64,
}

impl History {
    /// A log on the disk of the machine.
    fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// Where a sync costs nothing.
    fn in_memory() -> Self {
        Self::below(Path::new("/dev/shm"))
    }

    fn below(folder: &Path) -> Self {
        let home = tempfile::Builder::new().prefix("enforcer-faults-").tempdir_in(folder).unwrap();
        let socket = UnixListener::bind(home.path().join("socket")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { home, socket, offered: 0, fates: BTreeMap::new(), killed: false }
    }

    fn directory(&self) -> PathBuf {
        self.home.path().join("audit")
    }

    /// The words that start a writer of this log.
    fn writer(&self, directory: &Path, words: &[&str]) -> Vec<String> {
        let first = self.offered.to_string();
        let socket = self.home.path().join("socket");
        let paths = [directory.to_str().unwrap(), socket.to_str().unwrap(), "--first", &first];
        let program = [env!("CARGO_BIN_EXE_writer")];
        program.iter().chain(&paths).chain(words).map(|&word| word.to_owned()).collect()
    }

    /// Starts a writer by `before`, such as a tracer and its flags.
    fn start(&self, before: &[&str], words: &[&str]) -> Option<Run> {
        let words = self.writer(&self.directory(), words);
        let all: Vec<&str> = before.iter().copied().chain(words.iter().map(|it| &**it)).collect();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]);
        self.launch(command)
    }

    /// Starts a writer; none when it ended before it could say a word.
    fn launch(&self, mut command: Command) -> Option<Run> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stream = wait_for("the writer begins", DEADLINE, || match self.socket.accept() {
            Ok((stream, _)) => Some(Some(stream)),
            Err(_) => child.try_wait().unwrap().map(|_| None),
        });
        let stream = stream.unwrap()?;
        stream.set_nonblocking(false).unwrap();
        Some(Run { child, lines: BufReader::new(stream) })
    }

    /// Lets a writer write until it ends.
    fn run(&mut self, before: &[&str], words: &[&str]) -> Option<End> {
        let run = self.start(before, words)?;
        Some(self.finish(run))
    }

    /// Hears a writer out.
    fn finish(&mut self, mut run: Run) -> End {
        let mut words = Vec::new();
        let mut line = String::new();
        while run.lines.read_line(&mut line).is_ok_and(|length| length > 0) {
            // A line that a kill cut short says nothing.
            if line.ends_with('\n') {
                words.push(line.trim_end().to_owned());
            }
            line.clear();
        }
        let status = run.child.wait().unwrap();
        let mut said = String::new();
        run.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!said.contains("panicked"), "{said}");
        self.hear(&words);
        let closed = words.iter().any(|word| word.starts_with("closed "));
        self.killed |= status.code().is_none_or(|code| code > 128);
        End { closed, words }
    }

    fn hear(&mut self, words: &[String]) {
        for word in words {
            let mut parts = word.split(' ');
            let (what, number) = (parts.next().unwrap(), parts.next().unwrap_or_default());
            let fate = match what {
                "acknowledged" => Fate::Acknowledged(parts.next().unwrap().parse().unwrap()),
                "refused" => Fate::Refused,
                "delayed" => Fate::Delayed,
                "lost" | "failed" => Fate::Lost,
                _ => continue,
            };
            let number = number.parse().unwrap();
            self.fates.insert(number, fate);
            self.offered = self.offered.max(number + 1);
        }
    }

    /// Numbers may be missing where a writer was killed; the next one takes others.
    fn skip(&mut self, count: u64) {
        self.offered += count;
    }

    /// The log as a restart of the agent finds it, which must hold. `what` says what happened to it.
    fn expect_whole(&self, what: &str) -> Content {
        let opened = reopen(&self.directory());
        let opened = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(opened.warnings.is_empty() || self.killed, "{what}: {:?}", opened.warnings);
        self.expect_content(&self.directory(), what)
    }

    /// The same of a log that nobody has open.
    fn expect_content(&self, directory: &Path, what: &str) -> Content {
        verify(directory, &Expected::default(), |_, _| ())
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let content = read(directory, 0, what);
        for (number, fate) in &self.fates {
            if let Fate::Acknowledged(index) = fate {
                assert_eq!(content.stored.get(number), Some(index), "{what}: record {number}");
            }
        }
        let told = self
            .fates
            .iter()
            .filter(|(number, fate)| **fate == Fate::Lost && !content.stored.contains_key(number));
        let accounted = content.stored.len() + told.count();
        let accounted = u64::try_from(accounted).unwrap() + content.counted;
        let offered = u64::try_from(self.fates.len()).unwrap();
        if !self.killed {
            assert_eq!(accounted, offered, "{what}: stored, counted and told is what was offered");
        }
        content
    }
}

impl Run {
    /// The next line, while the writer goes on.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let length = self.lines.read_line(&mut line).unwrap();
        (length > 0).then(|| line.trim_end().to_owned())
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    /// As `kill -9`.
    fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Says that it has written enough.
    fn enough(&self) {
        self.lines.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Says to a writer that waits that it shall begin.
    fn go(&mut self) {
        use std::io::Write;
        self.lines.get_mut().write_all(b"!").unwrap();
    }
}

/// Opens a log as a start of the agent does, and closes it.
fn reopen(directory: &Path) -> Result<Opened, enforcer_audit::OpenError> {
    let config = Config::new(directory, ORIGIN);
    let (audit, opened) = Audit::open(config, Arc::new(SystemClock))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(audit.close()).unwrap();
    Ok(opened)
}

/// The records from index `from` on.
fn read(directory: &Path, from: u64, what: &str) -> Content {
    let traffic = Traffic::new(1);
    let log = Log::open_read_only(directory).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut content = Content { size: log.size(), ..Content::default() };
    for stored in log.records(from..u64::MAX).unwrap() {
        let stored = stored.unwrap_or_else(|error| panic!("{what}: {error}"));
        let json = stored.json().unwrap();
        let body = &json["body"];
        if json["class"] == "gap" {
            content.counted += body["records"].as_u64().unwrap();
        } else if json["class"] == "http" {
            let id = u128::from_str_radix(body["id"].as_str().unwrap(), 16).unwrap();
            let number = u64::try_from(id & u128::from(u64::MAX)).unwrap();
            assert_eq!(body["id"], traffic.request(number).id.to_string(), "{what}");
            assert_eq!(body["peer"], traffic.peer_of(number), "{what}: {number} is unreadable");
            let before = content.stored.insert(number, stored.index);
            assert_eq!(before, None, "{what}: record {number} is there twice");
        }
    }
    content
}

/// Whether everything is to be tried: `cargo nextest run --profile long`.
fn is_long() -> bool {
    std::env::var("NEXTEST_PROFILE").is_ok_and(|profile| profile == "long")
}

/// Copies a log. Its reserve takes no room in the copy.
fn copy_log(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_log(&entry.path(), &target);
        } else if entry.file_name() == "reserve" {
            let length = entry.metadata().unwrap().len();
            fs::File::create(target).unwrap().set_len(length).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
