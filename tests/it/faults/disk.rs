//! A disk that is full, too small, or taken away: nothing accepted is lost, every refusal counted.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use enforcer_tests::lab::{DEADLINE, Lab, wait_until};

use super::{Fate, History};

/// A file system of its own in a file, mounted where only the lab sees it.
struct Disk {
    lab: Lab,
    history: History,
}

impl Disk {
    /// `size` as `truncate` takes it.
    fn new(size: u64) -> Self {
        let (lab, history) = (Lab::new().unwrap(), History::new());
        let (image, place) = (history.home.path().join("image"), history.home.path().join("disk"));
        File::create(&image).unwrap().set_len(size).unwrap();
        fs::create_dir(&place).unwrap();
        let mut format = Command::new("mkfs.ext4");
        assert!(format.args(["-q", "-m", "0"]).arg(&image).status().unwrap().success());
        let mut mount = lab.host.command("mount");
        mount.args(["-o", "loop"]).args([&image, &place]);
        lab.host.succeed(mount).unwrap();
        Self { lab, history }
    }

    fn place(&self) -> PathBuf {
        self.history.home.path().join("disk")
    }

    /// As the test sees it.
    fn seen(&self, name: &str) -> PathBuf {
        self.lab.host.path(self.place().join(name))
    }

    /// Takes all the room but so many bytes.
    fn fill(&self, but: u64) {
        let file = File::create(self.seen("ballast")).unwrap();
        let free = rustix::fs::fstatvfs(&file).unwrap();
        let most = free.f_bavail * free.f_frsize;
        write_until_full(file, most.saturating_sub(but));
    }

    /// Gives it back.
    fn free(&self) {
        fs::remove_file(self.seen("ballast")).unwrap();
    }

    /// A writer of the log on it.
    fn start(&self, words: &[&str]) -> super::Run {
        let words = self.history.writer(&self.place().join("audit"), words);
        let mut command = self.lab.host.command(&words[0]);
        command.args(&words[1..]);
        self.history.launch(command).unwrap()
    }
}

/// Writes until so many bytes are written or there is no room for a page.
fn write_until_full(mut file: File, mut bytes: u64) {
    let page = [0x5a; 4096];
    while bytes > 4096 && file.write_all(&page).is_ok() {
        bytes -= 4096;
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_disk_of_64_mib_that_fills_up_and_is_freed_loses_and_hides_nothing() {
    let mut disk = Disk::new(64 << 20);
    let mut writer = disk.start(&["--in-flight", "32", "--pause", "1"]);
    let mut words = Vec::new();

    for round in 0..3 {
        // The log takes what little is left by itself, or is left nothing.
        disk.fill(if round == 0 { 300_000 } else { 0 });
        until(&mut writer, &mut words, "refused");
        disk.free();
        until(&mut writer, &mut words, "acknowledged");
    }
    writer.enough();
    let end = disk.history.finish(writer);

    disk.history.hear(&words);
    assert!(end.closed, "{end:?}");
    let log = disk.seen("audit");
    let refused = disk.history.fates.values().filter(|fate| **fate == Fate::Refused).count();
    assert!(refused >= 3, "{refused}");
    super::reopen(&log).unwrap();
    let content = disk.history.expect_content(&log, "filled three times");
    assert!(content.counted >= 3);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_writer_killed_on_a_full_disk_has_what_it_acknowledged() {
    let mut disk = Disk::new(64 << 20);
    for run in 0..4 {
        let mut writer = disk.start(&["--in-flight", "32", "--pause", "1"]);
        let mut words = Vec::new();
        until(&mut writer, &mut words, "acknowledged");
        disk.fill(100_000 * run);
        until(&mut writer, &mut words, "refused");

        writer.kill();
        disk.history.finish(writer);
        disk.history.hear(&words);
        disk.history.skip(64);
        // A start on a disk that is still full harms nothing either.
        drop(super::reopen(&disk.seen("audit")));
        disk.free();

        super::reopen(&disk.seen("audit")).unwrap();
        disk.history.expect_content(&disk.seen("audit"), &format!("run {run}"));
    }
}

#[test]
fn a_file_that_may_not_grow_further_costs_no_acknowledged_record() {
    // The limit lies at another byte of a write each time.
    let mut history = History::in_memory();
    let all = if super::is_long() { 1_000 } else { 30 };
    let mut cut = 0;
    for run in 0..all {
        history.killed = false;
        let limit = (2_000 + run * 97).to_string();
        let words = ["--records", "300", "--in-flight", "8", "--file-limit", &limit];
        let limited = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];

        let end = history.run(&limited, &words).unwrap();

        cut += usize::from(!end.closed || end.words.iter().any(|word| word.starts_with("lost")));
        let what = format!("limit {limit}");
        history.expect_whole(&what);
        fs::remove_dir_all(history.directory()).unwrap();
        history.fates.clear();
    }
    assert!(cut > 10, "the limit was met in {cut} runs only");
}

#[test]
fn a_log_that_is_taken_away_while_it_is_written_is_noticed_at_the_next_commit() {
    type Take = fn(&Path, &Path);
    let takes: [(&str, Take); 4] = [
        ("removed", |segment, _| fs::remove_file(segment).unwrap()),
        ("moved", |segment, aside| fs::rename(segment, aside).unwrap()),
        ("copied over", |segment, aside| {
            fs::copy(segment, aside).unwrap();
            fs::rename(aside, segment).unwrap();
        }),
        ("moved with all", |segment, aside| {
            fs::rename(segment.ancestors().nth(2).unwrap(), aside).unwrap();
        }),
    ];
    for (what, take) in takes {
        let mut history = History::in_memory();
        let mut writer = history.start(&[], &["--in-flight", "4"]).unwrap();
        let mut words = Vec::new();
        until(&mut writer, &mut words, "acknowledged");
        let live = newest_segment(&history.directory());

        take(&live, &history.home.path().join("aside"));
        wait_until("the writer ends", DEADLINE, || writer.child.try_wait().unwrap().is_some())
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let end = history.finish(writer);

        assert!(!end.closed, "{what}");
        let told = end.words.iter().any(|word| word.contains("moved away"));
        assert!(told, "{what}: {:?}", end.words.last());
        if what != "copied over" {
            assert!(super::reopen(&history.directory()).is_err() || what == "moved with all");
        }
    }
}

/// Hears a writer until it says this.
fn until(writer: &mut super::Run, words: &mut Vec<String>, what: &str) {
    loop {
        let line = writer.line().unwrap_or_else(|| panic!("it ended before `{what}`: {words:?}"));
        let found = line.starts_with(what);
        words.push(line);
        if found {
            return;
        }
    }
}

fn newest_segment(log: &Path) -> PathBuf {
    let segments = fs::read_dir(log.join("segments")).unwrap();
    let segments = segments.map(|entry| entry.unwrap().path());
    segments.filter(|path| path.extension().is_some_and(|it| it == "seg")).max().unwrap()
}
