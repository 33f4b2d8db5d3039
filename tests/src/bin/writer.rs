//! `writer DIRECTORY SOCKET`: appends to an audit log, and tells what was promised of each record.
//!
//! It is made to be killed, to be denied what it asks of the system, and to be believed: every word
//! of `Word` is sent before the next thing is done, over a socket, whose calls no test disturbs.

use std::collections::VecDeque;
use std::fmt::Display;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use enforcer_audit::{Audit, Config, Full, Lost, Record, Ticket};
use enforcer_model::{Clock, Moment, SystemClock, Timestamp};
use enforcer_tests::traffic::Traffic;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Appends to an audit log until it is told not to.
#[derive(Parser)]
struct Arguments {
    /// The log
    directory: PathBuf,
    /// Where to tell what comes of each record
    socket: PathBuf,
    /// The number of the first record
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// So many records, then the log is closed; without it until the socket is shut
    #[arg(long)]
    records: Option<u64>,
    /// Records under way at a time
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Room in the queue
    #[arg(long, default_value_t = Config::QUEUE)]
    queue: usize,
    /// A segment is closed when it is longer
    #[arg(long)]
    segment_bytes: Option<u64>,
    /// No file may grow beyond this, once the log is open
    #[arg(long)]
    file_limit: Option<u64>,
    /// After half of the records the clock of the wall is put so many seconds ahead
    #[arg(long, allow_negative_numbers = true)]
    step: Option<i64>,
    /// Wait for a byte before the first record
    #[arg(long)]
    wait: bool,
    /// How long to wait after a refusal, in milliseconds
    #[arg(long, default_value_t = 5)]
    pause: u64,
}

/// The wall clock of the system, and what it was put ahead by.
#[derive(Default)]
struct Steps(AtomicI64);

impl Clock for Steps {
    fn now(&self) -> Moment {
        let Moment { monotonic, wall } = SystemClock.now();
        let ns = self.0.load(Ordering::Relaxed).saturating_mul(1_000_000_000);
        let wall = Timestamp::from_unix_ns(wall.unix_ns().saturating_add_signed(ns));
        Moment { monotonic, wall }
    }
}

/// The other end of the socket.
struct Listener(UnixStream);

impl Listener {
    /// One line.
    fn tell(&self, line: impl Display) -> Result<()> {
        let line = format!("{line}\n");
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            let sent = rustix::net::send(&self.0, rest, SendFlags::NOSIGNAL)?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        rustix::net::recv(&self.0, &mut [0_u8; 1], RecvFlags::empty()).context("nobody says go")?;
        Ok(())
    }

    /// Whether the other end has nothing more to say.
    fn is_over(&self) -> bool {
        rustix::net::recv(&self.0, &mut [0_u8; 1], RecvFlags::DONTWAIT).is_ok_and(|(_, n)| n == 0)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let listener = Listener(UnixStream::connect(&arguments.socket)?);
    let mut config = Config::new(&arguments.directory, "host.example/enforcer");
    config.queue = arguments.queue;
    config.segment_bytes = arguments.segment_bytes.unwrap_or(config.segment_bytes);
    let clock = Arc::new(Steps::default());
    let (audit, opened) = match Audit::open(config, Arc::<Steps>::clone(&clock)) {
        Ok(open) => open,
        Err(error) => return listener.tell(format!("unopened {error}")),
    };
    listener.tell(format!("opened {}", opened.size))?;
    if arguments.wait {
        listener.wait()?;
    }
    if let Some(limit) = arguments.file_limit {
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        setrlimit(Resource::Fsize, limit)?;
    }
    append(&arguments, &audit, &clock, &listener)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    match runtime.block_on(audit.close()) {
        Ok(size) => listener.tell(format!("closed {size}")),
        Err(lost) => listener.tell(format!("unclosed {lost}")),
    }
}

fn append(arguments: &Arguments, audit: &Audit, clock: &Steps, listener: &Listener) -> Result<()> {
    let traffic = Traffic::new(1);
    let mut waiting: VecDeque<(u64, Ticket)> = VecDeque::new();
    let end = arguments.first.saturating_add(arguments.records.unwrap_or(u64::MAX));
    for number in arguments.first..end {
        if arguments.records.is_none() && listener.is_over() {
            break;
        }
        if arguments.records.is_some_and(|records| number == arguments.first + records / 2) {
            clock.0.store(arguments.step.unwrap_or_default(), Ordering::Relaxed);
        }
        let record = Record::Http(Arc::new(traffic.request(number)));
        match audit.reserve() {
            Ok(slot) => waiting.push_back((number, slot.write(record))),
            Err(Full::Disk | Full::Queue) => {
                listener.tell(format!("refused {number}"))?;
                thread::sleep(Duration::from_millis(arguments.pause));
            }
            Err(error @ (Full::Failed(_) | Full::Closed)) => {
                listener.tell(format!("failed {number} {error}"))?;
                break;
            }
        }
        while waiting.len() >= arguments.in_flight {
            settle(&mut waiting, listener)?;
        }
    }
    while !waiting.is_empty() {
        settle(&mut waiting, listener)?;
    }
    Ok(())
}

/// Tells what came of the oldest record under way.
fn settle(waiting: &mut VecDeque<(u64, Ticket)>, listener: &Listener) -> Result<()> {
    let Some((number, ticket)) = waiting.pop_front() else { return Ok(()) };
    match ticket.wait() {
        Ok(index) => listener.tell(format!("acknowledged {number} {index}")),
        Err(Lost::DiskFull) => listener.tell(format!("delayed {number}")),
        Err(lost) => listener.tell(format!("lost {number} {lost}")),
    }
}
