//! `kill -9`, again and again: nothing acknowledged is lost, and nothing is repaired in silence.

use std::thread;
use std::time::Duration;

use enforcer_audit::{Expected, verify};

use super::{Fate, History, is_long, read, reopen};

/// Runs on one log, before another one is begun.
const RUNS: u64 = 10;

#[test]
fn a_writer_killed_at_any_moment_has_every_record_that_it_acknowledged() {
    let logs = if is_long() { 100 } else { 5 };
    let mut acknowledged = 0;
    for log in 0..logs {
        acknowledged += kill_again_and_again(log);
    }
    assert!(acknowledged > 2_000, "only {acknowledged} records were acknowledged in all runs");
}

/// Kills a log's writers in turn; how many records they had acknowledged.
fn kill_again_and_again(log: u64) -> usize {
    // Every other log where a sync is one.
    let mut history = if log.is_multiple_of(2) { History::in_memory() } else { History::new() };
    let mut size = 0;
    for run in 0..RUNS {
        let what = format!("log {log}, run {run}");
        let words = ["--in-flight", "64", "--segment-bytes", "40000"];
        let mut writer = history.start(&[], &words).unwrap();
        // Some are killed while they open, others after a few commits or many, and not all of them
        // right behind one.
        let heard: Vec<String> =
            (0..(log * 7 + run * 13) % 300).map_while(|_| writer.line()).collect();
        thread::sleep(Duration::from_micros(run * 377 % 2_000));
        writer.kill();
        history.hear(&heard);
        history.finish(writer);
        history.skip(64);

        let opened = reopen(&history.directory());
        let opened = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(opened.size >= size, "{what}: records vanished");
        let content = read(&history.directory(), 0, &what);
        for (number, fate) in &history.fates {
            if let Fate::Acknowledged(index) = fate {
                assert_eq!(content.stored.get(number), Some(index), "{what}: record {number}");
            }
        }
        verify(&history.directory(), &Expected::default(), |_, _| ())
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        size = content.size;
    }
    history.fates.len()
}
