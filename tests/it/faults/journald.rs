//! Three attacks that systemd's sealed journals fell for, on a log of ours.
//!
//! Who attacks is root, has a copy of every earlier state of the disk and of every key on it, and
//! knows the format. What is not his is a checkpoint that somebody keeps elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use enforcer_audit::{Expected, Log, Selector, verify};
use enforcer_tests::traffic::Traffic;

use super::{History, copy_log, is_long, reopen};

/// What a reader is shown: of each view the records, or that it fails.
type Views = BTreeMap<&'static str, Result<Vec<u64>, String>>;

/// CVE-2023-31437: what links to the records is changed and not the records, so that some views
/// leave records out while the verification succeeds.
#[test]
fn no_view_leaves_a_record_out_whatever_becomes_of_the_files_beside_the_records() {
    let history = written(if is_long() { 600 } else { 120 });
    let log = history.directory();
    let whole = views(&log);
    assert!(whole.values().all(|view| view.as_ref().is_ok_and(|records| !records.is_empty())));
    let beside = files(&log);
    let beside: Vec<_> =
        beside.iter().filter(|path| !path.starts_with(log.join("segments"))).collect();
    assert!(beside.len() > 3, "{beside:?}");
    for path in beside {
        let kept = fs::read(path).unwrap();
        let what = path.display();
        let other: Vec<u8> = kept.iter().map(|byte| byte ^ 1).collect();
        let all = [None, Some(&other[..]), Some(&[][..]), Some(&kept[..kept.len() / 2])];
        for altered in all.into_iter().take(if is_long() { 4 } else { 2 }) {
            match altered {
                None => fs::remove_file(path).unwrap(),
                Some(bytes) => fs::write(path, bytes).unwrap(),
            }
            let shown = views(&log);
            for (view, records) in &whole {
                let shown = shown.get(view).unwrap();
                assert!(shown.is_err() || shown == records, "{what}: {view} shows less");
            }
            fs::write(path, &kept).unwrap();
        }
    }
    assert!(is_whole(&log));
}

/// CVE-2023-31438: the sealed log is cut, and sealing goes on as if nothing had been there.
#[test]
fn a_log_that_was_cut_and_goes_on_contradicts_every_checkpoint_that_was_kept_since() {
    let mut history = written(200);
    let image = history.home.path().join("image");
    copy_log(&history.directory(), &image);
    assert!(history.run(&[], &["--records", "200"]).unwrap().closed);
    let kept = checkpoint(&history.directory());

    // Cut without an earlier checkpoint, nothing goes on.
    for cut in files(&history.directory().join("segments")) {
        let bytes = fs::read(&cut).unwrap();
        for length in [0, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&cut, &bytes[..length]).unwrap();
            assert!(!is_whole(&history.directory()), "{}", cut.display());
        }
        fs::write(&cut, bytes).unwrap();
    }
    assert!(holds(&history.directory(), &kept));

    // The whole of an earlier state is a good log, and goes on as one.
    fs::remove_dir_all(history.directory()).unwrap();
    copy_log(&image, &history.directory());
    history.fates.clear();
    reopen(&history.directory()).unwrap();
    assert!(is_whole(&history.directory()));
    assert!(!holds(&history.directory(), &kept), "it is shorter than it was");
    history.offered += 1_000;
    assert!(history.run(&[], &["--records", "600"]).unwrap().closed);
    assert!(is_whole(&history.directory()));
    assert!(!holds(&history.directory(), &kept), "it is longer, and another one");
}

/// CVE-2023-31439: the past is written anew and sealed with the keys of the present.
#[test]
fn a_past_that_was_written_anew_with_the_keys_of_the_present_contradicts_what_was_kept() {
    let mut history = written(100);
    let image = history.home.path().join("image");
    copy_log(&history.directory(), &image);
    assert!(history.run(&[], &["--records", "300", "--segment-bytes", "9000"]).unwrap().closed);
    let kept = checkpoint(&history.directory());
    assert!(history.run(&[], &["--records", "50"]).unwrap().closed);
    assert!(holds(&history.directory(), &kept));

    // Every record but one is the same: the one in which the attacker appears.
    let mut forged = History::in_memory();
    copy_log(&image, &forged.directory());
    for (first, records) in [(100, "120"), (221, "229")] {
        forged.offered = first;
        let words = ["--records", records, "--segment-bytes", "9000"];
        assert!(forged.run(&[], &words).unwrap().closed);
    }

    assert!(is_whole(&forged.directory()), "by itself it is a good log");
    assert!(!holds(&forged.directory(), &kept));
}

/// A closed log of some segments.
fn written(records: u64) -> History {
    let mut history = History::in_memory();
    let records = records.to_string();
    let end = history.run(&[], &["--records", &records, "--segment-bytes", "9000"]);
    assert!(end.unwrap().closed);
    history
}

fn checkpoint(log: &Path) -> String {
    Log::open_read_only(log).unwrap().note().to_owned()
}

/// Whether a log is whole and continues what a kept checkpoint says.
fn holds(directory: &Path, kept: &str) -> bool {
    let log = Log::open_read_only(directory).unwrap();
    let kept = log.key().open(kept).unwrap();
    let expected = Expected { pins: vec![kept], ..Expected::of(log.key()) };
    verify(directory, &expected, |_, _| ()).is_ok()
}

/// Whether a log is whole, as far as it tells by itself.
fn is_whole(directory: &Path) -> bool {
    verify(directory, &Expected::default(), |_, _| ()).is_ok()
}

fn views(directory: &Path) -> Views {
    let log = match Log::open_read_only(directory) {
        Ok(log) => log,
        Err(error) => {
            let why = error.to_string();
            return ["records", "tail", "trail"].map(|view| (view, Err(why.clone()))).into();
        }
    };
    let all = |records: Result<Vec<_>, enforcer_audit::ReadError>| {
        records.map(|records: Vec<u64>| records).map_err(|error| error.to_string())
    };
    // The caller of the first request.
    let caller = Traffic::new(1).request(0).who.unwrap();
    let selector: Selector = caller.principal.to_string().parse().unwrap();
    let index = |stored: Result<enforcer_audit::Stored, _>| stored.map(|stored| stored.index);
    [
        ("records", all(log.records(0..u64::MAX).and_then(|it| it.map(index).collect()))),
        ("tail", all(log.tail(5).and_then(|it| it.map(index).collect()))),
        ("trail", all(log.trail(selector, None).and_then(|it| it.map(index).collect()))),
    ]
    .into()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with("reserve") && !path.ends_with("log.lock") {
            found.push(path);
        }
    }
    found
}
