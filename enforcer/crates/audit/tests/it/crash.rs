//! Killed at any moment, the log has everything that it acknowledged.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use enforcer_audit::{Audit, Log, Record};
use tokio::sync::mpsc;

use crate::lab::{Lab, note, number_of, open_with};

const DIRECTORY: &str = "AUDIT_CRASH_DIRECTORY";
const CHILD: &str = "crash::the_child_of_the_crash_test_appends_until_it_is_killed";
const SEGMENT_BYTES: u64 = 100_000;
const RUNS: u64 = 50;

/// The child: appends until it is killed, and prints every index once it is acknowledged.
///
/// Run by itself this test has nothing to do.
#[tokio::test]
async fn the_child_of_the_crash_test_appends_until_it_is_killed() {
    #[expect(clippy::disallowed_methods, reason = "how the parent names the directory")]
    let Ok(directory) = env::var(DIRECTORY) else { return };
    let (audit, opened) = open_with(Path::new(&directory), SEGMENT_BYTES, 512).unwrap();
    println!("opened {}", opened.size);
    // Fewer than slots, so that none is ever refused.
    let (tickets, mut acknowledged) = mpsc::channel(256);
    let writer = async move {
        for number in 0.. {
            let Ok(slot) = audit.reserve() else { break };
            tickets.send((number, slot.write(note(number)))).await.unwrap();
        }
    };
    let reader = async {
        while let Some((number, ticket)) = acknowledged.recv().await {
            match ticket.committed().await {
                Ok(index) => println!("{number} {index}"),
                Err(lost) => println!("lost: {lost}"),
            }
        }
    };
    tokio::join!(writer, reader);
}

#[test]
fn a_log_killed_50_times_has_every_acknowledged_record_and_verifies() {
    let lab = Lab::with_segments(SEGMENT_BYTES);
    let mut total = 0;
    let mut size = 0;

    for run in 0..RUNS {
        let acknowledged = run_and_kill(&lab.directory(), Duration::from_millis(10 + run * 2));

        let (audit, opened) = lab.open().unwrap();
        close(audit);
        let log = Log::open_read_only(&lab.directory()).unwrap();
        assert!(opened.size >= size, "run {run}: records vanished");
        let new: Vec<_> = log.records(size..opened.size).unwrap().map(Result::unwrap).collect();
        for (number, index) in &acknowledged {
            let stored = &new[usize::try_from(index - size).unwrap()];
            assert_eq!((number_of(stored), stored.index), (*number, *index), "run {run}");
        }
        total += acknowledged.len();
        size = log.size();
    }
    lab.verify().unwrap();
    assert!(total > 10_000, "only {total} records were acknowledged in all runs");
}

#[test]
fn a_log_that_nobody_closed_is_flushed_when_its_last_handle_goes() {
    let lab = Lab::new();
    let (audit, _) = lab.open().unwrap();
    for number in 0..100 {
        drop(audit.reserve().unwrap().write(note(number)));
    }

    drop(audit);

    // The writer thread ends by itself, soon.
    let opened = (0..1_000).find_map(|_| {
        thread::sleep(Duration::from_millis(5));
        lab.open().ok()
    });
    assert_eq!(opened.unwrap().1.size, 100);
}

fn close(audit: Audit) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(audit.close()).unwrap()
}

/// What the child acknowledged before it was killed: number and index.
fn run_and_kill(directory: &Path, after: Duration) -> Vec<(u64, u64)> {
    let mut process = Command::new(env::current_exe().unwrap())
        .args(["--exact", CHILD, "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains("opened ")), "the child began");
    let id = process.id();
    let killer = thread::spawn(move || {
        thread::sleep(after);
        let kill = Command::new("kill").args(["-KILL", &id.to_string()]).status().unwrap();
        assert!(kill.success());
    });
    let acknowledged = lines.map_while(Result::ok).filter_map(|line| pair(&line)).collect();
    killer.join().unwrap();
    process.wait().unwrap();
    acknowledged
}

/// Number and index in a line of the child.
fn pair(line: &str) -> Option<(u64, u64)> {
    let (number, index) = line.split_once(' ')?;
    Some((number.parse().ok()?, index.parse().ok()?))
}

#[tokio::test]
async fn a_record_is_not_readable_before_it_is_acknowledged_or_signed() {
    let lab = Lab::new();
    let (audit, _) = lab.open().unwrap();
    let record = |number| -> Record { note(number) };
    for number in 0..200 {
        let ticket = audit.reserve().unwrap().write(record(number));
        let before = Log::open_read_only(&lab.directory()).unwrap().size();
        let index = ticket.committed().await.unwrap();
        let after = Log::open_read_only(&lab.directory()).unwrap().size();

        assert!(before <= index + 1 && after == index + 1);
    }
}
